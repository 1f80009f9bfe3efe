"""The recordings of one label, and how they are divided between support and query.

`metaevents.sampling` draws episodes with it: each class divides the recordings of its labels, or
each episode does so once for all its classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from metaevents.rng import Draws

if TYPE_CHECKING:
    from metaevents.datasets import ComposedDataset

_TRIES = 32  # at random, to find a support that leaves enough recordings for the query

_MAX_ROW_TRIES = 4096  # at random, to find a side whose recordings differ from those of other sides


class RecordingPool:
    """The recordings of one label in a split.

    Attributes:
        indices: Archive indices, in order of id.
        gap: Least distance in file numbers between support and query.
        numbers: [n] int64, the file numbers in ascending order.
        by_number: Archive indices in order of file number.
    """

    def __init__(self, dataset: ComposedDataset, label: str) -> None:
        self.indices: list[int] = dataset.pool(label).tolist()
        self.gap = dataset.min_gap
        order = np.argsort(dataset.archive.table["number"][dataset.pool(label)], kind="stable")
        self.numbers: np.ndarray = dataset.archive.table["number"][dataset.pool(label)][
            order
        ].astype(np.int64)
        self.by_number = [self.indices[i] for i in order]
        self._known_room: dict[int, np.ndarray] = {}
        self._known_starts: dict[tuple[int, int], list[int]] = {}

    def sizes(self, shots: int, queries: int, sides: int) -> tuple[int, int] | None:
        """Return how many recordings the support and the query of a class draw from.

        Each of the `sides` sides with this label takes different recordings. If they are scarce,
        the sides share them, down to as many as a side has samples.

        Returns:
            The two numbers, or None if there are too few recordings.
        """
        n, least_support, least_query = len(self.indices), max(sides, shots), max(sides, queries)
        if self.gap > 1:
            wanted = ((sides * shots, sides * queries), (least_support, least_query))
            return next((sizes for sizes in wanted if self._leaves_room(*sizes)), None)
        if n < least_support + least_query:
            return None
        support = min(
            max(n * shots // (shots + queries), least_support), sides * shots, n - least_query
        )
        return support, min(n - support, sides * queries)

    def shares(self, shots: int, queries: int, sides: Sequence[int]) -> tuple[int, int]:
        """Return how many recordings the support and the query of an episode draw from.

        Each gets at least what one class needs; see `share`. With a gap, both get the same multiple
        of what one side needs, the largest that leaves the gap whatever is drawn.

        Args:
            shots: Support samples per class.
            queries: Query samples per class.
            sides: Number of sides with this label, for each class of the episode that has it. The
                numbers must fit: `sizes` is not None for any of them.

        Returns:
            The two numbers.
        """
        uses, widest = sum(sides), max(sides)
        support, query = max(widest, shots), max(widest, queries)
        if self.gap > 1:
            for each in range(uses, 0, -1):
                wanted = max(support, each * shots), max(query, each * queries)
                if self._always_leaves_room(*wanted):
                    return wanted
            return support, query
        return share(len(self.indices), (support, query), (uses * shots, uses * queries))

    def divide(self, n_support: int, n_query: int, draws: Draws) -> tuple[list[int], list[int]]:
        """Draw recordings for support and query, disjoint and `gap` numbers apart.

        Returns:
            Archive indices of `n_support` and of `n_query` recordings, in random order.
        """
        if self.gap <= 1:
            chosen = draws.choose(self.indices, n_support + n_query)
            return chosen[:n_support], chosen[n_support:]
        for attempt in range(_TRIES + 1):
            if attempt < _TRIES:
                support = draws.choose(range(len(self.numbers)), n_support)
            else:  # so few recordings that the support must be neighbors, to leave the query room
                starts = self._starts(n_support, n_query)
                first = starts[draws.below(len(starts))]
                support = draws.choose(range(first, first + n_support), n_support)
            free = self._free(support)
            if len(free) >= n_query:
                break
        query = draws.choose(free, n_query)
        return [self.by_number[i] for i in support], [self.by_number[i] for i in query]

    def _free(self, support: Sequence[int]) -> list[int]:
        """Return the places at least `gap` numbers away from every recording of the support."""
        near = np.zeros(len(self.numbers) + 1, np.int64)
        taken = self.numbers[list(support)]
        np.add.at(near, np.searchsorted(self.numbers, taken - self.gap, side="right"), 1)
        np.add.at(near, np.searchsorted(self.numbers, taken + self.gap, side="left"), -1)
        free: list[int] = np.flatnonzero(np.cumsum(near[:-1]) == 0).tolist()
        return free

    def _leaves_room(self, n_support: int, n_query: int) -> bool:
        """Return whether a support of that size can leave enough recordings for the query.

        Either every support does, or at least one of neighbors in order of number.
        """
        return self._always_leaves_room(n_support, n_query) or bool(
            self._starts(n_support, n_query)
        )

    def _always_leaves_room(self, n_support: int, n_query: int) -> bool:
        """Return whether every support of that size leaves enough recordings for the query."""
        return len(self.numbers) - n_support * (2 * self.gap - 1) >= n_query

    def _starts(self, n_support: int, n_query: int) -> list[int]:
        """Return the places at which `n_support` neighbors leave room for `n_query` others."""
        key = n_support, n_query
        if key not in self._known_starts:
            room = self._room_beside_neighbors(n_support)
            self._known_starts[key] = np.flatnonzero(room >= n_query).tolist()
        return self._known_starts[key]

    def _room_beside_neighbors(self, n_support: int) -> np.ndarray:
        """Return for every place how many recordings are free beside `n_support` neighbors there.

        Returns:
            [n - n_support + 1] int64; the neighbors begin at the place, in order of number.
        """
        if n_support not in self._known_room:
            n = len(self.numbers)
            # Recording i excludes the places from lower[i] to upper[i] - 1. Both bounds ascend, so
            # the places that it excludes first, after recordings before it, are an interval too.
            lower = np.searchsorted(self.numbers, self.numbers - self.gap, side="right")
            upper = np.searchsorted(self.numbers, self.numbers + self.gap, side="left")
            more = upper[1:] - np.maximum(lower[1:], upper[:-1])
            total = np.concatenate([[0], np.cumsum(more)])  # [n]
            first = np.arange(max(n - n_support + 1, 0))
            last = first + min(n_support, n) - 1
            excluded = upper[first] - lower[first] + total[last] - total[first]
            self._known_room[n_support] = n - excluded
        return self._known_room[n_support]


def share(n: int, least: tuple[int, int], most: tuple[int, int]) -> tuple[int, int]:
    """Return how many of `n` recordings go to the support and how many to the query.

    What the least numbers leave is shared. Neither gets more than it can use. Where both could use
    more than there is, each gets half of the rest, the support the odd one.

    Args:
        n: Number of recordings, at least the sum of `least`.
        least: The least numbers of support and query.
        most: How many each can use.
    """
    rest = n - sum(least)
    more_support, more_query = most[0] - least[0], most[1] - least[1]
    support = min(more_support, max((rest + 1) // 2, rest - more_query))
    return least[0] + support, least[1] + min(more_query, rest - support)


class Turns:
    """Recordings that the classes of an episode take in turn, as evenly as possible.

    Args:
        recordings: The recordings, in random order.
    """

    def __init__(self, recordings: Sequence[int]) -> None:
        self._recordings, self._next = recordings, 0

    def take(self, k: int, sides: int, draws: Draws) -> list[list[int]]:
        """Return `k` different recordings per side, such that no sample has one twice.

        Args:
            k: Number of samples.
            sides: Sides of the class with this label.
            draws: The random stream.

        Returns:
            [sides, k] recordings, in random order.
        """
        n = len(self._recordings)
        size = min(n, sides * k)
        taken = [self._recordings[(self._next + i) % n] for i in range(size)]
        self._next = (self._next + size) % n
        return different_rows(draws.choose(taken, size), k, sides, draws)


def different_rows(pool: Sequence[int], k: int, sides: int, draws: Draws) -> list[list[int]]:
    """Draw `k` different recordings per side, such that no sample has one recording twice.

    Args:
        pool: The recordings that the sides share, in random order.
        k: Samples.
        sides: Sides with one label.
        draws: The random stream.

    Returns:
        [sides, k] recordings.
    """
    rows = [list(pool[:k])]
    for _ in range(_MAX_ROW_TRIES):
        if len(rows) == sides:
            return rows
        row = draws.choose(pool, k)
        if all(a != b for other in rows for a, b in zip(row, other, strict=True)):
            rows.append(row)
    if len(rows) == sides:
        return rows
    # So many sides share so few recordings that a random row hardly ever differs from all others:
    # every side reads the pool in its order, from a place of its own.
    n = len(pool)
    return [[pool[(start + i) % n] for i in range(k)] for start in draws.choose(range(n), sides)]
