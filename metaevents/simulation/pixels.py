"""The pixel model of an event camera: videos of log intensity become events.

`simulate` turns one video into events. `record` does so for several videos of one camera at once;
`metaevents.simulation.digits` and `metaevents.simulation.hands` make videos and call it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.arguments import whole_number
from metaevents.errors import UsageError
from metaevents.events import EVENT_DTYPE, Events, make_events
from metaevents.rng import WordStream, bit_field

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
"""An array of whole numbers."""

Bools: TypeAlias = npt.NDArray[np.bool_]
"""An array of booleans."""

Floats: TypeAlias = npt.NDArray[np.float64]
"""An array of floating point numbers."""

LEVELS = 4096
"""Units of log intensity per factor of e."""


@lru_cache(maxsize=1)
def log_intensities() -> npt.NDArray[np.int32]:
    """Return the log intensity of every light value 0 ... 4095, [4096], in units of `LEVELS`.

    Full light is 0. An offset of 64 keeps the log intensity of black finite: even black reflects
    some light.
    """
    return np.array(
        [round(LEVELS * math.log((light + 64) / 4160)) for light in range(4096)], np.int32
    )


def log_levels(light: Ints) -> npt.NDArray[np.int32]:
    """Return the log intensities of light values, in units of `LEVELS`.

    Args:
        light: Values 0 ... 4095, of any shape.
    """
    return np.take(log_intensities(), light)


_RANGES = {
    "on": (1, 1 << 20),
    "off": (1, 1 << 20),
    "mismatch": (0, 10_000),
    "refractory": (0, 1 << 40),
    "noise": (0, 10**9),
    "noise_on": (0, 1000),
}
"""Least and greatest value of each number of a pixel model, so that sums stay below 32 bits."""

_MAX_LEVEL = 1 << 30
"""Bound of log intensities, whose differences have to stay below 32 bits."""

_MAX_TIME = 1 << 53
"""Bound of times in microseconds; a video is 285 years long at most."""

_MAX_EVENTS = 1 << 26
"""Greatest number of events, and of candidates of noise events, of one recording of `simulate`."""


@dataclass(frozen=True)
class PixelModel:
    """The pixels of an event camera (Lichtsteiner, Posch and Delbruck 2008, IEEE JSSC 43:566).

    A pixel stores the log intensity of its last event. It gives an event when the log intensity has
    changed by its threshold. Then it is inactive for the refractory time, after which it stores the
    log intensity of that moment. Noise events are added at a rate that differs between pixels.

    Attributes:
        on: Mean threshold of ON events, in units of `LEVELS`.
        off: Mean threshold of OFF events, in units of `LEVELS`.
        mismatch: Standard deviation of a pixel's thresholds, in 1/1000 of the mean.
        refractory: Least time between two events of a pixel, in microseconds.
        noise: Mean rate of noise events, in 1/1000 per pixel and second.
        noise_on: Share of ON events among noise events, in 1/1000.

    Raises:
        UsageError: A number is out of range.
    """

    on: int
    off: int
    mismatch: int = 60
    refractory: int = 1000
    noise: int = 200
    noise_on: int = 900

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = whole_number(name, getattr(self, name), least=least, most=most)
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Sensor:
    """The pixels of one camera.

    Attributes:
        model: The pixel model.
        on: ON thresholds, [pixels], in units of `LEVELS`.
        off: OFF thresholds, [pixels], in units of `LEVELS`.
        noise: Probabilities to keep a candidate of a noise event, [pixels], in 2^-16.
    """

    model: PixelModel
    on: npt.NDArray[np.int32]
    off: npt.NDArray[np.int32]
    noise: npt.NDArray[np.int64]

    @classmethod
    def make(cls, model: PixelModel, pixels: int, stream: WordStream) -> Sensor:
        """Draw a camera's thresholds and noise rates.

        Args:
            model: The pixel model.
            pixels: Number of pixels.
            stream: Random stream of the camera.

        Returns:
            The sensor.
        """
        scale = 1000 + stream.normal(model.mismatch, pixels)
        on, off = (
            np.maximum(1, mean * scale // 1000).astype(np.int32) for mean in (model.on, model.off)
        )
        # A quarter of the candidates is kept on average. The spread over pixels is that of the real
        # sensor's border, where no digit moves.
        u = stream.below(256, pixels)
        return cls(model, on, off, 5734 + 32 * u * u // 64)


def simulate(
    levels: npt.ArrayLike, times: npt.ArrayLike, model: PixelModel, *, seed: int = 0
) -> Events:
    """Return the events that a camera gives for a video of log intensities.

    Args:
        levels: [frames, H, W] whole numbers of at most 30 bits, in units of `LEVELS`. They are
            linear in time between frames.
        times: [frames] whole microseconds, increasing; the recording starts at the first frame.
        model: The pixel model.
        seed: Seed of the thresholds, of the pixels' state at the start, and of the noise.

    Returns:
        Events in order of time, those of equal time in order of pixels; see `metaevents.events`.

    Raises:
        UsageError: The shapes do not fit, the numbers are not whole or too great, there are fewer
            than two frames, the times do not increase, or the events would not fit into memory.

    Example:
        >>> ramp = np.array([[[0]], [[8000]]])  # one pixel gets brighter
        >>> bool(simulate(ramp, [0, 100_000], PixelModel(on=800, off=800, noise=0))["p"].all())
        True
    """
    video, clock = np.asarray(levels), np.asarray(times)
    if video.ndim != 3 or clock.shape != video.shape[:1] or len(clock) < 2:
        raise UsageError(
            f"levels have shape {video.shape}, times {clock.shape}; "
            "give [frames, H, W] and [frames], with at least two frames"
        )
    if video.dtype.kind not in "iu" or clock.dtype.kind not in "iu":
        raise UsageError(
            f"levels are {video.dtype}, times {clock.dtype}; round both to whole numbers"
        )
    ticks = [int(t) for t in clock]
    frames, height, width = video.shape
    if not height * width or max(height, width) > np.iinfo(EVENT_DTYPE["x"]).max:
        raise UsageError(
            f"the video has {height} x {width} pixels; give at least one and at most "
            f"{np.iinfo(EVENT_DTYPE['x']).max:,} per axis"
        )
    if max(abs(int(video.min())), abs(int(video.max()))) >= _MAX_LEVEL or (
        max(map(abs, ticks)) >= _MAX_TIME
    ):
        raise UsageError(
            f"levels or times are too great; give levels below {_MAX_LEVEL:,} and times below "
            f"{_MAX_TIME:,} microseconds"
        )
    if any(late <= early for early, late in pairwise(ticks)):
        raise UsageError("times do not increase; give the microseconds of every frame in order")
    seed = whole_number("seed", seed)
    changes = int(np.abs(np.diff(video.astype(np.int64), axis=0)).sum())
    crossings = changes // min(model.on, model.off)
    noise = 4 * height * width * (ticks[-1] - ticks[0]) * model.noise // 10**9
    if max(crossings, noise) > _MAX_EVENTS:
        raise UsageError(
            f"the video gives about {crossings:,} events and {noise:,} candidates of noise, more "
            f"than {_MAX_EVENTS:,}; simulate shorter parts, or give higher thresholds or less noise"
        )
    sensor = Sensor.make(model, height * width, WordStream("camera", seed))
    flat = np.ascontiguousarray(video, np.int32).reshape(frames, 1, -1)
    return record(flat, ticks, sensor, width, [WordStream("recording", seed)])[0]


def record(
    levels: npt.NDArray[np.int32],
    times: Sequence[int],
    sensor: Sensor,
    width: int,
    streams: Sequence[WordStream],
    delays: Sequence[int] | None = None,
) -> list[Events]:
    """Simulate several recordings of one camera at once.

    No recording depends on the others. Together they take a fraction of the time.

    Args:
        levels: Log intensities, [frames, recordings, pixels], in units of `LEVELS`.
        times: [frames] microseconds, increasing.
        sensor: The camera.
        width: Width of the sensor in pixels.
        streams: One random stream per recording.
        delays: Microseconds per recording by which its video, but not its noise, starts later; 0 by
            default.

    Returns:
        One event array per recording, in order of time, then of pixels.
    """
    frames, count, pixels = levels.shape
    on, off = (np.tile(threshold, count) for threshold in (sensor.on, sensor.off))
    phase = np.concatenate([stream.below(1 << 16, pixels) for stream in streams])
    # A pixel starts anywhere between its thresholds, as in the middle of a longer recording.
    memory = levels[0].ravel() + off - 1 - (phase * (on + off - 1) >> 16).astype(np.int32)
    pixel, t, p = _crossings(
        levels.reshape(frames, -1), times, on, off, memory, sensor.model.refractory
    )
    bounds = np.searchsorted(pixel, np.arange(count + 1) * pixels)
    recordings = []
    for i, stream in enumerate(streams):
        part = slice(bounds[i], bounds[i + 1])
        delay = delays[i] if delays else 0
        span = (times[0], times[-1] + delay)
        crossings = (pixel[part] - i * pixels, t[part] + delay, p[part])
        recordings.append(_add_noise(*crossings, span, sensor, width, stream))
    return recordings


def _crossings(
    levels: npt.NDArray[np.int32],
    times: Sequence[int],
    on: npt.NDArray[np.int32],
    off: npt.NDArray[np.int32],
    memory: npt.NDArray[np.int32],
    refractory: int,
) -> tuple[Ints, Ints, Bools]:
    """Find every crossing of a threshold.

    Args:
        levels: Log intensities, [frames, pixels].
        times: [frames] microseconds.
        on: ON thresholds, [pixels].
        off: OFF thresholds, [pixels].
        memory: The level that each pixel compares with, [pixels]; overwritten.
        refractory: Microseconds.

    Returns:
        (pixel, t, ON) of the crossings, each [N], in order of pixels, then of time.
    """
    wake = np.full(levels.shape[1], times[0], np.int64)
    asleep = np.empty(0, np.int64)
    crossings: list[tuple[Ints, Ints, Bools]] = []
    for (before, after), (start, stop) in zip(pairwise(levels), pairwise(times), strict=True):
        change = after - memory
        pixel = np.flatnonzero((change >= on) | (change <= -off))
        pixel = pixel[wake[pixel] <= start]
        in_time = wake[asleep] <= stop
        waking, sleeping = asleep[in_time], [asleep[~in_time]]
        memory[waking] = _level_at(wake[waking], start, stop, before[waking], after[waking])
        pixel = np.concatenate([pixel, waking])
        # Each pass finds at most one crossing per pixel; pixels awake before `stop` go on.
        while len(pixel):
            change = after[pixel] - memory[pixel]
            rising = change > 0
            threshold = np.where(rising, on[pixel], off[pixel])
            crossed = np.abs(change) >= threshold
            pixel, rising, threshold = pixel[crossed], rising[crossed], threshold[crossed]
            lead = before[pixel] - memory[pixel]
            rest = (threshold - np.where(rising, lead, -lead)).astype(np.int64)
            # The double negative rounds the time up.
            t = start - (-rest * (stop - start) // np.abs(after[pixel] - before[pixel]))
            crossings.append((pixel, t, rising))
            wake[pixel] = t + refractory
            again = wake[pixel] <= stop
            sleeping.append(pixel[~again])
            pixel = pixel[again]
            memory[pixel] = _level_at(wake[pixel], start, stop, before[pixel], after[pixel])
        asleep = np.concatenate(sleeping)
    if not crossings:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_)
    pixel, t, p = (np.concatenate(column) for column in zip(*crossings, strict=True))
    # The crossings of a pixel were found in order of time, and a stable sort keeps that order.
    order = np.argsort(pixel, kind="stable")
    return pixel[order], t[order], p[order]


def _level_at(t: Ints, start: int, stop: int, before: Ints, after: Ints) -> Ints:
    """The level at t, start <= t <= stop, between two frames.

    It is rounded towards `before`, so a video and its negative are rounded alike.
    """
    rise = (after - before).astype(np.int64)
    return np.asarray(
        before + np.sign(rise) * (np.abs(rise) * (t - start) // (stop - start)), np.int64
    )


def _add_noise(
    pixel: Ints,
    t: Ints,
    p: Bools,
    span: tuple[int, int],
    sensor: Sensor,
    width: int,
    stream: WordStream,
) -> Events:
    """Add noise events to one recording's crossings, where the refractory time allows it.

    Args:
        pixel: Pixels of the crossings, [N].
        t: Their times in microseconds, [N].
        p: Their polarities, [N].
        span: First and last microsecond of the recording.
        sensor: The camera.
        width: Width of the sensor in pixels.
        stream: Random stream of the recording.

    Returns:
        The events in order of time, then of pixels.
    """
    start, stop = span
    model, pixels = sensor.model, len(sensor.noise)
    words = stream.words(4 * pixels * (stop - start) * model.noise // 10**9)
    chance = bit_field(words, 0, 16)
    place = bit_field(words, 16, 24) * pixels >> 24
    time = start + (bit_field(words, 40, 24) * (stop - start) >> 24)
    kept = chance < sensor.noise[place]
    chance, place, time = chance[kept], place[kept], time[kept]
    noise_on = chance * 1000 < sensor.noise[place] * model.noise_on

    is_noise = np.arange(len(pixel) + len(place)) >= len(pixel)
    pixel = np.concatenate([pixel, place])
    t = np.concatenate([t, time])
    p = np.concatenate([p, noise_on])
    order = np.argsort(pixel * (stop - start + 1) + (t - start), kind="stable")
    pixel, t, p, is_noise = pixel[order], t[order], p[order], is_noise[order]
    crowded = (pixel[1:] == pixel[:-1]) & (t[1:] - t[:-1] < model.refractory)
    crowded = np.concatenate([[False], crowded]) | np.concatenate([crowded, [False]])
    kept = ~(is_noise & crowded)
    pixel, t, p = pixel[kept], t[kept], p[kept]

    order = np.argsort(t, kind="stable")
    return make_events(pixel[order] % width, pixel[order] // width, t[order], p[order])
