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
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.errors import UsageError
from metaevents.events import Events, make_events

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]

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
        return (((self.raw(n) >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)

    def between(self, low: int, high: int) -> int:
        """One whole number in low ... high."""
        return low + int(self.below(high - low + 1, 1)[0])

    def normal(self, deviation: int, n: int) -> npt.NDArray[np.int64]:
        """[n] bell-shaped whole numbers around 0: the sum of four uniform ones, so within 3.5 deviations."""
        word = self.raw(n)
        lanes = [(word >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48)]
        total = (lanes[0] + lanes[1] + lanes[2] + lanes[3]).astype(np.int64) - 2 * 0xFFFF
        # Four uniform numbers of 16 bits have a deviation of 2^16 / sqrt(3) together.
        return (total * (deviation * 1773) + (1 << 25)) >> 26

    def shuffled(self, n: int) -> npt.NDArray[np.intp]:
        """0 ... n - 1 in random order."""
        return np.argsort(self.raw(n), kind="stable")


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
        levels: [frames, H, W] whole numbers, `LEVELS` a factor of e; linear in time between frames.
        times: [frames] microseconds, increasing, at most 2^31; the first frame starts the recording.
        model: the pixels.
        seed: fixes the camera's mismatch, its pixels' state at the start, and the noise.

    Returns:
        Events in order of time, then of pixel; see `metaevents.events`.

    Raises:
        UsageError: shapes that do not fit, fewer than two frames, or times that do not increase.
    """
    video = np.asarray(levels)
    clock = [int(t) for t in np.asarray(times).ravel()]
    if video.ndim != 3 or len(video) != len(clock) or len(clock) < 2:
        raise UsageError(
            f"levels have shape {video.shape} for {len(clock)} times; give [frames, H, W] and as many times, two at least"
        )
    if any(late <= early for early, late in zip(clock, clock[1:], strict=False)):
        raise UsageError("times do not increase; give the microseconds of every frame in order")
    frames, height, width = video.shape
    sensor = _Sensor.make(model, height * width, _Words("camera", seed))
    flat = np.ascontiguousarray(video, np.int32).reshape(frames, 1, -1)
    return _record(flat, clock, sensor, width, [_Words("recording", seed)])[0]


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
    for before, after, start, stop in zip(levels, levels[1:], times, times[1:], strict=False):
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
    return before + np.sign(rise) * (np.abs(rise) * (t - start) // (stop - start))


def _with_noise(
    pixel: Ints, t: Ints, p: Bools, span: tuple[int, int], sensor: _Sensor, width: int, words: _Words
) -> Events:
    """One recording, sorted: the crossings, and noise events wherever they respect the refractory time."""
    start, stop = span
    model, pixels = sensor.model, len(sensor.noise)
    word = words.raw(4 * pixels * (stop - start) * model.noise // 10**9)
    chance, place, time = ((word >> np.uint64(s)).astype(np.int64) & m for s, m in ((0, 0xFFFF), (16, 0xFFFFFF), (40, 0xFFFFFF)))
    place, time = place * pixels >> 24, start + (time * (stop - start) >> 24)
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

_STEP = 4
"""Samples a pixel, on each axis, of a digit at rest."""
_MARGIN = 4
"""Pixels that a digit may move beyond the sensor on each side."""
_FINE = 64
"""Units of motion a pixel."""

_SACCADES = (
    # axis, start and end in ms, way in 1/64 pixel: the motors of the real camera start and stop one by one.
    ("y", 5, 88, 280),
    ("x", 38, 106, 130),
    ("x", 96, 205, 225),
    ("y", 116, 188, -280),
    ("x", 222, 300, -355),
)


def _smooth(position: int, whole: int) -> float:
    """The share of a move done after `position` of `whole` ms: 0 to 1, at rest at both ends."""
    f = min(max(position / whole, 0.0), 1.0)
    return f * f * (3.0 - 2.0 * f)
