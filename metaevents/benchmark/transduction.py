"""Measuring whether a learner is transductive: whether a query's scores depend on other queries.

A transductive method looks at all queries of an episode together (batch statistics of the queries,
label propagation, balanced assignment). An inductive method cannot, nor can a sensor in the field.
On a few episodes, the learner adapts again from the same seed and classifies the same queries one
by one, in another order, and among queries of another episode. It is transductive if the scores
change by more than a tolerance.

The tolerance. Floating-point rounding differs between batch sizes, and a spiking network can turn
such a difference into another spike. So a query counts as changed if one of its scores changes by
more than `TOLERANCE` times the median absolute score (after subtracting each query's median score),
plus a tenth of `TOLERANCE` times the median absolute raw score. The rounding noise is estimated by
classifying a query alone and in a batch of its copies. If four times this noise is larger than the
first term, it replaces that term, up to `NOISE_LIMIT` times the median absolute score. A learner is
transductive if, in one of the three ways, more than a share `MOVED` of the queries changes, or more
than a share `MOVED` of the predictions changes, or if it fails to answer.

A learner that draws random numbers to classify never gives the same scores twice. For such a
learner, the frequencies of its predictions over `PASSES` seeds are compared. It is transductive if,
in one of the three ways, the unbiased estimate of the mean squared distance to the frequencies in
the batch exceeds `DISTANCE` by more than four standard errors.

A learner built to deceive can remember its queries. Detecting that is left to those who verify an
entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from metaevents.benchmark.learners import Runner
from metaevents.episodes import Episode
from metaevents.errors import UsageError
from metaevents.global_state import seed_generators
from metaevents.rng import Draws

EPISODES = 5
"""Number of episodes that are probed."""

TOLERANCE = 1e-4
"""Tolerated change of a score, relative to the median absolute score."""

NOISE_LIMIT = 1e-2
"""Largest tolerance that rounding noise can lead to, relative to the median absolute score."""

MOVED = 0.05
"""Share of the queries that may change."""

PASSES = 8
"""Number of seeds over which the predictions of a random learner are counted."""

DISTANCE = 0.02
"""Tolerated mean squared distance between prediction frequencies."""

_MAX_MESSAGE = 1000  # characters of an error message that the evidence of an entry quotes

_ALONE = 25  # queries per episode that are classified one by one
_COPIED = 2  # queries per episode that are classified in a batch of their copies

Batches: TypeAlias = list[list[int]]
"""Batches of queries: i < n is query i of the episode, n + i is query i of the foreign episode."""


@dataclass(frozen=True)
class Observation:
    """How a learner's answers to the queries of one episode changed.

    The mappings go from a way of asking ("one by one", "in another order", "among foreign queries")
    to one value for each of the k queries that were asked in this way.

    Attributes:
        deterministic: Whether adapting twice from one seed gave bit-identical scores.
        random: Whether the learner's scores differ beyond the tolerance between two adaptations or
            two seeds.
        moves: Largest change of each query's scores, [k].
        changes: Whether each query's prediction changed, [k].
        distances: Squared distance of each query's prediction frequencies, [k]; empty if the
            learner is not random.
        unit: Median absolute score, after subtracting each query's median score.
        slack: The part of the tolerance that follows from the raw scores.
        noise: Largest change by rounding alone.
        failures: Error message of each way of asking in which the learner did not answer.
    """

    deterministic: bool
    random: bool
    moves: Mapping[str, np.ndarray]
    changes: Mapping[str, np.ndarray]
    distances: Mapping[str, np.ndarray]
    unit: float
    slack: float
    noise: float
    failures: Mapping[str, str]

    @property
    def tolerance(self) -> float:
        """The largest change of a score that does not count."""
        relative = np.clip(4 * self.noise, TOLERANCE * self.unit, NOISE_LIMIT * self.unit)
        return float(relative) + self.slack


@dataclass(frozen=True)
class Finding:
    """What the observations of all probed episodes show together.

    Attributes:
        transductive: Whether the scores of a query depend on the other queries.
        evidence: The observation that shows it, or a change that is too small to show it; None if
            nothing changed.
        deterministic: Whether adapting twice from one seed gave bit-identical scores.
    """

    transductive: bool
    evidence: str | None
    deterministic: bool


def observe(
    runner: Runner, episode: Episode, foreign: Episode, ways: int, seed: int, draws: Draws
) -> Observation:
    """Let a learner classify the queries of an episode in several ways.

    Args:
        runner: The learner.
        episode: The episode, on the learner's device.
        foreign: Another episode, whose queries are mixed in.
        ways: Classes per episode.
        seed: Seed of the global generators before the learner adapts.
        draws: Random draws that choose which queries are asked in which way.

    Returns:
        The changes of scores and predictions.

    Raises:
        UsageError: The learner failed on the whole batch of queries. Failures in the other ways of
            asking are part of the observation.
    """
    n = len(episode.query_y)

    def classify(batches: Batches, classify_seed: int | None = None) -> np.ndarray:
        """Return scores [n, ways] after a new adaptation; NaN for queries in no batch."""
        seed_generators(seed)
        classifier = runner.adapt(episode, ways)
        if classify_seed is not None:
            seed_generators(classify_seed)
        scores = np.full((n, ways), np.nan)
        for batch in batches:
            batch_scores = runner.scores(
                classifier, _queries(runner, episode, foreign, batch), episode, ways
            )
            native = [(place, query) for place, query in enumerate(batch) if query < n]
            scores[[query for _, query in native]] = batch_scores[[place for place, _ in native]]
        return scores

    together: Batches = [list(range(n))]
    questions = _questions(n, len(foreign.query_y), draws)
    base, again = classify(together), classify(together)
    other_seed = classify(together, draws.below(1 << 32))
    answers, failures = {}, {}
    for way, batches in questions.items():
        try:
            answers[way] = classify(batches)
        except UsageError as error:  # such as statistics over a batch of one
            failures[way] = " ".join(str(error).split())[:_MAX_MESSAGE]
    noise = 0.0
    if "one by one" in answers:
        copies = classify([[query] * n for [query] in questions["one by one"][:_COPIED]])
        noise = float(np.max(_moves(answers["one by one"], copies), initial=0.0))
    unit, slack = _scale(base)
    observation = Observation(
        deterministic=bool(np.array_equal(base, again)),
        random=False,
        moves={way: _moves(base, scores) for way, scores in answers.items()},
        changes={way: _changes(base, scores) for way, scores in answers.items()},
        distances={},
        unit=unit,
        slack=slack,
        noise=noise,
        failures=failures,
    )
    largest = max(np.max(_moves(base, scores), initial=0.0) for scores in (again, other_seed))
    if failures or largest <= NOISE_LIMIT * unit + slack:
        return observation
    pass_seeds = [draws.below(1 << 32) for _ in range(2 * PASSES)]
    in_batch = [classify(together, pass_seed) for pass_seed in pass_seeds[:PASSES]]
    distances = {
        way: _distances(
            in_batch, [classify(batches, pass_seed) for pass_seed in pass_seeds[PASSES:]]
        )
        for way, batches in questions.items()
    }
    return replace(observation, random=True, distances=distances)


def _questions(n: int, n_foreign: int, draws: Draws) -> dict[str, Batches]:
    """Return the batches of each way of asking, for n queries and those of a foreign episode."""
    shuffled = draws.choose(range(n), n)
    kept = shuffled[: max(1, n // 2)]
    added = [n + i for i in draws.choose(range(n_foreign), min(n - len(kept), n_foreign))]
    mixed = kept + added
    return {
        "one by one": [[query] for query in sorted(shuffled[:_ALONE])],
        "in another order": [shuffled],
        "among foreign queries": [draws.choose(mixed, len(mixed))],
    }


def _scale(scores: np.ndarray) -> tuple[float, float]:
    """Return `unit` and `slack` of an `Observation` for scores [n, ways]."""
    with np.errstate(invalid="ignore"):
        centered = scores - np.median(scores, axis=1, keepdims=True)
    unit, raw = (
        np.median(np.abs(x[np.isfinite(x)])) if np.isfinite(x).any() else 0.0
        for x in (centered, scores)
    )
    return float(unit), TOLERANCE / 10 * float(raw)


def judge(observations: Sequence[Observation]) -> Finding:
    """Decide whether a learner is transductive.

    Args:
        observations: One per probed episode.

    Returns:
        The finding.
    """
    deterministic = all(o.deterministic for o in observations)
    for observation in observations:
        for way, message in observation.failures.items():
            return Finding(True, f"{way}, it did not answer: {message}", deterministic)
    decide = _by_frequency if any(o.random for o in observations) else _by_scores
    return Finding(*decide(observations), deterministic)


def _by_scores(observations: Sequence[Observation]) -> tuple[bool, str | None]:
    """Return `transductive` and `evidence` of a learner that classifies without randomness."""
    remark = None
    for way in observations[0].moves:
        moved = np.concatenate([o.moves[way] > o.tolerance for o in observations])
        changed = np.concatenate([o.changes[way] for o in observations])
        largest = max(float(o.moves[way].max(initial=0.0)) for o in observations)
        evidence = (
            f"{way}, the scores of {int(moved.sum())} of {len(moved)} queries changed (by up to "
            f"{largest:.3g}, tolerance {max(o.tolerance for o in observations):.3g}) and "
            f"{int(changed.sum())} predictions changed"
        )
        if max(moved.mean(), changed.mean()) > MOVED:
            return True, evidence
        if moved.any() or changed.any():
            remark = f"{evidence}, few enough to be rounding"
    return False, remark


def _by_frequency(observations: Sequence[Observation]) -> tuple[bool, str | None]:
    """Return `transductive` and `evidence` of a learner that classifies at random.

    Episodes in which no randomness was observed have no distances and are left out.
    """
    largest = 0.0
    random = [o for o in observations if o.random]
    for way in random[0].distances:
        distances = np.concatenate([o.distances[way] for o in random])
        mean = float(distances.mean())
        limit = DISTANCE + 4 * float(distances.std()) / sqrt(len(distances))
        if mean > limit:
            return True, (
                f"{way}, the frequencies of its predictions changed by a squared distance of "
                f"{mean:.3g}, limit {limit:.3g}"
            )
        largest = max(largest, mean)
    return False, (
        "draws random numbers to classify; the frequencies of its predictions changed by a squared "
        f"distance of at most {max(0.0, largest):.3g}"
    )


def _moves(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the largest change of the scores of each query that was asked both times, [k].

    Equal infinities count as unchanged.
    """
    asked = ~(np.isnan(before).any(axis=1) | np.isnan(after).any(axis=1))
    before, after = before[asked], after[asked]
    with np.errstate(invalid="ignore"):
        moves: np.ndarray = np.where(before == after, 0.0, np.abs(before - after)).max(
            axis=1, initial=0.0
        )
    return moves


