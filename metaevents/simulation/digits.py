"""Recordings like those of N-MNIST: handwritten digits that move along the three saccades.

`handwriting` gives scikit-learn's 8 x 8 images, `digit_recordings` turns images into events.
`metaevents.simulation.writers` chooses the images and writes the files.

Light is 0 ... 4095. Places and motion are in 1/64 pixel. The constants are fitted to real training
recordings: to their events per recording and per saccade, the rate and the place of events over
time, their spread over the sensor, and the time between two events of a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from metaevents.events import Events
from metaevents.rng import WordStream
from metaevents.simulation.pixels import (
    Ints,
    PixelModel,
    Sensor,
    log_intensities,
    log_levels,
    record,
)

_SIDE = 34
"""Pixels of the sensor on each axis."""

_TIMES = tuple(range(0, 306_001, 4_250))
"""Microseconds of the frames of a video."""

_PIXELS = PixelModel(on=552, off=522, mismatch=150, refractory=1300, noise=400, noise_on=945)

_MAX_DELAY = 9_000
"""Greatest delay of the first saccade in microseconds."""

_FINE = 64
"""Units of place and motion per pixel."""

_SAMPLES = 4
"""Samples per pixel, on each axis, of a digit at rest."""

_MARGIN = 4
"""Pixels by which the image of a digit at rest exceeds the sensor on each side, to move in."""

_SACCADES = (
    ("y", 2, 80, 310),
    ("x", 34, 90, 122),
    ("x", 96, 200, 230),
    ("y", 112, 184, -310),
    ("x", 207, 300, -352),
)
"""The triangle of Orchard et al. 2015 (Frontiers in Neuroscience 9:437), as seen in the recordings.

Two motors move independently: (axis, start in ms, end in ms, distance in 1/64 pixel).
"""

_START = {"x": -176, "y": -155}
"""Place of the digit before the first saccade, in 1/64 pixel from the middle of the sensor."""

_POSE = {
    "x": (0, 40),  # 1/64 pixel
    "y": (64, 40),  # 1/64 pixel
    "lean": (220, 150),  # 1/1000 pixel to the right per pixel upwards
    "width": (1230, 120),  # 1/1000 of 20 pixels for the 8 x 8 image
    "height": (990, 80),  # 1/1000 of 20 pixels for the 8 x 8 image
    "thinness": (1820, 230),  # greatest gray value that is still paper, of 4096
    "contrast": (5400, 1350),  # log intensity between paper and full ink, in units of `LEVELS`
}
"""How recordings of an image differ: mean and standard deviation of each parameter."""

_MIN_CONTRAST = 2000
"""The least contrast, so that every digit can be seen."""


def _eased(elapsed: int, duration: int) -> float:
    """The share of a move that is done, 0 to 1: least jerk, at rest at both ends."""
    f = min(max(elapsed / duration, 0.0), 1.0)
    return f * f * f * (10.0 - f * (15.0 - f * 6.0))


@lru_cache(maxsize=1)
def _saccades() -> list[tuple[int, int]]:
    """The digit's place at every one of `_TIMES`: (x, y) in 1/64 pixel from the middle."""

    def place(axis: str, t: int) -> int:
        moved = (
            distance * _eased(t - 1000 * start, 1000 * (end - start))
            for moving_axis, start, end, distance in _SACCADES
            if moving_axis == axis
        )
        return _START[axis] + round(sum(moved))

    return [(place("x", t), place("y", t)) for t in _TIMES]


