"""Recordings like those of ASL-DVS: an articulated hand that shows a letter and moves.

`hand_recording` gives the events of one file. A hand is a set of tapered limbs. Its joint angles
follow from the letter, its size and habits from the subject, and its motion from two swings.
`metaevents.simulation.writers` writes the files.

Angles are in degrees or, as whole numbers, in 1/4096 turn. Points are (x, y, z) in mm from the
middle of the palm: x towards the thumb's side, y upwards, z towards the viewer.
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
from metaevents.simulation.pixels import Floats, Ints, PixelModel, Sensor, log_levels, record

_Point: TypeAlias = tuple[Floats, Floats, Floats]  # x, y, z, each [frames]

HAND_SIZE = (240, 180)
"""(width, height) of the sensor in pixels."""

SUBJECTS = 5
"""Number of subjects."""

_SLICE_MS = 100
"""Milliseconds per file."""

_FRAME_MS = 5
"""Milliseconds between the frames of a video."""

_PIXELS = PixelModel(on=610, off=580, mismatch=100, refractory=1000, noise=120, noise_on=700)

_WALL = 0.12
"""Light of the wall behind the hand, of 1."""

_TURN = 4096
"""Units of angle per turn."""


@dataclass(frozen=True)
class Handshape:
    """How one letter of the American manual alphabet is held.

    The right hand is seen by the person opposite. Angles are in degrees.

    Attributes:
        fingers: For index, middle, ring and little finger: flexion of the knuckle and of the middle
            joint.
        thumb: For each of the thumb's three bones: its direction from straight up towards the
            thumb's side, and towards the viewer.
        splay: For the same four fingers: angle from straight up towards the thumb's side.
        turn: Turns of the whole hand: about its long axis, forwards, and in the image
            (counterclockwise).
    """

    fingers: tuple[tuple[int, int], ...]
    thumb: tuple[tuple[int, int], ...]
    splay: tuple[int, ...] = (3, 0, -3, -6)
    turn: tuple[int, int, int] = (0, 0, 0)


_UP, _FIST = (5, 8), (85, 100)

_THUMB_OVER_FINGERS = ((20, 45), (-45, 45), (-85, 25))
_THUMB_OVER_PALM = ((5, 45), (-50, 25), (-75, 10))
_THUMB_TO_TIPS = ((25, 55), (5, 55), (-15, 35))
_THUMB_ALONGSIDE = ((40, 25), (8, 20), (-4, 5))
_THUMB_OUT = ((62, 10), (78, 0), (84, 0))

HANDSHAPES = {
    "a": Handshape((_FIST, _FIST, _FIST, _FIST), _THUMB_ALONGSIDE),
    "b": Handshape((_UP, _UP, _UP, _UP), _THUMB_OVER_PALM, splay=(1, 0, -1, -3)),
    "c": Handshape(
        ((20, 50), (20, 50), (20, 50), (20, 50)), ((50, 65), (60, 80), (10, 60)), turn=(65, 0, 0)
    ),
    "d": Handshape((_UP, (55, 70), (60, 70), (65, 70)), _THUMB_TO_TIPS, turn=(35, 0, 0)),
    "e": Handshape(((30, 115), (30, 115), (30, 115), (30, 115)), ((15, 50), (-50, 35), (-80, 15))),
    "f": Handshape(
        ((40, 70), _UP, _UP, _UP), ((50, 25), (15, 45), (0, 50)), splay=(38, 3, -9, -21)
    ),
    "g": Handshape((_UP, _FIST, _FIST, _FIST), ((75, 10), (35, 10), (5, 0)), turn=(155, 0, -88)),
    "h": Handshape(
        (_UP, _UP, _FIST, _FIST), _THUMB_OVER_FINGERS, splay=(1, 0, -3, -6), turn=(170, 0, -88)
    ),
    "i": Handshape((_FIST, _FIST, _FIST, _UP), _THUMB_OVER_FINGERS, splay=(3, 0, -3, -10)),
    "k": Handshape(
        (_UP, (38, 10), _FIST, _FIST),
        ((25, 45), (0, 35), (-8, 15)),
        splay=(12, -14, -3, -6),
        turn=(25, 0, 0),
    ),
    "l": Handshape((_UP, _FIST, _FIST, _FIST), _THUMB_OUT, splay=(4, 0, -3, -6)),
    "m": Handshape(
        ((80, 45), (80, 45), (80, 45), _FIST), ((0, 40), (-60, 10), (-80, 0)), turn=(0, 18, 0)
    ),
    "n": Handshape(
        ((80, 45), (80, 45), _FIST, _FIST), ((0, 40), (-45, 10), (-60, 0)), turn=(0, 18, 0)
    ),
    "o": Handshape(
        ((45, 62), (45, 62), (45, 62), (45, 62)), ((35, 50), (10, 68), (-5, 30)), turn=(65, 0, 0)
    ),
    "p": Handshape(
        (_UP, (55, 10), _FIST, _FIST),
        ((25, 45), (0, 35), (-8, 15)),
        splay=(10, -10, -3, -6),
        turn=(140, 0, -130),
    ),
    "q": Handshape(
        (_UP, _FIST, _FIST, _FIST),
        ((80, 10), (45, 10), (15, 0)),
        splay=(0, 0, -3, -6),
        turn=(155, 0, -160),
    ),
    "r": Handshape((_UP, (12, 6), _FIST, _FIST), _THUMB_OVER_FINGERS, splay=(-9, 9, -3, -6)),
    "s": Handshape((_FIST, _FIST, _FIST, _FIST), ((20, 50), (-50, 50), (-90, 15)), turn=(8, 0, 0)),
    "t": Handshape(
        ((70, 85), _FIST, _FIST, _FIST), ((25, 45), (-18, 40), (-20, 20)), turn=(-10, 0, 0)
    ),
    "u": Handshape((_UP, _UP, _FIST, _FIST), _THUMB_OVER_FINGERS, splay=(1, 0, -3, -6)),
    "v": Handshape((_UP, _UP, _FIST, _FIST), _THUMB_OVER_FINGERS, splay=(16, -12, -3, -6)),
    "w": Handshape((_UP, _UP, _UP, _FIST), _THUMB_OVER_PALM, splay=(18, 0, -18, -10)),
    "x": Handshape(((12, 85), _FIST, _FIST, _FIST), _THUMB_OVER_FINGERS, turn=(30, 0, 0)),
    "y": Handshape((_FIST, _FIST, _FIST, _UP), _THUMB_OUT, splay=(3, 0, -3, -26)),
}
"""The handshape of each letter."""

# An average hand, in mm from the wrist. The four fingers are index, middle, ring and little finger.
_KNUCKLES = ((27, 86), (7, 92), (-13, 88), (-31, 78))
"""Place (x, y) of each finger's knuckle."""

