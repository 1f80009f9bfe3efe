"""The evaluation protocols: on which episodes a learner is scored.

The table of protocols is `metaevents/data/protocols.json`. A protocol is bound to a dataset, a
pairing and a class split; `episode_list` draws its episodes. A dataset of the user's own has the
protocols `<N>way-<K>shot` and `sample-<N>way-<K>shot` for all N and K, with the split, the queries,
the episodes and the seed of the table's 5-way 1-shot protocols.

A name stands for the newest version of a protocol. With `-v1`, `-v2` ... behind it, it stands for
that version: `sample-5way-1shot-v1`. Version 2 of the `sample-` protocols divides the recordings of
a label between support and query once per episode (`metaevents.sampling.EpisodeSampler`, division
"episode"), because a sample of the recordings is so small that the classes of an episode share many
of them.

The published digests of the episode lists are left to `metaevents.benchmark.episode_digests`, and
running a learner is left to `metaevents.benchmark.evaluation`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, cast

import numpy as np

from metaevents.arguments import shown, whole_number
from metaevents.component_deals import DEALS
from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode
from metaevents.errors import UsageError
from metaevents.files import progress_bar
from metaevents.sampling import MAX_SEED, EpisodeSampler
from metaevents.specs import get_spec, specs

DATA = files("metaevents") / "data"
"""Folder of the package's data files."""

MAX_EPISODES = 1_000_000
"""Largest number of episodes that an evaluation can have."""

_MAX_QUERIES = 200_000_000  # of all episodes; an evaluation holds about 30 bytes for each
_MAX_NUMBER = 10**15  # of the schema of entries
_MAX_NAME = 300

_VERSIONED = re.compile(r"(.+)-v([1-9][0-9]{0,8})")  # a name with a version

_OWN_NAME = re.compile(r"(sample-)?([1-9][0-9]{0,3})way-([1-9][0-9]{0,3})shot")

_ALL_DEALS = "deals"  # in a row of the table, stands for all of them

_CHOICES = ("dataset", "pairing", "classes")  # a row of the table lists the allowed values
_NUMBERS = ("ways", "shots", "queries", "episodes", "seed")


@dataclass(frozen=True)
class Protocol:
    """A protocol bound to a dataset, or a modified copy of one; see `deviations`.

    Attributes:
        name: Such as "5way-1shot".
        version: Version of the protocol, from 1.
        dataset: Name of the dataset.
        pairing: "all" or "published".
        classes: Name of the class split.
        split: Split that the episodes are drawn from: "test" in all protocols.
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class.
        episodes: Number of episodes.
        seed: Seed of the stream of episodes.
    """

    name: str
    version: int
    dataset: str
    pairing: str
    classes: str
    split: str
    ways: int
    shots: int
    queries: int
    episodes: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can write them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Protocol:
        """Return the protocol with the given fields.

        Args:
            fields: All fields by name, as `to_dict` returns them.

        Returns:
            The protocol, whose name is not checked; see `deviations`.

        Raises:
            UsageError: A field is missing, unknown, of a wrong type or out of range.
        """
        types = {name: int if kind == "int" else str for name, kind in cls.__annotations__.items()}
        if not isinstance(fields, Mapping) or set(fields) != set(types):
            names = ", ".join(map(str, fields)) if isinstance(fields, Mapping) else repr(fields)
            raise UsageError(
                f"a protocol has the fields {', '.join(types)}; got {names[:300] or 'none'}"
            )
        for name, kind in types.items():
            value = fields[name]
            if kind is int:
                least, most = (0, MAX_SEED) if name == "seed" else (1, _MAX_NUMBER)
                fits = type(value) is int and least <= value <= most
                expected = f"a whole number from {least} to {most}"
            else:
                fits = type(value) is str and len(value) <= _MAX_NAME
                expected = f"a name of at most {_MAX_NAME} characters"
            if not fits:
                text = repr(value) if isinstance(value, (str, float)) else str(value)[:80]
                raise UsageError(f"protocol field {name}={text[:80]}; give {expected}")
        return cls(**fields)

    @property
    def n_queries(self) -> int:
        """Queries per episode."""
        return self.ways * self.queries

    @property
    def division(self) -> str:
        """How recordings are divided between support and query; see `EpisodeSampler`.

        Raises:
            UsageError: There is no protocol of that name and version.
        """
        return str(_row(self.name, self.version, self.dataset)["division"])

    @property
    def versioned_name(self) -> str:
        """The name under which this version is found whatever versions follow.

        It is the name alone for a protocol of one version. Commands that repeat a result give it.

        Raises:
            UsageError: There is no protocol of that name and version.
        """
        versions = _versions(self.name, self.dataset)
        return self.name if len(versions) == 1 else f"{self.name}-v{self.version}"

    def deviations(self) -> list[str]:
        """Compare this with the protocol of the same name and version.

        Returns:
            One text per field that differs; empty if this is the protocol itself.

        Raises:
            UsageError: There is no protocol of that name and version.
        """
        row = _row(self.name, self.version, self.dataset)
        allowed = {field: row[field] for field in _CHOICES} | {
            field: [row[field]] for field in ("split", *_NUMBERS)
        }
        if self.dataset in specs() and self.dataset in row["dataset"]:
            spec = get_spec(self.dataset)
            allowed["pairing"] = _shared(row["pairing"], spec.pairings)
            allowed["classes"] = _shared(row["classes"], spec.class_splits)
        return [
            f"{field}={getattr(self, field)} instead of {' or '.join(map(str, values))}"
            for field, values in allowed.items()
            if getattr(self, field) not in values
        ]

    def check_dataset(self, dataset: ComposedDataset) -> None:
        """Check that a dataset is the one that the episodes are drawn from.

        Args:
            dataset: A dataset with its pairing, class split and split.

        Raises:
            UsageError: It is another one.
        """
        expected = (self.dataset, self.pairing, self.classes, self.split)
        given = (dataset.name, dataset.pairing, dataset.class_split, dataset.split)
        if given != expected:
            raise UsageError(
                f"these episodes are drawn from {', '.join(expected)}, the dataset given is "
                f"{', '.join(given)}; give the dataset that they are drawn from"
            )


