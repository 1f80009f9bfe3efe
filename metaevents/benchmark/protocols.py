"""The benchmark's protocols, read from package files: which episodes a learner is scored on, and their digests.

`protocols.json` is the table: dataset x setting x pairing x class split. `episode-digests.json` holds, for known archives, the
digest of each protocol's episode list, so that anybody can tell that two scores are over the same episodes;
`python -m metaevents.benchmark.episode_digests ARCHIVE ...` writes it anew. Running a learner is left to
`metaevents.benchmark.evaluation`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, cast

import numpy as np

from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode
from metaevents.errors import UsageError
from metaevents.sampling import EpisodeSampler

DATA = files("metaevents") / "data"

_CHOICES = ("dataset", "pairing", "classes")  # a row of the table lists which of them it has

_NUMBERS = ("ways", "shots", "queries", "episodes", "seed")


@dataclass(frozen=True)
class Protocol:
    """One protocol, or a run that goes by its name and may differ from it.

    Attributes:
        name, version: "5way-1shot", 1.
        dataset, pairing, classes, split: what the episodes are drawn from.
        ways, shots, queries: classes an episode; support and query samples a class.
        episodes, seed: length and name of the stream.
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
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Protocol:
        """The protocol that a file states.

        Raises:
            UsageError: a field is missing, unknown, of a wrong type or below what it can be.
        """
        kinds = {name: int if kind == "int" else str for name, kind in cls.__annotations__.items()}
        if set(fields) != set(kinds):
            raise UsageError(
                f"a protocol has the fields {', '.join(kinds)}; got {', '.join(map(str, fields)) or 'none'}"
            )
        for name, kind in kinds.items():
            value = fields[name]
            if type(value) is not kind or (isinstance(value, int) and value < (name != "seed")):
                raise UsageError(
                    f"protocol field {name}={value!r} is no {'whole number in range' if kind is int else 'name'}"
                )
        return cls(**fields)

    @property
    def n_queries(self) -> int:
        """Queries an episode."""
        return self.ways * self.queries

    def deviations(self) -> list[str]:
        """What makes this run something else than the protocol whose name it bears; empty if it is the protocol.

        Raises:
            UsageError: no protocol of that name and version.
        """
        row = _row(self.name, self.version)
        expected = {field: row[field] for field in _CHOICES} | {
            field: [row[field]] for field in ("split", *_NUMBERS)
        }
        return [
            f"{field}={getattr(self, field)} instead of {' or '.join(map(str, fitting))}"
            for field, fitting in expected.items()
            if getattr(self, field) not in fitting
        ]

    def check_dataset(self, dataset: ComposedDataset) -> None:
        """Refuse a dataset that this run's episodes are not drawn from."""
        have = (dataset.name, dataset.pairing, dataset.class_split, dataset.split)
        want = (self.dataset, self.pairing, self.classes, self.split)
        if have != want:
            raise UsageError(
                f"these episodes are drawn from {', '.join(want)}, the dataset given is {', '.join(have)}"
            )


@cache
def _rows() -> Mapping[str, Mapping[int, Mapping[str, Any]]]:
    """Name -> version -> row of the table, with what all rows share."""
    table = json.loads((DATA / "protocols.json").read_text("utf-8"))
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in table["protocols"]:
        shared = {
            "split": table["split"],
            "seed": table["seed"],
            "dataset": row["datasets"],
            "pairing": row["pairings"],
        }
        found.setdefault(row["name"], {})[row["version"]] = {**row, **shared}
    return found


def names() -> tuple[str, ...]:
    """The names of all protocols."""
    return tuple(_rows())


def _row(name: str, version: int | None = None) -> Mapping[str, Any]:
    versions = _rows().get(name)
    if versions is None:
        raise UsageError(f"no protocol {name!r}; choose one of {', '.join(names())}")
    chosen = max(versions) if version is None else version
    if chosen not in versions:
        raise UsageError(
            f"protocol {name} in version {chosen}: this release knows {', '.join(map(str, versions))}; upgrade metaevents"
        )
    return versions[chosen]


