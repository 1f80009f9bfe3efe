"""Verdicts on claims, computed by one rule from a measured difference and its interval.

A claim is that a difference is above a bound. It holds if the whole 95 % interval over fresh
recordings and episodes is above the bound, and does not hold if the whole interval is below it.
Otherwise it is not resolved. What was not measured is not tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from baselines.experiments.accuracy import EpisodeAccuracies
from baselines.experiments.rows import Row

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
NOT_RESOLVED = "not resolved"
NOT_TESTED = "not tested"

CLAIMS = "claims"
"""Panel of the rows with verdicts."""

MARGIN = 0.01
"""Accuracy that a method may lose and still count as equally good; set before any measurement."""


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


def claim(
    text: str,
    accuracies: Sequence[EpisodeAccuracies],
    weights: Sequence[float],
    bound: float = 0.0,
    **columns: Any,
) -> Row:
    """Return the row of a claim: that a weighted sum of accuracies is above a bound.

    Args:
        text: The claim.
        accuracies: The accuracies on the same episodes.
        weights: A weight for each; a difference has 1 and -1.
        bound: The bound.
        columns: Columns that say of what the claim is, such as the network.
    """
    difference, half_width = contrast(accuracies, weights)
    return {
        "panel": CLAIMS,
        **columns,
        "claim": text,
        "difference": difference,
        "difference_ci95": half_width,
        "bound": bound,
        "verdict": verdict(difference, half_width, bound),
    }


def not_tested(text: str, **columns: Any) -> Row:
    """Return the row of a claim of which nothing was measured."""
    return {"panel": CLAIMS, **columns, "claim": text, "verdict": NOT_TESTED}
