"""The card `energy.md`: what the baselines cost, from their leaderboard entries.

Counting is left to `operations`, measuring to `entry_costs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from baselines.config import RunConfig
from metaevents.benchmark.amounts import amount, operations, size
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.learner_metrics import MEASURED_EPISODES, MEASURED_QUERIES
from metaevents.benchmark.markdown import table

_UNKNOWN = "\N{EN DASH}"

_INTRODUCTION = """\
# Spikes, operations and memory

<!-- Written by `python -m baselines cards` from cards/entries; do not edit. -->

What the baselines cost beside their accuracy: to classify one sample, and to adapt to one support.
The entries and the [leaderboard](LEADERBOARD.md) hold the same numbers.

The numbers are counts, not joules. How much energy an operation takes depends on the hardware, on
its precision and on the memory traffic. So this card gives no energy.

## What is counted

The counts follow NeuroBench (Yik et al. 2025, The neurobench framework for benchmarking
neuromorphic computing algorithms and systems, Nature Communications 16, 1545,
doi 10.1038/s41467-025-56739-4). A test compares them with those of the package `neurobench` on
small networks; they are equal.

- **Effective operations.** One use of one weight, where neither the weight nor its input is zero.
  It is an accumulation (AC) if all inputs of the layer in that time step are 0 or 1, and a
  multiply-accumulation (MAC) if not. Event counts give MACs, spikes give ACs.
- **Dense operations.** The same with the zeros: what a processor does that skips nothing.
- **Spikes.** What a layer sends to the next one, after pooling. The neurons themselves fire more
  often, since pooling merges 2 x 2 of them.
- **Zero activations.** Share of zeros among the spikes, or among the activities of a network
  without spikes.
- **Footprint.** Bytes of parameters and buffers. States of neurons are not in it.

The spiking network is counted in its event-driven form, in which weights act on spikes and the
filters of the neuron act on the result. The filters are linear, so this is the same network. The
package itself computes with filtered spikes, and densely.

The network without spikes classifies counts that are summed over time, in one pass. The spiking one
runs through all time steps. That is why it has more operations.

Not counted are biases, the filters and thresholds of neurons, pooling, normalization and the loss.

## What one adaptation is

MAML runs the inner loop on the support. Per inner step and support sample, these are counted:

1. the forward pass, as above;
2. the errors through the weights of each layer above the lowest one that learns: one MAC per error
   that is not zero and weight that is not zero;
3. the gradients of the weights: one MAC per pair of an error and an input of the weight that are
   both not zero. In the spiking network, this input is the potential P, which is no spike.

2 and 3 count each time step that carries a gradient: those after the burn-in. Once per inner step,
the update adds one MAC per parameter. The memory to adapt is the footprint, the adapted copy of the
parameters, their gradients, and the inputs and errors of one sample in the steps with a gradient.

Transfer learning runs the frozen layers on the support once. Each step of its new last layer adds
two MACs per feature that is not zero and class, and three per parameter (weight decay, momentum and
update).

Errors and potentials are no spikes. So adapting takes MACs in the spiking network too, although
classifying takes mostly ACs.
"""

_COMMAND = f"""\
## Measure again

```bash
python -m baselines measure --archive double-nmnist.h5   # writes the counts into cards/entries
python -m baselines cards                                # writes this card
```

