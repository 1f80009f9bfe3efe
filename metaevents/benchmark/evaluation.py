"""evaluate: a learner over the episodes of a protocol, in one process or sharded over many.

What the answers are worth is computed by `metaevents.benchmark.predictions`, whether a learner is transductive is found out by
`metaevents.benchmark.transduction`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import Any, TypeVar, cast

import numpy as np

from metaevents._version import __version__
from metaevents.benchmark import protocols, statistics
from metaevents.benchmark.learners import Runner
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import Protocol, episode_list
from metaevents.benchmark.report import Report
from metaevents.benchmark.scoring import grade
from metaevents.benchmark.seeding import generators_restored, seed_generators
from metaevents.benchmark.transduction import EPISODES, Observation, judge, observe
from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode, EpisodeLoader
from metaevents.errors import UsageError
from metaevents.rng import Streams

T = TypeVar("T")


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

    The global random generators of torch, numpy and Python are seeded before each episode, with a number that follows from the
    protocol's seed and the episode's, and put back at the end. Started by `torchrun`, or within an initialized process
    group, the episodes are shared among the processes; all of them get the same report, and on CPU, with the same number of
    threads, it has the same predictions as that of a single process.

    Args:
        learner: any object with `adapt(support_x, support_y, ways) -> classifier`, called by position, or a function of that
            shape; `classifier(query_x)` gives scores [n, ways]. `metaevents.benchmark.learners` says what it may tell of itself.
        dataset: the test split, with the pairing and the classes that the protocol is to be run with.
        protocol: "5way-1shot", "5way-5shot", "20way-1shot", "20way-5shot", "sample-5way-1shot" or "sample-5way-5shot".
        episodes, queries: another number than the protocol's; the report then says that it is not the protocol.
        trials: how often the protocol is run, on disjoint streams of episodes: trial k has the protocol's seed + k. The
            report is that of trial 0, with mean and deviation over all in `trials`. The published figures are over ten.
        workers: processes that prepare episodes; 0 prepares them here.
        progress: a progress bar; None shows it on a terminal.

    Raises:
        UsageError: no learner, no such protocol, an archive with too few recordings for it, or scores of a wrong shape, with NaN
            or on a wrong device; names the episode.
    """
    start = time.perf_counter()
    runner = Runner(learner)
    run = protocols.bind(protocol, dataset, episodes, queries)
    for name, value, least in (("trials", trials, 1), ("workers", workers, 0)):
        if value < least:
            raise UsageError(f"{name}={value}; give at least {least}")
    overlap = runner.overlap(dataset)
    drawn = episode_list(dataset, run, progress)

    with _group() as group, generators_restored():

        def answers(run: Protocol) -> _Answers:
            return _Answers.of(
                group.each(lambda: _run(runner, dataset, run, group, workers, progress)), run
            )

        _reset_peak_memory(runner)
        main = answers(run)
        told = group.each(lambda: collect_metrics(runner, main.episodes_of[group.rank]))
        probes = group.each(lambda: _probe(runner, dataset, run, drawn.digest, group))
        accuracies = [float((main.labels == drawn.labels).mean())]
        for trial in range(1, trials):
            other = replace(run, seed=run.seed + trial)
            accuracies.append(
                float(
                    (answers(other).labels == episode_list(dataset, other, progress).labels).mean()
                )
            )
        total = max(group.each(lambda: time.perf_counter() - start))

    finding = judge(
        [
            observation
            for _, observation in sorted(chain.from_iterable(probes), key=lambda probe: probe[0])
        ]
    )
    score = grade(dataset, run, drawn, main.labels)
    return Report(
        **{name: getattr(score, name) for name in score.document_fields()},
        metaevents_version=__version__,
        trials=statistics.repeated(accuracies) if trials > 1 else None,
        training_seeds=None,
        transductive=finding.transductive,
        transductive_evidence=finding.evidence,
        deterministic=finding.deterministic,
        time={
            "adapt_ms": 1000 * median(main.adapt_s),
            "classify_ms": 1000 * median(main.classify_s),
            "total_s": total,
        },
        peak_memory_mb=max(
            (t.peak_memory_mb for t in told if t.peak_memory_mb is not None), default=None
        ),
        parameters=told[0].parameters,
        spikes_per_sample=_mean([(t.spikes_per_sample, t.episodes) for t in told]),
        synaptic_operations_per_sample=_mean(
            [(t.synaptic_operations_per_sample, t.episodes) for t in told]
        ),
        learner=runner.name,
        seen=told[0].seen,
        overlap=overlap,
        predictions=Predictions(run, dataset.fingerprint, drawn.digest, main.labels, main.scores),
    )


