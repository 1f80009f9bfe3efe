"""Which recordings an episode consists of: drawing by number, and whether an archive has enough.

Episode i is a pure function of (fingerprint, split, pairing, classes, ways, shots, queries, seed,
i): the same for any number of workers, any rank, any start, any platform. A sample is a tuple of
archive indices here, one per side. Reading events and making tensors is left to
`metaevents.datasets` and `metaevents.episodes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import perm, prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from metaevents.arguments import whole_number
from metaevents.errors import UsageError
from metaevents.rng import Draws, Streams

if TYPE_CHECKING:
    from metaevents.datasets import ComposedDataset

STREAM_VERSION = 1

MAX_SEED = (1 << 64) - 1
"""The largest seed of a stream of episodes."""

MAX_EPISODES = (1 << 63) - 1
"""The largest number of episodes, and of anything in an episode; a Python length holds no more."""

Sample: TypeAlias = tuple[int, ...]
"""Archive indices of a composed sample's recordings, one per side, left to right."""


@dataclass(frozen=True)
class Draw:
    """What an episode consists of, before any event is read.

    Attributes:
        classes: Class names; the position is the label.
        support: Support samples, class by class.
        support_y: Their labels.
        query: Query samples, in random order.
        query_y: Their labels.
    """

    classes: tuple[str, ...]
    support: tuple[Sample, ...]
    support_y: tuple[int, ...]
    query: tuple[Sample, ...]
    query_y: tuple[int, ...]


