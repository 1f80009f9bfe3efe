"""Curves, bars and histograms over rows: what the experiments' figures are made of.

They draw into the matplotlib figure that they are given; files and labels are for `report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from baselines.experiments.accuracy import Row

_MARKERS = "osD^vPX*"


def curves(
    axes: Axes, rows: Iterable[Row], x: str, y: str, by: Sequence[str], error: str | None = "ci95"
) -> None:
    """A line for each combination of the columns `by`: column `y` over column `x`, with error bars."""
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
        axes.legend(fontsize="small")


def bars(
    axes: Axes,
    rows: Sequence[Row],
    y: str,
    at: Sequence[str],
    by: Sequence[str],
    error: str | None = "ci95",
) -> None:
    """Groups of bars: a group for each combination of the columns `at`, a color for each of `by`; the paper's as marks."""
    places = list(grouped(rows, at))
    series = grouped(rows, by)
    width = 0.8 / max(1, len(series))
    for number, (name, line) in enumerate(series.items()):
        offset = (number - (len(series) - 1) / 2) * width
        axes.bar(
            [places.index(_name(row, at)) + offset for row in line],
            [row[y] for row in line],
            width,
            yerr=[row[error] for row in line] if error else None,
            capsize=2,
            label=name,
        )
        paper = [
            (places.index(_name(row, at)) + offset, row["published"])
            for row in line
            if "published" in row
        ]
        if paper:
            axes.plot(
                *zip(*paper, strict=True),
                "k_",
                label=None if number else "the paper",
                markersize=12,
            )
    axes.set_xticks(range(len(places)), places, rotation=30, ha="right", fontsize="small")
    axes.set_ylabel(y)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize="small", title=", ".join(by), loc="lower right", framealpha=0.9)


def grouped(rows: Iterable[Row], by: Sequence[str]) -> dict[str, list[Row]]:
    """Rows by the values of some columns, in order of appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(_name(row, by), []).append(row)
    return found


def _name(row: Row, columns: Sequence[str]) -> str:
    values: list[Any] = [row.get(column) for column in columns]
    return ", ".join(str(value) for value in values if value is not None)
