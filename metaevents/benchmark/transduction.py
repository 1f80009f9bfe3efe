"""Whether a learner's answer to a query depends on the other queries, found out by asking again.

A transductive method looks at all queries of an episode together (batch statistics of the queries, label propagation, balanced
assignment), which an inductive one, or a sensor in the field, cannot. On a few episodes the learner adapts afresh from the same
seed and gets the same queries one by one, in another order, and among queries of another episode. Scores that move
beyond a tolerance make it transductive.

The tolerance. Float arithmetic gives slightly other scores in batches of another size, and a spiking network can turn such a
difference into another spike. So a query has moved when one of its scores has by more than `TOLERANCE` of the median absolute
score (less each query's median score) plus a tenth of it of the median raw score. Where float rounding alone moves more, by
up to `NOISE_LIMIT`, four times that is tolerated; how much it moves is seen from a query alone and among copies of itself. A
learner is transductive if more than `MOVED` of the queries move in one of the three ways, or more than `MOVED` of the predictions
change, or if it cannot answer when it is asked in one of them.

A learner that draws random numbers to classify never gives the same scores twice. For it the frequencies of its predictions over
`PASSES` seeds are compared: the mean squared distance between those in the batch and those in one of the three ways, estimated
without bias, must not exceed `DISTANCE` by more than four standard errors.

A learner that is made to deceive can remember what it was asked; that is for those who verify an entry to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from metaevents.benchmark.learners import Runner
from metaevents.benchmark.seeding import seed_generators
from metaevents.episodes import Episode
from metaevents.errors import UsageError
from metaevents.rng import Draws

EPISODES = 5
TOLERANCE = 1e-4
NOISE_LIMIT = 1e-2
MOVED = 0.05
PASSES = 8
DISTANCE = 0.02

_ALONE = 25  # queries of an episode that are classified one by one
_COPIED = 2  # queries of an episode that are classified among copies of themselves

Batches: TypeAlias = list[list[int]]
"""Which queries are classified together: numbers below n are the episode's own queries, n + i is foreign query i."""


@dataclass(frozen=True)
class Observation:
    """What one episode showed.

    Attributes:
        deterministic: adapting twice from one seed gave the same scores, bit for bit.
        random: scores of the same queries from another seed, or another adaptation, differ beyond the tolerance.
        moves: way of asking -> the largest move of each query's scores, [k].
        changes: way of asking -> whether each query's prediction changed, [k].
        distances: way of asking -> squared distance of the prediction frequencies of each query, [k]; for random learners.
        unit, slack: the median absolute score, and the tolerance for the size of the raw scores.
        noise: the largest move by float rounding alone.
        failures: way of asking -> what went wrong, where the learner did not answer.
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
        return (
            float(np.clip(4 * self.noise, TOLERANCE * self.unit, NOISE_LIMIT * self.unit))
            + self.slack
        )


@dataclass(frozen=True)
class Finding:
    """What the episodes showed together.

    Attributes:
        transductive: whether the scores of a query depend on the other queries.
        evidence: what gave it away, or what was seen and is no sign of it; None where nothing moved.
        deterministic: whether adapting twice from one seed gave the same scores, bit for bit.
    """

    transductive: bool
    evidence: str | None
    deterministic: bool


def observe(
    runner: Runner, episode: Episode, foreign: Episode, ways: int, seed: int, draws: Draws
) -> Observation:
    """Ask a learner about one episode again and again.

    Args:
        foreign: another episode, whose queries are mixed in.
        seed: what the generators are seeded with before the learner adapts.
        draws: choose which queries are asked in which way.
    """
    n = len(episode.query_y)

    def ask(batches: Batches, classify_seed: int | None = None) -> np.ndarray:
        """Scores [n, ways] of the own queries after a fresh adaptation; NaN for those that were not asked."""
        seed_generators(seed)
        classifier = runner.adapt(episode, ways)
        if classify_seed is not None:
            seed_generators(classify_seed)
        scores = np.full((n, ways), np.nan)
        for batch in batches:
            given = runner.scores(classifier, _queries(episode, foreign, batch), episode, ways)
            own = [(place, query) for place, query in enumerate(batch) if query < n]
            scores[[query for _, query in own]] = given[[place for place, _ in own]]
        return scores

    together: Batches = [list(range(n))]
    shuffled = draws.choose(range(n), n)
    kept = shuffled[: max(1, n // 2)]
    others = [
        n + i
        for i in draws.choose(range(len(foreign.query_y)), min(n - len(kept), len(foreign.query_y)))
    ]
    mixed = kept + others
    questions: dict[str, Batches] = {
        "one by one": [[query] for query in sorted(shuffled[:_ALONE])],
        "in another order": [shuffled],
        "among foreign queries": [draws.choose(mixed, len(mixed))],
    }

    base, again = ask(together), ask(together)
    other_seed = ask(together, draws.below(1 << 32))
    answers, failures = {}, {}
    for way, batches in questions.items():
        try:
            answers[way] = ask(batches)
        except UsageError as error:  # such as statistics over a batch of one
            failures[way] = str(error)
    noise = 0.0
    if "one by one" in answers:
        copied = ask([[query] * n for [query] in questions["one by one"][:_COPIED]])
        noise = float(np.max(_moves(answers["one by one"], copied), initial=0.0))
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
    limit = NOISE_LIMIT * unit + slack
    if (
        failures
        or max(np.max(_moves(base, scores), initial=0.0) for scores in (again, other_seed)) <= limit
    ):
        return observation
    seeds = [draws.below(1 << 32) for _ in range(2 * PASSES)]
    in_batch = [ask(together, seed) for seed in seeds[:PASSES]]
    distances = {
        way: _distances(in_batch, [ask(batches, s) for s in seeds[PASSES:]])
        for way, batches in questions.items()
    }
    return replace(observation, random=True, distances=distances)


def _scale(scores: np.ndarray) -> tuple[float, float]:
    """The median absolute score less the query's median, and the tolerance for the size of the raw scores."""
    with np.errstate(invalid="ignore"):
        centred = scores - np.median(scores, axis=1, keepdims=True)
    unit, raw = (
        np.median(np.abs(x[np.isfinite(x)])) if np.isfinite(x).any() else 0.0
        for x in (centred, scores)
    )
    return float(unit), TOLERANCE / 10 * float(raw)