class EpisodeSampler:
    """Draws the episodes of one dataset, by number.

    With pairing "all", a recording of a class is in the support or in the query, on whichever side,
    and at most once per side. No sample has one recording twice. Support and query lie at least
    `dataset.min_gap` file numbers apart. With pairing "published", the keys of a class are distinct
    and nothing else is guaranteed.

    Args:
        dataset: The split.
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class.
        seed: Selects the stream of episodes, from 0 to 2^64 - 1.

    Raises:
        UsageError: A number is no whole number or below 1, there are more ways than classes, or a
            class has too few recordings; the message has the numbers and what would fit.

    Example:
        draw = EpisodeSampler(dataset, ways=5, shots=1, queries=15, seed=0)(index)
    """

    def __init__(
        self, dataset: ComposedDataset, ways: int, shots: int, queries: int, seed: int
    ) -> None:
        ways, shots, queries = _whole_numbers(ways, shots, queries)
        seed = whole_number("seed", seed, least=0, most=MAX_SEED)
        capacity = _capacity(dataset)
        if problem := _find_problem(dataset, capacity, ways, shots, queries):
            raise UsageError(problem)
        self.dataset, self.seed = dataset, seed
        self.ways, self.shots, self.queries = ways, shots, queries
        self._draw_class: Callable[[str, Draws], tuple[list[Sample], list[Sample]]]
        if isinstance(capacity, _RecordingCapacity):
            self._parts = capacity.parts(shots, queries)
            self._draw_class = self._draw_all
        else:
            self._draw_class = self._draw_published
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
        """Draw episode `index`, from 0."""
        draws = self._streams(whole_number("index", index, least=0, most=MAX_EPISODES))
        classes = tuple(draws.choose(self.dataset.classes, self.ways))
        support: list[Sample] = []
        query: list[Sample] = []
        for name in classes:
            class_support, class_query = self._draw_class(name, draws)
            support += class_support
            query += class_query
        order = draws.choose(range(len(query)), len(query))
        return Draw(
            classes=classes,
            support=tuple(support),
            support_y=tuple(i // self.shots for i in range(len(support))),
            query=tuple(query[i] for i in order),
            query_y=tuple(i // self.queries for i in order),
        )

    @staticmethod
    def problem(dataset: ComposedDataset, ways: int, shots: int, queries: int) -> str | None:
        """Return why a dataset cannot serve such episodes.

        Args:
            dataset: The split.
            ways: Classes per episode.
            shots: Support samples per class.
            queries: Query samples per class.

        Returns:
            The message that the constructor would raise, or None if the episodes fit.

        Raises:
            UsageError: A number is no whole number.
        """
        ways, shots, queries = _whole_numbers(ways, shots, queries)
        return _find_problem(dataset, _capacity(dataset), ways, shots, queries)

    @staticmethod
    def fits(dataset: ComposedDataset, ways: int, shots: int, queries: int) -> bool:
        """Return whether a dataset has the classes and recordings for such episodes.

        Args:
            dataset: The split.
            ways: Classes per episode.
            shots: Support samples per class.
            queries: Query samples per class.
        """
        return EpisodeSampler.problem(dataset, ways, shots, queries) is None

    @staticmethod
    def max_queries(dataset: ComposedDataset, ways: int, shots: int, at_most: int) -> int:
        """Return the largest number of queries per class that a dataset can serve.

        Args:
            dataset: The split.
            ways: Classes per episode.
            shots: Support samples per class.
            at_most: Upper limit of the result.

        Returns:
            A number in 1 ... at_most, or 0 if not even one query per class fits.

        Raises:
            UsageError: A number is no whole number.
        """
        ways, shots, at_most = (
            whole_number(name, value, most=MAX_EPISODES)
            for name, value in (("ways", ways), ("shots", shots), ("at_most", at_most))
        )
        if at_most < 1 or _argument_problem(dataset, ways, shots, 1):
            return 0
        return _max_queries(_capacity(dataset), shots, at_most)

    def _draw_published(self, name: str, draws: Draws) -> tuple[list[Sample], list[Sample]]:
        """Draw support and query of a class with pairing "published"."""
        samples = published_samples(self.dataset, name, draws, self.shots + self.queries)
        return samples[: self.shots], samples[self.shots :]

    def _draw_all(self, name: str, draws: Draws) -> tuple[list[Sample], list[Sample]]:
        """Draw support and query of a class with pairing "all".

        The recordings of each label are divided into some for the support and some for the query,
        and each side draws from its part.
        """
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


class _KeyCapacity:
    """How many samples per class pairing "published" can serve: its keys, if no label is empty."""

    def __init__(self, dataset: ComposedDataset) -> None:
        self.dataset = dataset
        self.keys = dataset.rules.published.keys if dataset.rules.published else 0
        self.empty = [label for label in dataset.labels if not len(dataset.pool(label))]

    def fits(self, shots: int, queries: int) -> bool:
        return not self.empty and shots + queries <= self.keys

    def problem(self, shots: int, queries: int) -> str | None:
        """Return why the numbers do not fit, or None if they do."""
        if shots + queries > self.keys:
            return (
                f"shots={shots} and queries={queries} need {shots + queries} keys per class, "
                f"published pairing has {self.keys}; give at most that together"
            )
        if self.empty:
            return (
                f"{self.dataset.archive.path} has no recordings of {', '.join(self.empty)} for the "
                f"{self.dataset.split} split; build it from more recordings"
            )
        return None


class _RecordingCapacity:
    """How many samples per class pairing "all" can serve with the recordings of every label."""

    def __init__(self, dataset: ComposedDataset) -> None:
        self.dataset = dataset
        self.pools = {label: _Pool(dataset, label) for label in dataset.labels}
        self.sides = {name: sides_of_labels(labels) for name, labels in dataset.components.items()}

    def parts(
        self, shots: int, queries: int
    ) -> dict[str, list[tuple[list[int], _Pool, tuple[int, int]]]]:
        """Return for every class its labels: their sides, pool, and sizes of support and query.

        The numbers must fit.
        """
        return {
            name: [
                (
                    places,
                    self.pools[label],
                    self.pools[label].sizes(shots, queries, len(places)) or (0, 0),
                )
                for label, places in sides.items()
            ]
            for name, sides in self.sides.items()
        }

    def fits(self, shots: int, queries: int) -> bool:
        return all(self._class_fits(sides, shots, queries) for sides in self.sides.values())

    def _class_fits(self, sides: Mapping[str, Sequence[int]], shots: int, queries: int) -> bool:
        return all(
            self.pools[label].sizes(shots, queries, len(places)) is not None
            for label, places in sides.items()
        )

    def problem(self, shots: int, queries: int) -> str | None:
        """Return why the numbers do not fit, and which would, or None if they do."""
        short = [
            name
            for name, sides in self.sides.items()
            if not self._class_fits(sides, shots, queries)
        ]
        if not short:
            return None
        dataset = self.dataset
        name = min(short, key=lambda name: min(dataset.n_recordings(name)))
        available = dataset.n_recordings(name)
        needed = [0] * len(available)
        for sides in self.sides[name].values():
            for side in sides:
                needed[side] = max(len(sides), shots) + max(len(sides), queries)
        gap = (
            f", support and query {dataset.min_gap} file numbers apart"
            if dataset.min_gap > 1
            else ""
        )
        single = len(needed) == 1
        numbers = f"{needed[0]} recordings" if single else f"{tuple(needed)} recordings per side"
        return (
            f"shots={shots} and queries={queries} need {numbers}{gap}, "
            f"but {len(short)} of {len(dataset)} classes of the {dataset.split} split have fewer: "
            f"{name!r} has {available[0] if single else available}; {self._advice(shots, queries)}"
        )

    def _advice(self, shots: int, queries: int) -> str:
        """Return which numbers would fit where the given ones do not."""
        if fitting := _max_queries(self, shots, queries):
            return f"queries={fitting} would fit with shots={shots}"
        if self.fits(1, 1):
            return "give fewer shots"
        return "shots=1 and queries=1 do not fit either; build the archive from more recordings"


def _capacity(dataset: ComposedDataset) -> _KeyCapacity | _RecordingCapacity:
    """Return what limits the episodes of a dataset."""
    published = dataset.pairing == "published"
    return _KeyCapacity(dataset) if published else _RecordingCapacity(dataset)


def _whole_numbers(ways: Any, shots: Any, queries: Any) -> tuple[int, int, int]:
    """Return the numbers of an episode as Python integers; their bounds are checked later."""
    return (
        whole_number("ways", ways, most=MAX_EPISODES),
        whole_number("shots", shots, most=MAX_EPISODES),
        whole_number("queries", queries, most=MAX_EPISODES),
    )


def _argument_problem(dataset: ComposedDataset, ways: int, shots: int, queries: int) -> str | None:
    """Return which number does not fit whatever the recordings are, or None."""
    for name, value in {"ways": ways, "shots": shots, "queries": queries}.items():
        if value < 1:
            return f"{name}={value}; give at least 1"
    if ways > len(dataset):
        return (
            f"ways={ways}, but the {dataset.split} split of {dataset.name} has {len(dataset)} "
            "classes; give at most that"
        )
    return None


def _find_problem(
    dataset: ComposedDataset,
    capacity: _KeyCapacity | _RecordingCapacity,
    ways: int,
    shots: int,
    queries: int,
) -> str | None:
    """Return why such episodes do not fit, or None if they do."""
    return _argument_problem(dataset, ways, shots, queries) or capacity.problem(shots, queries)


def _max_queries(capacity: _KeyCapacity | _RecordingCapacity, shots: int, at_most: int) -> int:
    """Return the largest fitting number of queries up to `at_most`, or 0, by bisection."""
    fitting, unfitting = 0, at_most + 1
    while unfitting - fitting > 1:  # whatever fits with some queries fits with fewer
        middle = (fitting + unfitting) // 2
        if capacity.fits(shots, middle):
            fitting = middle
        else:
            unfitting = middle
    return fitting


_MAX_ROW_TRIES = 4096  # at random, to find a side whose recordings differ from those of other sides

_TRIES = 32  # at random, to find a support that leaves enough recordings for the query


class _Pool:
    """The recordings of one label, and how they are divided between support and query of a class.

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

    def divide(self, n_support: int, n_query: int, draws: Draws) -> tuple[list[int], list[int]]:
        """Draw recordings for support and query of a class, disjoint and `gap` numbers apart.

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
        at_worst = len(self.numbers) - n_support * (2 * self.gap - 1)
        return at_worst >= n_query or bool(self._starts(n_support, n_query))

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


def _rows(pool: Sequence[int], k: int, sides: int, draws: Draws) -> list[list[int]]:
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


def sides_of_labels(components: Sequence[str]) -> dict[str, list[int]]:
    """Return the sides on which each label of a class stands.

    Args:
        components: Component labels of a class, left to right.

    Returns:
        Label -> its sides, in order of first appearance: ("5", "3", "5") gives
        {"5": [0, 2], "3": [1]}.
    """
    sides: dict[str, list[int]] = {}
    for side, label in enumerate(components):
        sides.setdefault(label, []).append(side)
    return sides


def published_samples(dataset: ComposedDataset, name: str, draws: Draws, k: int) -> list[Sample]:
    """Draw samples of a class by the published loader's index arithmetic, with distinct keys.

    left = key // divisor and right = key % divisor index the recordings of the two labels; an index
    beyond the recordings wraps.

    Args:
        dataset: The split.
        name: Class name.
        draws: The random stream.
        k: Number of samples.

    Returns:
        `k` samples.

    Raises:
        UsageError: The dataset has no published pairing, or `k` exceeds the number of keys.
    """
    published = dataset.rules.published
    if published is None:
        raise UsageError(f"{dataset.name} has no published pairing; use pairing='all'")
    if k > published.keys:
        raise UsageError(
            f"published pairing has {published.keys} keys per class, got {k} samples per class; "
            "give at most that"
        )
    pools = [dataset.pool(label) for label in dataset.components[name]]
    divisor = published.divisor[dataset.split]
    samples: list[Sample] = []
    for key in draws.choose(range(published.keys), k):
        left, right = divmod(key, divisor)
        samples.append((int(pools[0][left % len(pools[0])]), int(pools[1][right % len(pools[1])])))
    return samples


def different_samples(dataset: ComposedDataset, name: str, draws: Draws, k: int) -> list[Sample]:
    """Draw different samples of a class, uniform over those without a recording on two sides.

    Args:
        dataset: The split.
        name: Class name.
        draws: The random stream.
        k: Number of samples.

    Returns:
        `k` samples.

    Raises:
        UsageError: The class has fewer different samples.
    """
    pools = [dataset.pool(label) for label in dataset.components[name]]
    sides = sides_of_labels(dataset.components[name])
    available = prod(perm(len(dataset.pool(label)), len(places)) for label, places in sides.items())
    if k > available:
        raise UsageError(
            f"class {name!r} has {available} different samples, got pairs_per_class={k}; "
            "give at most that"
        )
    sizes = [len(pool) for pool in pools]
    total = prod(sizes)
    chosen: dict[Sample, None] = {}
    while len(chosen) < k:
        if total < 1 << 63:
            places: Sequence[Any] = np.unravel_index(draws.below(total), sizes)
        else:  # more samples than one draw can tell apart
            places = [draws.below(size) for size in sizes]
        sample = tuple(int(pool[place]) for pool, place in zip(pools, places, strict=True))
        if len(set(sample)) == len(sample):
            chosen[sample] = None
    return list(chosen)
