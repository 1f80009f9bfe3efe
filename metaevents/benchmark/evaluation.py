"""Evaluation: run a learner on the episodes of a protocol, in one process or in several.

`evaluate` adapts and classifies episode by episode and assembles the report. Left to other modules:
how a learner is called (`learners`), what is measured about it (`learner_metrics`), whether it is
transductive (`transduction`), and what its predictions score (`scoring`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import Any

import numpy as np

from metaevents._version import __version__
from metaevents.arguments import whole_number
from metaevents.benchmark import protocols, statistics
from metaevents.benchmark.learner_metrics import (
    check_metrics,
    collect_metrics,
    merge_metrics,
    reset_peak_memory,
)
from metaevents.benchmark.learners import Runner
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import Protocol, episode_list
from metaevents.benchmark.report import Report
from metaevents.benchmark.scoring import grade
from metaevents.benchmark.transduction import EPISODES, Observation, judge, observe
from metaevents.datasets import ComposedDataset
from metaevents.distributed import ProcessGroup, process_group
from metaevents.episodes import EpisodeLoader
from metaevents.files import progress_bar
from metaevents.global_state import generators_restored, seed_generators
from metaevents.rng import Streams

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
) -> Report:
    """Score a learner on the episodes of a protocol.

    Before each episode, the global random generators of torch, numpy and Python are seeded from the
    protocol's seed and the episode's index. At the end they are restored. If several threads
    evaluate, one waits for the other. The report depends neither on `torch.inference_mode` around
    the call nor on torch's default device and dtype, unless the learner's own tensors do.

    The processes that `torchrun` started, or those of an initialized process group, share the
    episodes. All of them return the same report. On CPU, with the same number of threads, its
    predictions are those of a single process.

    Args:
        learner: Object with `adapt(support_x, support_y, ways) -> classifier`, called by position,
            or a function with that signature. `classifier(query_x)` returns scores [n, ways].
            `metaevents.benchmark.learners` lists the optional attributes.
        dataset: The test split, with the pairing and the class split to evaluate on.
        protocol: "5way-1shot", "5way-5shot", "20way-1shot", "20way-5shot", "sample-5way-1shot" or
            "sample-5way-5shot".
        episodes: Number of episodes. None takes the protocol's. With another number, the report
            says that it deviates from the protocol.
        queries: Queries per class. None takes the protocol's; another number likewise deviates.
        trials: How many times to run the protocol, on disjoint streams of episodes. Trial k uses
            the protocol's seed + k. The report is that of trial 0; its `trials` holds mean and
            standard deviation over all. The published figures are over 10 trials.
        workers: Number of workers that prepare episodes, as for `EpisodeLoader`. 0 prepares each
            when it is needed.
        progress: True shows a progress bar, False hides it, None shows it on a terminal.

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
    with _one_evaluation(), generators_restored():
        return _evaluate(runner, dataset, setting, trials, workers, progress)


def _evaluate(
    runner: Runner,
    dataset: ComposedDataset,
    setting: Protocol,
    trials: int,
    workers: int,
    progress: bool | None,
) -> Report:
    """Evaluate with checked arguments; the global generators are seeded and not restored."""
    start = time.perf_counter()
    overlap = runner.overlap(dataset)
    check_metrics(runner, started=False)
    drawn = episode_list(dataset, setting, progress)

    with process_group() as group:

        def answer(trial: Protocol) -> _Answers:
            """Run the learner on all episodes of a trial, shared among the processes."""
            shares = group.gather(lambda: _run(runner, dataset, trial, group, workers, progress))
            return _Answers.merge(shares, trial)

        reset_peak_memory(runner.device)
        answers = answer(setting)
        metrics = group.gather(lambda: collect_metrics(runner, answers.episodes_of[group.rank]))
        probes = group.gather(lambda: _probe(runner, dataset, setting, drawn.digest, group))
        accuracies = [float((answers.labels == drawn.labels).mean())]
        for k in range(1, trials):
            trial = replace(setting, seed=setting.seed + k)
            correct = answer(trial).labels == episode_list(dataset, trial, progress).labels
            accuracies.append(float(correct.mean()))
        seconds = max(group.gather(lambda: time.perf_counter() - start))

    score = grade(dataset, setting, drawn, answers.labels)
    finding = judge([observation for _, observation in sorted(chain(*probes), key=lambda p: p[0])])
    return Report(
        **{name: getattr(score, name) for name in score.document_fields()},
        metaevents_version=__version__,
        trials=statistics.repeated(accuracies) if trials > 1 else None,
        training_seeds=None,
        transductive=finding.transductive,
        transductive_evidence=finding.evidence,
        deterministic=finding.deterministic,
        time={**answers.median_times(), "total_s": seconds},
        **merge_metrics(metrics),
        learner=runner.name,
        overlap=overlap,
        predictions=Predictions(
            setting, dataset.fingerprint, drawn.digest, answers.labels, answers.scores
        ),
    )


