"""Simulated recordings: an event-camera pixel model, and two writers of files in the official forms.

For quick starts, tests and documentation: `write_nmnist` moves real handwritten digits along the three saccades of N-MNIST,
`write_asl_dvs` moves drawn hands, and both leave files that `NMNIST` and `ASLDVS` read like the real ones. Reading is left to
them. No result on simulated recordings says anything about the real datasets.

The same arguments give the same events on every platform, with every version of numpy and any number of jobs. So chance comes
from raw words of a counter-based generator (whose stream numpy never changes, unlike its distributions); time, space and light
are whole numbers; and what is drawn in floating point uses + - * / and square roots alone, which IEEE 754 fixes to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.errors import UsageError
from metaevents.events import Events, make_events
from metaevents.rng import WordStream, bit_field

Ints: TypeAlias = npt.NDArray[np.integer[Any]]

Bools: TypeAlias = npt.NDArray[np.bool_]

Floats: TypeAlias = npt.NDArray[np.float64]

LEVELS = 4096
"""Units of log intensity: levels a factor of e."""


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
            raise UsageError(
                f"{self}; give thresholds of at least 1, noise_on of at most 1000, and nothing below 0"
            )


@dataclass(frozen=True)
class Sensor:
    """One camera's pixels, with their own thresholds (levels) and noise (chance to keep a candidate, in 2^-16), [pixels]."""

    model: PixelModel
    on: npt.NDArray[np.int32]
    off: npt.NDArray[np.int32]
    noise: npt.NDArray[np.int64]

    @classmethod
    def make(cls, model: PixelModel, pixels: int, words: WordStream) -> Sensor:
        scale = 1000 + words.normal(model.mismatch, pixels)
        on, off = (
            np.maximum(1, mean * scale // 1000).astype(np.int32) for mean in (model.on, model.off)
        )
        # A quarter of the candidates is kept on average; the spread is that of the real sensor's unlit border.
        u = words.below(256, pixels)
        return cls(model, on, off, 5734 + 32 * u * u // 64)


def simulate(
    levels: npt.ArrayLike, times: npt.ArrayLike, model: PixelModel, *, seed: int = 0
) -> Events:
    """The events that a camera with these pixels gives for a video of log intensities.

    Args:
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
        raise UsageError(
            f"levels are {video.dtype}, times {clock.dtype}; round both to whole numbers"
        )
    ticks = [int(t) for t in clock]
    if any(late <= early for early, late in pairwise(ticks)):
        raise UsageError("times do not increase; give the microseconds of every frame in order")
    frames, height, width = video.shape
    sensor = Sensor.make(model, height * width, WordStream("camera", seed))
    flat = np.ascontiguousarray(video, np.int32).reshape(frames, 1, -1)
    return record(flat, ticks, sensor, width, [WordStream("recording", seed)])[0]


def record(
    levels: npt.NDArray[np.int32],
    times: Sequence[int],
    sensor: Sensor,
    width: int,
    words: Sequence[WordStream],
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
    site, t, p = _crossings(
        levels.reshape(frames, -1), times, on, off, memory, sensor.model.refractory
    )
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
    return np.asarray(
        before + np.sign(rise) * (np.abs(rise) * (t - start) // (stop - start)), np.int64
    )


def _with_noise(
    pixel: Ints,
    t: Ints,
    p: Bools,
    span: tuple[int, int],
    sensor: Sensor,
    width: int,
    words: WordStream,
) -> Events:
    """One recording, sorted: the crossings, and noise events wherever they respect the refractory time."""
    start, stop = span
    model, pixels = sensor.model, len(sensor.noise)
    word = words.raw(4 * pixels * (stop - start) * model.noise // 10**9)
    chance = bit_field(word, 0, 16)
    place = bit_field(word, 16, 24) * pixels >> 24
    time = start + (bit_field(word, 40, 24) * (stop - start) >> 24)
    kept = chance < sensor.noise[place]
    chance, place, time = chance[kept], place[kept], time[kept]
    noisy_on = chance * 1000 < sensor.noise[place] * model.noise_on

    is_noise = np.arange(len(pixel) + len(place)) >= len(pixel)
    pixel, t, p = (
        np.concatenate([pixel, place]),
        np.concatenate([t, time]),
        np.concatenate([p, noisy_on]),
    )
    order = np.argsort(pixel * (stop - start + 1) + (t - start), kind="stable")
    pixel, t, p, is_noise = pixel[order], t[order], p[order], is_noise[order]
    crowded = (pixel[1:] == pixel[:-1]) & (t[1:] - t[:-1] < model.refractory)
    crowded = np.concatenate([[False], crowded]) | np.concatenate([crowded, [False]])
    kept = ~(is_noise & crowded)
    pixel, t, p = pixel[kept], t[kept], p[kept]

    order = np.argsort(t, kind="stable")
    return make_events(pixel[order] % width, pixel[order] // width, t[order], p[order])
