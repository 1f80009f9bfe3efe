"""Geometry of the leaderboard page's charts: positions in percent of a chart's width and height.

There are three charts: an accuracy with its intervals, on a scale that a whole table shares
(`AccuracyScale`), the spread over episodes (`episode_histogram`), and the accuracies of single
classes (`class_columns`). Drawing is left to the page's templates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
        episodes: start and width of the 95 % confidence interval over episodes.
        recordings: start and end of the 95 % bootstrap interval over recordings.
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
            values += [accuracy - half, accuracy + half, *report["bootstrap95"]]
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

    def bar(self, accuracy: float, half_width: float, recordings: tuple[float, float]) -> Bar:
        """Return the bar of an entry.

        Args:
            accuracy: mean over the episodes.
            half_width: half of the 95 % confidence interval over episodes.
            recordings: lower and upper end of the 95 % bootstrap interval over recordings.
        """
        start, end = self.position(accuracy - half_width), self.position(accuracy + half_width)
        low, high = recordings
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
