"""Pure functions on event arrays: crop, window, shift, downsample, merge, rasterize.

An event array is a one-dimensional structured NumPy array of `EVENT_DTYPE`. This is tonic's dtype,
so tonic's transforms accept it:

    x, y  int16, pixels; x grows to the right, y downwards
    t     int64, microseconds
    p     bool, polarity: True is ON (brighter), False is OFF (darker)

Every function returns a new array and does not change its argument. `metaevents.sources` reads
files; `metaevents.datasets` makes composed samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.arguments import whole_number
from metaevents.errors import UsageError

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)])
"""The dtype of an event array."""

POLARITIES = 2
"""Number of polarities: index 0 is OFF, index 1 is ON."""

Events: TypeAlias = npt.NDArray[Any]
"""A structured array of `EVENT_DTYPE`, [N]."""

Counts: TypeAlias = npt.NDArray[np.int64]
"""Event counts."""


_MICROSECONDS = (
    "whole microseconds, so multiply seconds by 1,000,000 or milliseconds by 1,000, and round"
)
_POLARITY = "whole numbers, above zero for ON"

_UNITS = {"t": _MICROSECONDS, "ts": _MICROSECONDS, "p": _POLARITY, "pol": _POLARITY}
"""What the values of a column should be, for error messages; pixels for all other columns."""


def whole_numbers(
    name: str, values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64
) -> npt.NDArray[np.integer[Any]]:
    """Convert a column of numbers to whole numbers, if that changes none of them.

    Args:
        name: Name of the column, for error messages: "t" or "ts" in microseconds, "p" or "pol" for
            polarities, others in pixels.
        values: Numbers of any type, [N].
        dtype: The type of whole numbers.

    Returns:
        The same numbers, [N].

    Raises:
        UsageError: The column has another shape or type, or a number is not whole, not finite, or
            beyond the type.
    """
    column = _column(name, values)
    dtype = np.dtype(dtype)
    unit = _UNITS.get(name, "whole pixels")
    if column.ndim != 1:
        raise UsageError(f"{name} has the shape {column.shape}; give one column, [N]")
    if column.dtype.kind not in "biuf":
        raise UsageError(f"{name} has the type {column.dtype}; give {unit}")
    if not len(column) or np.can_cast(column.dtype, dtype):
        return column.astype(dtype)
    if column.dtype.kind == "f":
        if not np.isfinite(column).all():
            raise UsageError(f"{name} has values that are no numbers (NaN, infinite); give {unit}")
        wrong = column != np.trunc(column)
        if wrong.any():
            raise UsageError(f"{name} has values such as {column[wrong][0]}; give {unit}")
    bounds = np.iinfo(dtype)
    least, most = column.min(), column.max()
    # Compared as Python numbers: a 64-bit bound rounded to the column's type could let one through.
    if not (bounds.min <= least.item() and most.item() <= bounds.max):
        raise UsageError(
            f"{name} spans {least} to {most}, beyond the type {dtype} "
            f"({bounds.min} to {bounds.max}); give {unit}"
        )
    return column.astype(dtype)


def _column(name: str, values: object) -> npt.NDArray[Any]:
    """Return a column as an array, from a list or a tensor as well."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name} cannot be read as a column of numbers ({error})") from error


def make_events(x: npt.ArrayLike, y: npt.ArrayLike, t: npt.ArrayLike, p: npt.ArrayLike) -> Events:
    """Make an event array from four columns of equal length.

    Args:
        x: Columns in pixels, [N].
        y: Rows in pixels, [N].
        t: Times in microseconds, [N].
        p: Polarities, [N]; a value above zero is ON.

    Returns:
        The events in the order given, [N].

    Raises:
        UsageError: The columns differ in length, or one of them has another shape, a number that is
            not whole, or one that `EVENT_DTYPE` cannot hold.
    """
    columns = [
        whole_numbers("x", x, np.int16),
        whole_numbers("y", y, np.int16),
        whole_numbers("t", t),
        whole_numbers("p", p),
    ]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1:
        raise UsageError(f"x, y, t and p have {lengths} entries; give four columns of equal length")
    events = np.empty(lengths[0], EVENT_DTYPE)
    events["x"], events["y"], events["t"] = columns[:3]
    events["p"] = columns[3] > 0
    return events


