"""Pure functions on event arrays: crop, window, shift, downsample, merge, rasterize.

An event array is a one-dimensional structured numpy array of `EVENT_DTYPE`, tonic's layout, so that tonic's transforms
take it as it is:

    x, y  int16, pixels; x grows to the right, y downwards
    t     int64, microseconds
    p     bool, polarity: True is ON (brighter), False is OFF

Every function returns a new array and leaves its argument alone. Reading files is left to `metaevents.sources`, side by side
composition to `metaevents.datasets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.errors import UsageError

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)])
POLARITIES = 2

Events: TypeAlias = npt.NDArray[Any]  # structured, of EVENT_DTYPE
Counts: TypeAlias = npt.NDArray[np.int64]


def make_events(x: npt.ArrayLike, y: npt.ArrayLike, t: npt.ArrayLike, p: npt.ArrayLike) -> Events:
    """An event array from four columns of equal length.

    Args:
        x, y: pixels, [N].
        t: microseconds, [N].
        p: polarity, [N]; anything above zero is ON.

    Raises:
        UsageError: the columns differ in length.
    """
    columns = [np.asarray(column) for column in (x, y, t, p)]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1:
        raise UsageError(f"x, y, t and p have {lengths} entries; give four columns of equal length")
    events = np.empty(lengths[0], EVENT_DTYPE)
    events["x"], events["y"], events["t"] = columns[:3]
    events["p"] = columns[3] > 0
    return events


def as_events(array: Any) -> Events:
    """Any structured array with fields x, y, t and p (in whatever order and widths) as `EVENT_DTYPE`.

    Raises:
        UsageError: a field is missing.
    """
    names = getattr(getattr(array, "dtype", None), "names", None) or ()
    missing = [name for name in ("x", "y", "t", "p") if name not in names]
    if missing:
        raise UsageError(
            f"event array has fields {list(names)}, lacks {missing}; give a structured array of x, y, t (us), p"
        )
    x, y = (
        np.clip(array[axis], -1, np.iinfo(np.int16).max) for axis in ("x", "y")
    )  # what int16 cannot hold is off any sensor
    return make_events(x, y, array["t"], array["p"])


def sort_by_time(events: Events) -> Events:
    """The events in order of `t`; events of equal time keep their order."""
    ordered: Events = events[np.argsort(events["t"], kind="stable")]
    return ordered


def rebase_time(events: Events) -> Events:
    """The events with time counted from the earliest one, which gets t = 0 us."""
    out: Events = events.copy()
    if len(out):
        out["t"] -= out["t"].min()
    return out


def window(events: Events, start: int, stop: int) -> Events:
    """The events with start <= t < stop (microseconds); times stay as they are."""
    kept: Events = events[(events["t"] >= start) & (events["t"] < stop)]
    return kept


def crop(events: Events, width: int, height: int, left: int = 0, top: int = 0) -> Events:
    """The events with left <= x < left + width and top <= y < top + height (pixels), the corner moved to (0, 0)."""
    inside = (
        (events["x"] >= left)
        & (events["x"] < left + width)
        & (events["y"] >= top)
        & (events["y"] < top + height)
    )
    return shift(events[inside], -left, -top)


def shift(events: Events, dx: int = 0, dy: int = 0, dt: int = 0) -> Events:
    """The events moved by dx, dy pixels and dt microseconds."""
    out: Events = events.copy()
    out["x"] += dx
    out["y"] += dy
    out["t"] += dt
    return out


def downsample(events: Events, space: int = 1, time: int = 1) -> Events:
    """The events on a coarser grid: x // space, y // space (pixels) and t // time * time (microseconds).

    No event is dropped or joined with another: events that fall on one cell stay separate.

    Raises:
        UsageError: a factor below 1.
    """
    if space < 1 or time < 1:
        raise UsageError(
            f"downsampling factors are space={space}, time={time}; give whole numbers of at least 1"
        )
    out: Events = events.copy()
    out["x"] //= space
    out["y"] //= space
    out["t"] -= out["t"] % time
    return out


def merge(streams: Sequence[Events]) -> Events:
    """One stream of several, in order of time; at equal times the earlier stream's events come first."""
    if not streams:
        return np.empty(0, EVENT_DTYPE)
    return sort_by_time(np.concatenate(streams))


def side_by_side(streams: Sequence[Events], width: int) -> Events:
    """The streams next to each other in one field of view: stream i is moved to the right by i * width pixels."""
    return merge([shift(stream, dx=i * width) for i, stream in enumerate(streams)])


def rasterize(events: Events, shape: tuple[int, int, int, int], duration: int) -> Counts:
    """Event counts on a grid of time bins, polarities and pixels.

    Args:
        events: x in [0, W), y in [0, H), t in [0, duration) microseconds.
        shape: (T, P, H, W) with P = 2: index 0 holds OFF events, index 1 ON events.
        duration: microseconds that the T bins span; bin k holds k * duration <= t * T < (k + 1) * duration.

    Returns:
        [T, P, H, W] int64; the sum is the number of events.

    Raises:
        UsageError: an event lies outside the grid.
    """
    T, P, H, W = shape
    t, x, y = events["t"], events["x"].astype(np.int64), events["y"].astype(np.int64)
    if len(events) and not (
        x.min() >= 0
        and x.max() < W
        and y.min() >= 0
        and y.max() < H
        and t.min() >= 0
        and t.max() < duration
    ):
        raise UsageError(
            f"events span x {x.min()}..{x.max()}, y {y.min()}..{y.max()}, t {t.min()}..{t.max()} us, outside a grid of "
            f"{W} x {H} pixels and {duration} us; crop and window them first"
        )
    cell = ((t * T // duration * P + events["p"]) * H + y) * W + x
    counts: Counts = np.bincount(cell, minlength=T * P * H * W).reshape(shape)
    return counts
