"""Paired tests over recordings and episodes, and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t
from support.calibration import Setting, draw_list, made_dataset

from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.significance import holm, holm_over_pairs, pairwise_tests

SETTING = Setting("", 8, episodes=60, queries=4)
EPISODES = draw_list(made_dataset(SETTING), SETTING, 0)


@pytest.fixture(scope="module")
def design() -> RecordingDesign:
    return RecordingDesign.of(EPISODES, "all")


def answers(*accuracies: float, seed: int = 0) -> np.ndarray:
    """Return answers with some accuracies, that the methods share in part."""
    luck = np.random.default_rng(seed).random(EPISODES.labels.shape)
    return np.stack([luck < accuracy for accuracy in accuracies])


def test_the_paired_test_is_students_with_the_variance_of_the_difference(
    design: RecordingDesign,
) -> None:
    correct = answers(0.8, 0.75)
    variance, freedom = design.mean_variance(correct).of([1.0, -1.0])
    difference = correct[0].mean() - correct[1].mean()
    expected = 2 * t.sf(difference / np.sqrt(variance), freedom)
    p_values = pairwise_tests(correct, design)
    assert p_values == pytest.approx(np.array([[1, expected], [expected, 1]]))


def test_what_is_hard_for_both_methods_cancels(design: RecordingDesign) -> None:
    hard = np.random.default_rng(0).random(80) < 0.3
    easy = ~hard[EPISODES.queries].any(axis=2)
    flipped = np.random.default_rng(1).random(easy.shape) < 0.03
    paired = pairwise_tests(np.stack([easy, easy & ~flipped]), design)[0, 1]
    unpaired = design.mean_variance(np.stack([easy]))
    difference = (easy & flipped).mean()
    assert paired < 0.05
    assert difference < np.sqrt(unpaired.of([1.0])[0])


def test_identical_methods_are_not_different(design: RecordingDesign) -> None:
    assert pairwise_tests(answers(0.8, 0.8), design).tolist() == [[1, 1], [1, 1]]


def test_a_difference_without_any_variance_is_judged_by_the_number_of_samples(
    design: RecordingDesign,
) -> None:
    right = np.ones(EPISODES.labels.shape, bool)
    assert pairwise_tests(np.stack([right, ~right]), design)[0, 1] == 0.0


def test_holm_corrects_for_the_number_of_comparisons() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_over_pairs_counts_every_pair_once() -> None:
    p_values = np.array([[1, 0.01, 0.04], [0.01, 1, 0.03], [0.04, 0.03, 1]])
    assert holm_over_pairs(p_values) == pytest.approx(
        np.array([[1, 0.03, 0.06], [0.03, 1, 0.06], [0.06, 0.06, 1]])
    )
    assert holm_over_pairs(np.ones((1, 1))).tolist() == [[1]]
