"""N-way K-shot episodes: the sampler, the loader, and the episode that a learner gets.

Episode i is a pure function of (fingerprint, split, pairing, classes, ways, shots, queries, seed, i): the same for any number
of workers, any rank, any start, any platform. How a learner is scored on episodes is left to `metaevents.benchmark`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import perm, prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from metaevents.errors import UsageError
from metaevents.rng import Draws, Streams

if TYPE_CHECKING:
    from metaevents.datasets import ComposedDataset

STREAM_VERSION = 1

Sample: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """What an episode consists of, before any event is read.

    Attributes:
        classes: class names; the position is the label.
        support, query: archive indices of every sample's recordings, one a side.
        support_y, query_y: labels.
    """

    classes: tuple[str, ...]
    support: tuple[Sample, ...]
    support_y: tuple[int, ...]
    query: tuple[Sample, ...]
    query_y: tuple[int, ...]


class EpisodeSampler:
    """Draws episodes of one dataset, by number.

    With pairing "all", a recording of a class is in the support or in the query, on whichever side, and at most once on a side;
    no sample has one recording twice; support and query lie at least `dataset.min_gap` file numbers apart.

    Args:
        dataset: the split.
        ways, shots, queries: classes an episode; support and query samples a class.
        seed: names the stream.

    Raises:
        UsageError: a number below 1, more ways than classes, or too few recordings, with the numbers and what would fit.
    """

    def __init__(
        self, dataset: ComposedDataset, ways: int, shots: int, queries: int, seed: int
    ) -> None:
        for name, value in {"ways": ways, "shots": shots, "queries": queries}.items():
            if value < 1:
                raise UsageError(f"{name}={value}; give at least 1")
        if ways > len(dataset):
            raise UsageError(
                f"ways={ways}, but the {dataset.split} split of {dataset.name} has {len(dataset)} classes; give at most that"
            )
        self.dataset, self.ways, self.shots, self.queries = dataset, ways, shots, queries
        self._draw_class: Callable[[str, Draws], tuple[list[Sample], list[Sample]]]
        if dataset.pairing == "published":
            self._check_published()
            self._draw_class = self._draw_published
        else:
            self._pools = {label: _Pool(dataset, label) for label in dataset.labels}
            self._sides = {
                name: alike(components) for name, components in dataset.components.items()
            }
            self._check_numbers()
            self._parts = {
                name: [
                    (
                        places,
                        self._pools[label],
                        self._pools[label].sizes(shots, queries, len(places)) or (0, 0),
                    )
                    for label, places in sides.items()
                ]
                for name, sides in self._sides.items()
            }
            self._draw_class = self._draw_all
        self._streams = Streams(
            {
                "stream": STREAM_VERSION,
                "fingerprint": dataset.fingerprint,
                "split": dataset.split,
                "pairing": dataset.pairing,
                "classes": dataset.class_split,
                "ways": ways,
                "shots": shots,
                "queries": queries,
                "seed": seed,
            }
        )

    def __call__(self, index: int) -> Draw:
        """Episode `index`, from 0."""
        draws = self._streams(index)
        classes = tuple(draws.choose(self.dataset.classes, self.ways))
        support: list[Sample] = []
        query: list[Sample] = []
        for name in classes:
            own_support, own_query = self._draw_class(name, draws)
            support += own_support
            query += own_query
        order = draws.choose(range(len(query)), len(query))
        return Draw(
            classes=classes,
            support=tuple(support),
            support_y=tuple(i // self.shots for i in range(len(support))),
            query=tuple(query[i] for i in order),
            query_y=tuple(i // self.queries for i in order),
        )

    # Pairing "published": distinct keys, nothing else.

    def _draw_published(self, name: str, draws: Draws) -> tuple[list[Sample], list[Sample]]:
        samples = published_samples(self.dataset, name, draws, self.shots + self.queries)
        return samples[: self.shots], samples[self.shots :]

    def _check_published(self) -> None:
        published = self.dataset.rules.published
        if published is not None and self.shots + self.queries > published.keys:
            raise UsageError(
                f"shots={self.shots} and queries={self.queries} need {self.shots + self.queries} keys a class, published "
                f"pairing has {published.keys}; give at most that together"
            )
        empty = [label for label in self.dataset.labels if not len(self.dataset.pool(label))]
        if empty:
            raise UsageError(
                f"{self.dataset.archive.path} has no recordings of {', '.join(empty)} for the {self.dataset.split} split; "
                "build it from more recordings"
            )

    # Pairing "all": for each label of a class its recordings are divided into some for the support and some for the query,
    # and each side draws from its part.

    def _draw_all(self, name: str, draws: Draws) -> tuple[list[Sample], list[Sample]]:
        support: list[list[int]] = [[]] * len(self.dataset.components[name])
        query = support.copy()
        for sides, pool, sizes in self._parts[name]:
            for_support, for_query = pool.divide(*sizes, draws)
            if len(sides) == 1:
                support[sides[0]], query[sides[0]] = for_support, for_query
                continue
            for side, chosen in zip(
                sides, _rows(for_support, self.shots, len(sides), draws), strict=True
            ):
                support[side] = chosen
            for side, chosen in zip(
                sides, _rows(for_query, self.queries, len(sides), draws), strict=True
            ):
                query[side] = chosen
        return list(zip(*support, strict=True)), list(zip(*query, strict=True))

    def _check_numbers(self) -> None:
        """Refuse numbers that some class cannot serve, saying which would fit."""
        short = [
            name
            for name, sides in self._sides.items()
            if not self._fits(sides, self.shots, self.queries)
        ]
        if not short:
            return
        dataset = self.dataset
        name = min(short, key=lambda name: min(dataset.n_recordings(name)))
        have = dataset.n_recordings(name)
        need = [0] * len(have)
        for sides in self._sides[name].values():
            for side in sides:
                need[side] = max(len(sides), self.shots) + max(len(sides), self.queries)
        fits = [
            queries for queries in range(self.queries, 0, -1) if self._all_fit(self.shots, queries)
        ][:1]
        gap = (
            f", support and query {dataset.min_gap} file numbers apart"
            if dataset.min_gap > 1
            else ""
        )
        advice = (
            f"queries={fits[0]} would fit with shots={self.shots}"
            if fits
            else "shots=1 and queries=1 do not fit either; build the archive from more recordings"
            if not self._all_fit(1, 1)
            else "give fewer shots"
        )
        raise UsageError(
            f"shots={self.shots} and queries={self.queries} need {tuple(need)} recordings a side{gap}, but {len(short)} of "
            f"{len(dataset)} classes of the {dataset.split} split have fewer: {name!r} has {have}; {advice}"
        )

    def _all_fit(self, shots: int, queries: int) -> bool:
        return all(self._fits(sides, shots, queries) for sides in self._sides.values())

    def _fits(self, sides: Mapping[str, Sequence[int]], shots: int, queries: int) -> bool:
        return all(
            self._pools[label].fits(shots, queries, len(places)) for label, places in sides.items()
        )


_TRIES = 32


class _Pool:
    """The recordings of one label, and how they are divided between support and query of a class."""

    def __init__(self, dataset: ComposedDataset, label: str) -> None:
        self.indices: list[int] = dataset.pool(label).tolist()
        self.gap = dataset.min_gap
        order = np.argsort(dataset.archive.table["number"][dataset.pool(label)], kind="stable")
        self.numbers: np.ndarray = dataset.archive.table["number"][dataset.pool(label)][
            order
        ].astype(np.int64)
        self.by_number = [self.indices[i] for i in order]
        self._known_starts: dict[tuple[int, int], list[int]] = {}

    def fits(self, shots: int, queries: int, sides: int) -> bool:
        return self.sizes(shots, queries, sides) is not None

    def sizes(self, shots: int, queries: int, sides: int) -> tuple[int, int] | None:
        """How many recordings support and query of a class draw from, or None where there are too few.

        Each of `sides` alike sides wants recordings of its own; where they are scarce the sides share them, down to as many as
        a side has samples.
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

    def divide(self, n_support: int, n_query: int, draws: Draws) -> tuple[list[int], list[int]]:
        """Recordings for the support and for the query of a class, disjoint and `gap` numbers apart."""
        if self.gap <= 1:
            chosen = draws.choose(self.indices, n_support + n_query)
            return chosen[:n_support], chosen[n_support:]
        for attempt in range(_TRIES + 1):
            if attempt < _TRIES:
                support = draws.choose(range(len(self.numbers)), n_support)
            else:  # recordings are so few that the support must be neighbors, for the query to have room
                starts = self._starts(n_support, n_query)
                first = starts[draws.below(len(starts))]
                support = draws.choose(range(first, first + n_support), n_support)
            free = self._free(support)
            if len(free) >= n_query:
                break
        query = draws.choose(free, n_query)
        return [self.by_number[i] for i in support], [self.by_number[i] for i in query]

    def _free(self, support: Sequence[int]) -> list[int]:
        """Places of the recordings at least `gap` numbers away from every recording of the support."""
        near = np.zeros(len(self.numbers) + 1, np.int64)
        taken = self.numbers[list(support)]
        np.add.at(near, np.searchsorted(self.numbers, taken - self.gap, side="right"), 1)
        np.add.at(near, np.searchsorted(self.numbers, taken + self.gap, side="left"), -1)
        free: list[int] = np.flatnonzero(np.cumsum(near[:-1]) == 0).tolist()
        return free

    def _leaves_room(self, n_support: int, n_query: int) -> bool:
        """Whether some support of that size leaves enough for the query: any does, or at least one of neighbors."""
        at_worst = len(self.numbers) - n_support * (2 * self.gap - 1)
        return at_worst >= n_query or bool(self._starts(n_support, n_query))

    def _starts(self, n_support: int, n_query: int) -> list[int]:
        """Places at which `n_support` neighbors in order of number leave room for `n_query` others."""
        key = n_support, n_query
        if key not in self._known_starts:
            places = range(len(self.numbers) - n_support + 1)
            self._known_starts[key] = [
                first
                for first in places
                if len(self._free(range(first, first + n_support))) >= n_query
            ]
        return self._known_starts[key]