@cache
def _rows() -> Mapping[str, Mapping[int, Mapping[str, Any]]]:
    """Return the table's rows by name and version, each with the fields that all rows share."""
    table = json.loads((DATA / "protocols.json").read_text("utf-8"))
    rows: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in table["protocols"]:
        fields = {
            "split": table["split"],
            "seed": table["seed"],
            "dataset": row["datasets"],
            "pairing": row["pairings"],
            "division": row.get("division", "class"),
            "classes": [
                each
                for name in row["classes"]
                for each in (DEALS if name == _ALL_DEALS else (name,))
            ],
        }
        rows.setdefault(row["name"], {})[row["version"]] = {**row, **fields}
    return rows


def names() -> tuple[str, ...]:
    """Return the names of all protocols."""
    return tuple(_rows())


def _row(name: str, version: int | None = None, dataset: str | None = None) -> Mapping[str, Any]:
    """Return a row of the table, of the newest version if none is given.

    Args:
        name: Name of the protocol.
        version: Version of the protocol.
        dataset: The dataset. If it is the user's own, the row is made from the name.

    Raises:
        UsageError: There is no such protocol or version.
    """
    versions = _versions(name, dataset)
    version = max(versions) if version is None else version
    if version not in versions:
        advice = "upgrade metaevents" if version > max(versions) else "give one of them"
        raise UsageError(
            f"protocol {name} in version {version}: this release knows "
            f"{', '.join(map(str, versions))}; {advice}"
        )
    return versions[version]


def split_name(name: str) -> tuple[str, int | None]:
    """Return the name of a protocol and the version behind it.

    Args:
        name: Such as "sample-5way-1shot", or "sample-5way-1shot-v1".

    Returns:
        The name without the version, and the version; None if the name has none.
    """
    match = _VERSIONED.fullmatch(name) if isinstance(name, str) else None
    return (match[1], int(match[2])) if match else (name, None)


def _versions(name: str, dataset: str | None) -> Mapping[int, Mapping[str, Any]]:
    """Return the rows of a protocol by version; see `_row`."""
    own = dataset is not None and dataset not in specs()
    if own and isinstance(name, str) and (match := _OWN_NAME.fullmatch(name)):
        base = _rows()[f"{match[1] or ''}5way-1shot"]
        numbers = {"name": name, "ways": int(match[2]), "shots": int(match[3])}
        bound = {"dataset": [dataset], "pairing": ["all"], "classes": ["published"]}
        versions: Mapping[int, Mapping[str, Any]] = {
            version: {**row, **numbers, **bound} for version, row in base.items()
        }
    else:
        versions = _rows().get(name, {}) if isinstance(name, str) and not own else {}
    if not versions:
        more = ", or <N>way-<K>shot with other numbers" if own else ""
        raise UsageError(
            f"no protocol {str(name)[:80]!r}; choose one of {', '.join(names())}{more}"
        )
    return versions