def _changes(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return whether the prediction changed for each query that was asked the second time, [k]."""
    asked = ~np.isnan(after).any(axis=1)
    changes: np.ndarray = before[asked].argmax(axis=1) != after[asked].argmax(axis=1)
    return changes


def _distances(passes: Sequence[np.ndarray], other_passes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the squared distance between the prediction frequencies of two sets of passes, [k].

    The estimate is unbiased. For frequencies p and q, |p - q|^2 is the probability that two
    predictions from p agree, plus the same for q, minus twice the probability that one from p and
    one from q agree.
    """
    asked = ~np.isnan(other_passes[0]).any(axis=1)
    n, m = len(passes), len(other_passes)
    p = _counts([scores[asked] for scores in passes])
    q = _counts([scores[asked] for scores in other_passes])
    agree_p = (p * (p - 1)).sum(axis=1) / (n * (n - 1))
    agree_q = (q * (q - 1)).sum(axis=1) / (m * (m - 1))
    distances: np.ndarray = agree_p + agree_q - 2 * (p * q).sum(axis=1) / (n * m)
    return distances


def _counts(passes: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many passes predicted each label for each query, [k, ways]."""
    ways = passes[0].shape[1]
    return np.sum([np.eye(ways)[scores.argmax(axis=1)] for scores in passes], axis=0)  # type: ignore[no-any-return]


def _queries(runner: Runner, episode: Episode, foreign: Episode, batch: Sequence[int]) -> Any:
    """Return the queries of a batch: a tensor, or a list of event arrays."""
    n = len(episode.query_y)
    if isinstance(episode.query_x, list):
        return [episode.query_x[i] if i < n else foreign.query_x[i - n] for i in batch]
    import torch

    axis = runner.sample_axis
    return torch.stack(
        [
            episode.query_x.select(axis, i) if i < n else foreign.query_x.select(axis, i - n)
            for i in batch
        ],
        axis,
    )
