"""The paired permutation test and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from metaevents.benchmark.significance import holm, paired_tests


def test_the_paired_test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    best = rng.binomial(75, 0.80, 600)
    others = [np.clip(best + rng.integers(-4, 4 + shift, 600), 0, 75) for shift in (1, 1, 2)]
    for p, other in zip(paired_tests(best, others), others, strict=True):
        expected = stats.permutation_test(
            (best, other),
            lambda a, b: float(np.mean(a - b)),
            permutation_type="samples",
            vectorized=False,
            n_resamples=1999,
            random_state=np.random.default_rng(5),
        )
        assert p == pytest.approx(float(expected.pvalue), abs=0.04)
        assert p == pytest.approx(float(stats.ttest_rel(best, other).pvalue), abs=0.02)


def test_the_paired_test_is_the_same_every_time() -> None:
    """Golden values, computed once: signs are bits of Philox(key=600), all else is integers."""
    i = np.arange(600)
    best, other = 60 + i % 7, 60 + (i // 2) % 7 - (i % 3 == 0) * (i % 2)
    assert paired_tests(best, [other, best]) == [0.0439, 1.0]
    assert stats.ttest_rel(best, other).pvalue == pytest.approx(0.0439, abs=0.002)


def test_the_paired_test_keeps_its_level() -> None:
    """Two equally good methods differ at p <= 0.05 in about 5 % of trials."""
    rng = np.random.default_rng(11)
    best = rng.binomial(50, 0.7, 100)
    flips = rng.integers(0, 2, (400, 100)) * 2 - 1
    difference = rng.integers(0, 6, 100)
    p = np.array(paired_tests(best, [best - row * difference for row in flips]))
    assert 0.02 < np.mean(p <= 0.05) < 0.09


def test_holm_corrects_for_the_number_of_comparisons() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
