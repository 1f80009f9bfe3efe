"""Significance tests between methods: a paired permutation test, and Holm's correction.

Which entries are compared is left to `metaevents.benchmark.leaderboard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.rng import sign_patterns

SIGN_PATTERNS = 19_999
"""Random sign patterns per test; with the observed one they make 20,000."""

Counts: TypeAlias = npt.NDArray[np.int64]
"""[episodes] number of correctly classified queries in each episode."""


def paired_tests(best: Counts, others: Sequence[Counts]) -> list[float]:
    """Return two-sided p-values of sign-flip permutation tests against the best method.

    The statistic is the mean difference between two methods over the episodes. If they were equally
    good, either could have had either score of an episode, so the sign of each difference is
    arbitrary. Integers and a fixed stream of signs make p the same on every platform.

    Args:
        best: [episodes] correctly classified queries of the best method.
        others: the same of each other method, over the same episodes in the same order.

    Returns:
        One p-value per method of `others`, in their order.
    """
    if not others:
        return []
    # The values are integers, so that sums are exact in any order of summation.
    differences = np.stack([best - other for other in others], axis=1).astype(np.float64)
    observed = np.abs(differences.sum(axis=0))
    extreme = np.zeros(len(others), np.int64)
    for signs in sign_patterns(len(best), SIGN_PATTERNS):
        extreme += np.sum(np.abs(signs.astype(np.float64) @ differences) >= observed, axis=0)
    return [float(value) for value in (1 + extreme) / (1 + SIGN_PATTERNS)]


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
