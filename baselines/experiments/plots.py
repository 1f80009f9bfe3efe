"""Dots and curves of rows with their 95 % intervals, drawn into a given matplotlib figure.

Shares are drawn in percent. Axes cover the data, not the whole range, so that differences are
visible. Legends stand beside the axes and never on the data. Titles and files are left to
`baselines.experiments.report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.experiments.rows import Row, group_name, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_MARKERS = "osD^vPX*"

_PERCENT = ("accuracy", "error")
"""Columns that hold shares and are drawn in percent."""

_PERCENT_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)

_LOGISTIC_TICKS = (2, 5, 10, 20, 50, 80, 90, 95, 98, 99, 99.5)

PUBLISHED = "the paper"
"""Label of published values."""


def interval_name(rows: Iterable[Row]) -> str:
    """Return what the intervals of rows are: "95 % interval over episodes of these recordings".

    Results whose answers were not kept have no interval over fresh recordings.
    """
    fresh = [row.get("ci95") is not None for row in rows]
    if fresh and all(fresh):
        return "95 % interval over fresh recordings and episodes"
    if any(fresh):
        return "95 % interval (over fresh recordings and episodes, or over episodes alone)"
    return "95 % interval over episodes of these recordings"


def half_width(row: Row) -> float:
    """Return half of a row's 95 % interval; see `interval_name`."""
    return float(row["episode_ci95"] if row.get("ci95") is None else row["ci95"])


def _factor(column: str) -> int:
    return 100 if column in _PERCENT else 1


def _label(column: str) -> str:
    """Return the label of an axis: the column and its unit."""
    return f"{column}, %" if column in _PERCENT else column


def curves(
    axes: Axes, rows: Iterable[Row], x: str, y: str, by: Sequence[str], label: str = ""
) -> None:
    """Draw a line for each combination of the columns `by`, with 95 % intervals.

    Args:
        axes: Where to draw.
        rows: The points.
        x: Column of the abscissa.
        y: Column of the ordinate.
        by: Columns that tell the lines apart; they label the lines.
        label: Words before each label.
    """
    factor = _factor(y)
    for number, (name, line) in enumerate(grouped(rows, by).items()):
        axes.errorbar(
            [row[x] for row in line],
            [factor * row[y] for row in line],
            yerr=[factor * half_width(row) for row in line],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            linewidth=1,
            label=f"{label}{name}" if by else None,
        )
    axes.set_xlabel(x)
    axes.set_ylabel(_label(y))
    axes.grid(alpha=0.3)


def panels(figure: Figure, rows: Sequence[Row], column: str) -> Iterator[tuple[Axes, list[Row]]]:
    """Yield a panel for each value of a column, under its title, and the rows that have it.

    Args:
        figure: The empty figure; the panels share the vertical axis.
        rows: All rows.
        column: The column.
    """
    values = list(dict.fromkeys(row[column] for row in rows))
    axes = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for each, value in zip(axes, values, strict=True):
        yield each, [row for row in rows if row[column] == value]
        each.set_title(value)


def log_percent(axes: Axes) -> None:
    """Make the ordinate, in percent, logarithmic if its values differ by a factor of 3 or more."""
    low, high = axes.get_ylim()
    low, high = max(low, 0.1), min(high, 110.0)
    values = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    positive = [float(value) for each in values for value in each if value > 0]
    if not positive or max(positive) < 3 * min(positive):
        return
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(min(low, min(positive)) if low > 0.1 else min(positive) / 1.5, high)
    crowded = max(positive) / min(positive) > 8
    left_out = (30, 40, 60, 70, 80, 90) if crowded else ()
    _plain_ticks(axes.yaxis, [tick for tick in _PERCENT_TICKS if tick not in left_out])


def logistic_percent(axes: Axes, name: str) -> None:
    """Make an axis of accuracies in percent logistic if they reach from below 75 to above 90.

    Halving the errors is then about the same distance at 80 % as at 98 %.

    Args:
        axes: The axes, after all is drawn into them and into those that share the axis.
        name: "x" or "y".
    """
    boxes = [each.dataLim for each in axes.figure.axes]
    low = min(getattr(box, f"{name}min") for box in boxes)
    high = max(getattr(box, f"{name}max") for box in boxes)
    if low > 75 or high < 90:
        return
    ends = _logit(np.array([low, high])) + np.array([-0.2, 0.2])
    low, high = (float(end) for end in _inverse_logit(ends))
    getattr(axes, f"set_{name}scale")("function", functions=(_logit, _inverse_logit))
    getattr(axes, f"set_{name}lim")(low, high)
    _plain_ticks(getattr(axes, f"{name}axis"), _LOGISTIC_TICKS)


def _logit(percent: np.ndarray) -> np.ndarray:
    """Return the logit of percentages, held between 0.05 and 99.95."""
    inside = np.clip(percent, 0.05, 99.95)
    return np.asarray(np.log(inside / (100 - inside)))


def _inverse_logit(logit: np.ndarray) -> np.ndarray:
    return np.asarray(100 / (1 + np.exp(-logit)))


def _plain_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """Mark some of these values on an axis, as plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def dots(
    axes: Axes,
    rows: Sequence[Row],
    value: str,
    at: Sequence[str],
    by: Sequence[str],
    *,
    intervals: bool = True,
    label: str = "",
) -> None:
    """Draw a line of dots for each group of rows, with 95 % intervals.

    The column "published", where a row has it, is drawn as a cross.

    Args:
        axes: Where to draw.
        rows: The dots.
        value: Column of the abscissa.
        at: Columns that tell the groups apart; they label the ordinate, from top to bottom.
        by: Columns that tell the dots of a group apart; they label the dots.
        intervals: Whether to draw the intervals.
        label: Words before each label.
    """
    places = list(grouped(rows, at))
    series = grouped(rows, by)
    factor = _factor(value)
    for number, (name, line) in enumerate(series.items()):
        offset = 0.5 * ((number + 0.5) / len(series) - 0.5)
        heights = [places.index(group_name(row, at)) + offset for row in line]
        axes.errorbar(
            [factor * row[value] for row in line],
            heights,
            xerr=[factor * half_width(row) for row in line] if intervals else None,
            fmt=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            label=f"{label}{name}" if by else "measured",
        )
    published = {
        (factor * row["published"], places.index(group_name(row, at)))
        for row in rows
        if row.get("published") is not None
    }
    if published:
        axes.plot(*zip(*sorted(published), strict=True), "kx", label=PUBLISHED, markersize=6)
    axes.set_yticks(range(len(places)), places)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlabel(_label(value))
    axes.grid(alpha=0.3, axis="x")
    for place in range(1, len(places)):
        axes.axhline(place - 0.5, color="black", alpha=0.1, linewidth=0.8)


def legend(figure: Figure, title: str = "", rows: Sequence[Row] = ()) -> None:
    """Write the legend of all axes beside them.

    Args:
        figure: A figure with constrained layout.
        title: Title of the legend.
        rows: The rows whose intervals are drawn; the legend says what they are.
    """
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if PUBLISHED in handles:
        handles[PUBLISHED] = handles.pop(PUBLISHED)  # the last
    if rows:
        handles[fill(interval_name(rows), 24)] = Line2D([], [], color="gray", linewidth=1)
    figure.legend(
        handles.values(),
        handles.keys(),
        title=title or None,
        loc="outside right upper",
        fontsize="small",
        frameon=False,
        alignment="left",
    )
