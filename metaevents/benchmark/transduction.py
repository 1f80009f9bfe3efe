"""Measuring whether a learner is transductive, and whether it keeps state between calls.

A transductive method looks at all queries of an episode together (batch statistics of the queries,
label propagation, balanced assignment). An inductive method cannot, nor can a sensor in the field.
A stateful method answers the same queries differently when it is asked twice without adapting anew.
The two are separate findings: a stateful method may be inductive.

The probe has two stages.

`screen` runs on a few episodes after the evaluation. The learner adapts once more from the same
seed. It classifies two queries alone, the other queries in two parts among queries of another
episode, and then all queries together. The answers are compared with those of the evaluation. That
is one adaptation and about twice the queries of the episode. If no score changes by more than a
tolerance and no prediction changes, the learner is inductive and not stateful.

`observe` follows if a score or a prediction changed, or if the learner failed to answer. On
`EPISODES` episodes, the learner classifies the same queries twice after one adaptation. It adapts
again from the same seed and classifies the same queries one by one, in another order, and among
queries of another episode. `judge` decides.

Stateful. The learner is stateful if more than a share `MOVED` of the queries changes when they are
asked twice after one adaptation, with the same state of the global random generators, or if it
fails to answer the second time. Here a query counts as changed if one of its scores changes by more
than `TOLERANCE` times the median absolute score, plus the second term below. The scores of a
stateful learner depend on how many calls came before. So only the first answer after an adaptation
is compared: fewer queries are asked one by one, each after an adaptation of its own.

Drift. A learner may also keep state from one adaptation to the next. The change of the whole
batch's scores between adaptations from one seed, before and after all ways of asking, is its drift.
Twice the drift is added to the tolerance.

The tolerance of transduction. Floating-point rounding differs between batch sizes, and a spiking
network can turn such a difference into another spike. So a query counts as changed if one of its
scores changes by more than `TOLERANCE` times the median absolute score (after subtracting each
query's median score), plus a tenth of `TOLERANCE` times the median absolute raw score. The rounding
noise is estimated by classifying a query alone and in a batch of its copies. If four times this
noise is larger than the first term, it replaces that term, up to `NOISE_LIMIT` times the median
absolute score. A learner is transductive if, in one of the three ways, more than a share `MOVED` of
the queries changes, or more than a share `MOVED` of the predictions changes, or if it fails to
answer.

A learner that draws random numbers to classify never gives the same scores twice. For such a
learner, the frequencies of its predictions over `PASSES` seeds are compared. It is transductive if,
in one of the three ways, the unbiased estimate of the mean squared distance to the frequencies in
the batch exceeds `DISTANCE` by more than four standard errors.

A learner built to deceive can remember its queries. Detecting that is left to those who verify an
entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from metaevents.benchmark.learners import Classifier, Runner
from metaevents.episodes import Episode
from metaevents.errors import UsageError
from metaevents.global_state import (
    generator_states,
    ordinary_tensors,
    restore_generators,
    seed_generators,
)
from metaevents.rng import Draws

SCREENED = 3
"""Number of episodes on which every learner is screened."""

EPISODES = 5
"""Number of episodes on which a learner is observed whose answers changed."""

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

_SCREENED_ALONE = 2  # queries per screened episode that are classified one by one
_ALONE = 25  # queries per observed episode that are classified one by one
_ALONE_STATEFUL = 5  # the same if each needs an adaptation of its own
_COPIED = 2  # queries per episode that are classified in a batch of their copies

Batches: TypeAlias = list[list[int]]
"""Batches of queries: i < n is query i of the episode, n + i is query i of the foreign episode."""


@dataclass(frozen=True)
class Screening:
    """Whether a learner's answers to the queries of one episode stayed what they were.

    Attributes:
        unchanged: Whether no score changed by more than the tolerance, no prediction changed, and
            the learner answered each time.
        deterministic: Whether adapting twice from one seed gave bit-identical scores.
        repeated: Whether adapting as in the evaluation gave scores within the tolerance of those of
            the evaluation; also True if the learner did not answer.
    """

    unchanged: bool
    deterministic: bool
    repeated: bool


@dataclass(frozen=True)
class Observation:
    """How a learner's answers to the queries of one episode changed.

    The mappings go from a way of asking ("one by one", "in another order", "among foreign queries")
    to one value for each of the k queries that were asked in this way.

    Attributes:
        deterministic: Whether adapting twice from one seed gave bit-identical scores.
        random: Whether the learner's scores differ beyond the tolerance between two adaptations or
            two seeds.
        repeated: Largest change of the scores of queries that were asked twice after one
            adaptation, [k].
        moves: Largest change of each query's scores, [k].
        changes: Whether each query's prediction changed, by more than drift, [k].
        distances: Squared distance of each query's prediction frequencies, [k]; empty if the
            learner is not random.
        unit: Median absolute score, after subtracting each query's median score.
        slack: The part of the tolerance that follows from the raw scores.
        noise: Largest change by rounding alone.
        drift: Largest change between adaptations from one seed; 0 for a random learner.
        failures: Error message of each way of asking in which the learner did not answer.
        repeat_failure: Error message if it did not answer the second time; None if it did.
    """

    deterministic: bool
    random: bool
    repeated: np.ndarray
    moves: Mapping[str, np.ndarray]
    changes: Mapping[str, np.ndarray]
    distances: Mapping[str, np.ndarray]
    unit: float
    slack: float
    noise: float
    drift: float
    failures: Mapping[str, str]
    repeat_failure: str | None

    @property
    def repeat_tolerance(self) -> float:
        """The largest change of a score that does not count when the same batch is asked again."""
        return TOLERANCE * self.unit + self.slack

    @property
    def tolerance(self) -> float:
        """The largest change of a score that does not count as transduction."""
        relative = np.clip(4 * self.noise, TOLERANCE * self.unit, NOISE_LIMIT * self.unit)
        return float(relative) + self.slack + 2 * self.drift


@dataclass(frozen=True)
class Finding:
    """What the observations of all probed episodes show together.

    Attributes:
        transductive: Whether the scores of a query depend on the other queries.
        evidence: The observation that shows it, or a change that is too small to show it; None if
            nothing changed.
        stateful: Whether the same queries, asked twice without adapting anew, got other scores.
        stateful_evidence: The observation that shows it; None if it is not stateful.
        deterministic: Whether adapting twice from one seed gave bit-identical scores.
    """

    transductive: bool | None
    evidence: str | None
    stateful: bool | None
    stateful_evidence: str | None
    deterministic: bool | None


NOT_PROBED = Finding(None, None, None, None, None)
"""What is known of a learner that was not probed."""


@dataclass
class _Asker:
    """Asks a learner about one episode, always from the same seed.

    Attributes:
        runner: The learner.
        episode: The episode, on the learner's device.
        foreign: Another episode, whose queries are mixed in.
        ways: Classes per episode.
        seed: Seed of the global generators before the learner adapts.
        n: Number of queries of the episode.
    """

    runner: Runner
    episode: Episode
    foreign: Episode
    ways: int
    seed: int
    n: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the queries."""
        self.n = len(self.episode.query_y)

    def adapt(self, classify_seed: int | None = None) -> tuple[Classifier, tuple[Any, ...]]:
        """Return a new classifier, and the state of the generators in which it is to be asked."""
        # A copy, as the learner may change its input in place.
        episode = replace(self.episode, support_x=_copied(self.episode.support_x))
        seed_generators(self.seed)
        classifier = self.runner.adapt(episode, self.ways)
        if classify_seed is not None:
            seed_generators(classify_seed)
        return classifier, generator_states()

    def ask(self, classifier: Classifier, batches: Batches) -> np.ndarray:
        """Return scores [n, ways]; NaN for queries in no batch."""
        scores = np.full((self.n, self.ways), np.nan)
        for batch in batches:
            answer = self.runner.scores(classifier, self._queries(batch), self.episode, self.ways)
            native = [(place, query) for place, query in enumerate(batch) if query < self.n]
            scores[[query for _, query in native]] = answer[[place for place, _ in native]]
        return scores

    def first_answers(
        self, batches: Batches, classify_seed: int | None = None, *, each: bool = False
    ) -> np.ndarray:
        """Return scores [n, ways] after a new adaptation; with `each`, after one per batch."""
        if not each:
            return self.ask(self.adapt(classify_seed)[0], batches)
        scores = np.full((self.n, self.ways), np.nan)
        for batch in batches:
            answer = self.ask(self.adapt(classify_seed)[0], [batch])
            scores = np.where(np.isnan(answer), scores, answer)
        return scores

    def _queries(self, batch: Sequence[int]) -> Any:
        """Return a copy of the queries of a batch: a tensor, or a list of event arrays."""
        native, foreign, n = self.episode.query_x, self.foreign.query_x, self.n
        if isinstance(native, list):
            return _copied([native[i] if i < n else foreign[i - n] for i in batch])
        import torch

        axis = self.runner.sample_axis
        rows = [native.select(axis, i) if i < n else foreign.select(axis, i - n) for i in batch]
        with ordinary_tensors():
            return torch.stack(rows, axis)


