"""Verdicts follow from a difference, its interval and a bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_ind

from baselines.experiments.accuracy import EpisodeAccuracies
from baselines.experiments.verdicts import (
    CLAIMS,
    DOES_NOT_HOLD,
    HOLDS,
    NOT_RESOLVED,
    NOT_TESTED,
    claim,
    contrast,
    not_tested,
    over_trainings,
    verdict,
)
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.statistics import difference_half_width, repeated

EPISODES, QUERIES = 40, 6


def design() -> RecordingDesign:
    """Episodes with recordings of their own."""
    count = EPISODES * QUERIES
    queries = np.arange(2 * count).reshape(EPISODES, QUERIES, 2)
    support = 2 * count + np.arange(6 * EPISODES).reshape(EPISODES, 3, 2)
    return RecordingDesign(queries, support, np.tile(np.arange(QUERIES) % 3, (EPISODES, 1)))


def answers(share: float, seed: int) -> EpisodeAccuracies:
    correct = np.random.default_rng(seed).random((EPISODES, QUERIES)) < share
    return EpisodeAccuracies((tuple(correct.mean(1)),), correct, design)


@pytest.mark.parametrize(
    ("difference", "half_width", "bound", "expected"),
    [
        (0.05, 0.04, 0.0, HOLDS),
        (0.05, 0.06, 0.0, NOT_RESOLVED),
        (-0.05, 0.06, 0.0, NOT_RESOLVED),
        (-0.05, 0.04, 0.0, DOES_NOT_HOLD),
        (-0.005, 0.004, -0.01, HOLDS),
        (-0.02, 0.004, -0.01, DOES_NOT_HOLD),
        (0.5, None, 0.0, NOT_RESOLVED),
    ],
)
def test_the_whole_interval_decides(
    difference: float, half_width: float | None, bound: float, expected: str
) -> None:
    assert verdict(difference, half_width, bound) == expected


def test_a_difference_has_the_interval_of_the_benchmark() -> None:
    a, b = answers(0.9, 0), answers(0.6, 1)
    difference, half_width = contrast([a, b], [1, -1])
    assert difference == pytest.approx(a.accuracy - b.accuracy)
    assert half_width == pytest.approx(
        difference_half_width(np.stack([a.answers, b.answers]), design())
    )
    row = claim("a beats b", [a, b], [1, -1], network="cnn")
    assert row == {
        "panel": CLAIMS,
        "network": "cnn",
        "claim": "a beats b",
        "difference": difference,
        "difference_ci95": half_width,
        "bound": 0.0,
        "verdict": HOLDS,
    }


def test_equal_answers_are_no_proof_of_equality() -> None:
    same = answers(0.9, 0)
    difference, half_width = contrast([same, same], [1, -1])
    assert difference == 0
    assert half_width is not None
    samples = EPISODES * QUERIES
    assert half_width == pytest.approx(3.84 / (samples + 3.84), rel=0.1)
    assert claim("as good", [same, same], [1, -1], -0.01)["verdict"] == NOT_RESOLVED


def test_without_answers_nothing_is_resolved() -> None:
    kept, lost = answers(0.9, 0), EpisodeAccuracies(((0.1,) * EPISODES,))
    assert contrast([kept, lost], [1, -1])[1] is None
    assert claim("better", [kept, lost], [1, -1])["verdict"] == NOT_RESOLVED


def test_what_is_not_measured_is_not_tested() -> None:
    assert not_tested("better", network="snn") == {
        "panel": CLAIMS, "network": "snn", "claim": "better", "verdict": NOT_TESTED,
    }  # fmt: skip


def trained(share: float, seed: int, *means: float) -> EpisodeAccuracies:
    return replace(answers(share, seed), trainings=means)


def test_methods_that_were_trained_apart_need_three_trainings_of_each() -> None:
    a, b = answers(0.95, 0), answers(0.5, 1)
    assert claim("a is better", [a, b], [1, -1])["verdict"] == HOLDS
    one = claim("a is better", [a, b], [1, -1], trained_apart=True)
    assert (one["verdict"], one["trainings"]) == (NOT_RESOLVED, 1)
    a, b = trained(0.95, 0, 0.94, 0.95), trained(0.5, 1, 0.5, 0.51, 0.52)
    two = claim("a is better", [a, b], [1, -1], trained_apart=True)
    assert (two["verdict"], two["trainings"]) == (NOT_RESOLVED, 2)
    a = trained(0.95, 0, 0.94, 0.95, 0.96)
    three = claim("a is better", [a, b], [1, -1], trained_apart=True)
    assert (three["verdict"], three["trainings"]) == (HOLDS, 3)
    assert three["over_trainings"] == pytest.approx(0.44)
    # The trainings of b differ too much.
    b = trained(0.5, 1, 0.1, 0.5, 0.95)
    assert claim("a is better", [a, b], [1, -1], trained_apart=True)["verdict"] == NOT_RESOLVED


def test_the_interval_over_trainings_is_welchs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9, 0.01, 4), rng.normal(0.8, 0.05, 6)
    result = over_trainings([repeated(a.tolist()), repeated(b.tolist())], [1, -1])
    assert result is not None
    interval = ttest_ind(a, b, equal_var=False).confidence_interval()
    assert result[0] - result[1] == pytest.approx(interval.low)
    assert result[0] + result[1] == pytest.approx(interval.high)