def newest_version(name: str, dataset: str) -> int:
    """Return the newest version of a protocol.

    Args:
        name: Name of the protocol.
        dataset: Name of the dataset.

    Raises:
        UsageError: There is no such protocol.
    """
    return max(_versions(name, dataset))


def protocols(*, all_versions: bool = False) -> Iterator[Protocol]:
    """Yield every protocol, bound to each of its datasets, class splits and pairings.

    Args:
        all_versions: Whether to yield the older versions too.

    Yields:
        Protocols of the newest version, or of all versions, the oldest first.
    """
    for by_version in _rows().values():
        for row in by_version.values() if all_versions else [by_version[max(by_version)]]:
            for dataset in row["dataset"]:
                spec = get_spec(dataset)
                for classes in _shared(row["classes"], spec.class_splits):
                    for pairing in _shared(row["pairing"], spec.pairings):
                        yield _protocol(row, dataset, pairing, classes, row["split"])


def _shared(names: Sequence[str], existing: Sequence[str]) -> list[str]:
    """Return those names that exist, in order."""
    return [name for name in names if name in existing]


def _protocol(
    row: Mapping[str, Any], dataset: str, pairing: str, classes: str, split: str
) -> Protocol:
    """Return the protocol of a row of the table, bound to a dataset."""
    fields = {field: row[field] for field in ("name", "version", *_NUMBERS)}
    return Protocol(dataset=dataset, pairing=pairing, classes=classes, split=split, **fields)


def bind(
    name: str, dataset: ComposedDataset, episodes: int | None = None, queries: int | None = None
) -> Protocol:
    """Bind a protocol to a dataset.

    Args:
        name: Name of the protocol; its newest version is taken, unless the name says another
            one, as "sample-5way-1shot-v1" does.
        dataset: The split to evaluate on, with its pairing and class split.
        episodes: Another number of episodes than the protocol's.
        queries: Another number of queries per class than the protocol's.

    Returns:
        The protocol; a modified copy if a number is given or the dataset is not one of its own.

    Raises:
        UsageError: There is no such protocol, a number is no whole number of at least 1, or there
            are more than a million episodes.
    """
    if not isinstance(dataset, ComposedDataset):
        raise UsageError(
            f"the dataset is {type(dataset).__name__}, expected the test split of a dataset; give "
            "one such as DoubleNMNIST(root, split='test')"
        )
    plain, version = split_name(name)
    protocol = _protocol(
        _row(plain, version, dataset.name),
        *(dataset.name, dataset.pairing, dataset.class_split, dataset.split),
    )
    changes: dict[str, Any] = {}
    if episodes is not None:
        changes["episodes"] = whole_number("episodes", episodes, least=1)
        if changes["episodes"] > MAX_EPISODES:
            raise UsageError(
                f"episodes={shown(episodes)} is too many; give at most {MAX_EPISODES:,}"
            )
    if queries is not None:
        changes["queries"] = whole_number("queries", queries, least=1)
    return replace(protocol, **changes)


def fit_problem(dataset: ComposedDataset, protocol: Protocol) -> str | None:
    """Return why a dataset cannot serve a protocol's episodes, or None if it can.

    Args:
        dataset: The dataset that the protocol is bound to.
        protocol: The protocol.

    Returns:
        The problem, with the name of the "sample-" protocol if that one fits.
    """
    ways, shots, queries = protocol.ways, protocol.shots, protocol.queries
    problem = EpisodeSampler.problem(dataset, ways, shots, queries, protocol.division)
    if problem is None:
        return None
    smaller = f"sample-{protocol.name}"
    try:
        row = _row(smaller, None, protocol.dataset)
    except UsageError:
        return problem
    if EpisodeSampler.fits(dataset, row["ways"], row["shots"], row["queries"], row["division"]):
        problem += f"; protocol {smaller!r} ({row['queries']} queries per class) fits this archive"
    return problem


def sampler(dataset: ComposedDataset, protocol: Protocol) -> EpisodeSampler:
    """Return the sampler of a protocol's episodes.

    Args:
        dataset: The dataset that the protocol is bound to.
        protocol: The protocol.

    Returns:
        The sampler, which draws an episode by its index.

    Raises:
        UsageError: The archive has too few recordings. The message names the "sample-" protocol
            if that one fits.
    """
    if problem := fit_problem(dataset, protocol):
        raise UsageError(problem)
    ways, shots, queries = protocol.ways, protocol.shots, protocol.queries
    return EpisodeSampler(dataset, ways, shots, queries, protocol.seed, protocol.division)