def protocols() -> Iterator[Protocol]:
    """Every protocol of the benchmark in its newest version, bound to its dataset, pairing and class split."""
    for name in names():
        row = _row(name)
        for dataset in row["dataset"]:
            for classes in row["classes"]:
                for pairing in row["pairing"]:
                    yield _protocol(row, dataset, pairing, classes, row["split"])


def _protocol(
    row: Mapping[str, Any], dataset: str, pairing: str, classes: str, split: str
) -> Protocol:
    fixed = {field: row[field] for field in ("name", "version", *_NUMBERS)}
    return Protocol(dataset=dataset, pairing=pairing, classes=classes, split=split, **fixed)


def bind(
    name: str, dataset: ComposedDataset, episodes: int | None = None, queries: int | None = None
) -> Protocol:
    """The run of a protocol on a dataset, with fewer (or more) episodes and queries where they are given.

    Raises:
        UsageError: no such protocol, or a number below 1.
    """
    run = _protocol(_row(name), dataset.name, dataset.pairing, dataset.class_split, dataset.split)
    given: dict[str, Any] = {"episodes": episodes, "queries": queries}
    for field, value in list(given.items()):
        if value is None:
            del given[field]
        elif value < 1:
            raise UsageError(f"{field}={value}; give at least 1")
    return replace(run, **given)


def sampler(dataset: ComposedDataset, run: Protocol) -> EpisodeSampler:
    """The episodes of a run, by number.

    Raises:
        UsageError: the archive has too few recordings for them; where the sample's protocols fit it, the message says so.
    """
    try:
        return EpisodeSampler(dataset, run.ways, run.shots, run.queries, run.seed)
    except UsageError as error:
        smaller = f"sample-{run.name}"
        if smaller not in names():
            raise
        row = _row(smaller)
        try:
            EpisodeSampler(dataset, row["ways"], row["shots"], row["queries"], row["seed"])
        except UsageError:
            raise error from None
        raise UsageError(
            f"{error}; protocol {smaller!r} ({row['queries']} queries a class) fits this archive"
        ) from None


@dataclass(frozen=True)
class EpisodeList:
    """All episodes of a run, without their events.

    Attributes:
        labels: the true label of every query, [episodes, ways * queries].
        classes: the class of every label, as an index into the dataset's classes, [episodes, ways].
        queries: the archive index of every query's recordings, [episodes, ways * queries, sides].
        digest: hex SHA-256 over the episodes' digests, in order.
    """

    labels: np.ndarray
    classes: np.ndarray
    queries: np.ndarray
    digest: str


def episode_list(
    dataset: ComposedDataset, run: Protocol, progress: bool | None = None
) -> EpisodeList:
    """Draw all episodes of a run.

    Raises:
        UsageError: the dataset is another one, or has too few recordings.
    """
    from tqdm import trange

    run.check_dataset(dataset)
    draw = sampler(dataset, run)
    place = {name: index for index, name in enumerate(dataset.classes)}
    labels = np.empty((run.episodes, run.n_queries), np.int16)
    classes = np.empty((run.episodes, run.ways), np.int16)
    queries = np.empty(
        (run.episodes, run.n_queries, len(dataset.components[dataset.classes[0]])), np.int32
    )
    digest = hashlib.sha256()
    hidden = None if progress is None else not progress
    for index in trange(run.episodes, desc="episodes", unit="ep", leave=False, disable=hidden):
        drawn = draw(index)
        labels[index] = drawn.query_y
        classes[index] = [place[name] for name in drawn.classes]
        queries[index] = drawn.query
        episode = Episode(
            support_x=None,
            support_y=cast(
                Any, np.array(drawn.support_y)
            ),  # all that a digest asks of labels is a list
            query_x=None,
            query_y=cast(Any, labels[index]),
            classes=drawn.classes,
            support_ids=dataset.name_samples(drawn.support),
            query_ids=dataset.name_samples(drawn.query),
            index=index,
        )
        digest.update(bytes.fromhex(episode.digest()))
    return EpisodeList(labels, classes, queries, digest.hexdigest())
