"""Verdicts on claims, computed by one rule from a measured difference and its interval.

A claim is that a difference is above a bound. It holds if the whole 95 % interval over fresh
recordings and episodes is above the bound, and does not hold if the whole interval is below it.
Otherwise it is not resolved. What was not measured is not tested.

A claim about methods that were trained apart needs several trainings of each. It is resolved only
if the interval over trainings gives the same verdict. Without them it is not resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

from baselines.experiments.accuracy import EpisodeAccuracies
from baselines.experiments.rows import Row
from metaevents.benchmark.statistics import repeated

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
NOT_RESOLVED = "not resolved"
NOT_TESTED = "not tested"

CLAIMS = "claims"
"""Panel of the rows with verdicts."""

MARGIN = 0.01
"""Accuracy that a method may lose and still count as equally good; set before any measurement."""

TRAININGS = 3
"""Trainings of each method that a comparison of methods needs."""


def verdict(difference: float, half_width: float | None, bound: float = 0.0) -> str:
    """Return the verdict on the claim that a difference is above a bound.

    Args:
        difference: The measured difference.
        half_width: Half of its 95 % interval; None if it is unknown.
        bound: The bound.
    """
    if half_width is None:
        return NOT_RESOLVED
    if difference - half_width > bound:
        return HOLDS
    return DOES_NOT_HOLD if difference + half_width < bound else NOT_RESOLVED


def contrast(
    accuracies: Sequence[EpisodeAccuracies], weights: Sequence[float]
) -> tuple[float, float | None]:
    """Return a weighted sum of accuracies on the same episodes, and half of its 95 % interval.

    Args:
        accuracies: The accuracies.
        weights: A weight for each.

    Returns:
        The sum, and half the width of Student's interval over fresh recordings and episodes; None
        if answers were not kept. A single episode gives the sum of the magnitudes of the weights.
        Where the sum is the same for every query, the variance is 0, and half the width follows
        from the number of samples as for an accuracy of 100 %.
    """
    from scipy.stats import t

    widest = float(np.abs(weights).sum())
    total = sum(w * each.accuracy for w, each in zip(weights, accuracies, strict=True))
    answers = [each.answers for each in accuracies if each.answers is not None]
    design = accuracies[0].design
    if len(answers) < len(accuracies) or design is None:
        return total, None
    stacked = np.stack(answers)
    if stacked.shape[1] < 2:
        return total, widest
    variance = design().mean_variance(stacked)
    value, freedom = variance.of(weights)
    quantile = float(t.ppf(0.975, freedom))
    if not np.ptp(np.tensordot(weights, stacked.astype(np.float64), 1)):
        return total, widest / 2 * quantile**2 / (variance.effective_samples + quantile**2)
    return total, min(widest, quantile * sqrt(value))


def over_trainings(
    trainings: Sequence[Mapping[str, Any]], weights: Sequence[float]
) -> tuple[float, float] | None:
    """Return a weighted sum of methods' means over trainings, and half of its 95 % interval.

    The interval is Welch's: Student's, for means with deviations of their own.

    Args:
        trainings: For each method, `mean`, `deviation` and `seeds` (the number) of its trainings.
        weights: A weight for each.

    Returns:
        None if a method has fewer than `TRAININGS` trainings.
    """
    from scipy.stats import t

    if any(each["seeds"] < TRAININGS for each in trainings):
        return None
    total = sum(w * each["mean"] for w, each in zip(weights, trainings, strict=True))
    parts = [
        (w * each["deviation"]) ** 2 / each["seeds"]
        for w, each in zip(weights, trainings, strict=True)
    ]
    variance = sum(parts)
    if variance == 0:
        return total, 0.0
    freedom = variance**2 / sum(
        part**2 / (each["seeds"] - 1) for part, each in zip(parts, trainings, strict=True)
    )
    return total, float(t.ppf(0.975, freedom)) * sqrt(variance)


def claim(
    text: str,
    accuracies: Sequence[EpisodeAccuracies],
    weights: Sequence[float],
    bound: float = 0.0,
    *,
    trained_apart: bool = False,
    **columns: Any,
) -> Row:
    """Return the row of a claim: that a weighted sum of accuracies is above a bound.

    Args:
        text: The claim.
        accuracies: The accuracies on the same episodes.
        weights: A weight for each; a difference has 1 and -1.
        bound: The bound.
        trained_apart: Whether the claim compares methods that were trained apart. If so it needs
            several trainings of each, and the row has their number.
        columns: Columns that say of what the claim is, such as the network.
    """
    difference, half_width = contrast(accuracies, weights)
    outcome = verdict(difference, half_width, bound)
    row: Row = {
        "panel": CLAIMS,
        **columns,
        "claim": text,
        "difference": difference,
        "difference_ci95": half_width,
        "bound": bound,
    }
    if trained_apart:
        row["trainings"] = min(len(each.trainings) or 1 for each in accuracies)
        several = [repeated(each.trainings) for each in accuracies if len(each.trainings) > 1]
        between = over_trainings(several, weights) if len(several) == len(accuracies) else None
        if between is not None:
            row["over_trainings"], row["over_trainings_ci95"] = between
        if between is None or verdict(*between, bound) != outcome:
            outcome = NOT_RESOLVED
    return {**row, "verdict": outcome}


def without_verdicts(rows: Iterable[Row]) -> list[Row]:
    """Return those of an experiment's rows that are no verdicts."""
    return [row for row in rows if row.get("panel") != CLAIMS]


def not_tested(text: str, **columns: Any) -> Row:
    """Return the row of a claim of which nothing was measured."""
    return {"panel": CLAIMS, **columns, "claim": text, "verdict": NOT_TESTED}