def _rows(pool: Sequence[int], k: int, sides: int, draws: Draws) -> list[list[int]]:
    """For each of `sides` alike sides `k` different recordings of a pool, such that no sample has one recording twice."""
    rows = [list(pool[:k])]  # a pool comes in random order
    while len(rows) < sides:
        row = draws.choose(pool, k)
        if all(a != b for other in rows for a, b in zip(row, other, strict=True)):
            rows.append(row)
    return rows


def alike(components: Sequence[str]) -> dict[str, list[int]]:
    """Label -> the sides that it stands on."""
    sides: dict[str, list[int]] = {}
    for side, label in enumerate(components):
        sides.setdefault(label, []).append(side)
    return sides


def published_samples(
    dataset: ComposedDataset, name: str, draws: Draws, k: int
) -> list[tuple[int, ...]]:
    """`k` samples of a class by the published loader's index arithmetic, keys distinct; an index beyond the pool wraps."""
    published = dataset.rules.published
    if published is None:
        raise UsageError(f"{dataset.name} has no published pairing; use pairing='all'")
    if k > published.keys:
        raise UsageError(
            f"published pairing has {published.keys} keys a class, {k} samples asked for; ask for fewer"
        )
    pools = [dataset.pool(label) for label in dataset.components[name]]
    divisor = published.divisor[dataset.split]
    samples: list[tuple[int, ...]] = []
    for key in draws.choose(range(published.keys), k):
        left, right = divmod(key, divisor)
        samples.append((int(pools[0][left % len(pools[0])]), int(pools[1][right % len(pools[1])])))
    return samples


def different_samples(
    dataset: ComposedDataset, name: str, draws: Draws, k: int
) -> list[tuple[int, ...]]:
    """`k` different samples of a class, uniform over all in which no recording stands on two sides."""
    pools = [dataset.pool(label) for label in dataset.components[name]]
    sides = alike(dataset.components[name])
    available = prod(perm(len(dataset.pool(label)), len(places)) for label, places in sides.items())
    if k > available:
        raise UsageError(
            f"class {name!r} has {available} different samples, got pairs_per_class={k}; give at most that"
        )
    total = prod(len(pool) for pool in pools)
    chosen: dict[tuple[int, ...], None] = {}
    while len(chosen) < k:
        places = np.unravel_index(draws.below(total), [len(pool) for pool in pools])
        sample = tuple(int(pool[place]) for pool, place in zip(pools, places, strict=True))
        if len(set(sample)) == len(sample):
            chosen[sample] = None
    return list(chosen)
