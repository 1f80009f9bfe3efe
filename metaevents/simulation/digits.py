"""Simulated recordings: an event-camera pixel model, and two writers of files in the official forms.

For quick starts, tests and documentation: `write_nmnist` moves real handwritten digits along the three saccades of N-MNIST,
`write_asl_dvs` moves drawn hands, and both leave files that `NMNIST` and `ASLDVS` read like the real ones. Reading is left to
them. No result on simulated recordings says anything about the real datasets.

The same arguments give the same events on every platform, with every version of numpy and any number of jobs. So chance comes
from raw words of a counter-based generator (whose stream numpy never changes, unlike its distributions); time, space and light
are whole numbers; and what is drawn in floating point uses + - * / and square roots alone, which IEEE 754 fixes to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from metaevents.events import Events
from metaevents.rng import WordStream
from metaevents.simulation.pixels import LEVELS, Ints, PixelModel, Sensor, record

_DIGIT_SIDE = 34

_DIGIT_TIMES = tuple(range(0, 306_001, 4_250))

# Fitted, like all numbers of this section, to real training recordings: their events a recording and a saccade, the rate and
# the place of events over time, their spread over the sensor, and the time between two events of a pixel.
_DIGIT_PIXELS = PixelModel(on=552, off=522, mismatch=150, refractory=1300, noise=400, noise_on=945)

_DIGIT_DELAY = 9_000
"""Microseconds before the first saccade starts, at most."""

_FINE = 64
"""Units of place and motion a pixel."""

_SAMPLES = 4
"""Samples a pixel, on each axis, of a digit at rest."""

_MARGIN = 4
"""Pixels that a digit at rest is drawn beyond the sensor on each side, to move in."""

# The triangle of Orchard et al. 2015 (Frontiers in Neuroscience 9:437), as the recordings have it: two motors, each with its
# own start and stop. (axis, start and end in ms, way in 1/64 pixel)
_SACCADES = (
    ("y", 2, 80, 310),
    ("x", 34, 90, 122),
    ("x", 96, 200, 230),
    ("y", 112, 184, -310),
    ("x", 207, 300, -352),
)

_START = {"x": -176, "y": -155}

# How writers differ: mean and deviation.
_POSE = {
    "x": (0, 40),  # 1/64 pixel
    "y": (64, 40),
    "lean": (220, 150),  # 1/1000 pixel to the right a pixel upwards
    "width": (1230, 120),  # 1/1000 of 20 pixels for the 8 x 8 image
    "height": (990, 80),
    "thinness": (1820, 230),  # gray level that is still paper, of 4096
    "contrast": (5400, 1350),  # log intensity between paper and full ink, in `LEVELS` a factor of e
}

_FAINTEST = 2000
"""The least contrast, so that no digit is lost."""


def _eased(done: int, whole: int) -> float:
    """How far a move of `whole` got after `done`, 0 to 1: least jerk, at rest at both ends."""
    f = min(max(done / whole, 0.0), 1.0)
    return f * f * f * (10.0 - f * (15.0 - f * 6.0))


@lru_cache(maxsize=1)
def _saccades() -> list[tuple[int, int]]:
    """Where the digit is at every one of `_DIGIT_TIMES`: (x, y) in 1/64 pixel from the middle."""

    def place(axis: str, t: int) -> int:
        ways = (
            way * _eased(t - 1000 * a, 1000 * (b - a)) for on, a, b, way in _SACCADES if on == axis
        )
        return _START[axis] + round(sum(ways))

    return [(place("x", t), place("y", t)) for t in _DIGIT_TIMES]


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


@lru_cache(maxsize=1)
def _log_light() -> npt.NDArray[np.int32]:
    """Log intensity, `LEVELS` a factor of e, of light 0 ... 4095; even black reflects a little."""
    return np.array(
        [round(LEVELS * math.log((light + 64) / 4160)) for light in range(4096)], np.int32
    )


def log_levels(light: Ints) -> npt.NDArray[np.int32]:
    return np.take(_log_light(), light)


def handwriting() -> list[npt.NDArray[np.int32]]:
    """Scikit-learn's handwritten digits (Alpaydin and Kaynak 1998), in order of the writers: for each digit [images, 8, 8].

    Grey levels 0 to 16.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, digits = np.asarray(bunch.images).astype(np.int32), np.asarray(bunch.target)
    return [images[digits == digit] for digit in range(10)]