@lru_cache(maxsize=1)
def _cubic() -> npt.NDArray[np.int32]:
    """Catmull-Rom weights of the four neighbors, [4, 64 phases], in 1/256; they sum to 256."""
    f, whole = np.arange(64, dtype=np.int64), 64
    weights = [
        2 * whole * f**2 - f**3 - whole**2 * f,
        4 * whole * f**2 - 3 * f**3 + whole**2 * f,
        f**3 - whole * f**2,
    ]
    first, third, last = ((w * 128 + whole**3 // 2) // whole**3 for w in weights)
    return np.stack([first, 256 - first - third - last, third, last]).astype(np.int32)


def handwriting() -> list[npt.NDArray[np.int32]]:
    """Return scikit-learn's handwritten digits (Alpaydin and Kaynak 1998).

    Returns:
        For each of the ten digits, images [images, 8, 8] with gray values 0 to 16, in order of
        their writers.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, digits = np.asarray(bunch.images).astype(np.int32), np.asarray(bunch.target)
    return [images[digits == digit] for digit in range(10)]


def digit_recordings(
    images: npt.NDArray[np.int32], seed: int, names: Sequence[tuple[str, int, int]]
) -> list[Events]:
    """Simulate one recording per image.

    Args:
        images: [recordings, 8, 8] with gray values 0 to 16.
        seed: Seed of everything random.
        names: (folder, digit, index within the digit) per recording; it names the random stream, so
            a recording does not depend on the others.

    Returns:
        One event array per recording.
    """
    streams = [WordStream("n-mnist", seed, *name) for name in names]
    levels = _saccade_video(_digits_at_rest(images, streams))
    sensor = Sensor.make(_PIXELS, _SIDE**2, WordStream("n-mnist", seed, "camera"))
    delays = [stream.between(0, _MAX_DELAY) for stream in streams]
    return record(levels, _TIMES, sensor, _SIDE, streams, delays)


def _digits_at_rest(
    images: npt.NDArray[np.int32], streams: Sequence[WordStream]
) -> npt.NDArray[np.int32]:
    """Draw the digits, each with a random pose, on a fine grid around the sensor.

    Args:
        images: [recordings, 8, 8] with gray values 0 to 16.
        streams: One random stream per recording.

    Returns:
        Light, [recordings, G, G]; sample i covers the width of one pixel from sample i on.
    """
    side = (_SIDE + 2 * _MARGIN) * _SAMPLES
    drawn = np.stack([stream.normal(1000, len(_POSE)) for stream in streams])
    pose = {
        name: (mean + (drawn[:, i] * deviation) // 1000)[:, None]
        for i, (name, (mean, deviation)) in enumerate(_POSE.items())
    }
    gray = _posed_gray(images, pose, side)
    ink = np.clip((gray - pose["thinness"][:, :, None]) * 2, 0, 4096)
    black = np.searchsorted(log_intensities(), -np.maximum(pose["contrast"], _MIN_CONTRAST))
    # Dark on bright, because in the real recordings the ON events follow the moving stroke.
    light = 4095 - (ink * (4095 - black[:, :, None]) >> 12).astype(np.int32)
    for distance in (1, 2):  # sums of four samples on both axes
        light = light[:, distance:] + light[:, :-distance]
        light = light[:, :, distance:] + light[:, :, :-distance]
    return np.asarray(light >> 4, np.int32)


def _posed_gray(images: npt.NDArray[np.int32], pose: Mapping[str, Ints], side: int) -> Ints:
    """Interpolate the images on the fine grid, moved, sheared and scaled by their poses.

    Args:
        images: [recordings, 8, 8] with gray values 0 to 16.
        pose: The values of `_POSE`, each [recordings, 1].
        side: Samples of the grid on each axis.

    Returns:
        Gray values, [recordings, side, side], about 0 to 4096.
    """
    count = len(images)
    # Places are in 1/64 pixel from the middle of the sensor, or in 2^-16 cells of the image.
    cell = (8 << 16) // (20 * _FINE)
    unit = _FINE // _SAMPLES
    at = np.arange(side, dtype=np.int64) * unit + unit // 2 - side * unit // 2
    x, y = at - pose["x"], at - pose["y"]
    paper = np.pad(images, ((0, 0), (4, 4), (4, 4)))
    middle = 15 << 15  # of 16 cells, the first of which lies around 0

    def neighbors(place: Ints) -> tuple[Ints, Ints]:
        """The first of the four cells around a place, and the phase 0 ... 63 within the cell."""
        inside = np.clip(place + middle, 1 << 16, (14 << 16) - 1)
        return (inside >> 16) - 1, (inside >> 10) & 63

    row, phase = neighbors(y * cell * 1000 // pose["height"])
    each = np.arange(count)[:, None]
    lines = sum(paper[each, row + k] * _cubic()[k][phase][:, :, None] for k in range(4))
    across = (x * cell * 1000 // pose["width"])[:, None, :] + (
        y * cell * pose["lean"] // pose["width"]
    )[:, :, None]
    column, phase = neighbors(across.astype(np.int32))
    column += (np.arange(count * side, dtype=np.int32) * 16).reshape(count, side, 1)
    flat = lines.astype(np.int32).ravel()
    return np.asarray(sum(flat[column + k] * _cubic()[k][phase] for k in range(4)) >> 8)


def _saccade_video(rest: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Move digits along the three saccades.

    Args:
        rest: Light of digits at rest, [recordings, G, G]; see `_digits_at_rest`.

    Returns:
        Log intensities, [frames, recordings, pixels].
    """
    extent = _SIDE * _SAMPLES
    unit = _FINE // _SAMPLES
    # A sample covers the three samples after it too, so its middle lies 1.5 samples later.
    corner = _MARGIN * _FINE - 3 * unit // 2
    frames = []
    for x, y in _saccades():
        (column, right), (row, down) = divmod(corner - x, unit), divmod(corner - y, unit)
        above, below = (rest[:, row + k : row + k + extent : _SAMPLES] for k in (0, 1))
        lines = above * (unit - down) + below * down
        before, after = (lines[:, :, column + k : column + k + extent : _SAMPLES] for k in (0, 1))
        frames.append((before * (unit - right) + after * right) // unit**2)
    return log_levels(np.stack(frames).reshape(len(frames), len(rest), -1))