def as_events(array: Any) -> Events:
    """Convert events in the form of another library to `EVENT_DTYPE`.

    The fields may be in any order and of any numeric type. Time may be named `t`, `ts` or
    `timestamp`, polarity `p`, `on`, `pol` or `polarity`: the first that is there is taken. A value
    above zero is ON, so polarities may be 0 and 1, -1 and 1, or truth values.

    Events of a one-dimensional sensor have no y, which is then 0, and may have no polarity, which
    is then ON. An array that lacks y and has a field of another name is refused, because that field
    may be y.

    Args:
        array: Structured array, [N], or a mapping from field to column, each [N]. Coordinates that
            int16 cannot hold are clipped to -1 or 32,767, so they stay outside every sensor.

    Returns:
        The events in the order given, [N].

    Raises:
        UsageError: A field is missing, or as for `make_events`.

    Example:
        >>> as_events({"t": [5, 9], "x": [3, 4]}).tolist()
        [(3, 0, 5, True), (4, 0, 9, True)]
    """
    dtype = getattr(array, "dtype", None)
    if dtype == EVENT_DTYPE and array.ndim == 1:
        return np.array(array, EVENT_DTYPE)
    names = _find_fields(array)
    columns = {field: _column(name, array[name]) for field, name in names.items()}
    for axis in ("x", "y"):
        if axis in columns:
            columns[axis] = _clipped(axis, columns[axis])
    n = columns["t"].size
    columns.setdefault("y", np.zeros(n, np.int16))
    columns.setdefault("p", np.ones(n, np.bool_))
    return make_events(*(columns[field] for field in ("x", "y", "t", "p")))


def has_rows(array: Any) -> bool:
    """Return whether events have a field y; without it they are of a one-dimensional sensor.

    Args:
        array: As for `as_events`.
    """
    return "y" in _find_fields(array)


_FIELDS = {
    "x": ("x",),
    "y": ("y",),
    "t": ("t", "ts", "timestamp"),
    "p": ("p", "on", "pol", "polarity"),
}
"""The names that libraries give to the fields of event arrays, by our name."""


def _find_fields(array: Any) -> dict[str, str]:
    """Return the name of each field that an event array has, by our name.

    Raises:
        UsageError: A field is missing.
    """
    if isinstance(array, Mapping):
        given = list(array)
    else:
        given = list(getattr(getattr(array, "dtype", None), "names", None) or ())
    found = {
        field: next(name for name in names if name in given)
        for field, names in _FIELDS.items()
        if any(name in given for name in names)
    }
    unknown = set(given) - {name for names in _FIELDS.values() for name in names}
    missing = [field for field in ("x", "y", "t", "p") if field not in found]
    if missing and (unknown or "y" in found or not {"x", "t"} <= found.keys()):
        raise UsageError(
            f"the event array has the fields {given} and lacks {missing}; "
            "give a structured array with fields x, y, t (microseconds) and p"
        )
    return found


