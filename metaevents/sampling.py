"""Which recordings an episode consists of: drawing by number, and whether an archive has enough.

Episode i is a pure function of (fingerprint, split, pairing, classes, division, ways, shots,
queries, seed, i): the same for any number of workers, any rank, any start, any platform. A
sample is a tuple of archive indices here, one per side. Reading events and making tensors is left
to `metaevents.datasets` and `metaevents.episodes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import perm, prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from metaevents.arguments import one_of, shown, whole_number
from metaevents.errors import UsageError
from metaevents.recording_pools import RecordingPool, Turns, different_rows, share
from metaevents.rng import Draws, Streams

if TYPE_CHECKING:
    from metaevents.datasets import ComposedDataset

STREAM_VERSION = 1

MAX_SEED = (1 << 64) - 1
"""The largest seed of a stream of episodes."""

MAX_EPISODES = (1 << 63) - 1
"""The largest number of episodes, and of anything in an episode; a Python length holds no more."""

DIVISIONS = ("class", "episode")
"""How recordings are divided between support and query: by each class, or once per episode."""

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

    These guarantees hold within each class. With division "class", a query can share a recording
    with the support of another class. With division "episode" it cannot: the recordings of each
    label are divided once per episode, and all its classes draw from the two parts in turn. With a
    gap, it lies between the two parts too. As many recordings are needed as with "class".

    With pairing "published" and division "episode", the left recordings stay what the published
    arithmetic makes them: the first ones of a label, in support and query alike. All other
    recordings of a label are divided, and a sample's key is one of those that lead to the
    recording drawn for its right side. So no right recording of a query is in the support, on
    either side, and no query equals a support sample. No gap is kept.

    Args:
        dataset: The split.
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class.
        seed: Selects the stream of episodes, from 0 to 2^64 - 1.
        division: "class" divides the recordings of a label between support and query for each
            class anew, "episode" once per episode.

    Raises:
        UsageError: A number is no whole number or below 1, there are more ways than classes, or a
            class has too few recordings; the message has the numbers and what would fit. Or there
            is no such division.

    Example:
        draw = EpisodeSampler(dataset, ways=5, shots=1, queries=15, seed=0)(index)
    """

    def __init__(
        self,
        dataset: ComposedDataset,
        ways: int,
        shots: int,
        queries: int,
        seed: int,
        division: str = "class",
    ) -> None:
        ways, shots, queries = _whole_numbers(ways, shots, queries)
        seed = whole_number("seed", seed, least=0, most=MAX_SEED)
        capacity = _capacity(dataset, division)
        if problem := _find_problem(dataset, capacity, ways, shots, queries):
            raise UsageError(problem)
        self.dataset, self.seed, self.division = dataset, seed, division
        self.ways, self.shots, self.queries = ways, shots, queries
        self._support_y = tuple(i // shots for i in range(ways * shots))
        self._query_y = tuple(i // queries for i in range(ways * queries))
        self._draw_classes: Callable[[tuple[str, ...], Draws], Iterable[_Halves]]
        if isinstance(capacity, _RightCapacity):
            self._right = capacity
            self._draw_classes = self._draw_published_divided
        elif isinstance(capacity, _KeyCapacity):
            self._draw_classes = self._draw_published
        elif division == "episode":
            self._pools, self._sides = capacity.pools, capacity.sides
            self._draw_classes = self._draw_all_divided
        else:
            self._parts = capacity.parts(shots, queries)
            self._draw_classes = self._draw_all
        key: dict[str, Any] = {
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
        if division != "class":  # keys without it are those of the first protocol versions
            key["division"] = division
        self._streams = Streams(key)

    def __call__(self, index: int) -> Draw:
        """Draw episode `index`, from 0."""
        draws = self._streams(whole_number("index", index, least=0, most=MAX_EPISODES))
        classes = tuple(draws.choose(self.dataset.classes, self.ways))
        support: list[Sample] = []
        query: list[Sample] = []
        for class_support, class_query in self._draw_classes(classes, draws):
            support += class_support
            query += class_query
        order = draws.choose(range(len(query)), len(query))
        return Draw(
            classes=classes,
            support=tuple(support),
            support_y=self._support_y,
            query=tuple(map(query.__getitem__, order)),
            query_y=tuple(map(self._query_y.__getitem__, order)),
        )

    @staticmethod
    def problem(
        dataset: ComposedDataset, ways: int, shots: int, queries: int, division: str = "class"
    ) -> str | None:
        """Return why a dataset cannot serve such episodes.

        Args:
            dataset: The split.
            ways: Classes per episode.
            shots: Support samples per class.
            queries: Query samples per class.
            division: As for the constructor.

        Returns:
            The message that the constructor would raise, or None if the episodes fit.

        Raises:
            UsageError: A number is no whole number, or there is no such division.
        """
        ways, shots, queries = _whole_numbers(ways, shots, queries)
        return _find_problem(dataset, _capacity(dataset, division), ways, shots, queries)

    @staticmethod
    def fits(
        dataset: ComposedDataset, ways: int, shots: int, queries: int, division: str = "class"
    ) -> bool:
        """Return whether a dataset has the classes and recordings for such episodes.

        Args:
            dataset: The split.
            ways: Classes per episode.
            shots: Support samples per class.
            queries: Query samples per class.
            division: As for the constructor.
        """
        return EpisodeSampler.problem(dataset, ways, shots, queries, division) is None

    @staticmethod
    def max_queries(
        dataset: ComposedDataset, ways: int, shots: int, at_most: int, division: str = "class"
    ) -> int:
        """Return the largest number of queries per class that a dataset can serve.

        Args:
            dataset: The split.
            ways: Classes per episode.
            shots: Support samples per class.
            at_most: Upper limit of the result.
            division: As for the constructor.

        Returns:
            A number in 1 ... at_most, or 0 if not even one query per class fits.

        Raises:
            UsageError: A number is no whole number, or there is no such division.
        """
        ways, shots, at_most = (
            whole_number(name, value, most=MAX_EPISODES)
            for name, value in (("ways", ways), ("shots", shots), ("at_most", at_most))
        )
        if at_most < 1 or _argument_problem(dataset, ways, shots, 1):
            return 0
        return _max_queries(_capacity(dataset, division), shots, at_most)

    def _draw_published(self, classes: tuple[str, ...], draws: Draws) -> Iterator[_Halves]:
        """Draw support and query of each class with pairing "published"."""
        for name in classes:
            samples = published_samples(self.dataset, name, draws, self.shots + self.queries)
            yield samples[: self.shots], samples[self.shots :]

    def _draw_all(self, classes: tuple[str, ...], draws: Draws) -> Iterator[_Halves]:
        """Draw support and query of each class with pairing "all"."""
        for name in classes:
            yield self._draw_class(name, draws)

    def _draw_all_divided(self, classes: tuple[str, ...], draws: Draws) -> Iterator[_Halves]:
        """Draw support and query of each class with pairing "all" and division "episode"."""
        sides: dict[str, list[int]] = {}
        for name in classes:
            for label, places in self._sides[name].items():
                sides.setdefault(label, []).append(len(places))
        parts = {}
        for label, numbers in sides.items():
            pool = self._pools[label]
            sizes = pool.shares(self.shots, self.queries, numbers)
            parts[label] = tuple(map(Turns, pool.divide(*sizes, draws)))
        for name in classes:
            halves = []
            for half, k in enumerate((self.shots, self.queries)):
                chosen: list[list[int]] = [[]] * len(self.dataset.components[name])
                for label, places in self._sides[name].items():
                    rows = parts[label][half].take(k, len(places), draws)
                    for side, row in zip(places, rows, strict=True):
                        chosen[side] = row
                halves.append(list(zip(*chosen, strict=True)))
            yield halves[0], halves[1]

    def _draw_published_divided(self, classes: tuple[str, ...], draws: Draws) -> Iterator[_Halves]:
        """Draw support and query of each class with pairing "published", division "episode"."""
        rights = [self.dataset.components[name][1] for name in classes]
        parts = {}
        for label in dict.fromkeys(rights):
            recordings, uses = self._right.recordings(label), rights.count(label)
            n_support, n_query = share(
                len(recordings),
                (self.shots, self.queries),
                (uses * self.shots, uses * self.queries),
            )
            chosen = draws.choose(recordings, n_support + n_query)
            parts[label] = Turns(chosen[:n_support]), Turns(chosen[n_support:])
        for name in classes:
            left, right = self.dataset.components[name]
            halves = []
            for part, k in zip(parts[right], (self.shots, self.queries), strict=True):
                (places,) = part.take(k, 1, draws)
                halves.append([self._right.sample(left, right, place, draws) for place in places])
            yield halves[0], halves[1]

    def _draw_class(self, name: str, draws: Draws) -> _Halves:
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
                sides, different_rows(for_support, self.shots, len(sides), draws), strict=True
            ):
                support[side] = chosen
            for side, chosen in zip(
                sides, different_rows(for_query, self.queries, len(sides), draws), strict=True
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


class _RightCapacity:
    """How many samples per class pairing "published" can serve with division "episode".

    The recordings that the arithmetic puts on the left side are those of the least places. They
    are not divided and never stand on the right. All recordings here are given by their place.
    """

    def __init__(self, dataset: ComposedDataset) -> None:
        self.dataset = dataset
        self.keys = _KeyCapacity(dataset)
        published = dataset.rules.published
        self.n_keys = published.keys if published else 0
        self.divisor = published.divisor[dataset.split] if published else 1
        lefts = {key // self.divisor for key in range(self.n_keys)}
        labels = {components[1] for components in dataset.components.values()}
        self._keys: dict[str, dict[int, list[int]]] = {}  # label -> place on the right -> keys
        for label in dataset.labels:
            n = len(dataset.pool(label))
            if label not in labels or not n:
                continue
            on_left = {left % n for left in lefts}
            by_place: dict[int, list[int]] = {}
            for key in range(self.n_keys):
                if (place := key % self.divisor % n) not in on_left:
                    by_place.setdefault(place, []).append(key)
            self._keys[label] = dict(sorted(by_place.items()))

    def recordings(self, label: str) -> list[int]:
        """Return the places of the recordings of a label that can stand on the right."""
        return list(self._keys[label])

    def sample(self, left: str, right: str, place: int, draws: Draws) -> Sample:
        """Return a sample whose key is one of those that lead to a right recording.

        Args:
            left: Label of the left side.
            right: Label of the right side.
            place: Place of the right recording.
            draws: The random stream, of which one word is used.
        """
        keys = self._keys[right][place]
        key = keys[draws.below(len(keys))]
        pools = self.dataset.pool(left), self.dataset.pool(right)
        return int(pools[0][key // self.divisor % len(pools[0])]), int(pools[1][place])

    def fits(self, shots: int, queries: int) -> bool:
        return not self.keys.empty and all(
            shots + queries <= len(places) for places in self._keys.values()
        )

    def problem(self, shots: int, queries: int) -> str | None:
        """Return why the numbers do not fit, and which would, or None if they do."""
        if self.keys.empty:
            return self.keys.problem(1, 1)
        if self.fits(shots, queries):
            return None
        label = min(self._keys, key=lambda each: len(self._keys[each]))
        most = len(self._keys[label])
        advice = (
            f"queries={most - shots} would fit with shots={shots}"
            if most > shots
            else "give fewer shots"
            if most > 1
            else "no shots and queries fit; build the archive from more recordings"
        )
        return (
            f"shots={shots} and queries={queries} need {shots + queries} recordings of a label "
            f"besides those that published pairing puts on the left, but {label!r} has {most} in "
            f"the {self.dataset.split} split; {advice}"
        )


class _RecordingCapacity:
    """How many samples per class pairing "all" can serve with the recordings of every label."""

    def __init__(self, dataset: ComposedDataset) -> None:
        self.dataset = dataset
        self.pools = {label: RecordingPool(dataset, label) for label in dataset.labels}
        self.sides = {name: sides_of_labels(labels) for name, labels in dataset.components.items()}

    def parts(
        self, shots: int, queries: int
    ) -> dict[str, list[tuple[list[int], RecordingPool, tuple[int, int]]]]:
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
        return "no shots and queries fit; build the archive from more recordings"


_Capacity: TypeAlias = _KeyCapacity | _RightCapacity | _RecordingCapacity

_Halves: TypeAlias = tuple[list[Sample], list[Sample]]
"""Support and query of a class."""


def _capacity(dataset: ComposedDataset, division: str) -> _Capacity:
    """Return what limits the episodes of a dataset.

    Pairing "all" needs as many recordings with either division.
    """
    division = one_of("division", division, DIVISIONS)
    if dataset.pairing != "published":
        return _RecordingCapacity(dataset)
    return _RightCapacity(dataset) if division == "episode" else _KeyCapacity(dataset)


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
            return f"{name}={shown(value)}; give at least 1"
    if ways > len(dataset):
        return (
            f"ways={ways}, but the {dataset.split} split of {dataset.name} has {len(dataset)} "
            "classes; give at most that"
        )
    return None


def _find_problem(
    dataset: ComposedDataset,
    capacity: _Capacity,
    ways: int,
    shots: int,
    queries: int,
) -> str | None:
    """Return why such episodes do not fit, or None if they do."""
    return _argument_problem(dataset, ways, shots, queries) or capacity.problem(shots, queries)


def _max_queries(capacity: _Capacity, shots: int, at_most: int) -> int:
    """Return the largest fitting number of queries up to `at_most`, or 0, by bisection."""
    fitting, unfitting = 0, at_most + 1
    while unfitting - fitting > 1:  # whatever fits with some queries fits with fewer
        middle = (fitting + unfitting) // 2
        if capacity.fits(shots, middle):
            fitting = middle
        else:
            unfitting = middle
    return fitting


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


def _filled_pools(dataset: ComposedDataset, name: str) -> list[np.ndarray]:
    """Return the recordings of a class on each side, if every side has some."""
    pools = [dataset.pool(label) for label in dataset.components[name]]
    for label, pool in zip(dataset.components[name], pools, strict=True):
        if not len(pool):
            raise UsageError(
                f"{dataset.archive.path} has no recording of {label!r} for the {dataset.split} "
                f"split of {dataset.name}; build it from more recordings"
            )
    return pools


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
        UsageError: The dataset has no published pairing or no recording of the class, or `k`
            exceeds the number of keys.
    """
    published = dataset.rules.published
    if published is None:
        raise UsageError(f"{dataset.name} has no published pairing; use pairing='all'")
    if k > published.keys:
        raise UsageError(
            f"published pairing has {published.keys} keys per class, got {k} samples per class; "
            "give at most that"
        )
    pools = _filled_pools(dataset, name)
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
    pools = _filled_pools(dataset, name)
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
