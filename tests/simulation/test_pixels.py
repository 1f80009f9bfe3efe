"""The pixel model of an event camera."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metaevents.errors import UsageError
from metaevents.simulation import PixelModel, simulate
from metaevents.simulation.pixels import LEVELS

QUIET = PixelModel(on=800, off=800, mismatch=0, refractory=1000, noise=0)
TIMES = np.arange(41) * 5_000


def bar(contrast: int, *, frames: int = 41, size: int = 24, sign: int = 1) -> np.ndarray:
    """Levels [frames, size, size] of a soft bar that moves right by half a pixel per frame."""
    x = np.arange(size)[None, :] - 2.0 - np.arange(frames)[:, None] / 2
    profile = np.round(sign * contrast * np.clip(2.5 - np.abs(x), 0, 1)).astype(np.int64)
    return np.repeat(profile[:, None, :], size, axis=1)


def test_a_brightening_scene_gives_on_events_and_a_darkening_one_off_events() -> None:
    ramp = np.linspace(0, 4 * LEVELS, 21).astype(np.int64)[:, None, None] * np.ones(
        (1, 6, 8), np.int64
    )
    times = np.arange(21) * 10_000
    on, off = simulate(ramp, times, QUIET), simulate(-ramp, times, QUIET)
    assert on["p"].all()
    assert not off["p"].any()
    # 16,384 levels in steps of 800; 82 more per event pass while a pixel is inactive.
    assert set(np.bincount(on["y"].astype(int) * 8 + on["x"], minlength=48)) <= {17, 18, 19}


def test_events_are_timed_between_frames() -> None:
    video = np.array([0, 8_000])[:, None, None] * np.ones((1, 1, 1), np.int64)
    events = simulate(
        video, [0, 100_000], PixelModel(on=800, off=800, mismatch=0, refractory=0, noise=0)
    )
    assert 9 <= len(events) <= 11
    assert np.all(np.abs(np.diff(events["t"]) - 10_000) <= 1)


def test_a_static_scene_gives_noise_alone_and_none_without_noise() -> None:
    scene = np.repeat(bar(4 * LEVELS, frames=1), 5, axis=0)
    times = np.arange(5) * 250_000
    assert len(simulate(scene, times, QUIET)) == 0
    noisy = simulate(scene, times, PixelModel(on=800, off=800, noise=2_000, noise_on=900))
    expected = 2 * scene[0].size
    assert 0.8 * expected < len(noisy) < 1.2 * expected
    assert 0.85 < noisy["p"].mean() < 0.95


@pytest.mark.parametrize("refractory", [500, 2_000, 7_000])
def test_a_pixel_rests_for_the_refractory_time(refractory: int) -> None:
    model = PixelModel(on=300, off=300, mismatch=100, refractory=refractory, noise=30_000)
    events = simulate(bar(3 * LEVELS), TIMES, model)
    site = events["y"].astype(int) * 24 + events["x"]
    order = np.lexsort((events["t"], site))
    gaps = np.diff(events["t"][order])[np.diff(site[order]) == 0]
    assert len(gaps) > 500
    assert gaps.min() >= refractory


def test_more_contrast_and_lower_thresholds_give_more_events() -> None:
    counts = [
        len(simulate(bar(contrast), TIMES, QUIET)) for contrast in (1_500, 3_000, 6_000, 12_000)
    ]
    assert counts == sorted(set(counts))
    assert counts[1] > 1.5 * counts[0]
    lower = PixelModel(on=400, off=400, mismatch=0, refractory=1000, noise=0)
    assert len(simulate(bar(3_000), TIMES, lower)) > 1.5 * counts[1]


def test_the_negative_of_a_video_swaps_the_polarities() -> None:
    video, negative = (simulate(bar(4_000, sign=sign), TIMES, QUIET) for sign in (1, -1))
    on = video["p"].sum()
    assert abs(int(on) - int((~negative["p"]).sum())) < 0.02 * on
    assert abs(int((~video["p"]).sum()) - int(negative["p"].sum())) < 0.02 * on


def test_thresholds_differ_from_pixel_to_pixel_and_stay_with_the_camera() -> None:
    ramp = np.linspace(0, 8 * LEVELS, 21).astype(np.int64)[:, None, None] * np.ones(
        (1, 20, 20), np.int64
    )
    times = np.arange(21) * 20_000

    def per_pixel(mismatch: int) -> np.ndarray:
        events = simulate(ramp, times, PixelModel(on=800, off=800, mismatch=mismatch, noise=0))
        return np.bincount(events["y"].astype(int) * 20 + events["x"], minlength=400)

    assert per_pixel(0).std() < 1
    assert per_pixel(100).std() > 2
    assert np.array_equal(per_pixel(100), per_pixel(100))


def test_events_come_in_order_and_on_the_sensor() -> None:
    events = simulate(bar(4_000), TIMES, PixelModel(on=500, off=500, noise=5_000))
    assert np.all(np.diff(events["t"]) >= 0)
    assert events["t"].min() >= 0
    assert events["t"].max() <= TIMES[-1]
    assert events["x"].min() >= 0
    assert events["x"].max() < 24


def test_another_seed_is_another_camera_and_noise() -> None:
    model = PixelModel(on=500, off=500, noise=5_000)
    first, again, other = (simulate(bar(4_000), TIMES, model, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("levels", "times", "message"),
    [
        (np.zeros((3, 4), int), [0, 1, 2], r"\(3, 4\)"),
        (np.zeros((3, 4, 4), int), [0, 1], r"times \(2,\)"),
        (np.zeros((1, 4, 4), int), [0], "two frames"),
        (np.zeros((3, 4, 4), int), [0, 2, 2], "increase"),
        (np.zeros((3, 4, 4)), [0, 1, 2], "whole numbers"),
    ],
)
def test_a_video_that_does_not_fit_is_refused(levels: Any, times: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        simulate(levels, times, QUIET)


@pytest.mark.parametrize(
    "wrong", [{"on": 0}, {"off": -1}, {"noise": -1}, {"noise_on": 1001}, {"refractory": -1}]
)
def test_impossible_pixels_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="out of range; give a whole number from"):
        PixelModel(**{"on": 800, "off": 800, **wrong})


@pytest.mark.parametrize("wrong", [800.0, True, "800", float("nan"), 1 << 21, 10**400])
def test_thresholds_that_are_no_whole_numbers_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="on="):
        PixelModel(on=wrong, off=800)


def test_pixels_of_numpy_numbers_give_the_same_events() -> None:
    video = np.array([[[0]], [[8000]]])
    numbers = {"on": 800, "off": 800, "noise": 500}
    ours = simulate(video, [0, 100_000], PixelModel(**numbers))
    numpys = PixelModel(**{name: np.int16(value) for name, value in numbers.items()})
    assert np.array_equal(simulate(video, [0, 100_000], numpys), ours)


@pytest.mark.parametrize(
    ("levels", "times", "message"),
    [
        (np.full((2, 1, 1), 1 << 30), [0, 1], "too great"),
        (np.full((2, 1, 1), -(1 << 40)), [0, 1], "too great"),
        (np.zeros((2, 1, 1), int), [0, 1 << 60], "too great"),
        (np.zeros((2, 1, 1), int), [0, 1 << 52], "candidates of noise"),
        (np.array([0, (1 << 30) - 1]).reshape(2, 1, 1), [0, 10**9], "simulate shorter parts"),
        (np.zeros((2, 0, 1), int), [0, 1], "0 x 1 pixels"),
        (np.zeros((2, 1, 40_000), int), [0, 1], "1 x 40000 pixels"),
    ],
)
def test_a_video_that_is_too_great_is_refused(
    levels: np.ndarray, times: list[int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulate(levels, times, PixelModel(on=1, off=1))


@pytest.mark.parametrize("seed", [True, 1.0, "1"])
def test_a_seed_of_pixels_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(UsageError, match="seed="):
        simulate(np.zeros((2, 1, 1), int), [0, 1], PixelModel(on=1, off=1), seed=seed)