def _clipped(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Coordinates clipped to -1 or 32,767 where int16 cannot hold them, [N]."""
    if values.dtype.kind not in "biuf" or np.can_cast(values.dtype, np.int16):
        return values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UsageError(f"{name} has values that are not finite; give whole pixels")
    clipped: npt.NDArray[Any] = np.clip(values, -1, np.iinfo(np.int16).max)
    return clipped


def sort_by_time(events: Events) -> Events:
    """Return the events in order of `t`; events of equal time keep their order.

    Args:
        events: Events, [N].
    """
    ordered: Events = events[np.argsort(events["t"], kind="stable")]
    return ordered


def rebase_time(events: Events) -> Events:
    """Return the events with time counted from the earliest one, which gets t = 0.

    Args:
        events: Events, [N], in any order.
    """
    out: Events = events.copy()
    if len(out):
        out["t"] -= out["t"].min()
    return out


def window(events: Events, start: int, stop: int) -> Events:
    """Return the events with start <= t < stop; their times do not change.

    Args:
        events: Events, [N].
        start: First microsecond of the window.
        stop: First microsecond after the window.
    """
    kept: Events = events[(events["t"] >= start) & (events["t"] < stop)]
    return kept


def crop(events: Events, width: int, height: int, left: int = 0, top: int = 0) -> Events:
    """Return the events in a rectangle, whose upper left corner is moved to (0, 0).

    Args:
        events: Events, [N].
        width: Width of the rectangle in pixels.
        height: Height of the rectangle in pixels.
        left: Column of its left edge; events with left <= x < left + width are kept.
        top: Row of its upper edge; events with top <= y < top + height are kept.
    """
    inside = (
        (events["x"] >= left)
        & (events["x"] < left + width)
        & (events["y"] >= top)
        & (events["y"] < top + height)
    )
    return shift(events[inside], -left, -top)


def shift(events: Events, dx: int = 0, dy: int = 0, dt: int = 0) -> Events:
    """Return the events moved in space and time.

    Args:
        events: Events, [N].
        dx: Pixels to the right.
        dy: Pixels downwards.
        dt: Microseconds later.

    Raises:
        UsageError: A coordinate or a time does not fit into `EVENT_DTYPE` afterwards.
    """
    out: Events = events.copy()
    for name, distance in (("x", dx), ("y", dy), ("t", dt)):
        if distance and len(out):
            column, bounds = out[name], np.iinfo(EVENT_DTYPE[name])
            farthest = int(column.max() if distance > 0 else column.min()) + distance
            if not bounds.min <= farthest <= bounds.max:
                raise UsageError(
                    f"{name} would reach {farthest} after a shift by {distance}, beyond the type "
                    f"{bounds.dtype} ({bounds.min} to {bounds.max}); shift by less"
                )
            column += distance
    return out


def downsample(events: Events, space: int = 1, time: int = 1) -> Events:
    """Return the events on a coarser grid: x // space, y // space and t // time * time.

    No event is dropped, and events that fall on the same cell stay separate.

    Args:
        events: Events, [N].
        space: Pixels per new pixel, on both axes.
        time: Microseconds to which times are rounded down.

    Raises:
        UsageError: A factor is no whole number, is below 1 or is beyond the type of its column.
    """
    space = whole_number("space", space, least=1, most=np.iinfo(EVENT_DTYPE["x"]).max)
    time = whole_number("time", time, least=1, most=np.iinfo(EVENT_DTYPE["t"]).max)
    out: Events = events.copy()
    out["x"] //= space
    out["y"] //= space
    out["t"] -= out["t"] % time
    return out


def merge(streams: Sequence[Events]) -> Events:
    """Merge several streams into one, in order of time.

    Args:
        streams: Event arrays, each sorted or not.

    Returns:
        All events; at equal times those of the earlier stream come first.
    """
    if not streams:
        return np.empty(0, EVENT_DTYPE)
    return sort_by_time(np.concatenate(streams))


def side_by_side(streams: Sequence[Events], width: int) -> Events:
    """Merge streams next to each other: stream i is moved to the right by i * width pixels.

    Args:
        streams: Event arrays, from left to right.
        width: Width of every stream's field of view in pixels.

    Returns:
        All events in order of time; see `merge`.
    """
    return merge([shift(stream, dx=i * width) for i, stream in enumerate(streams)])


def rasterize(events: Events, shape: tuple[int, int, int, int], duration: int) -> Counts:
    """Count events on a grid of time bins, polarities and pixels.

    Args:
        events: Events with x in [0, W), y in [0, H) and t in [0, duration) microseconds.
        shape: (T, P, H, W) with P = 2; polarity 0 is OFF, 1 is ON.
        duration: Microseconds spanned by the T bins; bin k holds the events with
            k * duration <= t * T < (k + 1) * duration.

    Returns:
        [T, P, H, W] int64; the sum is the number of events.

    Raises:
        UsageError: An event lies outside the grid, or P is not 2.
    """
    T, P, H, W = shape
    if P != POLARITIES:
        raise UsageError(f"shape {tuple(shape)} has {P} polarities; give {POLARITIES}")
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
            f"events span x {x.min()}..{x.max()}, y {y.min()}..{y.max()}, "
            f"t {t.min()}..{t.max()} us, outside a grid of "
            f"{W} x {H} pixels and {duration} us; crop and window them first"
        )
    cell = ((t * T // duration * P + events["p"]) * H + y) * W + x
    counts: Counts = np.bincount(cell, minlength=T * P * H * W).reshape(shape)
    return counts