_lock = threading.RLock()  # held while the global generators are seeded; see `_one_evaluation`


def _renew_lock() -> None:
    """Release the lock in a forked process: the thread that held it does not exist there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def _one_evaluation() -> Iterator[None]:
    """Let one thread at a time evaluate; others wait.

    The global generators belong to all threads. Two evaluations at a time would seed them for each
    other.
    """
    lock = _lock
    with lock:
        yield


@dataclass(frozen=True)
class _Share:
    """The answers to one process's share of the episodes.

    Attributes:
        episodes: Indices of the k episodes.
        labels: [k, ways * queries] predicted labels, int16.
        scores: [k, ways * queries, ways] float32.
        adapt_s: Seconds to adapt, per episode.
        classify_s: Seconds to classify, per episode.
    """

    episodes: Sequence[int]
    labels: np.ndarray
    scores: np.ndarray
    adapt_s: list[float]
    classify_s: list[float]


@dataclass(frozen=True)
class _Answers:
    """The answers to all episodes.

    Attributes:
        labels: [episodes, ways * queries] predicted labels in order of the episodes, int16.
        scores: [episodes, ways * queries, ways] float32, in the same order.
        adapt_s: Seconds to adapt, per episode, in order of the processes.
        classify_s: Seconds to classify, per episode, in order of the processes.
        episodes_of: Number of episodes of each process.
    """

    labels: np.ndarray
    scores: np.ndarray
    adapt_s: list[float]
    classify_s: list[float]
    episodes_of: list[int]

    @classmethod
    def merge(cls, shares: Sequence[_Share], protocol: Protocol) -> _Answers:
        """Return the answers of all processes together."""
        labels = np.empty((protocol.episodes, protocol.n_queries), np.int16)
        scores = np.empty((protocol.episodes, protocol.n_queries, protocol.ways), np.float32)
        for share in shares:
            labels[share.episodes], scores[share.episodes] = share.labels, share.scores
        return cls(
            labels,
            scores,
            list(chain.from_iterable(share.adapt_s for share in shares)),
            list(chain.from_iterable(share.classify_s for share in shares)),
            [len(share.episodes) for share in shares],
        )

    def median_times(self) -> dict[str, float]:
        """Return the median milliseconds per episode to adapt and to classify."""
        return {
            "adapt_ms": 1000 * median(self.adapt_s),
            "classify_ms": 1000 * median(self.classify_s),
        }


def _run(
    runner: Runner,
    dataset: ComposedDataset,
    protocol: Protocol,
    group: ProcessGroup,
    workers: int,
    progress: bool | None,
) -> _Share:
    """Run the learner on this process's episodes and return its answers."""
    indices = list(group.share(protocol.episodes))
    labels = np.empty((len(indices), protocol.n_queries), np.int16)
    scores = np.empty((len(indices), protocol.n_queries, protocol.ways), np.float32)
    adapt_s, classify_s = [], []
    bar = progress_bar(
        "evaluate",
        len(indices),
        "ep",
        False if group.rank else progress,
        iterable=map(runner.place, _loader(runner, dataset, protocol, workers).iterate(indices)),
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
        if row == 0:  # by now a learner has made its network
            check_metrics(runner, started=True)
    return _Share(indices, labels, scores, adapt_s, classify_s)


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
        **runner.loader_options,
    )


def _episode_seed(protocol: Protocol, index: int) -> int:
    """Return the seed of the global generators for an episode, below 2^32."""
    return Streams({"evaluate": 1, "seed": protocol.seed})(index).below(1 << 32)


def _probe(
    runner: Runner, dataset: ComposedDataset, protocol: Protocol, digest: str, group: ProcessGroup
) -> list[tuple[int, Observation]]:
    """Test for transduction on this process's share of the probed episodes.

    Returns:
        (index of the episode, observation) per probed episode.
    """
    streams = Streams({"transduction": 1, "episodes": digest})
    n_probed = min(EPISODES, protocol.episodes)
    probed = sorted(streams(0).choose(range(protocol.episodes), n_probed))
    loader = _loader(runner, dataset, protocol)
    observations = []
    for index in (probed[i] for i in group.share(n_probed)):
        episode, foreign = runner.place(loader[index]), runner.place(loader[index + 1])
        seed = _episode_seed(protocol, index)
        observation = observe(runner, episode, foreign, protocol.ways, seed, streams(index + 1))
        observations.append((index, observation))
    return observations