@dataclass(frozen=True)
class _Group:
    """The processes that share an evaluation; rank r takes episodes r, r + size, r + 2 size ..."""

    rank: int = 0
    size: int = 1

    def each(self, work: Callable[[], T]) -> list[T]:
        """What the work gave in every process, in order of rank. Where it failed in one, it fails in all."""
        if self.size == 1:
            return [work()]
        import torch.distributed as dist

        result: T | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # the others would wait for this process for ever
            failure = error
        told: list[Any] = [None] * self.size
        dist.all_gather_object(
            told, (result, None if failure is None else f"{type(failure).__name__}: {failure}")
        )
        if failure is not None:
            raise failure
        for rank, (_, problem) in enumerate(told):
            if problem is not None:
                raise UsageError(f"process {rank} failed: {problem}")
        return [given for given, _ in told]


@contextmanager
def _group() -> Iterator[_Group]:
    """The process group that is there (any backend), or one of gloo where `torchrun` started this process, or this process."""
    import torch.distributed as dist

    there = dist.is_available() and dist.is_initialized()
    started = (
        dist.is_available() and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    )
    if not there and not started:
        yield _Group()
        return
    if not there:
        dist.init_process_group("gloo")  # what is gathered is small and lies in ordinary memory
    try:
        yield _Group(dist.get_rank(), dist.get_world_size())
    finally:
        if not there:
            dist.destroy_process_group()


@dataclass(frozen=True)
class _Share:
    """What one process found for its episodes: labels [k, Q], scores [k, Q, ways], seconds [k]."""

    episodes: Sequence[int]
    labels: np.ndarray
    scores: np.ndarray
    adapt_s: list[float]
    classify_s: list[float]


@dataclass(frozen=True)
class _Answers:
    """The same for all episodes, in order; `episodes_of` says how many each process had."""

    labels: np.ndarray
    scores: np.ndarray
    adapt_s: list[float]
    classify_s: list[float]
    episodes_of: list[int]

    @classmethod
    def of(cls, shares: Sequence[_Share], run: Protocol) -> _Answers:
        labels = np.empty((run.episodes, run.n_queries), np.int16)
        scores = np.empty((run.episodes, run.n_queries, run.ways), np.float32)
        for share in shares:
            labels[share.episodes], scores[share.episodes] = share.labels, share.scores
        return cls(
            labels,
            scores,
            list(chain.from_iterable(share.adapt_s for share in shares)),
            list(chain.from_iterable(share.classify_s for share in shares)),
            [len(share.episodes) for share in shares],
        )


def _run(
    runner: Runner,
    dataset: ComposedDataset,
    run: Protocol,
    group: _Group,
    workers: int,
    progress: bool | None,
) -> _Share:
    """Run the learner over this process's episodes."""
    from tqdm import tqdm

    own = list(range(group.rank, run.episodes, group.size))
    labels = np.empty((len(own), run.n_queries), np.int16)
    scores = np.empty((len(own), run.n_queries, run.ways), np.float32)
    adapt_s, classify_s = [], []
    hidden = True if group.rank else None if progress is None else not progress
    episodes = _episodes(runner, dataset, run, own, workers)
    for row, episode in enumerate(
        tqdm(episodes, total=len(own), desc="evaluate", unit="ep", disable=hidden)
    ):
        seed_generators(_seed(run, own[row]))
        runner.synchronize()
        began = time.perf_counter()
        classifier = runner.adapt(episode, run.ways)
        runner.synchronize()
        adapted = time.perf_counter()
        given = runner.scores(classifier, episode.query_x, episode, run.ways)
        adapt_s.append(adapted - began)
        classify_s.append(time.perf_counter() - adapted)
        labels[row] = given.argmax(axis=1)
        scores[row] = given
    return _Share(own, labels, scores, adapt_s, classify_s)


