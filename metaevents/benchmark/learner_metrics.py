"""Metrics of a learner besides its accuracy: parameters, spikes, operations and memory.

Most of them are reported by the learner itself; the peak memory is measured here. Each process of
an evaluation collects its own. When they are collected is left to
`metaevents.benchmark.evaluation`.

A learner reports what it costs in its attribute `costs`: a dictionary with any of these keys.
None says that a quantity is unknown, or does not exist.

    footprint_bytes
        Bytes of the parameters and buffers that are needed to classify.
    activation_sparsity
        Share of activations that are zero, from 0 to 1.
    spikes_per_sample
        Spikes to classify one sample, over all layers.
    spikes_per_layer
        The same by layer: a dictionary of at most 100 names. They add up to spikes_per_sample.
    effective_macs, effective_acs
        Multiply-accumulations and accumulations of one sample, without those of which a factor is
        zero. Accumulations are those with inputs of 0, 1 or -1.
    dense_operations
        All operations of one sample, also those with a zero.
    adaptation
        A dictionary about one call of `adapt`, with the same keys; `spikes` stands in place of
        `spikes_per_sample`.

Sparsity and operations are those of NeuroBench (Yik et al. 2025, Nature Communications 16, 1545).

`costs` may be a method too. Without arguments, it is called after the last episode. With
arguments, it is called as costs(support_x, support_y, query_x, ways) for the first
`MEASURED_EPISODES` episodes, with at most `MEASURED_QUERIES` of their queries, and the report holds
the means. A run of fewer than 25 episodes measures on a fifth of them, at least on one. The time
that it takes counts neither as adapting nor as classifying.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from metaevents.arguments import finite_number, whole_number
from metaevents.benchmark.amounts import operations
from metaevents.benchmark.json_values import to_json
from metaevents.benchmark.learners import AttributeFailedError, Runner, takes_no_arguments
from metaevents.errors import UsageError, printable

if TYPE_CHECKING:
    import torch

    from metaevents.episodes import Episode

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_AMOUNT = 1e15  # of the schema of entries

_PER_SAMPLE = ("spikes_per_sample", "synaptic_operations_per_sample")

MEASURED_EPISODES = 5
"""Episodes, the first of the protocol, on which a learner measures its costs."""

MEASURED_QUERIES = 10
"""Queries per episode, at most, on which a learner measures its costs."""

_MAX_LAYERS = 100
_MAX_NAME = 60  # characters of a layer's name

_SHARED = (
    "footprint_bytes",
    "activation_sparsity",
    "spikes_per_layer",
    "effective_macs",
    "effective_acs",
    "dense_operations",
)
_DECIMALS = 6  # of a mean
_TOLERANCE = 1e-6  # relative; sums of means may differ by rounding


Costs = dict[str, Any]
"""What a learner reports that it costs, with all keys, as `check_costs` returns it."""


def check_costs(reported: Any) -> Costs:
    """Check what a learner reports that it costs.

    Args:
        reported: The dictionary that the module's docstring describes.

    Returns:
        All of its values by name; those that were not reported are None.

    Raises:
        UsageError: It is no such dictionary.
    """
    costs = _check_group("costs", reported, "spikes_per_sample", ("adaptation",))
    if costs["adaptation"] is not None:
        costs["adaptation"] = _check_group("costs.adaptation", costs["adaptation"], "spikes")
    return costs


def _check_group(name: str, values: Any, spikes: str, more: Sequence[str] = ()) -> Costs:
    """Check the costs of one sample or of one adaptation."""
    names = (*_SHARED[:2], spikes, *_SHARED[2:], *more)
    if not isinstance(values, Mapping):
        raise UsageError(
            f"the learner's {name} is {type(values).__name__}; offer a dictionary with some of "
            f"{', '.join(names)}"
        )
    if unknown := [key for key in values if key not in names]:
        raise UsageError(
            f"the learner's {name} has {str(unknown[0])[:60]!r}; choose among {', '.join(names)}"
        )
    checked = {key: values.get(key) for key in names}
    for key, value in checked.items():
        if value is None or key == "adaptation":
            continue
        where = f"the learner's {name}[{key!r}]"
        if key == "spikes_per_layer":
            checked[key] = _check_layers(where, value)
        elif key == "footprint_bytes":
            checked[key] = whole_number(where, value, least=0, most=int(_MAX_AMOUNT))
        else:
            most = 1.0 if key == "activation_sparsity" else _MAX_AMOUNT
            checked[key] = finite_number(where, value, least=0, most=most)
    if problem := cost_problem(checked, spikes):
        raise UsageError(f"the learner's {name}: {problem}")
    return checked


def _check_layers(name: str, layers: Any) -> dict[str, float]:
    """Check the spikes by layer."""
    if not isinstance(layers, Mapping) or not 1 <= len(layers) <= _MAX_LAYERS:
        raise UsageError(
            f"{name} is {type(layers).__name__}; offer a dictionary of 1 to {_MAX_LAYERS} layers"
        )
    for layer in layers:
        fits = isinstance(layer, str) and 1 <= len(layer) <= _MAX_NAME and layer.strip()
        if not fits or printable(layer) != layer:
            raise UsageError(
                f"{name} has the layer {str(layer)[:_MAX_NAME]!r}; name a layer in 1 to "
                f"{_MAX_NAME} visible characters"
            )
    return {
        layer: finite_number(f"{name}[{layer!r}]", value, least=0, most=_MAX_AMOUNT)
        for layer, value in layers.items()
    }


def cost_problem(costs: Mapping[str, Any], spikes: str) -> str | None:
    """Return how the costs of one sample, or of one adaptation, contradict each other.

    Args:
        costs: The costs by name.
        spikes: Name of the number of spikes.

    Returns:
        The contradiction in words; None if there is none.
    """
    effective, dense = operations(costs), costs.get("dense_operations")
    layers, stated = costs.get("spikes_per_layer"), costs.get(spikes)
    if effective is not None and dense is not None and effective > dense * (1 + _TOLERANCE):
        return (
            f"{effective:g} effective operations are more than dense_operations={dense:g}; "
            "count as dense all operations, also the effective ones"
        )
    if layers is not None and stated is not None:
        total = sum(layers.values())
        if abs(total - stated) > max(total, stated) * _TOLERANCE:
            return (
                f"the spikes of the layers add up to {total:g} and {spikes} is {stated:g};"
                " count the same spikes in both"
            )
    return None


def mean_costs(costs: Sequence[tuple[Costs, int]]) -> Costs:
    """Return the weighted means of costs.

    Args:
        costs: (costs, weight) of several episodes or processes; at least one.

    Returns:
        The means by name. What one of them lacks is None.
    """
    total, first = sum(weight for _, weight in costs), costs[0][0]
    means: Costs = {}
    for name in first:
        values = [each[name] for each, _ in costs]
        if any(value is None for value in values):
            means[name] = None
        elif isinstance(first[name], Mapping):
            if any(value.keys() != first[name].keys() for value in values):
                means[name] = None
            else:
                weights = [weight for _, weight in costs]
                means[name] = mean_costs(list(zip(values, weights, strict=True)))
        else:
            mean = sum(v * weight for v, (_, weight) in zip(values, costs, strict=True)) / total
            means[name] = round(mean) if name == "footprint_bytes" else round(mean, _DECIMALS)
    return means


def measures_episodes(runner: Runner) -> bool:
    """Return whether a learner measures its costs on episodes; see the module's docstring."""
    costs = runner.attribute("costs")
    return callable(costs) and not takes_no_arguments(costs)


