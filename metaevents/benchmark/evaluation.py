"""Evaluation: run a learner on the episodes of a protocol, in one process or in several.

`evaluate` adapts and classifies episode by episode and assembles the report. Left to other modules:
how a learner is called (`learners`), what is measured about it (`learner_metrics`), whether it is
transductive or stateful (`transduction`), and what its predictions score (`scoring`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from metaevents._version import __version__
from metaevents.arguments import whole_number
from metaevents.benchmark import protocols, statistics
from metaevents.benchmark.learner_metrics import (
    MEASURED_EPISODES,
    Costs,
    check_metrics,
    collect_metrics,
    cost_fields,
    measure_episode,
    measures_episodes,
    merge_metrics,
    reset_peak_memory,
)
from metaevents.benchmark.learners import Runner
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import Protocol, episode_list
from metaevents.benchmark.report import EpisodeFacts, Report
from metaevents.benchmark.scoring import grade
from metaevents.benchmark.transduction import (
    EPISODES,
    NOT_PROBED,
    SCREENED,
    Finding,
    Observation,
    Screening,
    judge,
    observe,
    screen,
)
from metaevents.datasets import ComposedDataset
from metaevents.distributed import ProcessGroup, process_group
from metaevents.episodes import Episode, EpisodeLoader
from metaevents.errors import UsageError
from metaevents.files import progress_bar
from metaevents.global_state import generators_restored, seed_generators
from metaevents.rng import Draws, Streams

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_WORKERS = 1024


def evaluate(
    learner: Any,
    dataset: ComposedDataset,
    protocol: str = "5way-1shot",
    *,
    episodes: int | None = None,
    queries: int | None = None,
    trials: int = 1,
    workers: int = 0,
    progress: bool | None = None,
    probe: bool = True,
) -> Report:
    """Score a learner on the episodes of a protocol.

    Before each episode, the global random generators of torch, numpy and Python are seeded from the
    protocol's seed and the episode's index. At the end they are restored. If several threads
    evaluate, or load episodes with a transform, one waits for the other. The report depends neither
    on `torch.inference_mode` around the call nor on torch's default device and dtype, unless the
    learner's own tensors do.

    The processes that `torchrun` started, or those of an initialized process group, share the
    episodes. All of them return the same report. On CPU, with the same number of threads, its
    predictions are those of a single process.

    Args:
        learner: Object with `adapt(support_x, support_y, ways) -> classifier`, called by position,
            or a function with that signature. `classifier(query_x)` returns scores [n, ways].
            `metaevents.benchmark.learners` lists the optional attributes.
        dataset: The test split, with the pairing and the class split to evaluate on. With another
            split, the report says that it deviates from the protocol.
        protocol: "5way-1shot", "5way-5shot", "20way-1shot", "20way-5shot", "sample-5way-1shot" or
            "sample-5way-5shot". A version can follow, as in "sample-5way-1shot-v1"; without it,
            the newest is taken.
        episodes: Number of episodes. None takes the protocol's. With another number, the report
            says that it deviates from the protocol.
        queries: Queries per class. None takes the protocol's; another number likewise deviates.
        trials: How many times to run the protocol, on independent lists of episodes. Trial k uses
            the protocol's seed + k. The report is that of trial 0; its `trials` holds mean and
            standard deviation over all. The published figures are over 10 trials.
        workers: Number of workers that prepare episodes, as for `EpisodeLoader`. 0 prepares each
            when it is needed.
        progress: True shows progress bars, False hides them, None shows them on a terminal and in a
            notebook. They count the episodes on which the learner measures its costs, if it does,
            all episodes with the milliseconds of the last one, and the episodes on which the
            learner is probed.
        probe: Whether to measure if the learner is transductive, stateful and deterministic; see
            `metaevents.benchmark.transduction`. This adapts and classifies on up to
            3 episodes once more, and on up to 5 in several ways if an answer changed. False marks
            the report as not probed.

    Returns:
        The report, which holds the predictions.

    Raises:
        UsageError: The learner is no learner or fails, the protocol does not exist, a number is
            out of range, the archive has too few recordings, what the learner reports of itself
            cannot be written, or the scores have a wrong shape, NaN or a wrong device. The message
            names the episode where there is one.
    """
    runner = Runner(learner)
    setting = protocols.bind(protocol, dataset, episodes, queries)
    trials = whole_number("trials", trials, least=1, most=protocols.MAX_EPISODES)
    workers = whole_number("workers", workers, least=0, most=_MAX_WORKERS)
    if not isinstance(probe, bool):
        raise UsageError(f"probe={probe!r:.80}; give True or False")
    with generators_restored():
        return _evaluate(runner, dataset, setting, trials, workers, progress, probe)


def measure(learner: Any, dataset: ComposedDataset, protocol: str = "5way-1shot") -> dict[str, Any]:
    """Let a learner measure what it costs, as `evaluate` does, without evaluating it.

    Args:
        learner: A learner whose attribute `costs` is a method with arguments; see
            `metaevents.benchmark.learner_metrics`.
        dataset: The test split, with the pairing and the class split to measure on.
        protocol: Name of the protocol; its first episodes are used.

    Returns:
        The fields `costs`, `spikes_per_sample` and `synaptic_operations_per_sample` of a report.

    Raises:
        UsageError: The learner measures nothing, fails, or reports something else.
    """
    runner = Runner(learner)
    setting = protocols.bind(protocol, dataset, None, None)
    if not measures_episodes(runner):
        raise UsageError(
            f"{runner.name} does not measure what it costs; offer a method costs(support_x, "
            "support_y, query_x, ways)"
        )
    with generators_restored(), process_group() as group:
        measured = group.gather(lambda: _measure(runner, dataset, setting, group))
    return cost_fields(_in_order(measured), None)


def _evaluate(
    runner: Runner,
    dataset: ComposedDataset,
    setting: Protocol,
    trials: int,
    workers: int,
    progress: bool | None,
    probe: bool,
) -> Report:
    """Evaluate with checked arguments; the global generators are seeded and not restored."""
    start = time.perf_counter()
    overlap = runner.overlap(dataset)
    check_metrics(runner, started=False)
    drawn = episode_list(dataset, setting, progress)
    probed = _probed_episodes(setting, drawn.digest) if probe else []
    logger.info(
        "evaluating %s: %s on %s, %d episodes",
        runner.name, setting.name, setting.dataset, setting.episodes,
    )  # fmt: skip

    with process_group() as group:

        def answer(trial: Protocol, kept: Sequence[int] = ()) -> _Answers:
            """Run the learner on all episodes of a trial, shared among the processes."""
            shares = group.gather(
                lambda: _run(runner, dataset, trial, group, workers, progress, kept)
            )
            return _Answers.merge(shares, trial)

        # Before the work, so that a learner whose report cannot be written fails at once.
        measured = group.gather(lambda: _measure(runner, dataset, setting, group, progress))
        reset_peak_memory(runner.device)
        answers = answer(setting, probed[:SCREENED])
        times = answers.median_times()
        logger.info(
            "median per episode: %.1f ms to adapt, %.1f ms to classify",
            times["adapt_ms"], times["classify_ms"],
        )  # fmt: skip
        metrics = group.gather(lambda: collect_metrics(runner, answers.episodes_of[group.rank]))
        finding, probe_s = NOT_PROBED, None
        if probe:
            prober = _Prober(runner, dataset, setting, drawn.digest, group, progress)
            finding, probe_s = prober.probe(probed, answers.kept)
        accuracies = [float((answers.labels == drawn.labels).mean())]
        for k in range(1, trials):
            trial = replace(setting, seed=setting.seed + k)
            correct = answer(trial).labels == episode_list(dataset, trial, progress).labels
            accuracies.append(float(correct.mean()))
        seconds = max(group.gather(lambda: time.perf_counter() - start))

    score = grade(dataset, setting, drawn, answers.labels)
    return Report(
        **{name: getattr(score, name) for name in score.document_fields()},
        metaevents_version=__version__,
        trials=statistics.repeated(accuracies) if trials > 1 else None,
        training_seeds=None,
        transductive=finding.transductive,
        transductive_evidence=finding.evidence,
        stateful=finding.stateful,
        stateful_evidence=finding.stateful_evidence,
        deterministic=finding.deterministic,
        time={**times, "probe_s": probe_s, "total_s": seconds},
        **merge_metrics(metrics, _in_order(measured)),
        learner=runner.name,
        overlap=overlap,
        predictions=Predictions(
            setting, dataset.fingerprint, drawn.digest, answers.labels, answers.scores
        ),
        episode_facts=answers.facts(dataset.classes, drawn.classes),
    )


@dataclass(frozen=True)
class _Share:
    """The answers to one process's share of the episodes.

    Attributes:
        episodes: Indices of the k episodes.
        labels: [k, ways * queries] predicted labels, int16.
        scores: [k, ways * queries, ways] float32.
        adapt_s: Seconds to adapt, per episode.
        classify_s: Seconds to classify, per episode.
        kept: Index of an episode to its scores [ways * queries, ways] in full precision, for the
            episodes on which the learner will be probed.
    """

    episodes: Sequence[int]
    labels: np.ndarray
    scores: np.ndarray
    adapt_s: list[float]
    classify_s: list[float]
    kept: dict[int, np.ndarray]


@dataclass(frozen=True)
class _Answers:
    """The answers to all episodes, in order of the episodes.

    Attributes:
        labels: [episodes, ways * queries] predicted labels, int16.
        scores: [episodes, ways * queries, ways] float32.
        adapt_s: [episodes] seconds to adapt.
        classify_s: [episodes] seconds to classify.
        kept: As in the shares.
        episodes_of: Number of episodes of each process.
    """

    labels: np.ndarray
    scores: np.ndarray
    adapt_s: np.ndarray
    classify_s: np.ndarray
    kept: dict[int, np.ndarray]
    episodes_of: list[int]

    @classmethod
    def merge(cls, shares: Sequence[_Share], protocol: Protocol) -> _Answers:
        """Return the answers of all processes together."""
        labels = np.empty((protocol.episodes, protocol.n_queries), np.int16)
        scores = np.empty((protocol.episodes, protocol.n_queries, protocol.ways), np.float32)
        adapt_s, classify_s = np.empty(protocol.episodes), np.empty(protocol.episodes)
        kept: dict[int, np.ndarray] = {}
        for share in shares:
            labels[share.episodes], scores[share.episodes] = share.labels, share.scores
            adapt_s[share.episodes], classify_s[share.episodes] = share.adapt_s, share.classify_s
            kept.update(share.kept)
        return cls(
            labels, scores, adapt_s, classify_s, kept, [len(share.episodes) for share in shares]
        )

    def median_times(self) -> dict[str, float]:
        """Return the median milliseconds per episode to adapt and to classify."""
        return {
            "adapt_ms": 1000 * float(np.median(self.adapt_s)),
            "classify_ms": 1000 * float(np.median(self.classify_s)),
        }

    def facts(self, names: Sequence[str], classes: np.ndarray) -> list[EpisodeFacts]:
        """Return the facts of each episode.

        Args:
            names: Names of all classes.
            classes: [episodes, ways] indices of the classes, by label.
        """
        return [
            EpisodeFacts(tuple(names[i] for i in of_episode), 1000 * float(a), 1000 * float(c))
            for of_episode, a, c in zip(classes, self.adapt_s, self.classify_s, strict=True)
        ]


def _run(
    runner: Runner,
    dataset: ComposedDataset,
    protocol: Protocol,
    group: ProcessGroup,
    workers: int,
    progress: bool | None,
    kept: Sequence[int],
) -> _Share:
    """Run the learner on this process's episodes and return its answers.

    The scores of the episodes in `kept` are returned in full precision too.
    """
    indices = list(group.share(protocol.episodes))
    labels = np.empty((len(indices), protocol.n_queries), np.int16)
    scores = np.empty((len(indices), protocol.n_queries, protocol.ways), np.float32)
    adapt_s: list[float] = []
    classify_s: list[float] = []
    kept_scores: dict[int, np.ndarray] = {}
    bar = progress_bar(
        "evaluate",
        len(indices),
        "ep",
        False if group.rank else progress,
        iterable=map(runner.place, _loader(runner, dataset, protocol, workers).iterate(indices)),
        delay=0,  # an episode can take longer than the usual delay
    )
    for row, episode in enumerate(bar):
        seed_generators(_episode_seed(protocol, indices[row]))
        runner.synchronize()
        start = time.perf_counter()
        classifier = runner.adapt(episode, protocol.ways)
        runner.synchronize()
        adapted = time.perf_counter()
        episode_scores = runner.scores(classifier, episode.query_x, episode, protocol.ways)
        adapt_s.append(adapted - start)
        classify_s.append(time.perf_counter() - adapted)
        labels[row] = episode_scores.argmax(axis=1)
        with np.errstate(over="ignore"):  # beyond float32 a score becomes infinite
            scores[row] = episode_scores
        if indices[row] in kept:
            kept_scores[indices[row]] = episode_scores
        bar.set_postfix_str(
            f"{1000 * adapt_s[-1]:.0f} ms to adapt, {1000 * classify_s[-1]:.0f} ms to classify",
            refresh=row == 0,
        )
        if row == 0:  # by now a learner has made its network
            check_metrics(runner, started=True)
    return _Share(indices, labels, scores, adapt_s, classify_s, kept_scores)


def _measure(
    runner: Runner,
    dataset: ComposedDataset,
    protocol: Protocol,
    group: ProcessGroup,
    progress: bool | None = None,
) -> list[tuple[int, Costs]]:
    """Let the learner measure its costs on this process's share of the first episodes.

    A run of few episodes measures on fewer, so that this does not take longer than the run.

    Returns:
        (index of the episode, costs) per episode; nothing for a learner that measures none.
    """
    if not measures_episodes(runner):
        return []
    loader, measured = _loader(runner, dataset, protocol), []
    indices = group.share(max(1, min(MEASURED_EPISODES, protocol.episodes // 5)))
    bar = progress_bar(
        "costs",
        len(indices),
        "ep",
        False if group.rank else progress,
        iterable=indices,
        delay=0,
    )
    for index in bar:
        seed_generators(_episode_seed(protocol, index))
        episode = runner.place(loader[index])
        measured.append((index, measure_episode(runner, episode, protocol.ways)))
    return measured


def _in_order(shares: Sequence[list[tuple[int, Costs]]]) -> list[Costs]:
    """Return what all processes measured, in order of the episodes."""
    by_episode = sorted(chain.from_iterable(shares), key=lambda each: each[0])
    return [costs for _, costs in by_episode]


def _loader(
    runner: Runner, dataset: ComposedDataset, protocol: Protocol, workers: int = 0
) -> EpisodeLoader:
    """Return a loader of the protocol's episodes and one more, in the form of the learner's choice.

    The last episode is probed with queries of the one after it.
    """
    return EpisodeLoader(
        dataset,
        ways=protocol.ways,
        shots=protocol.shots,
        queries=protocol.queries,
        episodes=protocol.episodes + 1,
        seed=protocol.seed,
        num_workers=workers,
        division=protocol.division,
        **runner.loader_options,
    )


def _episode_seed(protocol: Protocol, index: int) -> int:
    """Return the seed of the global generators for an episode, below 2^32."""
    return Streams({"evaluate": 1, "seed": protocol.seed})(index).below(1 << 32)


def _probed_episodes(protocol: Protocol, digest: str) -> list[int]:
    """Return the episodes on which a learner can be probed, in the order in which they are taken.

    Args:
        protocol: The protocol.
        digest: Digest of its list of episodes.
    """
    streams = _probe_streams(digest)
    return list(streams(0).choose(range(protocol.episodes), min(EPISODES, protocol.episodes)))


def _probe_streams(digest: str) -> Streams:
    """Return the random streams of the probe: 0 chooses the episodes, 1 + i probes episode i."""
    return Streams({"transduction": 1, "episodes": digest})


@dataclass(frozen=True)
class _Prober:
    """Probes a learner after its evaluation; see `metaevents.benchmark.transduction`.

    Attributes:
        runner: The learner.
        dataset: The dataset.
        protocol: The protocol.
        digest: Digest of its list of episodes.
        group: The processes, which share the probed episodes.
        progress: As for `evaluate`.
    """

    runner: Runner
    dataset: ComposedDataset
    protocol: Protocol
    digest: str
    group: ProcessGroup
    progress: bool | None

    def probe(self, probed: list[int], base: dict[int, np.ndarray]) -> tuple[Finding, float]:
        """Probe the learner.

        Args:
            probed: The episodes on which it can be probed, at least one.
            base: Index of each of the first `SCREENED` of them to the scores of the evaluation.

        Returns:
            What was found, and the seconds that it took.
        """
        start = time.perf_counter()
        screened = self._on_each("probe", probed[:SCREENED], lambda i: self._screen(i, base[i]))
        if all(screening.unchanged for screening in screened):
            deterministic = all(screening.deterministic for screening in screened)
            finding = Finding(False, None, False, None, deterministic)
        else:
            logger.info("an answer changed in the probe; asking in all ways on more episodes")
            finding = judge(self._on_each("probe, all ways", sorted(probed), self._observe))
            # What a learner keeps from earlier episodes shows in comparison with the run alone.
            repeated = all(screening.repeated for screening in screened)
            finding = replace(finding, deterministic=finding.deterministic and repeated)
        seconds = max(self.group.gather(lambda: time.perf_counter() - start))
        logger.info("probed in %.1f s", seconds)
        return finding, seconds

    def _on_each(self, what: str, episodes: list[int], work: Callable[[int], T]) -> list[T]:
        """Return the result of some work on each episode; the processes share the episodes."""

        def share() -> list[tuple[int, T]]:
            places = list(self.group.share(len(episodes)))
            bar = progress_bar(
                what,
                len(places),
                "ep",
                False if self.group.rank else self.progress,
                iterable=places,
                delay=0,
            )
            return [(place, work(episodes[place])) for place in bar]

        results = chain.from_iterable(self.group.gather(share))
        return [result for _, result in sorted(results, key=lambda pair: pair[0])]

    def _screen(self, index: int, base: np.ndarray) -> Screening:
        episode, foreign, seed, draws = self._material(index)
        return screen(self.runner, episode, foreign, self.protocol.ways, seed, base, draws)

    def _observe(self, index: int) -> Observation:
        episode, foreign, seed, draws = self._material(index)
        return observe(self.runner, episode, foreign, self.protocol.ways, seed, draws)

    def _material(self, index: int) -> tuple[Episode, Episode, int, Draws]:
        """Return an episode, the one after it, the episode's seed and random draws."""
        loader = _loader(self.runner, self.dataset, self.protocol)
        return (
            self.runner.place(loader[index]),
            self.runner.place(loader[index + 1]),
            _episode_seed(self.protocol, index),
            _probe_streams(self.digest)(index + 1),
        )