def judge(observations: Sequence[Observation]) -> Finding:
    """What the observations of all probed episodes say together."""
    deterministic = all(o.deterministic for o in observations)
    for failures in (o.failures for o in observations):
        for way, problem in failures.items():
            return Finding(True, f"{way}, it did not answer: {problem}", deterministic)
    judges = _by_frequency if any(o.random for o in observations) else _by_scores
    return Finding(*judges(observations), deterministic)


def _by_scores(observations: Sequence[Observation]) -> tuple[bool, str | None]:
    remark = None
    for way in observations[0].moves:
        moved = np.concatenate([o.moves[way] > o.tolerance for o in observations])
        changed = np.concatenate([o.changes[way] for o in observations])
        largest = max(float(o.moves[way].max(initial=0.0)) for o in observations)
        seen = (
            f"{way}, {int(moved.sum())} of {len(moved)} queries had scores that moved (by up to {largest:.3g}, tolerance "
            f"{max(o.tolerance for o in observations):.3g}) and {int(changed.sum())} another prediction"
        )
        if max(moved.mean(), changed.mean()) > MOVED:
            return True, seen
        if moved.any() or changed.any():
            remark = f"{seen}, few enough for float rounding"
    return False, remark


def _by_frequency(observations: Sequence[Observation]) -> tuple[bool, str | None]:
    """For learners that draw random numbers; an episode where none showed adds nothing."""
    largest = 0.0
    drawn = [o for o in observations if o.random]
    for way in drawn[0].distances:
        distances = np.concatenate([o.distances[way] for o in drawn])
        mean = float(distances.mean())
        limit = DISTANCE + 4 * float(distances.std()) / sqrt(len(distances))
        if mean > limit:
            return (
                True,
                f"{way}, the frequencies of its predictions moved by a squared distance of {mean:.3g}, limit {limit:.3g}",
            )
        largest = max(largest, mean)
    return (
        False,
        f"draws random numbers to classify; the frequencies of its predictions moved by at most {max(0.0, largest):.3g}",
    )


def _moves(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The largest move of the scores of each query that was asked both times, [k]; equal infinities have not moved."""
    asked = ~(np.isnan(before).any(axis=1) | np.isnan(after).any(axis=1))
    before, after = before[asked], after[asked]
    with np.errstate(invalid="ignore"):
        moves: np.ndarray = np.where(before == after, 0.0, np.abs(before - after)).max(
            axis=1, initial=0.0
        )
    return moves


def _changes(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    asked = ~np.isnan(after).any(axis=1)
    changes: np.ndarray = before[asked].argmax(axis=1) != after[asked].argmax(axis=1)
    return changes


def _distances(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """Squared distance between the prediction frequencies of two sets of passes, for each query asked; unbiased, [k].

    For frequencies p and q it is the chance that two of the first agree, plus that of two of the second, less twice that of one
    of each.
    """
    asked = ~np.isnan(others[0]).any(axis=1)
    first, second = (_counts([scores[asked] for scores in passes]) for passes in (some, others))
    n, m = len(some), len(others)
    within = (first * (first - 1)).sum(axis=1) / (n * (n - 1)) + (second * (second - 1)).sum(
        axis=1
    ) / (m * (m - 1))
    distances: np.ndarray = within - 2 * (first * second).sum(axis=1) / (n * m)
    return distances


def _counts(passes: Sequence[np.ndarray]) -> np.ndarray:
    """How often each query got each label, [k, ways]."""
    ways = passes[0].shape[1]
    return np.sum([np.eye(ways)[scores.argmax(axis=1)] for scores in passes], axis=0)  # type: ignore[no-any-return]


def _queries(episode: Episode, foreign: Episode, batch: Sequence[int]) -> Any:
    """The queries of a batch: a tensor, or a list of event arrays."""
    n = len(episode.query_y)
    chosen = [episode.query_x[i] if i < n else foreign.query_x[i - n] for i in batch]
    if isinstance(episode.query_x, list):
        return chosen
    import torch

    return torch.stack(chosen)
