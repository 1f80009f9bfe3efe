"""The fixed rules of a dataset, read from its JSON file.

There is one JSON file per built-in dataset and protocol version in `metaevents/data/`. The loaders,
the command line and the dataset cards all read it. It fixes the geometry, the class splits, the
partition of the recordings, the pairings, the download addresses and the license.

The protocol version increases whenever the same recordings could give another episode: by other
splits, another partition, another composition, another arithmetic of the published pairing or
another episode stream. The file of an older version stays in the package, so its archives can
still be loaded.

`metaevents.sampling` draws episodes by these rules; `metaevents.building` checks archives against
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from metaevents.arguments import one_of, shown, whole_number
from metaevents.component_deals import DEALS, FIRST_DEAL, further_deals
from metaevents.errors import ArchiveError, UsageError
from metaevents.events import POLARITIES
from metaevents.hashing import digest_json

if TYPE_CHECKING:
    from metaevents.sources.base import RecordingRef

PARTITIONS = ("train", "val", "test")
"""The three parts into which recordings are divided; the class splits have the same names."""

PAIRINGS = ("all", "published")
"""How the recordings of a composed sample are drawn: all pairs, or as in the published code."""

CLASS_SPLITS = ("published", *DEALS)
"""How the classes are split: as published, or with components that training never saw (deals)."""

BY_CLASS = "by-class"
"""Name of the partition in which all recordings of a label serve the split of its classes."""

Classes: TypeAlias = tuple[tuple[str, ...], ...]
"""Classes, each a tuple of component labels from left to right."""

DEFAULT_PROTOCOL = "5way-1shot"
"""The protocol that learners are evaluated on if a dataset's rules name no other."""

_MAX_CELLS = 1 << 32  # cells of a composed sample; decoded recordings number them in 32 bits
_MAX_MICROSECONDS = (1 << 31) - 1  # decoded recordings keep times in 32 bits
_MAX_GAP = (1 << 31) - 1


class PartitionRule(Protocol):
    """A function (recording, position, files) -> partition.

    `position` is the recording's place among the `files` files of its label and folder, in order of
    their numbers. Empty recordings count too.
    """

    def __call__(self, recording: RecordingRef, position: int, files: int, /) -> str:
        """Return "train", "val" or "test"."""
        ...


def _official_folders(ref: RecordingRef, position: int, files: int) -> str:
    """The Train folder is train; in the Test folder, even positions are val, odd ones test."""
    if ref.folder == "Train":
        return "train"
    return "test" if position % 2 else "val"


def _blocks(ref: RecordingRef, position: int, files: int) -> str:
    """The first 60 % of a label's files are train, the next 20 % val, the last 20 % test."""
    if position < files * 3 // 5:
        return "train"
    return "val" if position < files * 4 // 5 else "test"


PARTITION_RULES: Mapping[str, PartitionRule] = {
    "official-folders": _official_folders,
    "blocks-60-20-20": _blocks,
}
"""The partition rules that need no class split, by name."""

PARTITION_NAMES = (*PARTITION_RULES, BY_CLASS)
"""The names of all partition rules."""


def partition_rule(name: str, splits: Mapping[str, Classes]) -> PartitionRule:
    """Return a partition rule by its name.

    Args:
        name: One of `PARTITION_NAMES`. "by-class" puts every recording of a label into the split
            whose classes have that label; a label of no class goes to train, where nothing uses it.
        splits: Split -> its classes, for "by-class".

    Raises:
        UsageError: There is no rule of that name.
    """
    if name == BY_CLASS:
        split_of = {
            label: split
            for split, classes in splits.items()
            for components in classes
            for label in components
        }
        return lambda ref, position, files: split_of.get(ref.label, "train")
    return PARTITION_RULES[one_of("partition", name, PARTITION_NAMES)]


