"""Large numbers and what a learner costs, in short words for reports and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_PREFIXES = ("", "k", "M", "G", "T", "P")


def amount(value: float) -> str:
    """Return a number to three digits, with the prefix of a power of 1,000.

    Example:
        >>> amount(31_810_567), amount(935), amount(0)
        ('31.8 M', '935', '0')
    """
    power = 0
    while power < len(_PREFIXES) - 1 and float(f"{value:.3g}") >= 1000:
        value, power = value / 1000, power + 1
    shown = float(f"{value:.3g}")
    digits = 0 if shown >= 100 or (shown == int(shown) and power == 0) else 1 if shown >= 10 else 2
    return f"{shown:.{digits}f} {_PREFIXES[power]}".rstrip()


def power_of_ten(power: int) -> str:
    """Return a power of ten: "10 M" for 7.

    Args:
        power: From 0 to 17.
    """
    return f"{10 ** (power % 3)} {_PREFIXES[power // 3]}".rstrip()


def size(value: float) -> str:
    """Return a number of bytes.

    Example:
        >>> size(1_051_796), size(512)
        ('1.05 MB', '512 B')
    """
    text = amount(value)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def operations(costs: Mapping[str, Any]) -> float | None:
    """Return the effective operations, MACs and ACs together; None if neither is known.

    Args:
        costs: The costs of one sample or of one adaptation.
    """
    known = [costs.get(name) for name in ("effective_macs", "effective_acs")]
    counted = [number for number in known if number is not None]
    return sum(counted) if counted else None


def describe_operations(costs: Mapping[str, Any]) -> str | None:
    """Return the effective operations by kind: "1.14 M MACs, 31.8 M ACs"; None if unknown.

    Args:
        costs: The costs of one sample or of one adaptation.
    """
    kinds = (("effective_macs", "MACs"), ("effective_acs", "ACs"))
    known = [f"{amount(costs[name])} {kind}" for name, kind in kinds if costs.get(name)]
    return ", ".join(known) or ("0" if operations(costs) == 0 else None)


def describe_costs(costs: Mapping[str, Any], spikes: float | None) -> str:
    """Return costs in one line, without what is unknown; "" if nothing is known.

    Args:
        costs: The costs of one sample or of one adaptation.
        spikes: The number of spikes.
    """
    return "; ".join(_parts(costs, spikes))


def _parts(costs: Mapping[str, Any], spikes: float | None) -> Iterator[str]:
    if spikes is not None:
        yield f"{amount(spikes)} spikes"
    work, dense = describe_operations(costs), costs.get("dense_operations")
    if work is not None:
        yield work if dense is None else f"{work} of {amount(dense)} dense operations"
    elif dense is not None:
        yield f"{amount(dense)} dense operations"
    if (sparsity := costs.get("activation_sparsity")) is not None:
        yield f"{100 * sparsity:.1f} % of activations are zero"
    if (footprint := costs.get("footprint_bytes")) is not None:
        yield size(footprint)