_BONES = ((44, 26, 21), (48, 30, 22), (45, 28, 22), (35, 21, 19))
"""Lengths of each finger's three bones."""

_THICKNESS = (
    (10.0, 9.0, 8.5, 7.5),
    (10.5, 9.5, 8.5, 7.5),
    (10.0, 9.0, 8.0, 7.0),
    (8.5, 7.5, 7.0, 6.0),
)
"""Radii of each finger at the ends of its bones."""

_THUMB_BASE, _THUMB_BONES, _THUMB_THICKNESS = (20, 22), (40, 32, 25), (13.0, 11.5, 10.0, 8.5)

_PALM = (((14, 4), 16.0, 12.0), ((4, 4), 17.0, 13.0), ((-6, 4), 17.0, 12.5), ((-14, 5), 15.0, 11.0))
"""For the bone below each knuckle: place of its lower end, radii at its lower and upper end."""

_SWAY = {
    "x": (8.0, 0),  # pixels
    "y": (6.5, 1100),  # pixels
    "size": (0.03, 500),  # share of the size
    "about": (4.0, 2500),  # degrees, as all that follow
    "forwards": (4.0, 1700),
    "image": (5.0, 3300),
    "flexion": (4.0, 2100),
}
"""Amplitude of each motion of a hand, and its phase in 1/4096 period; the hand moves in loops."""