def _copied(samples: Any) -> Any:
    """Return a copy of a tensor, or of a list of event arrays."""
    if isinstance(samples, list):
        return [each.copy() for each in samples]
    with ordinary_tensors():
        return samples.clone()


def screen(
    runner: Runner,
    episode: Episode,
    foreign: Episode,
    ways: int,
    seed: int,
    base: np.ndarray,
    draws: Draws,
) -> Screening:
    """Let a learner adapt once more, and compare its answers with those of the evaluation.

    Args:
        runner: The learner.
        episode: The episode, on the learner's device.
        foreign: Another episode, whose queries are mixed in.
        ways: Classes per episode.
        seed: Seed of the global generators before the learner adapts.
        base: Scores [n, ways] that the evaluation got for the whole batch of queries.
        draws: Random draws that choose the parts.

    Returns:
        Whether the answers are the same.
    """
    asker = _Asker(runner, episode, foreign, ways, seed)
    unit, slack = _scale(base)
    tolerance = TOLERANCE * unit + slack
    together = [list(range(asker.n))]
    answers = []
    try:
        classifier, states = asker.adapt()
        for batch in _parts(asker.n, len(foreign.query_y), draws):
            restore_generators(states)
            answers.append(asker.ask(classifier, [batch]))
        restore_generators(states)
        again = asker.ask(classifier, together)
        answers.append(again)
        if not np.array_equal(base, again):  # by a former call, or because the learner is not so
            again = asker.first_answers(together)
    except UsageError:  # `observe` finds out which call fails
        return Screening(unchanged=False, deterministic=False, repeated=True)
    unchanged = not any(
        (_moves(base, answer) > tolerance).any() or _changes(base, answer).any()
        for answer in answers
    )
    close = not (_moves(base, again) > tolerance).any()
    return Screening(unchanged, bool(np.array_equal(base, again)), close)