def _digits_at_rest(
    images: npt.NDArray[np.int32], words: Sequence[WordStream]
) -> npt.NDArray[np.int32]:
    """Light 0 ... 4095 on a fine grid around the sensor, [recordings, G, G], of 8 x 8 images [recordings, 8, 8].

    Sample i covers the light of one pixel's width from sample i on.
    """
    count, side = len(images), (_DIGIT_SIDE + 2 * _MARGIN) * _SAMPLES
    drawn = np.stack([w.normal(1000, len(_POSE)) for w in words])
    pose = {
        name: (mean + (drawn[:, i] * deviation) // 1000)[:, None]
        for i, (name, (mean, deviation)) in enumerate(_POSE.items())
    }
    # Places are 1/64 pixel from the middle of the sensor, or 2^-16 cells of the image.
    cell = (8 << 16) // (20 * _FINE)
    unit = _FINE // _SAMPLES
    at = np.arange(side, dtype=np.int64) * unit + unit // 2 - side * unit // 2
    x, y = at - pose["x"], at - pose["y"]
    paper = np.pad(images, ((0, 0), (4, 4), (4, 4)))
    middle = 15 << 15  # of 16 cells, the first of which lies around 0

    def neighbors(place: Ints) -> tuple[Ints, Ints]:
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
    gray = sum(flat[column + k] * _cubic()[k][phase] for k in range(4)) >> 8
    ink = np.clip((gray - pose["thinness"][:, :, None]) * 2, 0, 4096)
    black = np.searchsorted(_log_light(), -np.maximum(pose["contrast"], _FAINTEST))[:, :, None]
    # Dark on bright, since in the real recordings the ON events follow the moving stroke.
    light = 4095 - (ink * (4095 - black) >> 12).astype(np.int32)
    for apart in (1, 2):  # a box of four samples on both axes
        light = light[:, apart:] + light[:, :-apart]
        light = light[:, :, apart:] + light[:, :, :-apart]
    return np.asarray(light >> 4, np.int32)


def _digit_video(rest: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Log intensities [frames, recordings, pixels] of digits that make the three saccades."""
    extent = _DIGIT_SIDE * _SAMPLES
    unit = _FINE // _SAMPLES
    # A sample covers the three after it as well: the middle of what it stands for lies 1.5 samples on.
    origin = _MARGIN * _FINE - 3 * unit // 2
    frames = []
    for x, y in _saccades():
        (column, right), (row, down) = divmod(origin - x, unit), divmod(origin - y, unit)
        above, below = (rest[:, row + k : row + k + extent : _SAMPLES] for k in (0, 1))
        lines = above * (unit - down) + below * down
        before, after = (lines[:, :, column + k : column + k + extent : _SAMPLES] for k in (0, 1))
        frames.append((before * (unit - right) + after * right) // unit**2)
    return log_levels(np.stack(frames).reshape(len(frames), len(rest), -1))


def digit_recordings(
    images: npt.NDArray[np.int32], seed: int, names: Sequence[tuple[str, int, int]]
) -> list[Events]:
    """A recording for each 8 x 8 image and its name (folder, digit, number within the digit)."""
    words = [WordStream("n-mnist", seed, *name) for name in names]
    levels = _digit_video(_digits_at_rest(images, words))
    sensor = Sensor.make(_DIGIT_PIXELS, _DIGIT_SIDE**2, WordStream("n-mnist", seed, "camera"))
    delays = [w.between(0, _DIGIT_DELAY) for w in words]
    return record(levels, _DIGIT_TIMES, sensor, _DIGIT_SIDE, words, delays)
