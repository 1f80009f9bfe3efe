"""Intervals and deviations, against hand calculation."""

from __future__ import annotations

import numpy as np
import pytest
from support.calibration import Setting, draw_list, made_dataset

from metaevents.benchmark.protocols import EpisodeList
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.statistics import (
    ci95,
    difference_half_width,
    episode_ci95,
    half_width,
    repeated,
    unshared_queries,
)
from metaevents.errors import UsageError


def made(**options: int) -> tuple[EpisodeList, RecordingDesign]:
    """Return episodes of few recordings, and their design."""
    setting = Setting("", **{"pool": 8, "episodes": 40, "queries": 4, **options})  # type: ignore[arg-type]
    episodes = draw_list(made_dataset(setting), setting, 0)
    return episodes, RecordingDesign.of(episodes, "all")


def test_interval_over_episodes_is_students() -> None:
    # Five values with mean 0.6 and deviation 0.1; t(0.975, 4) = 2.7764 from a table.
    values = 0.6 + 0.1 * np.array([-1.0, -1.0, 0.0, 1.0, 1.0])
    assert values.std(ddof=1) == pytest.approx(0.1)
    assert episode_ci95(values) == pytest.approx(2.7764 * 0.1 / np.sqrt(5), rel=1e-4)


def test_interval_over_one_episode_is_the_widest_and_over_equal_ones_empty() -> None:
    assert episode_ci95([0.7]) == 1.0
    assert episode_ci95([0.0, 1.0]) == 1.0
    assert episode_ci95([0.7] * 10) == pytest.approx(0.0, abs=1e-12)


def test_the_interval_is_wide_where_errors_belong_to_recordings() -> None:
    episodes, design = made(episodes=100)
    hard = np.random.default_rng(0).random(80) < 0.2
    of_recordings = ~hard[episodes.queries].any(axis=2)
    shuffled = np.random.default_rng(1).permutation(of_recordings.ravel())
    by_chance = ci95(shuffled.reshape(of_recordings.shape), design)
    assert ci95(of_recordings, design) > 3 * episode_ci95(of_recordings.mean(axis=1))
    assert ci95(of_recordings, design) > 2.5 * by_chance


def test_the_interval_is_wide_where_errors_belong_to_support_recordings() -> None:
    episodes, design = made(episodes=100)
    bad = np.random.default_rng(0).random(80) < 0.2
    share_bad = bad[episodes.support].mean(axis=(1, 2))
    correct = np.random.default_rng(1).random(episodes.labels.shape) < (1 - 2 * share_bad)[:, None]
    assert ci95(correct, design) > 1.5 * episode_ci95(correct.mean(axis=1))


def test_the_interval_is_never_narrower_than_over_episodes() -> None:
    episodes, design = made()
    rng = np.random.default_rng(2)
    for _ in range(20):
        correct = rng.random(episodes.labels.shape) < 0.7
        assert ci95(correct, design) >= episode_ci95(correct.mean(axis=1))


@pytest.mark.parametrize("right", [False, True])
def test_a_perfect_and_a_hopeless_score_have_the_interval_of_no_error_in_n_samples(
    right: bool,
) -> None:
    """Wilson's interval of n of n successes ends at z^2 / (n + z^2)."""
    episodes, design = made()
    n, z = design.effective_samples, 2.0227  # t(0.975, 39) from a table
    assert 25 < n <= 40  # 80 recordings, two per sample, some more frequent than others
    found = ci95(np.full(episodes.labels.shape, right), design)
    assert found == pytest.approx(z * z / (n + z * z), rel=1e-4)


def test_a_single_episode_says_nothing() -> None:
    episodes, design = made(episodes=1)
    correct = np.ones(episodes.labels.shape, bool)
    assert ci95(correct, design) == 1.0
    assert difference_half_width(np.stack([correct, ~correct]), design) == 1.0


def test_two_episodes_of_one_recording_per_label_have_an_interval() -> None:
    labels = np.array([[0, 1], [1, 0]], np.int16)
    queries = np.array([[[0], [1]], [[1], [0]]], np.int32)
    support = np.array([[[2], [3]], [[2], [3]]], np.int32)
    episodes = EpisodeList(labels, np.array([[0, 1], [0, 1]], np.int16), queries, support, "")
    design = RecordingDesign.of(episodes, "all")
    for correct in ([[True, True], [True, False]], [[True, False], [False, True]]):
        assert 0 < ci95(np.array(correct), design) <= 1


def test_identical_methods_differ_by_nothing() -> None:
    episodes, design = made()
    correct = np.random.default_rng(3).random(episodes.labels.shape) < 0.7
    assert difference_half_width(np.stack([correct, correct]), design) == 0.0
    variance = design.mean_variance(np.stack([correct, ~correct]))
    assert half_width(variance, 0) == pytest.approx(half_width(variance, 1))


def test_unshared_queries_share_no_recording_with_the_support_of_another_class() -> None:
    labels = np.array([[0, 0, 1, 1]])
    support = np.array([[[0, 1], [2, 3]]])  # class 0, class 1
    queries = np.array([[[0, 9], [8, 2], [1, 7], [3, 2]]])
    # Query 0 shares with its own class; query 1 with class 1; query 2 with class 0, on the other
    # side; query 3 with its own class.
    assert unshared_queries(queries, labels, support).tolist() == [[True, False, False, True]]


def test_repeated_runs_have_a_mean_and_a_sample_deviation() -> None:
    summary = repeated([0.9, 0.92, 0.94])
    assert summary == {
        "seeds": 3,
        "mean": pytest.approx(0.92),
        "deviation": pytest.approx(0.02),
        "accuracies": [0.9, 0.92, 0.94],
    }
    with pytest.raises(UsageError, match="1 run given"):
        repeated([0.9])
