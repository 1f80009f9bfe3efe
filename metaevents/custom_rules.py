"""The rules of a user's own dataset, as one JSON document.

`metaevents build --rules FILE` reads the document and keeps it in the archive, as `compose` does
with what it is given. So an archive says by itself which dataset it holds. Its schema is
`metaevents/data/rules.schema.json`. Documents come from strangers: nothing in one is executed, and
its size is bounded. The rules of the built-in datasets are in `metaevents.specs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any

from metaevents.arguments import shown
from metaevents.class_splits import Splits, find_classes
from metaevents.errors import ArchiveError, MetaeventsError, UsageError
from metaevents.files import PathLike, user_path
from metaevents.json_schema import SchemaCheck
from metaevents.specs import (
    BY_CLASS,
    DEFAULT_PROTOCOL,
    Composition,
    DatasetRules,
    PartitionRule,
    partition_rule,
    pools_of,
    specs,
)
from metaevents.untrusted import describe, parse_json, read_bytes

if TYPE_CHECKING:
    from metaevents.archive.reader import Archive

FORMAT = "metaevents-rules"
FORMAT_VERSION = 1

MAX_RULES_BYTES = 8_000_000
"""Largest document that is read or kept in an archive, in bytes."""

AS_ARCHIVED = "as archived"
"""Name of a partition that was given as a function; only an archive knows it."""

_MAX_ELEMENTS = 20_000  # of a list of classes, as in the schema
_MAX_PROBLEMS = 3  # that one message names
_MAX_NAME = 100
_MAX_NAME_BYTES = 240  # file systems take 255, and files beside the archive have longer names

_BUILT_IN_FILES = files("metaevents") / "data" / "rules"


@dataclass(frozen=True)
class SourceRules:
    """What reads the recordings of a dataset.

    Attributes:
        kind: "n-mnist", "asl-dvs", "n-omniglot", "folders", or "tonic:" and the name of a class of
            `tonic.datasets`.
        sensor_size: (width, height) in pixels; None takes what the kind knows, or the events.
        labels: The labels to take, in this order; None takes all.
    """

    kind: str
    sensor_size: tuple[int, int] | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CustomRules:
    """The rules of a user's own dataset, before the labels of its recordings are known.

    Attributes:
        name: Name in code, and of the archive's file.
        arity: Number of recordings of a sample.
        splits: Which classes train, validate and test: "disjoint", "disjoint-labels", or split ->
            classes; see `metaevents.class_splits.find_classes`.
        partition: Name of the partition rule, or `AS_ARCHIVED`.
        crop: (width, height) kept of a recording, in pixels; None keeps the whole sensor.
        downsample: Both axes are divided by it.
        window_us: Microseconds kept from a recording's first event.
        bins: Number of time bins.
        min_gap: Least distance in file numbers between support and query of a class on one side.
        protocol: The protocol that learners are evaluated on if none is named.
        title: Name in text; "" if it has none.
        license: License of the recordings.
        citation: Citation of the recordings.
        source: What reads the recordings; None if they were given in Python.
    """

    name: str
    arity: int
    splits: Splits | None
    partition: str = "blocks-60-20-20"
    crop: tuple[int, int] | None = None
    downsample: int = 1
    window_us: int = 100_000
    bins: int = 100
    min_gap: int = 0
    protocol: str = DEFAULT_PROTOCOL
    title: str = ""
    license: str = ""
    citation: str = ""
    source: SourceRules | None = None

    def __post_init__(self) -> None:
        if isinstance(self.splits, Mapping):  # generators can be read once
            kept = {split: _kept(classes) for split, classes in self.splits.items()}
            object.__setattr__(self, "splits", kept)

    def dataset_rules(self, labels: Sequence[str], sensor_size: Sequence[int]) -> DatasetRules:
        """Return the rules for recordings with some labels.

        Args:
            labels: The component labels of the recordings.
            sensor_size: (width, height) of a recording in pixels.

        Raises:
            UsageError: Numbers or names do not fit together or to the recordings.
        """
        width, height = sensor_size
        composition = Composition(
            self.arity,
            (width, height) if self.crop is None else self.crop,
            self.downsample,
            self.window_us,
            self.bins,
        )
        if composition.crop[0] > width or composition.crop[1] > height:
            raise UsageError(
                f"crop={composition.crop} goes beyond the sensor's {(width, height)} pixels; "
                "give at most that"
            )
        return DatasetRules(
            name=self.name,
            version=None,
            labels=tuple(labels),
            composition=composition,
            splits={"published": find_classes(self.splits, labels, composition.arity)},
            pools=pools_of(self.partition),
            published=None,
            min_gap=self.min_gap,
            partition=BY_CLASS if self.partition == BY_CLASS else AS_ARCHIVED,
            title=self.title,
            protocol=self.protocol,
        )

    def partition_rule(self, rules: DatasetRules) -> PartitionRule | None:
        """Return the rule that divides the recordings, or None if it was given as a function.

        Args:
            rules: What `dataset_rules` returned.
        """
        if self.partition == AS_ARCHIVED:
            return None
        return partition_rule(self.partition, rules.splits["published"])

    def to_json(self, rules: DatasetRules) -> str:
        """Return the document, as archives keep it.

        Args:
            rules: What `dataset_rules` returned; numbers are taken from it, as they were checked.

        Raises:
            UsageError: It names more classes than a document may have, or is too large.
        """
        composition = rules.composition
        splits: Any = self.splits
        if not isinstance(splits, str):
            listed = rules.splits["published"]
            if (n := max(map(len, listed.values()))) > _MAX_ELEMENTS:
                raise UsageError(
                    f"splits lists {n:,} classes of one split, an archive keeps at most "
                    f"{_MAX_ELEMENTS:,}; give splits='disjoint' or splits='disjoint-labels', or "
                    "give an archive in place of the source"
                )
            one = composition.arity == 1
            splits = {
                split: [components[0] if one else list(components) for components in classes]
                for split, classes in listed.items()
            }
        document: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "title": self.title,
            "arity": composition.arity,
            "crop": list(composition.crop),
            "downsample": composition.downsample,
            "window_us": composition.window_us,
            "bins": composition.bins,
            "min_gap": rules.min_gap,
            "partition": self.partition,
            "splits": splits,
            "protocol": self.protocol,
        }
        if self.source is not None:
            document["source"] = {"kind": self.source.kind}
        text = json.dumps(document)
        if len(text) > MAX_RULES_BYTES:
            raise UsageError(
                f"the rules of {self.name} take {len(text):,} bytes, an archive keeps at most "
                f"{MAX_RULES_BYTES:,}; give splits='disjoint', or fewer classes"
            )
        return text


def _kept(classes: Any) -> Any:
    """Return the classes of a split with generators, of classes or labels, made lists."""
    if not isinstance(classes, Iterator):
        return classes
    return [list(each) if isinstance(each, Iterator) else each for each in classes]


def read_rules(name: PathLike) -> CustomRules:
    """Return the rules of a file.

    Args:
        name: A file, or the name of one that the release contains, such as "n-caltech101".

    Raises:
        MissingError: There is no such file or name.
        UsageError: The file is no valid document; the message names it.
    """
    path = user_path(name)
    known = _BUILT_IN_FILES / f"{name}.json"
    if not path.exists() and str(name) in built_in_rules():
        return parse_rules(known.read_text("utf-8"), f"{name}.json")
    advice = f"give a file, or one of {', '.join(built_in_rules())}"
    content = read_bytes(path, MAX_RULES_BYTES, "rules file", advice)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not in UTF-8; expected the JSON of a rules file") from None
    return parse_rules(text, str(path))


def built_in_rules() -> list[str]:
    """Return the names of the rules files that the release contains."""
    return sorted(
        entry.name.removesuffix(".json")
        for entry in _BUILT_IN_FILES.iterdir()
        if entry.name.endswith(".json")
    )


def parse_rules(text: str, where: str) -> CustomRules:
    """Return the rules of a document.

    Args:
        text: The JSON document.
        where: Where it comes from, for messages.

    Raises:
        UsageError: It is not strict JSON, or violates the schema.
    """
    try:
        document = parse_json(text)
    except Exception as error:
        raise UsageError(
            f"{where} is not a rules file ({describe(error)}); expected JSON as the guide to "
            "datasets describes it"
        ) from None
    problems = list(dict.fromkeys(islice(_check().problems(document), 100)))
    if problems:
        n_more = len(problems) - _MAX_PROBLEMS
        more = f"; and {n_more} more" if n_more > 0 else ""
        raise UsageError(f"{where}: {'; '.join(problems[:_MAX_PROBLEMS])}{more}")
    fields = {k: v for k, v in document.items() if k not in ("format", "format_version")}
    source = fields.pop("source", None)
    crop = fields.pop("crop", None)
    try:
        return CustomRules(
            **{**fields, "name": checked_name(fields["name"])},
            crop=None if crop is None else (crop[0], crop[1]),
            source=None if source is None else _source_rules(source),
        )
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _source_rules(source: Mapping[str, Any]) -> SourceRules:
    size, labels = source.get("sensor_size"), source.get("labels")
    return SourceRules(
        source["kind"],
        None if size is None else (size[0], size[1]),
        None if labels is None else tuple(labels),
    )


@cache
def _check() -> SchemaCheck:
    schema = json.loads((files("metaevents") / "data" / "rules.schema.json").read_text("utf-8"))
    return SchemaCheck(schema, "the document", _MAX_ELEMENTS)


def archived_rules(archive: Archive) -> CustomRules | None:
    """Return the rules that an archive keeps.

    Args:
        archive: An open archive.

    Returns:
        The rules; None for a built-in dataset, and for an archive of an earlier release.

    Raises:
        ArchiveError: The archive keeps something else.
    """
    if archive.rules is None:
        return None
    try:
        rules = parse_rules(archive.rules, f"the rules in {archive.path}")
    except MetaeventsError as error:
        raise ArchiveError(f"{error}; build the archive again") from None
    if rules.name != archive.dataset:
        raise ArchiveError(
            f"{archive.path} is an archive of {archive.dataset} with the rules of {rules.name}; "
            "build it again"
        )
    return rules


def checked_name(name: str) -> str:
    """Return the name of a user's dataset, which must be fit for a file name.

    Args:
        name: The name.

    Raises:
        UsageError: It is no text, has slashes, control characters or a leading dot, has more than
            100 characters or 240 bytes, or is the name of a built-in dataset.
    """
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= _MAX_NAME
        or name[0] == "."
        or {*name} & {*"/\\"}
        or not name.isprintable()
        or len(name.encode()) > _MAX_NAME_BYTES
    ):
        raise UsageError(
            f"name={shown(name)} cannot name a file; give a text of at most {_MAX_NAME} characters "
            f"or {_MAX_NAME_BYTES} bytes without slashes or a leading dot"
        )
    if name.casefold() in specs():
        raise UsageError(f"name={name!r} is the name of a built-in dataset; give another name")
    return str(name)
