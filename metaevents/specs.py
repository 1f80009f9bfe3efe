"""What is fixed about a dataset: geometry, class splits, partitions, pairings, addresses, license. Data in package files.

One JSON file a dataset and protocol version in `metaevents/data/` is the single source that the loader, the command line and
the cards share. A protocol version changes when, from the same recordings, an episode could come out otherwise: splits,
partition, composition, published-pairing arithmetic or the episode stream. The file of an older version stays in the package and
its archives stay loadable. Drawing episodes is left to `metaevents.episodes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import product
from typing import Any, TypeAlias

from metaevents.errors import ArchiveError, UsageError
from metaevents.hashing import digest_json
from metaevents.sources.base import RecordingRef

PARTITIONS = ("train", "val", "test")

PAIRINGS = ("all", "published")

CLASS_SPLITS = ("published", "novel-components")

PartitionRule: TypeAlias = Callable[[RecordingRef, int, int], str]
"""(recording, position, files) -> "train" | "val" | "test"; position is the recording's place among the `files` files of its
label and folder in order of number, bad ones included."""


def _official_folders(ref: RecordingRef, position: int, files: int) -> str:
    """The Train folder trains; the Test folder is dealt by position: even to val, odd to test."""
    if ref.folder == "Train":
        return "train"
    return "test" if position % 2 else "val"


def _blocks(ref: RecordingRef, position: int, files: int) -> str:
    """The first 60 % of a label's files train, the next 20 % are val, the last 20 % test."""
    if position < files * 3 // 5:
        return "train"
    return "val" if position < files * 4 // 5 else "test"


PARTITION_RULES: Mapping[str, PartitionRule] = {
    "official-folders": _official_folders,
    "blocks-60-20-20": _blocks,
}


@dataclass(frozen=True)
class Composition:
    """How recordings are set side by side and put on a grid.

    Attributes:
        arity: recordings in a sample, left to right.
        crop: (width, height) that is kept of every recording, pixels from the upper left corner.
        downsample: both axes are divided by this whole number.
        window_us: microseconds kept from a recording's first event.
        bins: time bins of equal length over the window.
    """

    arity: int
    crop: tuple[int, int]
    downsample: int
    window_us: int
    bins: int

    def __post_init__(self) -> None:
        if min(self.arity, *self.crop, self.downsample, self.window_us, self.bins) < 1:
            raise UsageError(f"{self} has a number below 1; give whole numbers of at least 1")
        if any(side % self.downsample for side in self.crop):
            raise UsageError(
                f"a crop of {self.crop} pixels cannot be divided by {self.downsample}; give multiples of it"
            )

    @property
    def side_shape(self) -> tuple[int, int]:
        """(height, width) of one recording on the grid."""
        return self.crop[1] // self.downsample, self.crop[0] // self.downsample

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        """(T, P, H, W) of a composed sample."""
        height, width = self.side_shape
        return self.bins, 2, height, width * self.arity


@dataclass(frozen=True)
class PublishedPairing:
    """The index arithmetic of the published loader: left = key // divisor, right = key % divisor, key in [0, keys)."""

    keys: int
    divisor: Mapping[str, int]


@dataclass(frozen=True)
class DatasetRules:
    """Everything that decides which samples and episodes follow from given recordings.

    Attributes:
        name: the composed dataset, "double-nmnist".
        version: protocol version; None for a composition of a user's own.
        labels: the component classes.
        composition: geometry.
        splits: class split -> partition -> classes, each a tuple of component labels.
        pools: pairing -> split -> the partitions whose recordings it draws from.
        published: arithmetic of `pairing="published"`, or None where there is none.
        min_gap: least distance in file numbers between support and query of a class on a side; 0 where files are independent.
        partition: name of the partition rule, or "custom".
    """

    name: str
    version: int | None
    labels: tuple[str, ...]
    composition: Composition
    splits: Mapping[str, Mapping[str, tuple[tuple[str, ...], ...]]]
    pools: Mapping[str, Mapping[str, tuple[str, ...]]]
    published: PublishedPairing | None
    min_gap: int
    partition: str

    def fingerprint(self, contents: str) -> str:
        """Hex SHA-256 over recording contents (see `metaevents.archive`), partition, splits and protocol version."""
        published = self.published and {
            "keys": self.published.keys,
            "divisor": dict(self.published.divisor),
        }
        return digest_json(
            {
                "contents": contents,
                "name": self.name,
                "protocol_version": self.version,
                "labels": self.labels,
                "composition": vars(self.composition),
                "splits": {
                    k: {s: list(map(list, c)) for s, c in v.items()} for k, v in self.splits.items()
                },
                "pools": {k: dict(v) for k, v in self.pools.items()},
                "published_pairing": published,
                "min_gap": self.min_gap,
                "partition": self.partition,
            }
        )