def _episodes(
    runner: Runner, dataset: ComposedDataset, run: Protocol, chosen: Sequence[int], workers: int
) -> Iterator[Episode]:
    """Some episodes of a run in the form that the learner wants."""
    loader = _loader(runner, dataset, run)
    if not workers:
        for index in chosen:
            yield runner.place(loader[index])
        return
    import torch
    from torch.utils.data import DataLoader, Subset

    dataset.prepare(runner.loader_options["representation"])
    in_workers: Any = DataLoader(
        Subset(cast(Any, loader), chosen),
        batch_size=None,
        num_workers=workers,
        collate_fn=cast(Any, _as_is),
        generator=torch.Generator(),  # leaves the global generator alone
    )
    for episode in in_workers:
        yield runner.place(episode)


def _loader(runner: Runner, dataset: ComposedDataset, run: Protocol) -> EpisodeLoader:
    # One more than the run has, so that there are foreign queries for its last episode too.
    numbers = (run.ways, run.shots, run.queries, run.episodes + 1, run.seed)
    return EpisodeLoader(dataset, *numbers, **runner.loader_options)


def _as_is(episode: Episode) -> Episode:
    return episode


def _seed(run: Protocol, index: int) -> int:
    """What the generators are seeded with before episode `index`; below 2^32."""
    return Streams({"evaluate": 1, "seed": run.seed})(index).below(1 << 32)


def _probe(
    runner: Runner, dataset: ComposedDataset, run: Protocol, digest: str, group: _Group
) -> list[tuple[int, Observation]]:
    """Ask again about some episodes, this process's share of them."""
    streams = Streams({"transduction": 1, "episodes": digest})
    chosen = sorted(streams(0).choose(range(run.episodes), min(EPISODES, run.episodes)))
    loader = _loader(runner, dataset, run)
    observations = []
    for index in chosen[group.rank :: group.size]:
        episode, foreign = runner.place(loader[index]), runner.place(loader[index + 1])
        observations.append(
            (
                index,
                observe(runner, episode, foreign, run.ways, _seed(run, index), streams(index + 1)),
            )
        )
    return observations


@dataclass(frozen=True)
class LearnerMetrics:
    """What a learner tells of itself after `episodes` episodes, and the system of this process; None where they do not."""

    episodes: int
    peak_memory_mb: float | None
    parameters: int | None
    spikes_per_sample: float | None
    synaptic_operations_per_sample: float | None
    seen: dict[str, Any] | None


def collect_metrics(runner: Runner, episodes: int) -> LearnerMetrics:
    amounts = {
        name: runner.offers(name) if episodes else None
        for name in ("spikes_per_sample", "synaptic_operations_per_sample")
    }
    seen = runner.offers("seen")
    try:
        json.dumps(seen)
    except TypeError:
        seen = str(seen)
    if not isinstance(seen, Mapping | None):
        raise UsageError(f"seen={seen!r}; offer a dictionary that JSON can write")
    return LearnerMetrics(
        episodes,
        _peak_memory_mb(runner),
        runner.parameters(),
        seen=None if seen is None else dict(seen),
        **{name: None if amount is None else float(amount) for name, amount in amounts.items()},
    )


def _mean(amounts: Sequence[tuple[float | None, int]]) -> float | None:
    """The mean of (amount, episodes) over all processes that had episodes; None where one does not tell."""
    counted = [(amount, episodes) for amount, episodes in amounts if episodes]
    if any(amount is None for amount, _ in counted):
        return None
    return sum((amount or 0.0) * episodes for amount, episodes in counted) / sum(
        episodes for _, episodes in counted
    )


def _reset_peak_memory(runner: Runner) -> None:
    if runner.device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(runner.device)


def _peak_memory_mb(runner: Runner) -> float | None:
    if runner.device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(runner.device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
