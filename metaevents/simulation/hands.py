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
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.events import Events
from metaevents.rng import WordStream
from metaevents.simulation.digits import log_levels
from metaevents.simulation.pixels import Floats, Ints, PixelModel, Sensor, record

_Point: TypeAlias = tuple[Floats, Floats, Floats]

HAND_SIZE = (240, 180)

_HAND_SLICE = 100
"""Milliseconds a file."""

_HAND_FRAME = 5
"""Milliseconds between the frames that are drawn."""

_HAND_PIXELS = PixelModel(on=610, off=580, mismatch=100, refractory=1000, noise=120, noise_on=700)

_WALL = 0.12
"""Light behind the hand, of 1."""

SUBJECTS = 5

_TURN = 4096
"""Units of angle."""


@dataclass(frozen=True)
class _Handshape:
    """How one letter of the American manual alphabet is held, as the person opposite sees the right hand; in degrees.

    Attributes:
        fingers: index, middle, ring, little: flexion of the knuckle and of the middle joint.
        splay: the same fingers' angle from straight up, towards the thumb's side.
        thumb: its three bones' directions: from straight up towards the thumb's side, and towards the viewer.
        turn: of the whole hand: about its long axis, forwards, and in the image (counterclockwise).
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

HANDSHAPES = {
    "a": _Handshape((_FIST, _FIST, _FIST, _FIST), _ALONGSIDE),
    "b": _Handshape((_UP, _UP, _UP, _UP), _OVER_PALM, splay=(1, 0, -1, -3)),
    "c": _Handshape(
        ((20, 50), (20, 50), (20, 50), (20, 50)), ((50, 65), (60, 80), (10, 60)), turn=(65, 0, 0)
    ),
    "d": _Handshape((_UP, (55, 70), (60, 70), (65, 70)), _TO_TIPS, turn=(35, 0, 0)),
    "e": _Handshape(((30, 115), (30, 115), (30, 115), (30, 115)), ((15, 50), (-50, 35), (-80, 15))),
    "f": _Handshape(
        ((40, 70), _UP, _UP, _UP), ((50, 25), (15, 45), (0, 50)), splay=(38, 3, -9, -21)
    ),
    "g": _Handshape((_UP, _FIST, _FIST, _FIST), ((75, 10), (35, 10), (5, 0)), turn=(155, 0, -88)),
    "h": _Handshape(
        (_UP, _UP, _FIST, _FIST), _OVER_FINGERS, splay=(1, 0, -3, -6), turn=(170, 0, -88)
    ),
    "i": _Handshape((_FIST, _FIST, _FIST, _UP), _OVER_FINGERS, splay=(3, 0, -3, -10)),
    "k": _Handshape(
        (_UP, (38, 10), _FIST, _FIST),
        ((25, 45), (0, 35), (-8, 15)),
        splay=(12, -14, -3, -6),
        turn=(25, 0, 0),
    ),
    "l": _Handshape((_UP, _FIST, _FIST, _FIST), _OUT, splay=(4, 0, -3, -6)),
    "m": _Handshape(
        ((80, 45), (80, 45), (80, 45), _FIST), ((0, 40), (-60, 10), (-80, 0)), turn=(0, 18, 0)
    ),
    "n": _Handshape(
        ((80, 45), (80, 45), _FIST, _FIST), ((0, 40), (-45, 10), (-60, 0)), turn=(0, 18, 0)
    ),
    "o": _Handshape(
        ((45, 62), (45, 62), (45, 62), (45, 62)), ((35, 50), (10, 68), (-5, 30)), turn=(65, 0, 0)
    ),
    "p": _Handshape(
        (_UP, (55, 10), _FIST, _FIST),
        ((25, 45), (0, 35), (-8, 15)),
        splay=(10, -10, -3, -6),
        turn=(140, 0, -130),
    ),
    "q": _Handshape(
        (_UP, _FIST, _FIST, _FIST),
        ((80, 10), (45, 10), (15, 0)),
        splay=(0, 0, -3, -6),
        turn=(155, 0, -160),
    ),
    "r": _Handshape((_UP, (12, 6), _FIST, _FIST), _OVER_FINGERS, splay=(-9, 9, -3, -6)),
    "s": _Handshape((_FIST, _FIST, _FIST, _FIST), ((20, 50), (-50, 50), (-90, 15)), turn=(8, 0, 0)),
    "t": _Handshape(
        ((70, 85), _FIST, _FIST, _FIST), ((25, 45), (-18, 40), (-20, 20)), turn=(-10, 0, 0)
    ),
    "u": _Handshape((_UP, _UP, _FIST, _FIST), _OVER_FINGERS, splay=(1, 0, -3, -6)),
    "v": _Handshape((_UP, _UP, _FIST, _FIST), _OVER_FINGERS, splay=(16, -12, -3, -6)),
    "w": _Handshape((_UP, _UP, _UP, _FIST), _OVER_PALM, splay=(18, 0, -18, -10)),
    "x": _Handshape(((12, 85), _FIST, _FIST, _FIST), _OVER_FINGERS, turn=(30, 0, 0)),
    "y": _Handshape((_FIST, _FIST, _FIST, _UP), _OUT, splay=(3, 0, -3, -26)),
}

# A hand of average size, in mm from the wrist; x towards the thumb's side, y upwards, z towards the viewer.
_KNUCKLES = ((27, 86), (7, 92), (-13, 88), (-31, 78))

_BONES = ((44, 26, 21), (48, 30, 22), (45, 28, 22), (35, 21, 19))

_THICKNESS = (
    (10.0, 9.0, 8.5, 7.5),
    (10.5, 9.5, 8.5, 7.5),
    (10.0, 9.0, 8.0, 7.0),
    (8.5, 7.5, 7.0, 6.0),
)

_THUMB_BASE, _THUMB_BONES, _THUMB_THICKNESS = (20, 22), (40, 32, 25), (13.0, 11.5, 10.0, 8.5)

_PALM = (((14, 4), 16.0, 12.0), ((4, 4), 17.0, 13.0), ((-6, 4), 17.0, 12.5), ((-14, 5), 15.0, 11.0))
"""For the bone below each knuckle: where it starts, and how thick it is at its ends."""


@lru_cache(maxsize=1)
def _sine() -> Floats:
    """Sine of an angle in 1/4096 turn, rounded to 2^-14."""
    return np.array(
        [round(math.sin(2 * math.pi * i / _TURN) * 2**14) / 2**14 for i in range(_TURN)]
    )


def _sin(angle: Ints) -> Floats:
    return _sine()[angle % _TURN]


def _cos(angle: Ints) -> Floats:
    return _sine()[(angle + _TURN // 4) % _TURN]


@dataclass(frozen=True)
class _Limb:
    """A tapered round limb between two points of the image, [frames] each, in pixels; `depth` decides what hides what,
    `relief` how much darker it gets towards its sides.
    """

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
        own, habit = (
            WordStream("asl-dvs", seed, subject),
            WordStream("asl-dvs", seed, letter, subject),
        )
        self.shape = HANDSHAPES[letter]
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
            (share, habit.between(short, long), habit.between(0, _TURN - 1))
            for share, short, long in _SWINGS
        ]

    def _sway(self, channel: str, t: Ints) -> Floats:
        """How far a channel of `_SWAY` is from its middle at t (ms)."""
        reach, lag = _SWAY[channel]
        (major, minor) = (
            share * _sin(t * _TURN // period + phase + lag) for share, period, phase in self.swings
        )
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
            for angle, own, axis in zip(
                self.shape.turn, self.turn, ("about", "forwards", "image"), strict=True
            )
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
                limbs.append(
                    _Limb(
                        (*spots[k], *spots[k + 1]),
                        (thick * radii[k], thick * radii[k + 1]),
                        depth,
                        relief,
                    )
                )
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
            reach, towards = (
                bone * self.length * _cos(_angle(flexion)),
                bone * self.length * _sin(_angle(flexion)),
            )
            x, y, z = points[-1]
            points.append((x + reach * _sin(splay), y + reach * _cos(splay), z + towards))
        return points, _THICKNESS[i]

    def _thumb(self, t: Ints) -> tuple[list[_Point], Sequence[float]]:
        points = [_point(t, *_THUMB_BASE)]
        for bone, (aside, forward) in zip(_THUMB_BONES, self.shape.thumb, strict=True):
            across, towards = (
                _angle(aside + self._sway("flexion", t)),
                _angle(np.full(len(t), forward)),
            )
            x, y, z = points[-1]
            flat = bone * _cos(towards)
            points.append(
                (x + flat * _sin(across), y + flat * _cos(across), z + bone * _sin(towards))
            )
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
    light = np.full((frames, HAND_SIZE[1], HAND_SIZE[0]), _WALL)
    for limb in limbs:
        ax, ay, bx, by = limb.ends
        box = [
            slice(
                max(0, int(min(a.min(), b.min()) - reach)),
                max(0, int(max(a.max(), b.max()) + reach) + 1),
            )
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
    return log_levels(np.rint(light * 4095).astype(np.int32)).reshape(frames, -1)


@lru_cache(maxsize=1)
def _hand_camera(seed: int) -> Sensor:
    return Sensor.make(
        _HAND_PIXELS, HAND_SIZE[0] * HAND_SIZE[1], WordStream("asl-dvs", seed, "camera")
    )


def hand_recording(seed: int, letter: str, subject: int, piece: int) -> Events:
    """One file's events, upright: the `piece`-th 100 ms of a subject's take of a letter."""
    times = range(0, _HAND_SLICE * 1000 + 1, _HAND_FRAME * 1000)
    t = piece * _HAND_SLICE + np.arange(len(times), dtype=np.int64) * _HAND_FRAME
    take = _Take(seed, letter, subject)
    levels = _hand_video(take.limbs(t), take.skin, len(times))
    return record(
        levels[:, None],
        times,
        _hand_camera(seed),
        HAND_SIZE[0],
        [WordStream("asl-dvs", seed, letter, subject, piece)],
    )[0]