_SWINGS = ((0.9, 1500, 2300), (0.1, 500, 700))
"""The two swings that add up to a motion: share, shortest and longest period in ms."""


@lru_cache(maxsize=1)
def _sine() -> Floats:
    """The sines of all angles in 1/4096 turn, [4096], rounded to 2^-14."""
    return np.array(
        [round(math.sin(2 * math.pi * i / _TURN) * 2**14) / 2**14 for i in range(_TURN)]
    )


def _sin(angle: Ints) -> Floats:
    """The sine of angles in 1/4096 turn."""
    return _sine()[angle % _TURN]


def _cos(angle: Ints) -> Floats:
    """The cosine of angles in 1/4096 turn."""
    return _sine()[(angle + _TURN // 4) % _TURN]


def _angle(degrees: Floats) -> Ints:
    """Degrees as whole numbers of 1/4096 turn."""
    return np.rint(degrees * (_TURN / 360)).astype(np.int64)


def _point(t: Ints, x: float, y: float) -> _Point:
    """A point of the hand, in mm from the wrist, that is at the same place in all frames."""
    return np.full(len(t), float(x)), np.full(len(t), float(y - 60)), np.zeros(len(t))


def _turned(point: _Point, turn: Sequence[Ints]) -> _Point:
    """A point turned about the hand's long axis, then forwards, then in the image."""
    x, y, z = point
    about, forwards, image = turn
    x, z = x * _cos(about) + z * _sin(about), z * _cos(about) - x * _sin(about)
    y, z = y * _cos(forwards) - z * _sin(forwards), z * _cos(forwards) + y * _sin(forwards)
    x, y = x * _cos(image) - y * _sin(image), y * _cos(image) + x * _sin(image)
    return x, y, z


@dataclass(frozen=True)
class _Limb:
    """A tapered round limb between two points of the image.

    Attributes:
        ends: x and y of the first end, x and y of the second end, each [frames], in pixels.
        radii: Radius at the first and at the second end, in pixels.
        depth: Limbs of greater depth cover those of smaller depth.
        relief: Share of its light that a limb loses towards its sides.
    """

    ends: tuple[Floats, Floats, Floats, Floats]
    radii: tuple[float, float]
    depth: float
    relief: float


class _Take:
    """A take: one subject shows one letter and moves all the time.

    Args:
        seed: Seed of everything random.
        letter: The letter.
        subject: Number of the subject, from 0.
    """

    def __init__(self, seed: int, letter: str, subject: int) -> None:
        body = WordStream("asl-dvs", seed, subject)
        habit = WordStream("asl-dvs", seed, letter, subject)
        self.shape = HANDSHAPES[letter]
        size, length, thickness, skin, arm, x, y = (int(v) for v in body.normal(1000, 7))
        self.size = 0.66 + 0.035 * size / 1000  # pixels per mm
        self.length = 1.0 + 0.04 * length / 1000
        self.thickness = 1.0 + 0.06 * thickness / 1000
        self.skin = 0.62 + 0.07 * skin / 1000
        self.arm = arm // 100
        self.place = (120.0 + 7.0 * x / 1000, 101.0 + 4.0 * y / 1000)
        # By how many degrees this subject bends the joints and turns the hand differently.
        self.bend = [int(v) // 1000 for v in habit.normal(6000, 8)]
        self.turn = [int(v) // 1000 for v in habit.normal(5000, 3)]
        self.swings = [
            (share, habit.between(short, long), habit.between(0, _TURN - 1))
            for share, short, long in _SWINGS
        ]

    def limbs(self, t: Ints) -> list[_Limb]:
        """The limbs of the hand and the forearm, from the farthest to the nearest.

        Args:
            t: Times of the frames in ms from the start of the take, [frames].
        """
        turn = [
            _angle(angle + habit + self._sway(axis, t))
            for angle, habit, axis in zip(
                self.shape.turn, self.turn, ("about", "forwards", "image"), strict=True
            )
        ]
        scale = self.size * (1.0 + self._sway("size", t))
        middle = [place + self._sway(axis, t) for place, axis in zip(self.place, "xy", strict=True)]
        thick = self.thickness * self.size
        limbs = []
        for points, radii, relief in self._chains(t):
            turned = [_turned(point, turn) for point in points]
            spots = [(middle[0] + scale * x, middle[1] - scale * y) for x, y, _ in turned]
            for k in range(len(points) - 1):
                ends = (*spots[k], *spots[k + 1])
                depth = float(turned[k][2][0] + turned[k + 1][2][0])
                limbs.append(_Limb(ends, (thick * radii[k], thick * radii[k + 1]), depth, relief))
        # The elbow stays where it is when the hand turns.
        wrist_x, wrist_y, _ = _turned(_point(t, 0, 8), turn)
        lean = _angle(np.array([self.shape.turn[2] // 2 + self.arm]))
        wrist = (middle[0] + scale * wrist_x, middle[1] - scale * wrist_y)
        elbow = (wrist[0] + 170 * _sin(lean), wrist[1] + 170 * _cos(lean))
        limbs.append(_Limb((*elbow, *wrist), (24.0 * self.size, 19.0 * self.size), -1000.0, 0.4))
        return sorted(limbs, key=lambda limb: limb.depth)

    def _sway(self, motion: str, t: Ints) -> Floats:
        """The displacement of a motion of `_SWAY` at t (ms), [frames], in the motion's unit."""
        amplitude, lag = _SWAY[motion]
        major, minor = (
            share * _sin(t * _TURN // period + phase + lag) for share, period, phase in self.swings
        )
        return amplitude * (major + minor)

    def _chains(self, t: Ints) -> list[tuple[list[_Point], Sequence[float], float]]:
        """Chains of bones before the hand turns: joints, radii in mm, and relief."""
        fingers = [(*self._finger(i, t), 0.55) for i in range(4)]
        palm = [
            ([_point(t, *start), _point(t, *knuckle)], radii, 0.2)
            for (start, *radii), knuckle in zip(_PALM, _KNUCKLES, strict=True)
        ]
        return [*fingers, (*self._thumb(t), 0.5), *palm]

    def _finger(self, i: int, t: Ints) -> tuple[list[_Point], Sequence[float]]:
        """The joints of finger `i` from the knuckle to the tip, and the radii there in mm."""
        knuckle, joint = self.shape.fingers[i]
        sway = self._sway("flexion", t)
        splay = _angle(np.full(len(t), self.shape.splay[i]))
        first, second = knuckle + self.bend[i] + sway, joint + self.bend[4 + i] + sway
        points, flexion = [_point(t, *_KNUCKLES[i])], np.zeros(len(t))
        for bone, bend in zip(_BONES[i], (first, second, second * 2 / 3), strict=True):
            flexion = flexion + bend
            upwards = bone * self.length * _cos(_angle(flexion))
            towards = bone * self.length * _sin(_angle(flexion))
            x, y, z = points[-1]
            points.append((x + upwards * _sin(splay), y + upwards * _cos(splay), z + towards))
        return points, _THICKNESS[i]

    def _thumb(self, t: Ints) -> tuple[list[_Point], Sequence[float]]:
        """The joints of the thumb from its base to its tip, and the radii there in mm."""
        points = [_point(t, *_THUMB_BASE)]
        for bone, (sideways, forwards) in zip(_THUMB_BONES, self.shape.thumb, strict=True):
            across = _angle(sideways + self._sway("flexion", t))
            towards = _angle(np.full(len(t), forwards))
            x, y, z = points[-1]
            flat = bone * _cos(towards)
            points.append(
                (x + flat * _sin(across), y + flat * _cos(across), z + bone * _sin(towards))
            )
        return points, _THUMB_THICKNESS


def hand_recording(seed: int, letter: str, subject: int, piece: int) -> Events:
    """Simulate one file's events, upright.

    Args:
        seed: Seed of everything random.
        letter: A key of `HANDSHAPES`.
        subject: Number of the subject, 0 ... `SUBJECTS` - 1.
        piece: Which slice of 100 ms of the subject's take of the letter, from 0.

    Returns:
        The events in order of time.
    """
    times = range(0, _SLICE_MS * 1000 + 1, _FRAME_MS * 1000)
    t = piece * _SLICE_MS + np.arange(len(times), dtype=np.int64) * _FRAME_MS
    take = _Take(seed, letter, subject)
    levels = _hand_video(take.limbs(t), take.skin, len(times))
    stream = WordStream("asl-dvs", seed, letter, subject, piece)
    return record(levels[:, None], times, _camera(seed), HAND_SIZE[0], [stream])[0]


@lru_cache(maxsize=1)
def _camera(seed: int) -> Sensor:
    """The camera of all recordings with one seed."""
    pixels = HAND_SIZE[0] * HAND_SIZE[1]
    return Sensor.make(_PIXELS, pixels, WordStream("asl-dvs", seed, "camera"))


def _hand_video(limbs: Sequence[_Limb], skin: float, frames: int) -> npt.NDArray[np.int32]:
    """Log intensities of a lit hand in front of a darker wall.

    Args:
        limbs: The limbs, from the farthest to the nearest.
        skin: Light of the skin, of 1.
        frames: Number of frames.

    Returns:
        [frames, pixels], in units of `LEVELS`.
    """
    light = np.full((frames, HAND_SIZE[1], HAND_SIZE[0]), _WALL)
    for limb in limbs:
        _draw_limb(light, limb, skin)
    return log_levels(np.rint(light * 4095).astype(np.int32)).reshape(frames, -1)


def _draw_limb(light: Floats, limb: _Limb, skin: float) -> None:
    """Draw a limb over what is in the video `light`, [frames, H, W], in place."""
    ax, ay, bx, by = limb.ends
    reach = max(limb.radii) + 1.0
    rows, columns = (
        slice(
            max(0, int(min(a.min(), b.min()) - reach)),
            max(0, int(max(a.max(), b.max()) + reach) + 1),
        )
        for a, b in ((ay, by), (ax, bx))
    )
    view = light[:, rows, columns]
    if not view.size:
        return
    ax, ay, bx, by = (end[:, None, None] for end in limb.ends)
    dx, dy = bx - ax, by - ay
    x = np.arange(columns.start, columns.start + view.shape[2], dtype=np.float64) - ax
    y = np.arange(rows.start, rows.start + view.shape[1], dtype=np.float64)[:, None] - ay
    square = np.maximum(dx * dx + dy * dy, 1e-6)
    along = np.clip(x * (dx / square) + y * (dy / square), 0.0, 1.0)
    away_x, away_y = x - along * dx, y - along * dy
    distance = np.sqrt(away_x * away_x + away_y * away_y)
    radius = limb.radii[0] + along * (limb.radii[1] - limb.radii[0])
    cover = np.clip(radius - distance + 0.5, 0.0, 1.0)
    # A limb is round across its axis. Its ends lie inside the next limb, so they are flatter.
    cross = x * dy - y * dx
    off_axis = cross * cross / square
    edge = (off_axis + 0.25 * (distance * distance - off_axis)) / (radius * radius)
    view += cover * (skin * (1.0 - limb.relief * np.clip(edge, 0.0, 1.0)) - view)