@dataclass(frozen=True)
class DatasetSpec:
    """One built-in dataset as its package file states it.

    Attributes:
        name, title, protocol_version: "double-nmnist", "Double N-MNIST", 1.
        recordings: where the recordings come from: title, folder, labels, sensor_size, counts, files (name, url, checksum),
            dead_links, homepage, license, citation.
        frame_shape: (T, P, H, W).
    """

    name: str
    title: str
    protocol_version: int
    recordings: Mapping[str, Any]
    frame_shape: tuple[int, int, int, int]
    _raw: Mapping[str, Any]

    @cached_property
    def composition(self) -> Composition:
        raw = self._raw["composition"]
        return Composition(
            raw["arity"], tuple(raw["crop"]), raw["downsample"], raw["window_us"], raw["bins"]
        )

    @property
    def partition_rule(self) -> PartitionRule:
        return PARTITION_RULES[self._raw["partition"]]

    def rules(self, *, simulated: bool) -> DatasetRules:
        """The protocol; simulated recordings are independent of each other, so that no gap between files is needed."""
        raw = self._raw
        published = raw["published_pairing"]
        novel = raw["splits"]["novel-components"]
        arity = self.composition.arity
        return DatasetRules(
            name=self.name,
            version=self.protocol_version,
            labels=tuple(self.recordings["labels"]),
            composition=self.composition,
            splits={
                "published": {
                    split: tuple(map(tuple, names.split()))
                    for split, names in raw["splits"]["published"].items()
                },
                "novel-components": {
                    split: tuple(product(names.split(), repeat=arity))
                    for split, names in novel.items()
                },
            },
            pools={
                pairing: {s: tuple(p) for s, p in pools.items()}
                for pairing, pools in raw["pools"].items()
            },
            published=PublishedPairing(published["keys"], published["divisor"]),
            min_gap=0 if simulated else raw["min_gap"],
            partition=raw["partition"],
        )


@cache
def specs() -> Mapping[str, Mapping[int, DatasetSpec]]:
    """Every built-in dataset, name -> protocol version -> spec."""
    found: dict[str, dict[int, DatasetSpec]] = {}
    for entry in sorted(
        files("metaevents").joinpath("data").iterdir(), key=lambda entry: entry.name
    ):
        if entry.name.startswith("double-") and entry.name.endswith(".json"):
            raw = json.loads(entry.read_text("utf-8"))
            found.setdefault(raw["name"], {})[raw["protocol_version"]] = DatasetSpec(
                name=raw["name"],
                title=raw["title"],
                protocol_version=raw["protocol_version"],
                recordings=raw["recordings"],
                frame_shape=tuple(raw["frame_shape"]),
                _raw=raw,
            )
    return found


def get_spec(name: str, version: int | None = None) -> DatasetSpec:
    """The built-in dataset of a name, in the newest protocol version or a given one.

    Raises:
        UsageError: no dataset of that name.
        ArchiveError: a protocol version that this release does not know.
    """
    known = specs()
    if name not in known:
        raise UsageError(f"no dataset {name!r}; choose one of {', '.join(known)}")
    versions = known[name]
    if version is None:
        version = max(versions)
    if version not in versions:
        raise ArchiveError(
            f"{name} in protocol version {version}: this release knows {', '.join(map(str, versions))}; upgrade metaevents"
        )
    return versions[version]


def class_name(components: Sequence[str]) -> str:
    """The name of a class: its component labels joined, with hyphens where a label is longer than one character."""
    return ("" if all(len(label) == 1 for label in components) else "-").join(components)
