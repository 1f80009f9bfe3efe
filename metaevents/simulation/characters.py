"""Recordings like those of N-Omniglot: strokes of made-up characters, drawn on a screen.

A character is one to three strokes through random points. A drawing of it moves, shears and scales
the strokes, moves their points a little and has a pace of its own, as another person would draw it.
A bright pen moves along the strokes and leaves dark ink. `character_recordings` turns the drawings
of a character into events; `metaevents.simulation.n_omniglot` writes the files.

The writing area of 250 x 250 pixels is simulated in cells of 5 x 5 pixels, of which one random
pixel gives the event. So there are fewer events than in a real recording. Places are in 1/64 cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metaevents.events import Events, make_events
from metaevents.rng import WordStream
from metaevents.simulation.pixels import Ints, PixelModel, Sensor, log_levels, record

CELL = 5
"""Pixels per cell on each axis."""

_SIDE = 50
"""Cells of the writing area on each axis."""

_FINE = 64
"""Units of place per cell."""

_FRAME_US = 80_000
"""Microseconds between two frames of a video."""

_FRAMES = 50
"""Frames of the longest drawing, which lasts 4 s."""

_FRAME_RANGE = (32, 44)
"""Fewest and most frames in which the pen is on the screen."""

_PAUSE = 2
"""Frames between two strokes."""

_RADIUS = 76
"""Radius of pen and ink in 1/64 cell."""

_LAG = 1
"""Frames from the pen on a cell to the ink on it."""

_PAPER, _PEN, _INK = 1500, 4000, 150
"""Light of the screen, of the pen and of the ink, 0 to 4095."""

_PIXELS = PixelModel(on=1200, off=1200, mismatch=150, refractory=3000, noise=15, noise_on=600)

_STROKES = (1, 3)
_POINTS = (3, 5)  # of a stroke
_POINT_RANGE = (10 * _FINE, 40 * _FINE)
_POSE = {
    "x": (0, 96),  # 1/64 cell
    "y": (0, 96),  # 1/64 cell
    "lean": (0, 90),  # 1/1000 cell to the right per cell upwards
    "width": (1000, 70),  # 1/1000
    "height": (1000, 70),  # 1/1000
}
"""How drawings of a character differ: mean and standard deviation of each parameter."""

_WOBBLE = 36
"""Standard deviation of a point's place between drawings, in 1/64 cell."""


def character_recordings(seed: int, label: str, drawings: int) -> list[Events]:
    """Simulate the drawings of one character.

    Args:
        seed: Seed of everything random.
        label: Label of the character; it names the random stream.
        drawings: Number of drawings.

    Returns:
        One event array per drawing, in 250 x 250 pixels; time starts at the first frame.
    """
    strokes = _strokes(WordStream("n-omniglot", seed, label, "shape"))
    streams = [WordStream("n-omniglot", seed, label, number) for number in range(drawings)]
    pens = np.stack([_pen(strokes, stream) for stream in streams])
    sensor = Sensor.make(_PIXELS, _SIDE**2, WordStream("n-omniglot", seed, "camera"))
    times = range(0, _FRAMES * _FRAME_US, _FRAME_US)
    recordings = []
    for events, stream in zip(
        record(_video(pens), times, sensor, _SIDE, streams), streams, strict=True
    ):
        place = stream.below(CELL * CELL, len(events))
        x = events["x"].astype(np.int64) * CELL + place % CELL
        y = events["y"].astype(np.int64) * CELL + place // CELL
        recordings.append(make_events(x, y, events["t"], events["p"]))
    return recordings


def _strokes(stream: WordStream) -> list[Ints]:
    """The strokes of a character: the points of each, [points, 2] in 1/64 cell."""
    low, high = _POINT_RANGE
    strokes: list[Ints] = []
    for _ in range(stream.between(*_STROKES)):
        points = stream.between(*_POINTS)
        strokes.append(low + stream.below(high - low + 1, 2 * points).reshape(points, 2))
    return strokes


def _pen(strokes: Sequence[Ints], stream: WordStream) -> npt.NDArray[np.int64]:
    """The places of the pen in one drawing.

    Args:
        strokes: The character's strokes, each [points, 2] in 1/64 cell.
        stream: Random stream of the drawing.

    Returns:
        [frames, 2] in 1/64 cell; far outside the writing area while the pen is up.
    """
    drawn = stream.normal(1000, len(_POSE))
    pose = {
        name: mean + int(value) * deviation // 1000
        for value, (name, (mean, deviation)) in zip(drawn, _POSE.items(), strict=True)
    }
    middle = _SIDE * _FINE // 2
    posed = []
    for stroke in strokes:
        x, y = (stroke - middle + stream.normal(_WOBBLE, stroke.size).reshape(stroke.shape)).T
        y = y * pose["height"] // 1000
        x = x * pose["width"] // 1000 - y * pose["lean"] // 1000
        posed.append(np.stack([x + middle + pose["x"], y + middle + pose["y"]], axis=1))
    lengths = [int(np.abs(np.diff(stroke, axis=0)).sum()) for stroke in posed]
    frames = stream.between(*_FRAME_RANGE) - _PAUSE * (len(posed) - 1)
    frame = stream.between(1, 2 * _PAUSE)
    pen = np.full((_FRAMES, 2), -_SIDE * _FINE, np.int64)
    for stroke, length in zip(posed, lengths, strict=True):
        steps = max(2, frames * length // max(1, sum(lengths)))
        # Each segment takes the same time, so the pen is slower where points are close.
        at = np.arange(steps) * (len(stroke) - 1) * _FINE // steps
        segment, share = at // _FINE, (at % _FINE)[:, None]
        places = (stroke[segment] * (_FINE - share) + stroke[segment + 1] * share) // _FINE
        pen[frame : frame + steps] = places[: _FRAMES - frame]
        frame += steps + _PAUSE
    return pen


def _video(pens: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """The log intensities of the cells while the drawings are made.

    Args:
        pens: Places of the pen, [drawings, frames, 2] in 1/64 cell.

    Returns:
        [frames, drawings, cells] in units of `metaevents.simulation.pixels.LEVELS`.
    """
    centers = np.arange(_SIDE, dtype=np.int32) * _FINE + _FINE // 2
    places = pens.astype(np.int32)
    ink = np.zeros((len(pens), _SIDE, _SIDE), bool)
    under_pen: list[npt.NDArray[np.bool_]] = []
    levels = log_levels(np.array([_PAPER, _PEN, _INK]))
    frames = np.empty((_FRAMES, len(pens), _SIDE * _SIDE), np.int32)
    for frame in range(_FRAMES):
        x, y = (centers - places[:, frame, axis, None] for axis in (0, 1))
        under_pen.append((y * y)[:, :, None] + (x * x)[:, None, :] <= _RADIUS * _RADIUS)
        if frame >= _LAG:
            ink |= under_pen[frame - _LAG]
        kind = np.where(under_pen[frame], 1, np.where(ink, 2, 0))
        frames[frame] = levels[kind].reshape(len(pens), -1)
    return frames
