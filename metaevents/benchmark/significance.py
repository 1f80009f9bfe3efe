"""Comparisons between methods: paired tests over recordings and episodes, and Holm's correction.

Which entries are compared is left to `metaevents.benchmark.leaderboard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import sqrt

import numpy as np
import numpy.typing as npt

from metaevents.benchmark.recording_variance import MeanVariance, RecordingDesign


def pairwise_tests(correct: np.ndarray, design: RecordingDesign) -> npt.NDArray[np.float64]:
    """Return two-sided p-values of the differences between all methods.

    A difference is divided by its standard deviation over fresh recordings and episodes, and
    compared with Student's distribution. Both methods answer the same queries, so what is hard for
    both cancels.

    Args:
        correct: [m, episodes, n] whether each of m methods answers each query correctly. There must
            be at least two episodes.
        design: The recordings of the episodes.

    Returns:
        [m, m] symmetric p-values; 1 on the diagonal.
    """
    variance = design.mean_variance(correct)
    n_methods = len(correct)
    p_values = np.ones((n_methods, n_methods))
    for i, j in combinations(range(n_methods), 2):
        p_values[i, j] = p_values[j, i] = _difference_test(variance, i, j)
    return p_values


def _difference_test(variance: MeanVariance, i: int, j: int) -> float:
    """Return the two-sided p-value of the difference between methods i and j."""
    from scipy.stats import t

    contrast = np.zeros(len(variance.means))
    contrast[[i, j]] = 1, -1
    difference = float(abs(variance.means @ contrast))
    if difference == 0:
        return 1.0
    value, freedom = variance.of(contrast)
    if value == 0:  # the same difference in every episode: as likely as so many equal samples
        return float(min(1.0, 2 * (1 - difference) ** max(1.0, variance.effective_samples)))
    return float(2 * t.sf(difference / sqrt(value), freedom))


def holm_over_pairs(p_values: np.ndarray) -> npt.NDArray[np.float64]:
    """Return the p-values of all pairs of methods, corrected for the number of pairs.

    Any method can come out best, so a comparison with the best is a comparison that the data chose
    among all pairs. With the correction, the probability is at most 5 % that any two equally good
    methods are called different, the best and another one included.

    Args:
        p_values: [m, m] symmetric, as `pairwise_tests` returns them.

    Returns:
        [m, m] symmetric; 1 on the diagonal.
    """
    n_methods = len(p_values)
    pairs = np.triu_indices(n_methods, 1)
    corrected = np.ones((n_methods, n_methods))
    corrected[pairs] = corrected.T[pairs] = holm(p_values[pairs].tolist())
    return corrected


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in their order.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6:65-70.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected
