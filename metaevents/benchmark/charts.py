"""Geometry of the leaderboard page's charts: positions in percent of a chart's width and height.

There are four charts: an accuracy with its intervals, on a scale that a whole table shares
(`AccuracyScale`), the spread over episodes (`episode_histogram`), the accuracies of single classes
(`class_columns`), and accuracy against operations (`operations_plot`). Drawing is left to the
page's templates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metaevents.benchmark.amounts import amount, operations, power_of_ten
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import Table

_TICKS = (0.5, 0.99, 0.9, 0.2, 0.999, 0.8, 0.95, 0.98, 0.05, 0.01, 0.7, 0.3)
"""Accuracies to mark on a scale; of two that are too close, the first in this list is marked."""

_TICK_DISTANCE = 13.0
"""Least distance between two ticks, percent of the width."""

_TICK_MARGIN = 3.0
"""Least distance of a tick from either end of the scale, percent of the width."""

_LOGIT_MARGIN = 0.25
"""Room between the outermost value and the end of a scale, in logits."""

_BINS = 20
"""Bins of a histogram of accuracies."""


@dataclass(frozen=True)
class Bar:
    """One entry on its table's scale; all values in percent of the width.

    Attributes:
        mean: the accuracy.
        episodes: start and width of the 95 % interval over episodes of these recordings.
        recordings: start and end of the 95 % interval over fresh recordings and episodes.
    """

    mean: float
    episodes: tuple[float, float]
    recordings: tuple[float, float]


@dataclass(frozen=True)
class AccuracyScale:
    """Logit scale of accuracies, which spreads out values near 0 and 1.

    Attributes:
        low: logit at the left end.
        high: logit at the right end.
        chance: accuracy of guessing.
    """

    low: float
    high: float
    chance: float

    @classmethod
    def of_table(cls, table: Table) -> AccuracyScale:
        """Return a scale that holds all intervals of a table, and chance."""
        values = [table.chance]
        for row in table.rows:
            report = row.entry.report
            accuracy, half = report["accuracy"], report["ci95"]
            values += [accuracy - half, accuracy + half]
        low, high = _logit(min(values)), _logit(max(values))
        return cls(low - _LOGIT_MARGIN, high + _LOGIT_MARGIN, table.chance)

    def position(self, accuracy: float) -> float:
        """Return where an accuracy lies, in percent of the width."""
        return round(100 * (_logit(accuracy) - self.low) / (self.high - self.low), 2)

    def ticks(self) -> list[tuple[float, float]]:
        """Return (accuracy, position) of each tick, from left to right."""
        chosen: list[tuple[float, float]] = []
        for accuracy in _TICKS:
            position = self.position(accuracy)
            inside = _TICK_MARGIN <= position <= 100 - _TICK_MARGIN
            if inside and all(abs(position - other) >= _TICK_DISTANCE for _, other in chosen):
                chosen.append((accuracy, position))
        return sorted(chosen)

    def bar(self, accuracy: float, half_width: float, episode_half_width: float) -> Bar:
        """Return the bar of an entry.

        Args:
            accuracy: mean over the episodes.
            half_width: half of the 95 % interval over fresh recordings and episodes.
            episode_half_width: half of the one over episodes of these recordings.
        """
        start = self.position(accuracy - episode_half_width)
        end = self.position(accuracy + episode_half_width)
        low, high = accuracy - half_width, accuracy + half_width
        return Bar(
            mean=self.position(accuracy),
            episodes=(start, round(end - start, 2)),
            recordings=(self.position(low), self.position(high)),
        )


def _logit(accuracy: float) -> float:
    """Return log(a / (1 - a)), with a held between 0.0005 and 0.9995."""
    inside = min(0.9995, max(0.0005, accuracy))
    return math.log(inside / (1 - inside))


@dataclass(frozen=True)
class Column:
    """One column of a column chart; it ends at the chart's bottom.

    Attributes:
        x: left edge, percent of the width.
        y: upper edge, percent of the height from the top.
        width: percent of the width.
    """

    x: float
    y: float
    width: float


def episode_histogram(accuracies: Sequence[float]) -> list[Column]:
    """Return the non-empty bins of a histogram of accuracies, of twenty bins from 0 to 1."""
    counts = [0] * _BINS
    for accuracy in accuracies:
        counts[min(_BINS - 1, int(accuracy * _BINS + 1e-9))] += 1
    pitch = 100 / _BINS
    return [
        Column(pitch * i + 0.4, round(100 - 100 * count / max(counts), 1), 0.84 * pitch)
        for i, count in enumerate(counts)
        if count
    ]


def class_columns(accuracies: Sequence[float]) -> list[Column]:
    """Return one column per class, side by side in the order of `accuracies`."""
    pitch = 100 / max(1, len(accuracies))
    return [
        Column(round((i + 0.1) * pitch, 2), round(100 - 100 * accuracy, 1), round(0.8 * pitch, 2))
        for i, accuracy in enumerate(accuracies)
    ]


# --- accuracy against operations -----------------------------------------------------------------

_PLOT_TOP, _PLOT_BOTTOM = 12.0, 272.0  # of the plot's area, in pixels
_PLOT_SIDE = 3.0  # room at either side of the outermost decades, percent of the width
_NARROW = 340.0  # width in pixels at which no label may lie on another
_LETTER, _LINE = 7.0, 15.0  # width of a letter and height of a line of a label, in pixels
_MAX_LABEL = 24  # letters
_MAX_TICKS = 6  # of an axis


@dataclass(frozen=True)
class Dot:
    """One entry of a plot of accuracy against operations.

    Attributes:
        x: operations, percent of the width.
        y: accuracy, pixels from the top.
        episodes: upper and lower end of the 95 % interval over episodes of these recordings,
            pixels from the top.
        recordings: the same over fresh recordings and episodes.
        spiking: whether it has accumulations, as spiking networks do.
        label: the method's name, cut to a length that fits.
        label_y: base line of the label, pixels from the top.
        side: where the label is, "right" or "left" of the dot.
        text: the entry in words.
    """

    x: float
    y: float
    episodes: tuple[float, float]
    recordings: tuple[float, float]
    spiking: bool
    label: str
    label_y: float
    side: str
    text: str


@dataclass(frozen=True)
class OperationsPlot:
    """Accuracy of a table's entries against the operations that one sample needs.

    Attributes:
        height: of the plot's area in pixels; the labels of the lower axis are below.
        decades: (label, position in percent of the width) of the marks of the logarithmic axis.
        accuracies: (label, pixels from the top) of the marks of the other axis, which is logistic.
        dots: the entries, most operations first.
        missing: number of entries that do not say how many operations they need, or need none.
    """

    height: float
    decades: list[tuple[str, float]]
    accuracies: list[tuple[str, float]]
    dots: list[Dot]
    missing: int


def operations_plot(table: Table) -> OperationsPlot | None:
    """Return the plot of a table; None if fewer than two entries say what they need."""
    entries = [row.entry for row in table.rows]
    needed = {entry.id: operations(entry.costs) or 0 for entry in entries}
    shown = sorted((e for e in entries if needed[e.id] > 0), key=lambda e: -needed[e.id])
    if len(shown) < 2:
        return None
    logs = [math.log10(needed[entry.id]) for entry in shown]
    first, last = math.floor(min(logs)), math.ceil(max(logs) + 1e-9)

    def x_of(log: float) -> float:
        return round(_PLOT_SIDE + (100 - 2 * _PLOT_SIDE) * (log - first) / (last - first), 2)

    ends = [_logit(end) for entry in shown for interval in _intervals(entry) for end in interval]
    scale = AccuracyScale(min(ends) - 3 * _LOGIT_MARGIN, max(ends) + _LOGIT_MARGIN, table.chance)

    def y_of(accuracy: float) -> float:
        share = scale.position(accuracy) / 100
        return round(_PLOT_BOTTOM - share * (_PLOT_BOTTOM - _PLOT_TOP), 1)

    points = [(x_of(log), y_of(entry.accuracy)) for log, entry in zip(logs, shown, strict=True)]
    labels = _place_labels(points, [entry.name for entry in shown])
    every = -(-(last - first) // _MAX_TICKS)
    return OperationsPlot(
        height=_PLOT_BOTTOM,
        decades=[(power_of_ten(power), x_of(power)) for power in range(first, last + 1, every)],
        accuracies=[(f"{100 * mark:g}", y_of(mark)) for mark, _ in scale.ticks()],
        dots=[
            _dot(entry, needed[entry.id], point, label, y_of)
            for entry, point, label in zip(shown, points, labels, strict=True)
        ],
        missing=len(entries) - len(shown),
    )


def _intervals(entry: Entry) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the intervals of an accuracy over episodes and over recordings, within 0 to 1."""
    episodes, recordings = (
        (max(0.0, entry.accuracy - half), min(1.0, entry.accuracy + half))
        for half in (entry.report["episode_ci95"], entry.report["ci95"])
    )
    return episodes, recordings


