"""Rows: the flat results of an experiment, one per number or point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
"""Column name -> value: text, a number or None."""


def rounded(value: Any) -> Any:
    """Return a float with four significant digits, and any other value unchanged.

    Differences below 1e-15, such as that of 0.1 + 0.2 and 0.3, become 0.
    """
    return float(f"{round(value, 15):.4g}") if isinstance(value, float) else value


def group_name(row: Row, columns: Sequence[str]) -> str:
    """Return a row's values in some columns, joined by commas; without those that are missing."""
    values = [row.get(column) for column in columns]
    return ", ".join(str(value) for value in values if value is not None)


def grouped(rows: Iterable[Row], columns: Sequence[str]) -> dict[str, list[Row]]:
    """Return the rows by their values in some columns, in order of appearance.

    Args:
        rows: The rows.
        columns: Columns by which to group.

    Returns:
        `group_name` -> rows.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(group_name(row, columns), []).append(row)
    return groups