def pools_of(partition: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the pools of a dataset without published pairing; see `DatasetRules.pools`.

    Args:
        partition: Name of the partition. With "by-class", a split draws from all partitions: its
            classes alone decide which recordings it has.
    """
    by_class = partition == BY_CLASS
    return {"all": {split: PARTITIONS if by_class else (split,) for split in PARTITIONS}}


@dataclass(frozen=True)
class Composition:
    """How recordings are placed side by side and counted on a grid.

    Attributes:
        arity: Number of recordings in a composed sample, from left to right.
        crop: (width, height) that is kept of every recording, in pixels from its upper left corner.
        downsample: Whole number by which both axes are divided; a height of 1, as of a
            one-dimensional sensor, stays 1.
        window_us: Microseconds that are kept from a recording's first event on.
        bins: Number of time bins of equal length in the window.

    Raises:
        UsageError: A number is no whole number of at least 1, the crop cannot be divided by
            `downsample`, or a frame has more than 2^32 cells.
    """

    arity: int
    crop: tuple[int, int]
    downsample: int
    window_us: int
    bins: int

    def __post_init__(self) -> None:
        checked = {
            "arity": whole_number("arity", self.arity, least=1, most=_MAX_CELLS),
            "crop": self._checked_crop(),
            "downsample": whole_number("downsample", self.downsample, least=1, most=_MAX_CELLS),
            "window_us": whole_number("window_us", self.window_us, least=1, most=_MAX_MICROSECONDS),
            "bins": whole_number("bins", self.bins, least=1, most=_MAX_CELLS),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        width, height = self.crop
        if width % self.downsample or (height > 1 and height % self.downsample):
            raise UsageError(
                f"a crop of {self.crop} pixels cannot be divided by {self.downsample}; "
                "give multiples of it"
            )
        if prod(self.frame_shape) > _MAX_CELLS:
            raise UsageError(
                f"frames (T, P, H, W) of {self.frame_shape} have more than {_MAX_CELLS:,} cells; "
                "give fewer bins, a lower arity, a smaller crop or a larger downsample"
            )

    def _checked_crop(self) -> tuple[int, int]:
        """The crop as two whole numbers."""
        try:
            width, height = self.crop
        except (TypeError, ValueError):
            raise UsageError(f"crop={shown(self.crop)}; give (width, height) in pixels") from None
        return (
            whole_number("width of the crop", width, least=1, most=_MAX_CELLS),
            whole_number("height of the crop", height, least=1, most=_MAX_CELLS),
        )

    @property
    def side_shape(self) -> tuple[int, int]:
        """(height, width) of one recording on the grid."""
        width, height = self.crop
        return max(1, height // self.downsample), width // self.downsample

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        """(T, P, H, W) of a composed sample."""
        height, width = self.side_shape
        return self.bins, POLARITIES, height, width * self.arity


@dataclass(frozen=True)
class PublishedPairing:
    """The index arithmetic of the published loader.

    A sample has a key in [0, keys). Its left recording is key // divisor, its right recording is
    key % divisor.

    Attributes:
        keys: Number of keys per class.
        divisor: The divisor per split.
    """

    keys: int
    divisor: Mapping[str, int]


@dataclass(frozen=True)
class DatasetRules:
    """Everything that decides which samples and episodes follow from given recordings.

    Attributes:
        name: Name of the composed dataset, such as "double-nmnist".
        version: Protocol version; None for a user's own composition.
        labels: The component classes.
        composition: The geometry.
        splits: Class split -> split -> its classes, each a tuple of component labels.
        pools: Pairing -> split -> the partitions whose recordings it draws from.
        published: Arithmetic of `pairing="published"`; None if the dataset has no such pairing.
        min_gap: Least distance in file numbers between support and query recordings of a class on
            the same side; 0 if the files are independent of each other.
        partition: Name of the partition rule; "as archived" for a user's own composition, unless
            it is "by-class".
        title: Name in text, such as "Double N-MNIST"; "" if it has none.
        protocol: The protocol that learners are evaluated on if none is named.
        deals: Further class splits, like `splits`: the deals of `metaevents.component_deals`.

    Title, protocol and deals do not change the fingerprint: no sample depends on them, and no
    episode of the class splits in `splits`.

    Raises:
        UsageError: A label is there twice, two classes of a class split have one name, `min_gap` is
            no whole number, or the partition is "by-class" and a label occurs in the classes of two
            splits.
    """

    name: str
    version: int | None
    labels: tuple[str, ...]
    composition: Composition
    splits: Mapping[str, Mapping[str, Classes]]
    pools: Mapping[str, Mapping[str, tuple[str, ...]]]
    published: PublishedPairing | None
    min_gap: int
    partition: str
    title: str = ""
    protocol: str = DEFAULT_PROTOCOL
    deals: Mapping[str, Mapping[str, Classes]] = field(default_factory=dict)

    @property
    def class_splits(self) -> Mapping[str, Mapping[str, Classes]]:
        """All class splits: those of `splits`, then those of `deals`."""
        return {**self.splits, **self.deals}

    def __post_init__(self) -> None:
        gap = whole_number("min_gap", self.min_gap, least=0, most=_MAX_GAP)
        object.__setattr__(self, "min_gap", gap)
        require_unique_labels(self.labels)
        for by_split in self.class_splits.values():
            _require_unique_names(by_split)
            if self.partition == BY_CLASS:
                _require_separate_labels(by_split)

    def fingerprint(self, contents: str) -> str:
        """Return the fingerprint of a dataset: hex SHA-256 over its recordings and these rules.

        Args:
            contents: Digest of the recordings' contents; see `metaevents.archive`.
        """
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
                    class_split: {
                        split: list(map(list, classes)) for split, classes in by_split.items()
                    }
                    for class_split, by_split in self.splits.items()
                },
                "pools": {pairing: dict(by_split) for pairing, by_split in self.pools.items()},
                "published_pairing": published,
                "min_gap": self.min_gap,
                "partition": self.partition,
            }
        )


@dataclass(frozen=True)
class DatasetSpec:
    """One built-in dataset, as its JSON file describes it.

    Attributes:
        name: Name in code and on the command line, such as "double-nmnist".
        title: Name in text, such as "Double N-MNIST".
        protocol_version: Version of the rules.
        recordings: Where the recordings come from: title, folder, labels, sensor_size, counts,
            files (name, url, checksum), dead_links, homepage, license, license_url and citation;
            "simulated" holds license and citation of simulated recordings.
        frame_shape: (T, P, H, W) of a composed sample.
    """

    name: str
    title: str
    protocol_version: int
    recordings: Mapping[str, Any]
    frame_shape: tuple[int, int, int, int]
    _raw: Mapping[str, Any]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DatasetSpec:
        """Return the spec that a dataset's JSON file holds.

        Args:
            raw: The decoded content of the file.
        """
        return cls(
            name=raw["name"],
            title=raw["title"],
            protocol_version=raw["protocol_version"],
            recordings=raw["recordings"],
            frame_shape=tuple(raw["frame_shape"]),
            _raw=raw,
        )

    @property
    def composition(self) -> Composition:
        """The geometry of composed samples."""
        raw = self._raw["composition"]
        return Composition(
            raw["arity"], tuple(raw["crop"]), raw["downsample"], raw["window_us"], raw["bins"]
        )

    @property
    def pairings(self) -> tuple[str, ...]:
        """The pairings that the dataset has."""
        return tuple(self._raw["pools"])

    @property
    def class_splits(self) -> tuple[str, ...]:
        """The class splits that the dataset has, all deals included."""
        return (*self._raw["splits"], *further_deals(self.name))

    def partition_rule(self) -> PartitionRule:
        """Return the rule that divides the recordings into train, val and test."""
        splits = self._raw["splits"]["published"]
        return partition_rule(self._raw["partition"], self._classes("published", splits))

    def _classes(self, name: str, splits: Mapping[str, Any]) -> dict[str, Classes]:
        """Return the classes of every split of a class split.

        The JSON file has class names, as a list or separated by spaces; for "novel-components" it
        has the labels of each split, whose classes are all tuples of them.
        """
        arity = self.composition.arity
        classes: dict[str, Classes] = {}
        for split, stated in splits.items():
            names = stated.split() if isinstance(stated, str) else stated
            if name == FIRST_DEAL:
                classes[split] = tuple(product(names, repeat=arity))
            else:
                classes[split] = tuple((each,) if arity == 1 else tuple(each) for each in names)
        return classes

    def rules(self, *, simulated: bool) -> DatasetRules:
        """Return the rules for recordings of this dataset.

        Args:
            simulated: Whether the recordings are simulated. These are independent of each other, so
                the rules require no gap between support and query files.
        """
        raw = self._raw
        published = raw.get("published_pairing")
        stated = raw["splits"]
        if simulated:
            stated = raw.get("simulated_splits", stated)
        return DatasetRules(
            name=self.name,
            version=self.protocol_version,
            labels=tuple(self.recordings["labels"]),
            composition=self.composition,
            splits={name: self._classes(name, splits) for name, splits in stated.items()},
            pools={
                pairing: {split: tuple(partitions) for split, partitions in pools.items()}
                for pairing, pools in raw["pools"].items()
            },
            published=published and PublishedPairing(published["keys"], published["divisor"]),
            min_gap=0 if simulated else raw["min_gap"],
            partition=raw["partition"],
            title=self.title,
            deals={
                name: {
                    split: tuple(product(labels, repeat=self.composition.arity))
                    for split, labels in deal.items()
                }
                for name, deal in further_deals(self.name).items()
            },
        )


@cache
def specs() -> Mapping[str, Mapping[int, DatasetSpec]]:
    """Return every built-in dataset: name -> protocol version -> spec, in order of name."""
    by_name: dict[str, dict[int, DatasetSpec]] = {}
    for entry in sorted(
        files("metaevents").joinpath("data").iterdir(), key=lambda entry: entry.name
    ):
        if re.fullmatch(r".+[.]v[0-9]+[.]json", entry.name):
            spec = DatasetSpec.from_json(json.loads(entry.read_text("utf-8")))
            by_name.setdefault(spec.name, {})[spec.protocol_version] = spec
    return by_name


def get_spec(name: str, version: int | None = None) -> DatasetSpec:
    """Return the spec of a built-in dataset.

    Args:
        name: Name of the dataset, such as "double-nmnist".
        version: Protocol version; the newest by default.

    Raises:
        UsageError: There is no dataset of that name.
        ArchiveError: This release does not know the protocol version.
    """
    by_name = specs()
    if not isinstance(name, str) or name not in by_name:
        raise UsageError(f"no dataset {shown(name)}; choose one of {', '.join(by_name)}")
    versions = by_name[name]
    if version is None:
        version = max(versions)
    if version not in versions:
        raise ArchiveError(
            f"{name} in protocol version {version}: "
            f"this release knows {', '.join(map(str, versions))}; upgrade metaevents"
        )
    return versions[version]


def class_name(components: Sequence[str]) -> str:
    """Return the name of a class: its component labels joined.

    Args:
        components: The component labels, from left to right. Hyphens separate them if one of them
            is longer than one character.
    """
    return ("" if all(len(label) == 1 for label in components) else "-").join(components)


def require_unique_labels(labels: Sequence[str]) -> None:
    """Check that no component label is there twice.

    Args:
        labels: The component labels.

    Raises:
        UsageError: A label is there twice.
    """
    if len(set(labels)) < len(labels):
        twin = next(label for place, label in enumerate(labels) if label in labels[:place])
        raise UsageError(f"the label {twin!r} is there twice; give each label once")


def _require_separate_labels(by_split: Mapping[str, Classes]) -> None:
    """Check that no label occurs in the classes of two splits."""
    split_of: dict[str, str] = {}
    for split, classes in by_split.items():
        for label in dict.fromkeys(label for components in classes for label in components):
            other = split_of.setdefault(label, split)
            if other != split:
                raise UsageError(
                    f"partition={BY_CLASS!r} gives all recordings of a label to one split, but "
                    f"{label!r} is in classes of {other} and {split}; give splits that share no "
                    "label, such as splits='disjoint-labels', or another partition"
                )


def _require_unique_names(by_split: Mapping[str, Classes]) -> None:
    """Check that no two classes of a class split have one name, and no split has a class twice."""
    named: dict[str, tuple[str, ...]] = {}
    checked: set[int] = set()
    for split, classes in by_split.items():
        if id(classes) in checked:  # the same tuple serves several splits
            continue
        checked.add(id(classes))
        in_split = set()
        for components in classes:
            name = class_name(components)
            other = named.setdefault(name, components)
            if other != components:
                raise UsageError(
                    f"the classes {other} and {components} are both named {name!r}; "
                    "rename a label, so that class names differ"
                )
            if name in in_split:
                raise UsageError(f"the {split} split names class {name!r} twice; give each once")
            in_split.add(name)
