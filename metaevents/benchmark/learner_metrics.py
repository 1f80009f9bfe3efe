"""Metrics of a learner besides its accuracy: parameters, spikes, operations and peak memory.

Most of them are reported by the learner itself; the peak memory is measured here. Each process of
an evaluation collects its own. When they are collected is left to
`metaevents.benchmark.evaluation`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from metaevents.arguments import finite_number
from metaevents.benchmark.json_values import to_json
from metaevents.benchmark.learners import AttributeFailedError, Runner
from metaevents.errors import UsageError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_AMOUNT = 1e15  # of the schema of entries

_PER_SAMPLE = ("spikes_per_sample", "synaptic_operations_per_sample")


@dataclass(frozen=True)
class LearnerMetrics:
    """Learner-reported metrics and peak memory of one process; None where unavailable.

    Attributes:
        episodes: Number of episodes that the process ran.
        peak_memory_mb: Peak memory in MiB; see `peak_memory_mb`.
        parameters: Number of parameters.
        spikes_per_sample: Mean over all samples that the learner saw in this process.
        synaptic_operations_per_sample: The same mean of synaptic operations.
        seen: What the weights were trained on.
    """

    episodes: int
    peak_memory_mb: float | None
    parameters: int | None
    spikes_per_sample: float | None
    synaptic_operations_per_sample: float | None
    seen: dict[str, Any] | None


def check_metrics(runner: Runner, *, started: bool) -> None:
    """Check what a learner reports of itself, so that a run is not lost for it at the end.

    Args:
        runner: The learner.
        started: Whether the learner has adapted before. One that has not may fail to report, since
            it may make its network when it adapts; what it reports must be right all the same.

    Raises:
        UsageError: A method of the learner failed, or what it reports cannot be written.
    """
    for read in (runner.parameters, lambda: _read_seen(runner)):
        try:
            read()
        except AttributeFailedError:
            if started:
                raise
    for name in _PER_SAMPLE:
        value = runner.attribute(name)
        if value is not None and not callable(value):  # methods count while the learner works
            _amount(name, value)


def collect_metrics(runner: Runner, episodes: int) -> LearnerMetrics:
    """Collect the metrics of a learner after its last episode.

    A metric that cannot be read is left out, with a warning: no run is lost for it.

    Args:
        runner: The learner.
        episodes: Number of episodes that it ran in this process. After none, it reports no means
            per sample.

    Returns:
        The metrics.
    """

    def read_per_sample(name: str) -> float | None:
        value = runner.read_attribute(name) if episodes else None
        return None if value is None else _amount(name, value)

    return LearnerMetrics(
        episodes,
        peak_memory_mb(runner.device),
        _attempt(runner.parameters),
        seen=_attempt(lambda: _read_seen(runner)),
        **{name: _attempt(partial(read_per_sample, name)) for name in _PER_SAMPLE},
    )


def _attempt(read: Callable[[], T]) -> T | None:
    """Return what a function reads; None, with a warning, if that fails."""
    try:
        return read()
    except UsageError as error:
        logger.warning("%s; the report is written without it", error)
        return None


def _amount(name: str, value: Any) -> float:
    """Return a number that a learner reports."""
    return finite_number(f"the learner's {name}", value, least=0, most=_MAX_AMOUNT)


def _read_seen(runner: Runner) -> dict[str, Any] | None:
    """Return what the weights were trained on, as JSON can write it."""
    seen = runner.read_attribute("seen")
    if seen is None:
        return None
    if not isinstance(seen, Mapping):
        raise UsageError(
            f"seen={str(seen)[:60]!r} is {type(seen).__name__}; offer a dictionary that JSON can "
            "write"
        )
    converted: dict[str, Any] = to_json("seen", seen)
    return converted


def merge_metrics(metrics: Sequence[LearnerMetrics]) -> dict[str, Any]:
    """Merge the metrics of all processes.

    Args:
        metrics: One per process; at least one process ran an episode.

    Returns:
        The fields of `metaevents.benchmark.report.Report` that have the names of the metrics:
        means per sample weighted by the number of episodes, the largest peak memory, and what the
        first process reported.
    """
    peaks = [each.peak_memory_mb for each in metrics if each.peak_memory_mb is not None]
    return {
        "peak_memory_mb": max(peaks, default=None),
        "parameters": metrics[0].parameters,
        "seen": metrics[0].seen,
        **{name: _mean_over_episodes(metrics, name) for name in _PER_SAMPLE},
    }


def _mean_over_episodes(metrics: Sequence[LearnerMetrics], name: str) -> float | None:
    """Return a metric's mean over all episodes; None if a process that ran some has no value."""
    values = [(getattr(each, name), each.episodes) for each in metrics if each.episodes]
    if any(value is None for value, _ in values):
        return None
    total = sum(episodes for _, episodes in values)
    return float(sum(value * episodes for value, episodes in values) / total)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of peak memory, which is possible on a GPU only.

    Args:
        device: The device that the learner works on.
    """
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """Return the peak memory of this process in MiB.

    Args:
        device: The device that the learner works on.

    Returns:
        On a GPU, the most memory allocated there since `reset_peak_memory`. Elsewhere, the largest
        resident set of the process; None where the system does not report it.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS: bytes; else KiB