def measure_episode(runner: Runner, episode: Episode, ways: int) -> Costs:
    """Let a learner measure its costs on an episode.

    Args:
        runner: A learner for which `measures_episodes` is true.
        episode: The episode, on the learner's device.
        ways: Classes per episode.

    Raises:
        UsageError: The learner failed, or what it reports is not as the module's docstring says.
    """
    return check_costs(runner.measure(episode, ways, MEASURED_QUERIES))


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
        costs: What its attribute `costs` holds, unless the learner measures it on episodes.
    """

    episodes: int
    peak_memory_mb: float | None
    parameters: int | None
    spikes_per_sample: float | None
    synaptic_operations_per_sample: float | None
    seen: dict[str, Any] | None
    costs: Costs | None = None


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
    costs = runner.attribute("costs")
    if costs is not None and not callable(costs):
        check_costs(costs)


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

    def read_costs() -> Costs | None:
        if not episodes or measures_episodes(runner):
            return None
        costs = runner.read_attribute("costs")
        return None if costs is None else check_costs(costs)

    return LearnerMetrics(
        episodes,
        peak_memory_mb(runner.device),
        _attempt(runner.parameters),
        seen=_attempt(lambda: _read_seen(runner)),
        costs=_attempt(read_costs),
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


def merge_metrics(
    metrics: Sequence[LearnerMetrics], measured: Sequence[Costs] = ()
) -> dict[str, Any]:
    """Merge the metrics of all processes.

    Args:
        metrics: One per process; at least one process ran an episode.
        measured: What the learner measured on single episodes.

    Returns:
        The fields of `metaevents.benchmark.report.Report` that have the names of the metrics:
        means per sample weighted by the number of episodes, the largest peak memory, and what the
        first process reported.
    """
    peaks = [each.peak_memory_mb for each in metrics if each.peak_memory_mb is not None]
    reported = [(each.costs, each.episodes) for each in metrics if each.episodes]
    fields = cost_fields(measured, None)
    if not measured and all(costs is not None for costs, _ in reported):
        fields = cost_fields((), mean_costs([(costs, n) for costs, n in reported if costs]))
    stated = {name: _mean_over_episodes(metrics, name) for name in _PER_SAMPLE}
    return {
        "peak_memory_mb": max(peaks, default=None),
        "parameters": metrics[0].parameters,
        "seen": metrics[0].seen,
        **fields,
        **{name: value for name, value in stated.items() if value is not None},
    }


def cost_fields(measured: Sequence[Costs], reported: Costs | None) -> dict[str, Any]:
    """Return the fields of a report about what a learner costs.

    Args:
        measured: What it measured on single episodes, if it does.
        reported: What it reported of all episodes, if it did; only one of both is given.

    Returns:
        `costs`: all costs but the spikes per sample, and the number of `episodes` that they were
        measured on (None if the learner reported them itself), or None; and the spikes and
        synaptic operations per sample.
    """
    costs = mean_costs([(each, 1) for each in measured]) if measured else reported
    if costs is None:
        return {"costs": None, **dict.fromkeys(_PER_SAMPLE)}
    return {
        "costs": {
            "episodes": len(measured) or None,
            **{name: value for name, value in costs.items() if name != "spikes_per_sample"},
        },
        "spikes_per_sample": costs["spikes_per_sample"],
        "synaptic_operations_per_sample": operations(costs),
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
