"""Simulated recordings: an event-camera pixel model, and two writers of files in the official forms.

For quick starts, tests and documentation: `write_nmnist` moves real handwritten digits along the three saccades of N-MNIST,
`write_asl_dvs` moves drawn hands, and both leave files that `NMNIST` and `ASLDVS` read like the real ones. Reading is left to
them. No result on simulated recordings says anything about the real datasets.

The same arguments give the same events on every platform, with every version of numpy and any number of jobs. So chance comes
from raw words of a counter-based generator (whose stream numpy never changes, unlike its distributions); time, space and light
are whole numbers; and what is drawn in floating point uses + - * / and square roots alone, which IEEE 754 fixes to the last bit.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.errors import UsageError
from metaevents.events import Events, make_events
from metaevents.sources.base import SIMULATED_MARK

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
_Point: TypeAlias = tuple[Floats, Floats, Floats]

LEVELS = 4096
"""Units of log intensity: levels a factor of e."""


# --- Chance ---------------------------------------------------------------------------------------------------------------


class _Words:
    """A stream of random words of its own for each purpose: the same purpose, the same words."""

    def __init__(self, *purpose: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
        self._generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def raw(self, n: int) -> npt.NDArray[np.uint64]:
        """[n] words of 64 random bits."""
        return np.asarray(self._generator.random_raw(n), np.uint64)

    def below(self, bound: int, n: int) -> npt.NDArray[np.int64]:
        """[n] whole numbers in 0 ... bound - 1; bound at most 2^31."""
        return _signed(((self.raw(n) >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))

    def between(self, low: int, high: int) -> int:
        """One whole number in low ... high."""
        return low + int(self.below(high - low + 1, 1)[0])

    def normal(self, deviation: int, n: int) -> npt.NDArray[np.int64]:
        """[n] bell-shaped whole numbers around 0: the sum of four uniform ones, so within 3.5 deviations."""
        word = self.raw(n)
        total = -2 * 0xFFFF + sum(_lane(word, shift, 16) for shift in (0, 16, 32, 48))
        # Four uniform numbers of 16 bits have a deviation of 2^16 / sqrt(3) together, which is 2^26 / 1773.
        return np.asarray((total * (deviation * 1773) + (1 << 25)) >> 26, np.int64)

    def shuffled(self, n: int) -> npt.NDArray[np.intp]:
        """0 ... n - 1 in random order."""
        return np.argsort(self.raw(n), kind="stable")


def _signed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    return words.astype(np.int64)


def _lane(words: npt.NDArray[np.uint64], shift: int, bits: int) -> npt.NDArray[np.int64]:
    """Some bits of each word, `shift` of them from the lowest on, as a number."""
    return _signed((words >> np.uint64(shift)) & np.uint64((1 << bits) - 1))


# --- The pixel ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PixelModel:
    """The pixels of an event camera (Lichtsteiner, Posch and Delbruck 2008, IEEE JSSC 43:566).

    A pixel remembers the log intensity of its last event. A change by its threshold is an event, after which the pixel is
    blind for the refractory time and then remembers the intensity it wakes up to. Noise events come on top, at a rate
    of the pixel's own.

    Attributes:
        on, off: mean thresholds for brighter and for darker, in `LEVELS` a factor of e.
        mismatch: deviation of a pixel's thresholds, in 1/1000 of the mean.
        refractory: microseconds between two events of a pixel at least.
        noise: noise events, in 1/1000 a pixel and second.
        noise_on: ON events among them, in 1/1000.
    """

    on: int
    off: int
    mismatch: int = 60
    refractory: int = 1000
    noise: int = 200
    noise_on: int = 900

    def __post_init__(self) -> None:
        rest = (self.mismatch, self.refractory, self.noise, self.noise_on)
        if min(self.on, self.off) < 1 or min(rest) < 0 or self.noise_on > 1000:
            raise UsageError(f"{self}; give thresholds of at least 1, noise_on of at most 1000, and nothing below 0")


@dataclass(frozen=True)
class _Sensor:
    """One camera's pixels, with their own thresholds (levels) and noise (chance to keep a candidate, in 2^-16), [pixels]."""

    model: PixelModel
    on: npt.NDArray[np.int32]
    off: npt.NDArray[np.int32]
    noise: npt.NDArray[np.int64]

    @classmethod
    def make(cls, model: PixelModel, pixels: int, words: _Words) -> _Sensor:
        scale = 1000 + words.normal(model.mismatch, pixels)
        on, off = (np.maximum(1, mean * scale // 1000).astype(np.int32) for mean in (model.on, model.off))
        # A quarter of the candidates is kept on average; the spread is that of the real sensor's unlit border.
        u = words.below(256, pixels)
        return cls(model, on, off, 5734 + 32 * u * u // 64)


def simulate(levels: npt.ArrayLike, times: npt.ArrayLike, model: PixelModel, *, seed: int = 0) -> Events:
    """The events that a camera with these pixels gives for a video of log intensities.

    Parameters:
        levels: [frames, H, W] whole numbers of 30 bits at most, `LEVELS` a factor of e; linear in time between frames.
        times: [frames] whole microseconds, increasing; the first frame starts the recording.
        model: the pixels.
        seed: fixes the camera's mismatch, its pixels' state at the start, and the noise.

    Returns:
        Events in order of time, then of pixel; see `metaevents.events`.

    Raises:
        UsageError: shapes that do not fit, numbers that are not whole, fewer than two frames, or times that do not increase.
    """
    video, clock = np.asarray(levels), np.asarray(times)
    if video.ndim != 3 or clock.shape != video.shape[:1] or len(clock) < 2:
        raise UsageError(
            f"levels have shape {video.shape}, times {clock.shape}; give [frames, H, W] and [frames], two frames at least"
        )
    if video.dtype.kind not in "iu" or clock.dtype.kind not in "iu":
        raise UsageError(f"levels are {video.dtype}, times {clock.dtype}; round both to whole numbers")
    ticks = [int(t) for t in clock]
    if any(late <= early for early, late in pairwise(ticks)):
        raise UsageError("times do not increase; give the microseconds of every frame in order")
    frames, height, width = video.shape
    sensor = _Sensor.make(model, height * width, _Words("camera", seed))
    flat = np.ascontiguousarray(video, np.int32).reshape(frames, 1, -1)
    return _record(flat, ticks, sensor, width, [_Words("recording", seed)])[0]


def _record(
    levels: npt.NDArray[np.int32],
    times: Sequence[int],
    sensor: _Sensor,
    width: int,
    words: Sequence[_Words],
    delays: Sequence[int] | None = None,
) -> list[Events]:
    """Recordings of one camera, all at once: `levels` [frames, recordings, pixels], one stream of words each.

    No recording depends on the others; together they take a fraction of the time. `delays` (microseconds) hold back what
    happens in a video, not the noise.
    """
    frames, count, pixels = levels.shape
    on, off = (np.tile(threshold, count) for threshold in (sensor.on, sensor.off))
    rest = np.concatenate([w.below(1 << 16, pixels) for w in words])
    # A pixel starts anywhere between its thresholds, as it would in the middle of a longer recording.
    memory = levels[0].ravel() + off - 1 - (rest * (on + off - 1) >> 16).astype(np.int32)
    site, t, p = _crossings(levels.reshape(frames, -1), times, on, off, memory, sensor.model.refractory)
    bounds = np.searchsorted(site, np.arange(count + 1) * pixels)
    out = []
    for i in range(count):
        own = slice(bounds[i], bounds[i + 1])
        delay = delays[i] if delays else 0
        crossings = (site[own] - i * pixels, t[own] + delay, p[own])
        out.append(_with_noise(*crossings, (times[0], times[-1] + delay), sensor, width, words[i]))
    return out


def _crossings(
    levels: npt.NDArray[np.int32],
    times: Sequence[int],
    on: npt.NDArray[np.int32],
    off: npt.NDArray[np.int32],
    memory: npt.NDArray[np.int32],
    refractory: int,
) -> tuple[Ints, Ints, Bools]:
    """Every crossing of a threshold as (pixel, t, ON), in order of pixel, then of time; `levels` is [frames, pixels].

    `memory` (the level that a pixel compares with) is overwritten.
    """
    wake = np.full(levels.shape[1], times[0], np.int64)
    asleep = np.empty(0, np.int64)
    found: list[tuple[Ints, Ints, Bools]] = []
    for (before, after), (start, stop) in zip(pairwise(levels), pairwise(times), strict=True):
        change = after - memory
        pixel = np.flatnonzero((change >= on) | (change <= -off))
        pixel = pixel[wake[pixel] <= start]
        in_time = wake[asleep] <= stop
        waking, sleeping = asleep[in_time], [asleep[~in_time]]
        memory[waking] = _level_at(wake[waking], start, stop, before[waking], after[waking])
        pixel = np.concatenate([pixel, waking])
        while len(pixel):
            change = after[pixel] - memory[pixel]
            rising = change > 0
            threshold = np.where(rising, on[pixel], off[pixel])
            crossed = np.abs(change) >= threshold
            pixel, rising, threshold = pixel[crossed], rising[crossed], threshold[crossed]
            lead = before[pixel] - memory[pixel]
            way = (threshold - np.where(rising, lead, -lead)).astype(np.int64)
            t = start - (-way * (stop - start) // np.abs(after[pixel] - before[pixel]))
            found.append((pixel, t, rising))
            wake[pixel] = t + refractory
            again = wake[pixel] <= stop
            sleeping.append(pixel[~again])
            pixel = pixel[again]
            memory[pixel] = _level_at(wake[pixel], start, stop, before[pixel], after[pixel])
        asleep = np.concatenate(sleeping)
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_)
    site, t, p = (np.concatenate(column) for column in zip(*found, strict=True))
    # A pixel's crossings were found in order of time.
    order = np.argsort(site, kind="stable")
    return site[order], t[order], p[order]


def _level_at(t: Ints, start: int, stop: int, before: Ints, after: Ints) -> Ints:
    """The level at t, start <= t <= stop, between two frames; a video and its negative round alike."""
    rise = (after - before).astype(np.int64)
    return np.asarray(before + np.sign(rise) * (np.abs(rise) * (t - start) // (stop - start)), np.int64)


def _with_noise(
    pixel: Ints, t: Ints, p: Bools, span: tuple[int, int], sensor: _Sensor, width: int, words: _Words
) -> Events:
    """One recording, sorted: the crossings, and noise events wherever they respect the refractory time."""
    start, stop = span
    model, pixels = sensor.model, len(sensor.noise)
    word = words.raw(4 * pixels * (stop - start) * model.noise // 10**9)
    chance = _lane(word, 0, 16)
    place = _lane(word, 16, 24) * pixels >> 24
    time = start + (_lane(word, 40, 24) * (stop - start) >> 24)
    kept = chance < sensor.noise[place]
    chance, place, time = chance[kept], place[kept], time[kept]
    noisy_on = chance * 1000 < sensor.noise[place] * model.noise_on

    is_noise = np.arange(len(pixel) + len(place)) >= len(pixel)
    pixel, t, p = np.concatenate([pixel, place]), np.concatenate([t, time]), np.concatenate([p, noisy_on])
    order = np.argsort(pixel * (stop - start + 1) + (t - start), kind="stable")
    pixel, t, p, is_noise = pixel[order], t[order], p[order], is_noise[order]
    crowded = (pixel[1:] == pixel[:-1]) & (t[1:] - t[:-1] < model.refractory)
    crowded = np.concatenate([[False], crowded]) | np.concatenate([crowded, [False]])
    kept = ~(is_noise & crowded)
    pixel, t, p = pixel[kept], t[kept], p[kept]

    order = np.argsort(t, kind="stable")
    return make_events(pixel[order] % width, pixel[order] // width, t[order], p[order])


# --- Digits ---------------------------------------------------------------------------------------------------------------

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
    "thinness": (1820, 230),  # grey level that is still paper, of 4096
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
        ways = (way * _eased(t - 1000 * a, 1000 * (b - a)) for on, a, b, way in _SACCADES if on == axis)
        return _START[axis] + round(sum(ways))

    return [(place("x", t), place("y", t)) for t in _DIGIT_TIMES]


@lru_cache(maxsize=1)
def _cubic() -> npt.NDArray[np.int32]:
    """Catmull-Rom weights of the four neighbours, [4, 64 phases], in 1/256; they sum to 256."""
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
    return np.array([round(LEVELS * math.log((light + 64) / 4160)) for light in range(4096)], np.int32)


def _log_levels(light: Ints) -> npt.NDArray[np.int32]:
    return np.take(_log_light(), light)


def _handwriting() -> list[npt.NDArray[np.int32]]:
    """Scikit-learn's handwritten digits (Alpaydin and Kaynak 1998), in order of the writers: for each digit [images, 8, 8].

    Grey levels 0 to 16.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, digits = np.asarray(bunch.images).astype(np.int32), np.asarray(bunch.target)
    return [images[digits == digit] for digit in range(10)]


def _digits_at_rest(images: npt.NDArray[np.int32], words: Sequence[_Words]) -> npt.NDArray[np.int32]:
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

    def neighbours(place: Ints) -> tuple[Ints, Ints]:
        inside = np.clip(place + middle, 1 << 16, (14 << 16) - 1)
        return (inside >> 16) - 1, (inside >> 10) & 63

    row, phase = neighbours(y * cell * 1000 // pose["height"])
    each = np.arange(count)[:, None]
    lines = sum(paper[each, row + k] * _cubic()[k][phase][:, :, None] for k in range(4))
    across = (x * cell * 1000 // pose["width"])[:, None, :] + (y * cell * pose["lean"] // pose["width"])[:, :, None]
    column, phase = neighbours(across.astype(np.int32))
    column += (np.arange(count * side, dtype=np.int32) * 16).reshape(count, side, 1)
    flat = lines.astype(np.int32).ravel()
    grey = sum(flat[column + k] * _cubic()[k][phase] for k in range(4)) >> 8
    ink = np.clip((grey - pose["thinness"][:, :, None]) * 2, 0, 4096)
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
    return _log_levels(np.stack(frames).reshape(len(frames), len(rest), -1))


def _digit_recordings(images: npt.NDArray[np.int32], seed: int, names: Sequence[tuple[str, int, int]]) -> list[Events]:
    """A recording for each 8 x 8 image and its name (folder, digit, number within the digit)."""
    words = [_Words("n-mnist", seed, *name) for name in names]
    levels = _digit_video(_digits_at_rest(images, words))
    sensor = _Sensor.make(_DIGIT_PIXELS, _DIGIT_SIDE**2, _Words("n-mnist", seed, "camera"))
    delays = [w.between(0, _DIGIT_DELAY) for w in words]
    return _record(levels, _DIGIT_TIMES, sensor, _DIGIT_SIDE, words, delays)


# --- Hands ----------------------------------------------------------------------------------------------------------------

_HAND_SIZE = (240, 180)
_HAND_SLICE = 100
"""Milliseconds a file."""
_HAND_FRAME = 5
"""Milliseconds between the frames that are drawn."""
_HAND_PIXELS = PixelModel(on=610, off=580, mismatch=100, refractory=1000, noise=120, noise_on=700)
_WALL = 0.12
"""Light behind the hand, of 1."""
_SUBJECTS = 5
_TURN = 4096
"""Units of angle."""


@dataclass(frozen=True)
class _Handshape:
    """How one letter of the American manual alphabet is held, as the person opposite sees the right hand; in degrees.

    Attributes:
        fingers: index, middle, ring, little: flexion of the knuckle and of the middle joint.
        splay: the same fingers' angle from straight up, towards the thumb's side.
        thumb: its three bones' directions: from straight up towards the thumb's side, and towards the viewer.
        turn: of the whole hand: about its long axis, forwards, and in the image (anticlockwise).
    """

    fingers: tuple[tuple[int, int], ...]
    thumb: tuple[tuple[int, int], ...]
    splay: tuple[int, ...] = (3, 0, -3, -6)
    turn: tuple[int, int, int] = (0, 0, 0)


_UP, _FIST = (5, 8), (85, 100)
_OVER_FINGERS = ((20, 45), (-45, 45), (-85, 25))
_OVER_PALM = ((5, 45), (-50, 25), (-75, 10))
_TO_TIPS = ((25, 55), (5, 55), (-15, 35))
_ALONGSIDE = ((40, 25), (8, 20), (-4, 5))
_OUT = ((62, 10), (78, 0), (84, 0))

_HANDSHAPES = {
    "a": _Handshape((_FIST, _FIST, _FIST, _FIST), _ALONGSIDE),
    "b": _Handshape((_UP, _UP, _UP, _UP), _OVER_PALM, splay=(1, 0, -1, -3)),
    "c": _Handshape(((20, 50), (20, 50), (20, 50), (20, 50)), ((50, 65), (60, 80), (10, 60)), turn=(65, 0, 0)),
    "d": _Handshape((_UP, (55, 70), (60, 70), (65, 70)), _TO_TIPS, turn=(35, 0, 0)),
    "e": _Handshape(((30, 115), (30, 115), (30, 115), (30, 115)), ((15, 50), (-50, 35), (-80, 15))),
    "f": _Handshape(((40, 70), _UP, _UP, _UP), ((50, 25), (15, 45), (0, 50)), splay=(38, 3, -9, -21)),
    "g": _Handshape((_UP, _FIST, _FIST, _FIST), ((75, 10), (35, 10), (5, 0)), turn=(155, 0, -88)),
    "h": _Handshape((_UP, _UP, _FIST, _FIST), _OVER_FINGERS, splay=(1, 0, -3, -6), turn=(170, 0, -88)),
    "i": _Handshape((_FIST, _FIST, _FIST, _UP), _OVER_FINGERS, splay=(3, 0, -3, -10)),
    "k": _Handshape(
        (_UP, (38, 10), _FIST, _FIST), ((25, 45), (0, 35), (-8, 15)), splay=(12, -14, -3, -6), turn=(25, 0, 0)
    ),
    "l": _Handshape((_UP, _FIST, _FIST, _FIST), _OUT, splay=(4, 0, -3, -6)),
    "m": _Handshape(((80, 45), (80, 45), (80, 45), _FIST), ((0, 40), (-60, 10), (-80, 0)), turn=(0, 18, 0)),
    "n": _Handshape(((80, 45), (80, 45), _FIST, _FIST), ((0, 40), (-45, 10), (-60, 0)), turn=(0, 18, 0)),
    "o": _Handshape(((45, 62), (45, 62), (45, 62), (45, 62)), ((35, 50), (10, 68), (-5, 30)), turn=(65, 0, 0)),
    "p": _Handshape(
        (_UP, (55, 10), _FIST, _FIST), ((25, 45), (0, 35), (-8, 15)), splay=(10, -10, -3, -6), turn=(140, 0, -130)
    ),
    "q": _Handshape(
        (_UP, _FIST, _FIST, _FIST), ((80, 10), (45, 10), (15, 0)), splay=(0, 0, -3, -6), turn=(155, 0, -160)
    ),
    "r": _Handshape((_UP, (12, 6), _FIST, _FIST), _OVER_FINGERS, splay=(-9, 9, -3, -6)),
    "s": _Handshape((_FIST, _FIST, _FIST, _FIST), ((20, 50), (-50, 50), (-90, 15)), turn=(8, 0, 0)),
    "t": _Handshape(((70, 85), _FIST, _FIST, _FIST), ((25, 45), (-18, 40), (-20, 20)), turn=(-10, 0, 0)),
    "u": _Handshape((_UP, _UP, _FIST, _FIST), _OVER_FINGERS, splay=(1, 0, -3, -6)),
    "v": _Handshape((_UP, _UP, _FIST, _FIST), _OVER_FINGERS, splay=(16, -12, -3, -6)),
    "w": _Handshape((_UP, _UP, _UP, _FIST), _OVER_PALM, splay=(18, 0, -18, -10)),
    "x": _Handshape(((12, 85), _FIST, _FIST, _FIST), _OVER_FINGERS, turn=(30, 0, 0)),
    "y": _Handshape((_FIST, _FIST, _FIST, _UP), _OUT, splay=(3, 0, -3, -26)),
}

# A hand of average size, in mm from the wrist; x towards the thumb's side, y upwards, z towards the viewer.
_KNUCKLES = ((27, 86), (7, 92), (-13, 88), (-31, 78))
_BONES = ((44, 26, 21), (48, 30, 22), (45, 28, 22), (35, 21, 19))
_THICKNESS = ((10.0, 9.0, 8.5, 7.5), (10.5, 9.5, 8.5, 7.5), (10.0, 9.0, 8.0, 7.0), (8.5, 7.5, 7.0, 6.0))
_THUMB_BASE, _THUMB_BONES, _THUMB_THICKNESS = (20, 22), (40, 32, 25), (13.0, 11.5, 10.0, 8.5)
_PALM = (((14, 4), 16.0, 12.0), ((4, 4), 17.0, 13.0), ((-6, 4), 17.0, 12.5), ((-14, 5), 15.0, 11.0))
"""For the bone below each knuckle: where it starts, and how thick it is at its ends."""


@lru_cache(maxsize=1)
def _sine() -> Floats:
    """Sine of an angle in 1/4096 turn, rounded to 2^-14."""
    return np.array([round(math.sin(2 * math.pi * i / _TURN) * 2**14) / 2**14 for i in range(_TURN)])


def _sin(angle: Ints) -> Floats:
    return _sine()[angle % _TURN]


def _cos(angle: Ints) -> Floats:
    return _sine()[(angle + _TURN // 4) % _TURN]


@dataclass(frozen=True)
class _Limb:
    """A tapered round limb between two points of the image, [frames] each, in pixels; `depth` decides what hides what,
    `relief` how much darker it gets towards its sides."""

    ends: tuple[Floats, Floats, Floats, Floats]
    radii: tuple[float, float]
    depth: float
    relief: float


_SWAY = {
    "x": (8.0, 0),
    "y": (6.5, 1100),
    "size": (0.03, 500),
    "about": (4.0, 2500),
    "forwards": (4.0, 1700),
    "image": (5.0, 3300),
    "flexion": (4.0, 2100),
}
"""How far a hand moves (pixels, share of its size, degrees), and how late, in 1/4096 of a period: it moves in loops."""
_SWINGS = ((0.9, 1500, 2300), (0.1, 500, 700))
"""The two swings that make up a motion: share, and the shortest and longest period in ms."""


class _Take:
    """One subject who shows one letter for as long as it takes, moving all the while."""

    def __init__(self, seed: int, letter: str, subject: int) -> None:
        own, habit = _Words("asl-dvs", seed, subject), _Words("asl-dvs", seed, letter, subject)
        self.shape = _HANDSHAPES[letter]
        size, length, thickness, skin, arm, x, y = (int(v) for v in own.normal(1000, 7))
        self.size = 0.66 + 0.035 * size / 1000  # pixels a mm
        self.length = 1.0 + 0.04 * length / 1000
        self.thickness = 1.0 + 0.06 * thickness / 1000
        self.skin = 0.62 + 0.07 * skin / 1000
        self.arm = arm // 100
        self.place = (120.0 + 7.0 * x / 1000, 101.0 + 4.0 * y / 1000)
        # How this subject bends these joints, and turns this hand, in degrees off the table.
        self.bend = [int(v) // 1000 for v in habit.normal(6000, 8)]
        self.turn = [int(v) // 1000 for v in habit.normal(5000, 3)]
        self.swings = [
            (share, habit.between(short, long), habit.between(0, _TURN - 1)) for share, short, long in _SWINGS
        ]

    def _sway(self, channel: str, t: Ints) -> Floats:
        """How far a channel of `_SWAY` is from its middle at t (ms)."""
        reach, lag = _SWAY[channel]
        (major, minor) = (share * _sin(t * _TURN // period + phase + lag) for share, period, phase in self.swings)
        return reach * (major + minor)

    def limbs(self, t: Ints) -> list[_Limb]:
        """The hand and forearm at the moments t (ms, [frames]), from the farthest to the nearest."""
        chains = [(*self._finger(i, t), 0.55) for i in range(4)] + [(*self._thumb(t), 0.5)]
        chains += [
            ([_point(t, *start), _point(t, *knuckle)], radii, 0.2)
            for (start, *radii), knuckle in zip(_PALM, _KNUCKLES, strict=True)
        ]
        turn = [
            _angle(angle + own + self._sway(axis, t))
            for angle, own, axis in zip(self.shape.turn, self.turn, ("about", "forwards", "image"), strict=True)
        ]
        scale = self.size * (1.0 + self._sway("size", t))
        middle = [place + self._sway(axis, t) for place, axis in zip(self.place, "xy", strict=True)]
        limbs = []
        for points, radii, relief in chains:
            seen = [_turned(point, turn) for point in points]
            spots = [(middle[0] + scale * x, middle[1] - scale * y) for x, y, _ in seen]
            for k in range(len(points) - 1):
                depth = float(seen[k][2][0] + seen[k + 1][2][0])
                thick = self.thickness * self.size
                limbs.append(_Limb((*spots[k], *spots[k + 1]), (thick * radii[k], thick * radii[k + 1]), depth, relief))
        # The elbow stays behind when the hand turns.
        wrist_x, wrist_y, _ = _turned(_point(t, 0, 8), turn)
        lean = _angle(np.array([self.shape.turn[2] // 2 + self.arm]))
        spot = (middle[0] + scale * wrist_x, middle[1] - scale * wrist_y)
        elbow = (spot[0] + 170 * _sin(lean), spot[1] + 170 * _cos(lean))
        limbs.append(_Limb((*elbow, *spot), (24.0 * self.size, 19.0 * self.size), -1000.0, 0.4))
        return sorted(limbs, key=lambda limb: limb.depth)

    def _finger(self, i: int, t: Ints) -> tuple[list[_Point], Sequence[float]]:
        knuckle, joint = self.shape.fingers[i]
        sway = self._sway("flexion", t)
        splay = _angle(np.full(len(t), self.shape.splay[i]))
        first, second = knuckle + self.bend[i] + sway, joint + self.bend[4 + i] + sway
        points, flexion = [_point(t, *_KNUCKLES[i])], np.zeros(len(t))
        for bone, bend in zip(_BONES[i], (first, second, second * 2 / 3), strict=True):
            flexion = flexion + bend
            reach, towards = bone * self.length * _cos(_angle(flexion)), bone * self.length * _sin(_angle(flexion))
            x, y, z = points[-1]
            points.append((x + reach * _sin(splay), y + reach * _cos(splay), z + towards))
        return points, _THICKNESS[i]

    def _thumb(self, t: Ints) -> tuple[list[_Point], Sequence[float]]:
        points = [_point(t, *_THUMB_BASE)]
        for bone, (aside, forward) in zip(_THUMB_BONES, self.shape.thumb, strict=True):
            across, towards = _angle(aside + self._sway("flexion", t)), _angle(np.full(len(t), forward))
            x, y, z = points[-1]
            flat = bone * _cos(towards)
            points.append((x + flat * _sin(across), y + flat * _cos(across), z + bone * _sin(towards)))
        return points, _THUMB_THICKNESS


def _point(t: Ints, x: float, y: float) -> _Point:
    """A point of the hand, mm from the middle of the palm, that stays where it is at all moments."""
    return np.full(len(t), float(x)), np.full(len(t), float(y - 60)), np.zeros(len(t))


def _angle(degrees: Floats) -> Ints:
    return np.rint(degrees * (_TURN / 360)).astype(np.int64)


def _turned(point: _Point, turn: Sequence[Ints]) -> _Point:
    """A point turned about the hand's long axis, then forwards, then in the image."""
    x, y, z = point
    about, forwards, image = turn
    x, z = x * _cos(about) + z * _sin(about), z * _cos(about) - x * _sin(about)
    y, z = y * _cos(forwards) - z * _sin(forwards), z * _cos(forwards) + y * _sin(forwards)
    x, y = x * _cos(image) - y * _sin(image), y * _cos(image) + x * _sin(image)
    return x, y, z


def _hand_video(limbs: Sequence[_Limb], skin: float, frames: int) -> npt.NDArray[np.int32]:
    """Log intensities [frames, pixels] of a lit hand before a darker wall."""
    light = np.full((frames, _HAND_SIZE[1], _HAND_SIZE[0]), _WALL)
    for limb in limbs:
        ax, ay, bx, by = limb.ends
        box = [
            slice(max(0, int(min(a.min(), b.min()) - reach)), max(0, int(max(a.max(), b.max()) + reach) + 1))
            for a, b, reach in ((ay, by, max(limb.radii) + 1.0), (ax, bx, max(limb.radii) + 1.0))
        ]
        view = light[:, box[0], box[1]]
        if not view.size:
            continue
        ax, ay, bx, by = (v[:, None, None] for v in limb.ends)
        dx, dy = bx - ax, by - ay
        x = np.arange(box[1].start, box[1].start + view.shape[2], dtype=np.float64) - ax
        y = np.arange(box[0].start, box[0].start + view.shape[1], dtype=np.float64)[:, None] - ay
        square = np.maximum(dx * dx + dy * dy, 1e-6)
        along = np.clip(x * (dx / square) + y * (dy / square), 0.0, 1.0)
        away_x, away_y = x - along * dx, y - along * dy
        distance = np.sqrt(away_x * away_x + away_y * away_y)
        radius = limb.radii[0] + along * (limb.radii[1] - limb.radii[0])
        cover = np.clip(radius - distance + 0.5, 0.0, 1.0)
        # Round across its axis; its ends, which lie in the next limb, are flatter.
        cross = x * dy - y * dx
        aside = cross * cross / square
        edge = (aside + 0.25 * (distance * distance - aside)) / (radius * radius)
        view += cover * (skin * (1.0 - limb.relief * np.clip(edge, 0.0, 1.0)) - view)
    return _log_levels(np.rint(light * 4095).astype(np.int32)).reshape(frames, -1)


@lru_cache(maxsize=1)
def _hand_camera(seed: int) -> _Sensor:
    return _Sensor.make(_HAND_PIXELS, _HAND_SIZE[0] * _HAND_SIZE[1], _Words("asl-dvs", seed, "camera"))


def _hand_recording(seed: int, letter: str, subject: int, piece: int) -> Events:
    """One file's events, upright: the `piece`-th 100 ms of a subject's take of a letter."""
    times = range(0, _HAND_SLICE * 1000 + 1, _HAND_FRAME * 1000)
    t = piece * _HAND_SLICE + np.arange(len(times), dtype=np.int64) * _HAND_FRAME
    take = _Take(seed, letter, subject)
    levels = _hand_video(take.limbs(t), take.skin, len(times))
    return _record(
        levels[:, None], times, _hand_camera(seed), _HAND_SIZE[0], [_Words("asl-dvs", seed, letter, subject, piece)]
    )[0]


# --- The writers ----------------------------------------------------------------------------------------------------------

_BATCH = 16
"""N-MNIST recordings that are simulated together."""


def simulate_recordings(
    dataset: str, root: str | os.PathLike[str], *, seed: int = 0, progress: bool | None = None, jobs: int = 1
) -> Path:
    """Simulated recordings enough for the archive of a built-in dataset, in a folder of their own below `root`.

    Parameters:
        dataset: "double-nmnist" or "double-asl-dvs".
        root: made if it is missing.
        seed, progress, jobs: see `write_nmnist`.

    Returns:
        The folder.

    Raises:
        UsageError: another dataset, or what the writers raise.
    """
    writers: dict[str, tuple[str, Callable[..., Path]]] = {
        "double-nmnist": ("simulated-nmnist", write_nmnist),
        "double-asl-dvs": ("simulated-asl-dvs", write_asl_dvs),
    }
    if dataset not in writers:
        raise UsageError(f"no simulated recordings for {dataset!r}; choose from {', '.join(writers)}")
    folder, write = writers[dataset]
    return write(Path(root).expanduser() / folder, seed=seed, progress=progress, jobs=jobs)


def write_nmnist(
    folder: str | os.PathLike[str],
    *,
    train: int = 24,
    test: int = 32,
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Simulated N-MNIST recordings in the official form: `<Train|Test>/<digit>/<id>.bin`, 34 x 34 pixels.

    The digits in Train and in Test are from different writers. Where there are fewer images of a digit than recordings,
    images come again with another slant, size, place, weight and contrast, and other noise. Numbers count from 1 in Train and
    in Test, and the digits take turns in them at random, as in the official dataset.

    Parameters:
        folder: made if it is missing; may hold what an earlier call with the same arguments wrote, which is replaced.
        train, test: recordings a digit.
        seed: fixes everything; other seeds give other recordings.
        progress: a bar; None shows it on a terminal alone.
        jobs: processes.

    Returns:
        The folder.

    Raises:
        UsageError: a number out of range, or a folder that holds other recordings, real ones above all.
    """
    if min(train, test) < 0 or max(train, test) > 9_999 or train + test == 0:
        raise UsageError(f"train={train} and test={test} recordings a digit; give 0 to 9999 each, and not 0 both")
    wanted = {"Train": train, "Test": test}
    planned = []
    for name, each in wanted.items():
        for block in range(each):
            turns = _Words("n-mnist", seed, name, "turns", block).shuffled(10)
            planned += [(name, int(digit), block, 10 * block + k + 1) for k, digit in enumerate(turns)]
    root = _claim(folder, "*/*/*.bin", f"N-MNIST (train={train}, test={test}, seed={seed})", jobs)
    images = _dealt_images(seed, wanted)
    batches = [
        (np.stack([images[name, digit][k % len(images[name, digit])] for name, digit, k, _ in batch]), batch)
        for batch in (planned[i : i + _BATCH] for i in range(0, len(planned), _BATCH))
    ]
    _work(partial(_write_digits, root, seed), batches, len(planned), progress, jobs, "simulated N-MNIST")
    return root


def write_asl_dvs(
    folder: str | os.PathLike[str],
    *,
    files: int = 60,
    letters: str = "".join(_HANDSHAPES),
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Simulated ASL-DVS recordings in the official form: `<letter>/<letter>_0001.mat`, 240 x 180 pixels, 100 ms each.

    MATLAB variables ts (microseconds), x, y and pol, each (N, 1); pixels flipped on both axes against the image, as in the real
    files. Five subjects show each letter one after the other, and each subject's files are consecutive slices of one take: so
    neighbouring numbers are near-copies, and the last fifth of the numbers shows a subject that the others do not.

    Parameters:
        folder: made if it is missing; may hold what an earlier call with the same arguments wrote, which is replaced.
        files: recordings a letter.
        letters: some of abcdefghiklmnopqrstuvwxy.
        seed: fixes everything; other seeds give other recordings.
        progress: a bar; None shows it on a terminal alone.
        jobs: processes.

    Returns:
        The folder.

    Raises:
        UsageError: a number out of range, a letter that is not in the dataset or comes twice, or a folder that holds other
            recordings, real ones above all.
    """
    if not 1 <= files <= 9_999:
        raise UsageError(f"files={files} recordings a letter; give 1 to 9999")
    if not letters or len(set(letters)) < len(letters) or not set(letters) <= set(_HANDSHAPES):
        raise UsageError(f"letters={letters!r}; give some of {''.join(_HANDSHAPES)}, each once")
    planned = []
    for letter in letters:
        for i in range(files):
            subject = i * _SUBJECTS // files
            first = -(-subject * files // _SUBJECTS)
            planned.append((letter, subject, i - first, i + 1))
    root = _claim(folder, "*/*.mat", f"ASL-DVS (files={files}, letters={letters}, seed={seed})", jobs)
    _work(partial(_write_hand, root, seed), planned, len(planned), progress, jobs, "simulated ASL-DVS")
    return root


def _dealt_images(seed: int, wanted: dict[str, int]) -> dict[tuple[str, int], npt.NDArray[np.int32]]:
    """Each digit's images for Train and for Test in random order, [images, 8, 8], by (folder, digit).

    Scikit-learn has the images writer by writer, so that halves share one writer at most.
    """
    dealt = {}
    for digit, images in enumerate(_handwriting()):
        half = len(images) // 2
        for name, own in (("Train", images[:half]), ("Test", images[half:])):
            dealt[name, digit] = own[_Words("n-mnist", seed, name, "images", digit).shuffled(len(own))]
    return dealt


def _write_digits(root: Path, seed: int, batch: tuple[npt.NDArray[np.int32], list[tuple[str, int, int, int]]]) -> int:
    images, names = batch
    recordings = _digit_recordings(images, seed, [name[:3] for name in names])
    for (name, digit, _, number), events in zip(names, recordings, strict=True):
        _put(root / name / str(digit) / f"{number:05d}.bin", _nmnist_bytes(events))
    return len(names)


def _write_hand(root: Path, seed: int, name: tuple[str, int, int, int]) -> int:
    letter, subject, piece, number = name
    _put(root / letter / f"{letter}_{number:04d}.mat", _asl_dvs_bytes(_hand_recording(seed, letter, subject, piece)))
    return 1


def _nmnist_bytes(events: Events) -> bytes:
    """5 bytes an event: x, y, then the polarity's bit and 23 bits of microseconds, the high ones first."""
    t = events["t"]
    out = np.empty((len(events), 5), np.uint8)
    out[:, 0], out[:, 1] = events["x"], events["y"]
    out[:, 2] = events["p"].astype(np.int64) << 7 | t >> 16
    out[:, 3] = t >> 8 & 0xFF
    out[:, 4] = t & 0xFF
    return out.tobytes()


def _asl_dvs_bytes(events: Events) -> bytes:
    """A MATLAB file of upright events, pixels flipped; without the date that scipy puts into the 116 bytes of its header."""
    from scipy.io import savemat

    width, height = _HAND_SIZE
    columns = {
        "ts": events["t"].astype(np.int32),
        "x": (width - 1 - events["x"]).astype(np.uint8),
        "y": (height - 1 - events["y"]).astype(np.uint8),
        "pol": events["p"].astype(np.uint8),
    }
    buffer: Any = io.BytesIO()  # scipy takes it, its type stubs do not
    savemat(buffer, columns, oned_as="column")
    content: bytes = buffer.getvalue()
    header = b"MATLAB 5.0 MAT-file, simulated recording in the form of ASL-DVS, written by metaevents"
    return header.ljust(116) + content[116:]


def _put(path: Path, content: bytes) -> None:
    """A file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _claim(folder: str | os.PathLike[str], pattern: str, form: str, jobs: int) -> Path:
    """The folder, marked as one of simulated recordings; none that holds recordings of another origin."""
    if jobs < 1:
        raise UsageError(f"jobs={jobs}; give the number of processes, at least 1")
    root = Path(folder).expanduser()
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; give a folder for the simulated recordings")
    mark = root / SIMULATED_MARK
    text = f"Simulated by metaevents: no real recordings, but files in the form of {form}.\n".encode()
    if mark.exists() and mark.read_bytes() != text:
        raise UsageError(f"{root} holds other simulated recordings than {form}; remove it or give another folder")
    if not mark.exists() and any(root.glob(pattern)):
        raise UsageError(f"{root} holds recordings that were not simulated here; give another folder")
    _put(mark, text)
    return root


def _work(
    write: Callable[[Any], int], parts: Sequence[Any], total: int, progress: bool | None, jobs: int, title: str
) -> None:
    """`write` each part, which tells how many recordings it wrote."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit="rec", disable=None if progress is None else not progress) as bar:
        if jobs == 1:
            for part in parts:
                bar.update(write(part))
            return
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        # Spawned, since a fork of a process with threads (torch has them) can hang.
        with ProcessPoolExecutor(min(jobs, len(parts)), mp_context=get_context("spawn")) as pool:
            for done in pool.map(write, parts):
                bar.update(done)
