"""All methods against the tables of a dataset: the matrix at the top of the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metaevents.benchmark.leaderboard import Row, Table
from metaevents.benchmark.wording import is_trivial


@dataclass(frozen=True)
class Method:
    """A method with its entries in several tables.

    Attributes:
        name: its name.
        trivial: whether it is a trivial baseline.
        rows: for each table its row; None where it has no entry.
    """

    name: str
    trivial: bool
    rows: tuple[Row | None, ...]


def overview(tables: Sequence[Table]) -> list[Method]:
    """Return the methods of some tables: in the order of the first table, trivial baselines last.

    Entries belong to one method if they have the same name and authors. Of several entries of one
    method in a table, the overview has the one that comes first there.

    Args:
        tables: the tables.
    """
    found: dict[tuple[str, ...], list[Row | None]] = {}
    for place, table in enumerate(tables):
        for row in table.rows:
            key = (row.entry.name, *row.entry.method["authors"])
            rows = found.setdefault(key, [None] * len(tables))
            rows[place] = rows[place] or row
    methods = [
        Method(name, any(is_trivial(row.entry) for row in rows if row), tuple(rows))
        for (name, *_), rows in found.items()
    ]
    return sorted(methods, key=lambda method: (method.trivial, _places(method, tables)))


def _places(method: Method, tables: Sequence[Table]) -> list[int]:
    """Return a method's place in each table, from 0; the number of rows where it has no entry."""
    return [
        len(table.rows) if row is None else table.rows.index(row)
        for row, table in zip(method.rows, tables, strict=True)
    ]