Each number is the mean over the first {MEASURED_EPISODES} episodes of the protocol, with
{MEASURED_QUERIES} queries each. `metaevents evaluate` measures them too, for every learner that
offers them; [SUBMITTING.md](SUBMITTING.md) and `metaevents.benchmark.learner_metrics` say how.
`baselines.operations` counts, and states the formulas.
"""


def energy_card(entries: Iterable[Entry]) -> str:
    """Return the card.

    Args:
        entries: The entries of the baselines; those without costs, and those with pairing
            "published", are left out.
    """
    shown = [
        entry
        for entry in entries
        if entry.costs.get("dense_operations") and entry.protocol["pairing"] == "all"
    ]
    groups: dict[tuple[Any, ...], dict[str, Entry]] = {}
    for entry in _best_first(shown):
        protocol = entry.protocol
        data = "sample" if entry.is_subset else "full dataset"
        key = protocol["dataset"], data, protocol["classes"], protocol["ways"], protocol["shots"]
        versions = groups.setdefault(key, {})
        known = versions.get(entry.name)
        if known is None or protocol["version"] > known.protocol["version"]:
            versions[entry.name] = entry
    parts = [_INTRODUCTION, _COMMAND]
    for (dataset, data, classes, ways, shots), members in sorted(groups.items()):
        heading = f"## {dataset} ({data}), {classes} classes: {ways}-way {shots}-shot"
        parts.append("\n".join([heading, "", *_tables(_best_first(members.values()))]))
    return "\n".join(parts)


def _best_first(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: -entry.accuracy)


def _tables(entries: Sequence[Entry]) -> list[str]:
    """Return the tables about one sample, one adaptation and the layers."""
    lines = ["One sample:", "", _sample_table(entries), "", "One adaptation:", ""]
    lines += [_adaptation_table(entries), ""]
    if layers := _layer_table(entries):
        lines += ["Spikes of each layer per sample:", "", layers, ""]
    return lines


def _sample_table(entries: Sequence[Entry]) -> str:
    header = [
        "Baseline", "Accuracy (%)", "Spikes", "Zero activations (%)", "MACs", "ACs",
        "Dense operations", "Footprint",
    ]  # fmt: skip
    rows = [
        [
            entry.name,
            f"{100 * entry.accuracy:.1f}",
            _shown(entry.report["spikes_per_sample"]),
            _shown(entry.costs.get("activation_sparsity"), lambda share: f"{100 * share:.1f}"),
            *_work(entry.costs),
            _shown(entry.costs.get("footprint_bytes"), size),
        ]
        for entry in entries
    ]
    return table(header, rows, "lrrrrrrr")


def _adaptation_table(entries: Sequence[Entry]) -> str:
    header = [
        "Baseline", "Steps", "Spikes", "MACs", "ACs", "Dense operations", "Memory",
        "Times one sample",
    ]  # fmt: skip
    rows = []
    for entry in entries:
        costs = entry.costs["adaptation"]
        adapting, classifying = operations(costs), operations(entry.costs)
        samples = adapting / classifying if adapting and classifying else None
        rows.append(
            [
                entry.name,
                _steps(entry),
                _shown(costs.get("spikes")),
                *_work(costs),
                _shown(costs.get("footprint_bytes"), size),
                _shown(samples, lambda ratio: f"{ratio:.0f}"),
            ]
        )
    return table(header, rows, "lrrrrrrr")


def _layer_table(entries: Sequence[Entry]) -> str | None:
    """Return the table of spikes by layer; None without a spiking network."""
    spiking = [entry for entry in entries if entry.costs.get("spikes_per_layer")]
    if not spiking:
        return None
    names = list(dict.fromkeys(name for e in spiking for name in e.costs["spikes_per_layer"]))
    rows = [
        [entry.name, *(_shown(entry.costs["spikes_per_layer"].get(name)) for name in names)]
        for entry in spiking
    ]
    return table(["Baseline", *(f"`{name}`" for name in names)], rows, "l" + "r" * len(names))


def _steps(entry: Entry) -> str:
    """Return the number of gradient steps of one adaptation."""
    config = RunConfig.from_dict(entry.report["seen"]["config"])
    if config.kind.method == "components":
        return "none"
    if config.kind.method == "transfer":
        return str(config.head_steps)
    return str(config.test_steps or config.inner_steps)


def _work(costs: Mapping[str, Any]) -> list[str]:
    """Return the cells about operations."""
    return [
        _shown(costs.get(name)) for name in ("effective_macs", "effective_acs", "dense_operations")
    ]


def _shown(value: float | None, words: Callable[[float], str] = amount) -> str:
    """Return a number in words, or a dash for one that is unknown."""
    return _UNKNOWN if value is None else words(value)