def _parts(n: int, n_foreign: int, draws: Draws) -> Batches:
    """Return batches of all n queries of an episode: some alone, the others in two parts.

    A part has queries of the foreign episode too, half as many as its own.
    """
    shuffled = draws.choose(range(n), n)
    alone, rest = shuffled[:_SCREENED_ALONE], shuffled[_SCREENED_ALONE:]
    cut = len(rest) // 3
    batches = [[query] for query in alone]
    for part in (rest[:cut], rest[cut:]):
        if part:
            added = draws.choose(range(n_foreign), min(n_foreign, len(part) // 2))
            mixed = part + [n + i for i in added]
            batches.append(draws.choose(mixed, len(mixed)))
    return batches


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
    asker = _Asker(runner, episode, foreign, ways, seed)
    together: Batches = [list(range(asker.n))]
    questions = _questions(asker.n, len(foreign.query_y), draws)
    classifier, states = asker.adapt()
    base = asker.ask(classifier, together)
    unit, slack = _scale(base)
    repeated, repeat_failure = _ask_again(asker, classifier, states, together, base)
    again = asker.first_answers(together)
    other_seed = asker.first_answers(together, draws.below(1 << 32))
    rounding = TOLERANCE * unit + slack
    stateful = repeat_failure is not None or _share(repeated > rounding) > MOVED

    answers: dict[str, np.ndarray] = {}
    failures: dict[str, str] = {}
    alone = questions["one by one"]
    if not stateful:
        try:
            classifier, states = asker.adapt()
            answers["one by one"] = asker.ask(classifier, alone)
        except UsageError as error:  # such as statistics over a batch of one
            failures["one by one"] = _message(error)
        else:
            # State that one more call hardly changes shows after many calls.
            answer = answers["one by one"]
            later, failure = _ask_again(asker, classifier, states, alone[:_COPIED], answer)
            stateful = failure is not None or bool((later > rounding).all())
            if stateful:
                repeated, repeat_failure = later, failure
    if stateful:
        questions["one by one"] = alone = alone[:_ALONE_STATEFUL]
        failures.clear()
        answers.clear()
    for way, batches in questions.items():
        if way in answers or way in failures:
            continue
        try:
            answers[way] = asker.first_answers(batches, each=stateful)
        except UsageError as error:
            failures[way] = _message(error)
    noise = 0.0
    if "one by one" in answers:
        copies = asker.first_answers(
            [[query] * asker.n for [query] in alone[:_COPIED]], each=stateful
        )
        noise = float(np.max(_moves(answers["one by one"], copies), initial=0.0))
    after = asker.first_answers(together)
    drift = max(float(np.max(_moves(base, x), initial=0.0)) for x in (again, after))
    largest = max(drift, float(np.max(_moves(base, other_seed), initial=0.0)))
    random = largest > NOISE_LIMIT * unit + slack
    drift = 0.0 if random else drift
    moves = {way: _moves(base, scores) for way, scores in answers.items()}
    distances: Mapping[str, np.ndarray] = {}
    if random and not failures:
        distances = _frequencies(asker, questions, together, draws, each=stateful)
    return Observation(
        deterministic=bool(np.array_equal(base, again)),
        random=random and not failures,
        repeated=repeated,
        moves=moves,
        changes={
            way: _changes(base, scores) & (moves[way] >= 2 * drift)
            for way, scores in answers.items()
        },
        distances=distances,
        unit=unit,
        slack=slack,
        noise=noise,
        drift=drift,
        failures=failures,
        repeat_failure=repeat_failure,
    )


def _ask_again(
    asker: _Asker,
    classifier: Classifier,
    states: tuple[Any, ...],
    batches: Batches,
    before: np.ndarray,
) -> tuple[np.ndarray, str | None]:
    """Ask a classifier again; return the change of each query's scores, and why it failed."""
    restore_generators(states)
    try:
        return _moves(before, asker.ask(classifier, batches)), None
    except UsageError as error:  # such as a classifier that can be called once
        return np.full(sum(map(len, batches)), np.inf), _message(error)


def _message(error: UsageError) -> str:
    """Return an error's message as the evidence of an entry quotes it."""
    return " ".join(str(error).split())[:_MAX_MESSAGE]


def _share(flags: np.ndarray) -> float:
    """Return the share of true values; 0 of none."""
    return float(flags.mean()) if flags.size else 0.0


def _frequencies(
    asker: _Asker, questions: Mapping[str, Batches], together: Batches, draws: Draws, *, each: bool
) -> dict[str, np.ndarray]:
    """Return the squared distance of each query's prediction frequencies, by way of asking.

    The passes alternate between the whole batch and the other ways, so that drift is in both.
    """
    seeds = [draws.below(1 << 32) for _ in range(2 * PASSES)]
    in_batch: list[np.ndarray] = []
    passes: dict[str, list[np.ndarray]] = {way: [] for way in questions}
    for batch_seed, way_seed in zip(seeds[:PASSES], seeds[PASSES:], strict=True):
        in_batch.append(asker.first_answers(together, batch_seed))
        for way, batches in questions.items():
            passes[way].append(asker.first_answers(batches, way_seed, each=each))
    return {way: _distances(in_batch, answers) for way, answers in passes.items()}


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
    """Decide whether a learner is transductive, and whether it is stateful.

    Args:
        observations: One per probed episode.

    Returns:
        The finding.
    """
    deterministic = all(o.deterministic for o in observations)
    stateful, stateful_evidence = _state(observations)
    for observation in observations:
        for way, message in observation.failures.items():
            evidence = f"{way}, it did not answer: {message}"
            return Finding(True, evidence, stateful, stateful_evidence, deterministic)
    decide = _by_frequency if any(o.random for o in observations) else _by_scores
    transductive, found = decide(observations)
    return Finding(transductive, found, stateful, stateful_evidence, deterministic)


def _state(observations: Sequence[Observation]) -> tuple[bool, str | None]:
    """Return `stateful` and `stateful_evidence`."""
    for observation in observations:
        if observation.repeat_failure is not None:
            return True, (
                "asked twice without adapting anew, it did not answer the second time: "
                f"{observation.repeat_failure}"
            )
    moved = np.concatenate([o.repeated > o.repeat_tolerance for o in observations])
    if _share(moved) <= MOVED:
        return False, None
    largest = max(float(o.repeated.max(initial=0.0)) for o in observations)
    return True, (
        f"asked twice without adapting anew, the scores of {int(moved.sum())} of {len(moved)} "
        f"queries changed (by up to {largest:.3g}, tolerance "
        f"{max(o.repeat_tolerance for o in observations):.3g})"
    )


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