def index_dtype(n: int) -> type[np.signedinteger[Any]]:
    """Return the type of indices of `n` labels or classes: int16 if that holds them, else int32.

    Args:
        n: Number of labels or classes.
    """
    return np.int16 if n <= 1 << 15 else np.int32


@dataclass(frozen=True)
class EpisodeList:
    """All episodes of a protocol, without their events.

    Attributes:
        labels: [episodes, ways * queries] int16, the true label of every query; int32 if there are
            more than 32,768 ways.
        classes: [episodes, ways] int16, the class of every label, as an index into the dataset's
            classes; int32 if there are more than 32,768 of them.
        queries: [episodes, ways * queries, sides] int32, the archive index of every query's
            recording on each side.
        support: [episodes, ways * shots, sides] int32, the same for the support, class by class.
        digest: Hex SHA-256 over the episodes' digests, in order.
    """

    labels: np.ndarray
    classes: np.ndarray
    queries: np.ndarray
    support: np.ndarray
    digest: str

    @property
    def query_classes(self) -> np.ndarray:
        """[episodes, ways * queries] class of every query, as an index."""
        return np.take_along_axis(self.classes, self.labels.astype(np.int64), axis=1)


def episode_list(
    dataset: ComposedDataset, protocol: Protocol, progress: bool | None = None
) -> EpisodeList:
    """Draw all episodes of a protocol, without reading events.

    Args:
        dataset: The dataset that the protocol is bound to.
        protocol: The protocol.
        progress: True shows a progress bar, False hides it, None shows it on a terminal.

    Returns:
        The episodes, in order.

    Raises:
        UsageError: The dataset is another one or has too few recordings, or there are more than
            200 million queries.
    """
    protocol.check_dataset(dataset)
    draw_episode = sampler(dataset, protocol)
    if protocol.episodes * protocol.n_queries > _MAX_QUERIES:
        raise UsageError(
            f"{protocol.episodes:,} episodes of {protocol.n_queries:,} queries are more than "
            f"{_MAX_QUERIES:,} queries; give fewer episodes or queries"
        )
    class_index = {name: index for index, name in enumerate(dataset.classes)}
    sides = len(dataset.components[dataset.classes[0]])
    labels = np.empty((protocol.episodes, protocol.n_queries), index_dtype(protocol.ways))
    classes = np.empty((protocol.episodes, protocol.ways), index_dtype(len(dataset.classes)))
    queries = np.empty((protocol.episodes, protocol.n_queries, sides), np.int32)
    support = np.empty((protocol.episodes, protocol.ways * protocol.shots, sides), np.int32)
    digest = hashlib.sha256()
    bar = progress_bar(
        "episodes",
        protocol.episodes,
        "ep",
        progress,
        iterable=range(protocol.episodes),
        leave=False,
    )
    for index in bar:
        drawn = draw_episode(index)
        labels[index] = drawn.query_y
        classes[index] = [class_index[name] for name in drawn.classes]
        queries[index], support[index] = drawn.query, drawn.support
        digest.update(
            episode_digest(
                drawn.classes,
                dataset.name_samples(drawn.support),
                drawn.support_y,
                dataset.name_samples(drawn.query),
                drawn.query_y,
            )
        )
    return EpisodeList(labels, classes, queries, support, digest.hexdigest())


def episode_digest(
    classes: tuple[str, ...],
    support_ids: tuple[tuple[str, ...], ...],
    support_y: Sequence[int],
    query_ids: tuple[tuple[str, ...], ...],
    query_y: Sequence[int],
) -> bytes:
    """Return the digest of an episode without events; see `Episode.digest`.

    Args:
        classes: Class names in label order.
        support_ids: Recording ids of each support sample.
        support_y: Labels of the support.
        query_ids: Recording ids of each query.
        query_y: Labels of the queries.
    """
    episode = Episode(
        support_x=None,
        support_y=cast(Any, np.array(support_y)),  # the digest needs only tolist()
        query_x=None,
        query_y=cast(Any, np.array(query_y)),
        classes=classes,
        support_ids=support_ids,
        query_ids=query_ids,
        index=0,
    )
    return bytes.fromhex(episode.digest())
