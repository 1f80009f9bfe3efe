"""A user's own datasets: recordings of any labeled source side by side, at any arity.

`compose` builds the archive if it is missing and returns a `metaevents.datasets.ComposedDataset`.
The benchmark's datasets are in `metaevents.datasets`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from metaevents.archive.reader import Archive
from metaevents.archive.writer import build
from metaevents.arguments import whole_number
from metaevents.building import archive_header
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.files import PathLike, user_path
from metaevents.sources.base import Source
from metaevents.specs import (
    PARTITION_RULES,
    PARTITIONS,
    Composition,
    DatasetRules,
    PartitionRule,
    require_unique_labels,
)

_MAX_CLASSES = 3_000_000  # all pairs of the 1,623 characters of N-Omniglot are 2,634,129


def compose(
    source: Source | Archive | PathLike,
    arity: int = 2,
    *,
    split: str = "train",
    name: str | None = None,
    root: PathLike | None = None,
    splits: Mapping[str, Iterable[str | Sequence[str]]] | None = None,
    partition: str | PartitionRule | None = None,
    crop: tuple[int, int] | None = None,
    downsample: int = 1,
    window_us: int = 100_000,
    bins: int = 100,
    min_gap: int = 0,
    jobs: int = 1,
    license: str = "",
    citation: str = "",
    progress: bool | None = None,
) -> ComposedDataset:
    """Return a user's own dataset: `arity` recordings of any labeled source side by side.

    Args:
        source: Recordings (`metaevents.sources`), or an archive of them (its path, or opened).
        arity: Recordings per sample.
        split: "train", "val" or "test".
        name: Name of the dataset and of its archive; `<name of the source>-x<arity>` by default.
        root: Folder for the archive `<name>.h5`, which is built if it is missing. Not needed if
            `source` is an archive.
        splits: Split -> its classes, each a name ("357") or a tuple of labels. By default, every
            class is in each split; that may be at most 3 million classes.
        partition: Which recordings train, validate and test: a name from
            `metaevents.specs.PARTITION_RULES`, or a function (recording, position, files) -> split.
            "blocks-60-20-20" by default. An archive has its own, so give none with it.
        crop: (width, height) kept of a recording, in pixels; the whole sensor by default.
        downsample: Both axes are divided by it.
        window_us: Microseconds kept from a recording's first event.
        bins: Time bins over the window.
        min_gap: Least distance in file numbers between support and query of a class on one side.
        jobs: Number of processes that read the source.
        license: License of the recordings, for the archive.
        citation: Citation of the recordings, for the archive.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The dataset, for `EpisodeLoader`.

    Raises:
        UsageError: Numbers or names do not fit together, or the archive of that name holds other
            recordings.
        ArchiveError: The archive's window is too short.

    Example:
        triple = compose("data/double-nmnist.h5", arity=3, crop=(32, 32), downsample=2)
    """
    recordings = Archive(source) if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(recordings, (Archive, Source)):
        raise UsageError(
            f"compose was given {type(source).__name__} as source; give an archive, its path, or a "
            "source such as metaevents.sources.DatasetSource"
        )
    labels = tuple(recordings.labels)
    require_unique_labels(labels)
    jobs = whole_number("jobs", jobs, least=1, most=1024)
    sensor_size = recordings.sensor_size
    composition = Composition(
        arity, sensor_size if crop is None else crop, downsample, window_us, bins
    )
    if composition.crop[0] > sensor_size[0] or composition.crop[1] > sensor_size[1]:
        raise UsageError(
            f"crop={composition.crop} goes beyond the sensor's {tuple(sensor_size)} pixels; "
            "give at most that"
        )
    origin = recordings.dataset if isinstance(recordings, Archive) else recordings.name
    rules = DatasetRules(
        name=_checked_name(f"{origin}-x{composition.arity}" if name is None else name),
        version=None,
        labels=labels,
        composition=composition,
        splits={"published": _find_classes(splits, labels, composition.arity)},
        pools={"all": {part: (part,) for part in PARTITIONS}},
        published=None,
        min_gap=min_gap,
        partition="as archived",
    )
    if isinstance(recordings, Archive):
        if partition is not None:
            raise UsageError(
                f"partition given for the archive {recordings.path}, which has its own; "
                "give the source instead"
            )
        return ComposedDataset(recordings, rules, split)
    if root is None:
        raise UsageError(
            "compose was given recordings but no root; give root=FOLDER to keep their archive in"
        )
    path = user_path(root) / f"{rules.name}.h5"
    if not path.exists():
        header, rule = archive_header(rules, license, citation), _partition_rule(partition)
        build(recordings, path, header, rule, jobs=jobs, exist_ok=True, progress=progress)
    archive = Archive(path)
    if (
        archive.source != recordings.name
        or archive.labels != labels
        or archive.sensor_size != recordings.sensor_size
    ):
        raise UsageError(
            f"{path} holds other recordings ({archive.source}); give another name or root, "
            "or remove it"
        )
    return ComposedDataset(archive, rules, split)


def _partition_rule(partition: str | PartitionRule | None) -> PartitionRule:
    """Return the partition rule that the user gave by name or as a function."""
    if callable(partition):
        return partition
    chosen = partition or "blocks-60-20-20"
    if chosen not in PARTITION_RULES:
        raise UsageError(
            f"partition={chosen!r}; choose one of {', '.join(PARTITION_RULES)} or give a function"
        )
    return PARTITION_RULES[chosen]


def _checked_name(name: str) -> str:
    """Return the name of a dataset, which must be fit for a file name."""
    if not isinstance(name, str) or not name or name[0] == "." or {*name} & {*"/\\\0"}:
        raise UsageError(
            f"name={name!r} cannot name a file; give a text without slashes or a leading dot"
        )
    return name


def _find_classes(
    splits: Mapping[str, Iterable[str | Sequence[str]]] | None, labels: tuple[str, ...], arity: int
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return the user's classes as tuples of labels; by default every class in each split."""
    if splits is None:
        if len(labels) ** min(arity, 64) > _MAX_CLASSES:
            raise UsageError(
                f"arity={arity} with {len(labels)} labels gives more than {_MAX_CLASSES:,} "
                'classes; name those of each split, such as splits={"train": [...]}'
            )
        return dict.fromkeys(PARTITIONS, tuple(product(labels, repeat=arity)))
    if not isinstance(splits, Mapping):
        raise UsageError(f"splits={splits!r}; give a dictionary from split to its classes")
    if unknown := sorted(set(map(str, splits)) - set(PARTITIONS)):
        raise UsageError(f"splits has the keys {', '.join(unknown)}; use {', '.join(PARTITIONS)}")
    names = _Names(labels, arity)
    found = {}
    for split, classes in splits.items():
        if not isinstance(classes, Iterable):
            raise UsageError(f"the {split} split has the classes {classes!r}; give a list of names")
        found[split] = tuple(names.resolve(c, split) for c in classes)
        if not found[split]:
            raise UsageError(
                f"the {split} split names no class; give at least one, or leave it out"
            )
    return found


