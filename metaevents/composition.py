"""Composed datasets: recordings side by side, their classes, partitions and pairings, as dense frames or events.

`DoubleNMNIST` and `DoubleASLDVS` are the benchmark; `compose` makes the like of any labeled source, at any arity. Drawing
episodes is left to `metaevents.episodes`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

from metaevents.archive.reader import Archive
from metaevents.archive.writer import build
from metaevents.building import archive_header
from metaevents.datasets import ComposedDataset, DoubleDataset
from metaevents.errors import UsageError
from metaevents.files import PathLike
from metaevents.sources.base import Source
from metaevents.specs import (
    PARTITION_RULES,
    PARTITIONS,
    Composition,
    DatasetRules,
    PartitionRule,
    class_name,
)


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
    """A dataset of one's own: `arity` recordings of any labeled source side by side.

    Args:
        source: recordings (`metaevents.sources`), or an archive of them (its path, or opened).
        arity: recordings in a sample.
        split: "train", "val" or "test".
        name: names the dataset and its archive.
        root: the folder for the archive `<name>.h5`, built when missing; not needed where `source` is an archive.
        splits: split -> its classes, each a name ("357") or a tuple of labels; by default every class is in each split.
        partition: which recordings train, validate and test: a name from `metaevents.specs.PARTITION_RULES`, or a
            function (recording, position, files) -> split; "blocks-60-20-20" by default. An archive has its own.
        crop: (width, height) kept of a recording, pixels; the whole sensor by default.
        downsample: both axes are divided by it.
        window_us, bins: microseconds kept from a recording's first event, and time bins over them.
        min_gap: least distance in file numbers between support and query of a class on a side.
        jobs: processes that read the source.
        license, citation: of the recordings, for the archive.

    Returns:
        A `DoubleDataset` for arity 2, a `ComposedDataset` otherwise; `EpisodeLoader` takes both.

    Raises:
        UsageError: numbers or names that do not fit together, or an archive of other recordings under that name.
    """
    recordings = Archive(source) if isinstance(source, (str, os.PathLike)) else source
    labels = tuple(recordings.labels)
    rules = DatasetRules(
        name=name
        or f"{recordings.dataset if isinstance(recordings, Archive) else recordings.name}-x{arity}",
        version=None,
        labels=labels,
        composition=Composition(arity, crop or recordings.sensor_size, downsample, window_us, bins),
        splits={"published": _user_splits(splits, labels, arity)},
        pools={"all": {part: (part,) for part in PARTITIONS}},
        published=None,
        min_gap=min_gap,
        partition="as archived",
    )
    if isinstance(recordings, Archive):
        if partition is not None:
            raise UsageError(
                f"partition given for the archive {recordings.path}, which has its own; give the source instead"
            )
        archive = recordings
    else:
        if root is None:
            raise UsageError(
                "compose was given recordings but no root; give root=FOLDER to keep their archive in"
            )
        header = archive_header(rules, license, citation)
        path = Path(root).expanduser() / f"{rules.name}.h5"
        if not path.exists():
            build(
                recordings, path, header, _partition_rule(partition), jobs=jobs, progress=progress
            )
        archive = Archive(path)
        if (
            archive.source != recordings.name
            or archive.labels != labels
            or archive.sensor_size != recordings.sensor_size
        ):
            raise UsageError(
                f"{path} holds other recordings ({archive.source}); give another name or root, or remove it"
            )
    return (DoubleDataset if arity == 2 else ComposedDataset)(archive, rules, split)


def _partition_rule(partition: str | PartitionRule | None) -> PartitionRule:
    if callable(partition):
        return partition
    chosen = partition or "blocks-60-20-20"
    if chosen not in PARTITION_RULES:
        raise UsageError(
            f"partition={chosen!r}; choose one of {', '.join(PARTITION_RULES)} or give a function"
        )
    return PARTITION_RULES[chosen]


def _user_splits(
    splits: Mapping[str, Iterable[str | Sequence[str]]] | None, labels: tuple[str, ...], arity: int
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """The user's classes as tuples of labels; by default every class in each split."""
    every = {class_name(components): components for components in product(labels, repeat=arity)}
    if splits is None:
        return dict.fromkeys(PARTITIONS, tuple(every.values()))
    if unknown := sorted(set(splits) - set(PARTITIONS)):
        raise UsageError(f"splits has the keys {', '.join(unknown)}; use {', '.join(PARTITIONS)}")
    out = {}
    for split, classes in splits.items():
        names = [c if isinstance(c, str) else class_name(c) for c in classes]
        if wrong := [name for name in names if name not in every]:
            raise UsageError(
                f"class {wrong[0]!r} of the {split} split is not {arity} of the labels {', '.join(labels)}"
            )
        if len(set(names)) != len(names):
            raise UsageError(f"the {split} split names a class twice; give each once")
        out[split] = tuple(every[name] for name in names)
    return out