def _dot(
    entry: Entry,
    needed: float,
    point: tuple[float, float],
    label: tuple[str, float, str],
    y_of: Callable[[float], float],
) -> Dot:
    over_episodes, over_recordings = _intervals(entry)
    name, label_y, side = label
    return Dot(
        x=point[0],
        y=point[1],
        episodes=(y_of(over_episodes[1]), y_of(over_episodes[0])),
        recordings=(y_of(over_recordings[1]), y_of(over_recordings[0])),
        spiking=bool(entry.costs.get("effective_acs")),
        label=name,
        label_y=label_y,
        side=side,
        text=f"{entry.name}: {100 * entry.accuracy:.1f} % with {amount(needed)} operations",
    )


def _place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str]
) -> list[tuple[str, float, str]]:
    """Return (label, base line, side) of each point; labels lie on no other label or dot.

    Where that is impossible, the label takes the place with the smallest overlap.
    """
    taken = [
        (x * _NARROW / 100 - 6, y - 6, x * _NARROW / 100 + 6, y + 6) for x, y in points
    ]  # left, top, right, bottom
    placed: dict[int, tuple[str, float, str]] = {}
    for number in sorted(range(len(points)), key=lambda i: points[i][1]):  # from the top
        (x, y), full_name = points[number], names[number]
        name = full_name if len(full_name) <= _MAX_LABEL else f"{full_name[: _MAX_LABEL - 1]}…"
        center, width = x * _NARROW / 100, len(name) * _LETTER

        def cost(
            place: tuple[str, float], center: float = center, width: float = width, y: float = y
        ) -> float:
            side, line = place
            left = center + 9 if side == "right" else center - 9 - width
            box = (left, line - 11, left + width, line + 4)
            outside = max(0.0, -left) + max(0.0, left + width - _NARROW)
            beyond = max(0.0, -box[1]) + max(0.0, box[3] - _PLOT_BOTTOM)
            overlap = sum(_overlap(box, other) for other in taken)
            return overlap + 1000 * (outside + beyond) + abs(line - 4 - y) / 10

        places = [
            (side, y + 4 + shift * _LINE / 2)
            for shift in range(-8, 9)
            for side in ("right", "left")
        ]
        side, line = min(places, key=cost)
        left = center + 9 if side == "right" else center - 9 - width
        taken.append((left, line - 11, left + width, line + 4))
        placed[number] = name, round(line, 1), side
    return [placed[number] for number in range(len(points))]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the area that two boxes (left, top, right, bottom) share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
