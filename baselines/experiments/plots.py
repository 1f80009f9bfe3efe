"""Curves and bars of rows, drawn into a given matplotlib figure.

Titles and files are left to `baselines.experiments.report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from baselines.experiments.rows import Row, group_name, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vPX*"


def curves(
    axes: Axes, rows: Iterable[Row], x: str, y: str, by: Sequence[str], error: str | None = "ci95"
) -> None:
    """Draw a line for each combination of the columns `by`.

    Args:
        axes: Where to draw.
        rows: The points.
        x: Column of the abscissa.
        y: Column of the ordinate.
        by: Columns that tell the lines apart; they label the legend.
        error: Column of half the length of the error bars; None draws none.
    """
    for number, (name, line) in enumerate(grouped(rows, by).items()):
        axes.errorbar(
            [row[x] for row in line],
            [row[y] for row in line],
            yerr=[row[error] for row in line] if error else None,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            capsize=2,
            label=name,
        )
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if by:
        axes.legend(fontsize="small", title=", ".join(by))


def bars(
    axes: Axes,
    rows: Sequence[Row],
    y: str,
    at: Sequence[str],
    by: Sequence[str],
    error: str | None = "ci95",
) -> None:
    """Draw groups of bars, with the column "published", where a row has it, as a mark.

    Args:
        axes: Where to draw.
        rows: The bars.
        y: Column of the height.
        at: Columns that tell the groups apart; they label the abscissa.
        by: Columns that tell the bars of a group apart; they label the legend.
        error: Column of half the length of the error bars; None draws none.
    """
    places = list(grouped(rows, at))
    series = grouped(rows, by)
    width = 0.8 / max(1, len(series))
    for number, (name, line) in enumerate(series.items()):
        offset = (number - (len(series) - 1) / 2) * width
        axes.bar(
            [places.index(group_name(row, at)) + offset for row in line],
            [row[y] for row in line],
            width,
            yerr=[row[error] for row in line] if error else None,
            capsize=2,
            label=name,
        )
        published = [
            (places.index(group_name(row, at)) + offset, row["published"])
            for row in line
            if "published" in row
        ]
        if published:
            axes.plot(
                *zip(*published, strict=True),
                "k_",
                label=None if number else "the paper",
                markersize=12,
            )
    axes.set_xticks(range(len(places)), places, rotation=30, ha="right", fontsize="small")
    axes.set_ylabel(y)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize="small", title=", ".join(by), loc="lower right", framealpha=0.9)
