"""Intervals and tests on simulated benchmarks with known truth; see `support.calibration`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.calibration import SETTINGS, Calibration, Setting, simulate

SHORT = (
    Setting("pool of 16", 16, episodes=200, methods=6, lists=6),
    Setting("pool of 446", 446, episodes=300, methods=6, lists=6),
)


def check(found: Calibration) -> None:
    """Coverage is 92 to 98 %, and 2 to 8 % of the tests of equal methods claim a difference."""
    assert 0.92 <= found.coverage["recordings"] <= 0.98
    assert 0.02 <= found.rejections["recordings"] <= 0.08


@pytest.mark.parametrize("setting", SHORT, ids=lambda setting: setting.name)
def test_intervals_cover_and_tests_keep_their_level(setting: Setting) -> None:
    found = simulate(setting, datasets=60)
    check(found)
    assert found.rejections["Holm, all pairs"] <= 0.08


def test_an_interval_over_episodes_does_not_cover_where_recordings_are_few() -> None:
    found = simulate(replace(SHORT[0], methods=2, lists=2), datasets=20)
    assert found.coverage["episodes"] < 0.6
    assert found.rejections["episodes"] > 0.2


@pytest.mark.parametrize("place", [0, 1], ids=["pool of 16", "pool of 446"])
def test_calibration_at_full_size(place: int, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--calibration"):
        pytest.skip("takes minutes; run with --calibration")
    setting, datasets = SETTINGS[place]
    check(simulate(replace(setting, bootstraps=0), datasets))