class _Names:
    """Finds the classes that a user names, without making the names of all classes.

    `metaevents.specs.class_name` joins the labels without a hyphen if all are single characters,
    and with hyphens otherwise.

    Args:
        labels: The component labels.
        arity: Number of labels of a class.
    """

    def __init__(self, labels: tuple[str, ...], arity: int) -> None:
        self._labels, self._arity = labels, arity
        self._known = frozenset(labels)
        self._parts = sorted({label.count("-") + 1 for label in labels})  # of a label, by hyphens

    def resolve(self, c: str | Sequence[str], split: str) -> tuple[str, ...]:
        """Return the component labels of a class, given by its name or as these labels."""
        if isinstance(c, str):
            readings = self._read(c)
        else:
            components = tuple(c) if isinstance(c, Iterable) else ()
            known = all(isinstance(label, str) and label in self._known for label in components)
            readings = [components] if known and len(components) == self._arity else []
        if not readings:
            shown = ", ".join(self._labels[:50]) + (", ..." if len(self._labels) > 50 else "")
            raise UsageError(
                f"class {c!r} of the {split} split is not {self._arity} of the labels {shown}"
            )
        if len(readings) > 1:
            raise UsageError(
                f"class {c!r} of the {split} split can be {readings[0]} or {readings[1]}; "
                "rename a label, so that class names differ"
            )
        return readings[0]

    def _read(self, name: str) -> list[tuple[str, ...]]:
        """Return the classes that have a name: none, one, or the first two found."""
        readings = []
        if len(name) == self._arity and all(char in self._known for char in name):
            readings.append(tuple(name))
        parts = name.split("-")
        if len(parts) < self._arity * self._parts[0]:
            return readings
        # The ways to read the first parts as labels, by the number of parts. Three are enough,
        # because at most one of them has single characters alone.
        ways: dict[int, list[tuple[str, ...]]] = {0: [()]}
        for _ in range(self._arity):
            longer: dict[int, list[tuple[str, ...]]] = {}
            for first, beginnings in ways.items():
                for n in self._parts:
                    label = "-".join(parts[first : first + n])
                    if first + n <= len(parts) and label in self._known:
                        after = longer.setdefault(first + n, [])
                        after += [(*start, label) for start in beginnings[: 3 - len(after)]]
            ways = longer
        readings += [
            components
            for components in ways.get(len(parts), [])
            if any(len(label) != 1 for label in components)
        ]
        return readings[:2]
