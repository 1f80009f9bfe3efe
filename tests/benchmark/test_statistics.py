"""Intervals and deviations, against hand calculation and brute force."""
# ruff: noqa: NPY002  the global generator must stay as it is

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from metaevents.benchmark import statistics
from metaevents.benchmark.statistics import bootstrap95, ci95, repeated
from metaevents.errors import UsageError


def test_interval_over_episodes_is_students() -> None:
    # Five values with mean 0.6 and deviation 0.1; t(0.975, 4) = 2.7764 from a table.
    values = 0.6 + 0.1 * np.array([-1.0, -1.0, 0.0, 1.0, 1.0])
    assert values.std(ddof=1) == pytest.approx(0.1)
    assert ci95(values) == pytest.approx(2.7764 * 0.1 / np.sqrt(5), rel=1e-4)


def test_interval_over_one_episode_is_the_widest_and_over_equal_ones_empty() -> None:
    assert ci95([0.7]) == 1.0
    assert ci95([0.0, 1.0]) == 1.0
    assert ci95([0.7] * 10) == pytest.approx(0.0, abs=1e-12)


POOLS = {"0": np.array([4, 7, 9]), "1": np.array([2, 3, 5, 6, 8])}


def queries(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correctness and recordings of queries of left label 0 and right label 1.

    Most queries with the left recording 4 or 7 are correct, few with 9.
    """
    rng = np.random.default_rng(seed)
    recordings = np.stack([rng.choice(POOLS["0"], n), rng.choice(POOLS["1"], n)], axis=1)
    return rng.random(n) < np.where(recordings[:, 0] == 9, 0.2, 0.9), recordings


def test_bootstrap_is_the_weighted_accuracy_over_resampled_pools() -> None:
    correct, recordings = queries(200)
    found = bootstrap95(correct, recordings, POOLS, key="k", replicates=60)
    streams = statistics.Streams({"bootstrap": 1, "of": "k"})
    accuracies = []
    for replicate in range(60):
        words = [word >> 32 for word in streams.words(replicate, 0)]
        times: Counter[int] = Counter()
        for label in ("0", "1"):
            pool = POOLS[label]
            pool_words, words = words[: len(pool)], words[len(pool) :]
            times.update(int(pool[word * len(pool) >> 32]) for word in pool_words)
        weights = [times[int(left)] * times[int(right)] for left, right in recordings]
        if sum(weights):
            accuracies.append(
                sum(w for w, hit in zip(weights, correct, strict=True) if hit) / sum(weights)
            )
    assert found == pytest.approx(tuple(np.percentile(accuracies, [2.5, 97.5])), abs=1e-12)


def test_bootstrap_draws_each_pool_uniformly_and_as_often_as_it_is_large() -> None:
    streams = statistics.Streams("uniform")
    counts = np.array(
        [statistics._resample(POOLS, 10, streams, replicate) for replicate in range(4000)]
    )
    for pool in POOLS.values():
        assert (counts[:, pool].sum(axis=1) == len(pool)).all()
        np.testing.assert_allclose(counts[:, pool].mean(axis=0), 1, atol=0.06)
    assert counts[:, [0, 1]].sum() == 0


def test_a_pool_larger_than_a_block_of_words_is_drawn_whole() -> None:
    pools = {"0": np.arange(700), "1": np.arange(700, 1000)}
    count = statistics._resample(pools, 1000, statistics.Streams("large"), 3)
    assert (count[:700].sum(), count[700:].sum()) == (700, 300)


def test_bootstrap_is_wider_where_errors_belong_to_recordings() -> None:
    correct, recordings = queries(2000)
    low, high = bootstrap95(correct, recordings, POOLS, key="k")
    shuffled_low, shuffled_high = bootstrap95(
        np.random.default_rng(1).permutation(correct), recordings, POOLS, key="k"
    )
    assert high - low > 3 * (shuffled_high - shuffled_low)


def test_bootstrap_of_a_perfect_score_is_perfect() -> None:
    correct, recordings = queries(50)
    assert bootstrap95(np.ones_like(correct), recordings, POOLS, key="k") == (1.0, 1.0)


def test_bootstrap_depends_on_its_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    correct, recordings = queries(300)
    np.random.seed(0)
    state = np.random.get_state()[1].tolist()
    first = bootstrap95(correct, recordings, POOLS, key="k")
    assert np.random.get_state()[1].tolist() == state
    monkeypatch.setattr(statistics, "_CHUNK", 1000)  # many small chunks instead of one
    assert bootstrap95(correct, recordings, POOLS, key="k") == first
    assert bootstrap95(correct, recordings, POOLS, key="another") != first


def test_bootstrap_takes_any_number_of_sides() -> None:
    correct, recordings = queries(100)
    triple = np.concatenate([recordings, recordings[:, :1]], axis=1)
    low, high = bootstrap95(correct, triple, POOLS, key="k")
    assert 0 < low < high < 1


def test_deviation_over_runs_has_n_minus_1_in_the_denominator() -> None:
    found = repeated([0.5, 0.7])
    assert found["seeds"] == 2
    assert found["mean"] == pytest.approx(0.6)
    assert found["deviation"] == pytest.approx(0.1 * np.sqrt(2))
    assert found["accuracies"] == [0.5, 0.7]
    with pytest.raises(UsageError, match="1 run given; a deviation needs at least 2"):
        repeated([0.5])
