"""A user's own datasets: recordings of any labeled source, single or side by side.

`compose` takes the rules as arguments. It builds the archive if it is missing and returns a
`metaevents.datasets.ComposedDataset`. `build_custom` builds the archive of a rules file. The
benchmark's datasets are in `metaevents.datasets`.
"""

from __future__ import annotations

import os
from pathlib import Path

from metaevents.archive.reader import Archive
from metaevents.archive.writer import build, differing_columns
from metaevents.arguments import shown, whole_number
from metaevents.building import archive_header
from metaevents.class_splits import Splits
from metaevents.custom_rules import AS_ARCHIVED, CustomRules, archived_rules, checked_name
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.files import PathLike, file_in, user_path
from metaevents.sources.base import SIMULATED, Source
from metaevents.specs import (
    BY_CLASS,
    PARTITION_NAMES,
    DatasetRules,
    PartitionRule,
    require_unique_labels,
)

_MAX_ARITY = 1 << 32  # as for the cells of a frame


def compose(
    source: Source | Archive | PathLike,
    arity: int = 2,
    *,
    split: str = "train",
    name: str | None = None,
    root: PathLike | None = None,
    splits: Splits | None = None,
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

    With arity 1, a class is a label, and a sample is one recording: plain few-shot learning.

    Args:
        source: Recordings (`metaevents.sources`), or an archive of them (its path, or opened).
        arity: Recordings per sample.
        split: "train", "val" or "test".
        name: Name of the dataset and of its archive; `<name of the source>-x<arity>` by default.
        root: Folder for the archive `<name>.h5`, which is built if it is missing. Not needed if
            `source` is an archive.
        splits: Which classes train, validate and test. It must be given, as one of:

            - "disjoint": the classes are dealt at random, 64 % to train, 16 % to val and 20 % to
              test. The deal follows from the set of labels and the arity alone, so it does not
              depend on the recordings; the dataset's fingerprint covers it.
            - "disjoint-labels": the labels are dealt so, and each split has all classes of its
              labels. With arity 1 that is the same.
            - A dictionary from split to its classes, each a name ("357") or a tuple of labels.
        partition: Which recordings train, validate and test: a name from
            `metaevents.specs.PARTITION_NAMES`, or a function (recording, position, files) -> split.
            "blocks-60-20-20" by default. With "by-class", all recordings of a label serve the split
            of its classes, so no label may be in classes of two splits. An archive has its own
            partition; only "by-class" can be given with it.
        crop: (width, height) kept of a recording, in pixels; the whole sensor by default.
        downsample: Both axes are divided by it; a height of 1 stays 1.
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
        UsageError: `splits` is missing, numbers or names do not fit together, or the archive of
            that name holds other recordings, divides them by another partition, or was built by
            other rules. Recordings are compared by id, label and number, not by their events.
        ArchiveError: The archive's window is too short.
        StorageError: The archive cannot be written, as into a folder that takes no files.

    Example:
        digits = compose("data/double-nmnist.h5", arity=1, splits="disjoint")
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
    arity = whole_number("arity", arity, least=1, most=_MAX_ARITY)
    origin = recordings.dataset if isinstance(recordings, Archive) else recordings.name
    custom = CustomRules(
        name=checked_name(f"{origin}-x{arity}" if name is None else name),
        arity=arity,
        splits=splits,
        partition=_partition_name(partition),
        crop=crop,
        downsample=downsample,
        window_us=window_us,
        bins=bins,
        min_gap=min_gap,
        license=license,
        citation=citation,
    )
    if isinstance(recordings, Archive):
        if partition is not None and custom.partition != BY_CLASS:
            raise UsageError(
                f"partition given for the archive {recordings.path}, which has its own; "
                f"give {BY_CLASS!r}, or give the source instead"
            )
        rules = custom.dataset_rules(labels, recordings.sensor_size)
        return ComposedDataset(recordings, rules, split)
    if root is None:
        raise UsageError(
            "compose was given recordings but no root; give root=FOLDER to keep their archive in"
        )
    rules = custom.dataset_rules(labels, recordings.sensor_size)
    folder = user_path(root)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"root={str(folder)!r} is a file; give a folder to keep the archive in")
    path = file_in(folder, f"{rules.name}.h5")
    rule = partition if callable(partition) else None
    if is_new := not path.exists():
        build_custom(custom, path, recordings, rule, jobs=jobs, exist_ok=True, progress=progress)
    archive = Archive(path)
    _require_same_origin(archive, recordings)
    _require_same_rules(archive, custom, rules)
    _require_same_rights(archive, custom)
    if not is_new:
        _require_same_recordings(archive, recordings, _needed_rule(custom, rules, rule))
    return ComposedDataset(archive, rules, split)


def build_custom(
    custom: CustomRules,
    path: PathLike,
    source: Source,
    rule: PartitionRule | None = None,
    *,
    jobs: int = 1,
    force: bool = False,
    exist_ok: bool = False,
    progress: bool | None = None,
) -> Path:
    """Write the archive of a user's own dataset, with its rules.

    Args:
        custom: The rules.
        path: The archive; its folder is created.
        source: The recordings.
        rule: The partition rule, if it has no name.
        jobs: Number of reading processes.
        force: Replace an existing archive.
        exist_ok: Leave an existing archive as it is.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The absolute path of the archive.

    Raises:
        UsageError: The rules do not fit the recordings, or as for
            `metaevents.archive.writer.build`.
        MissingError: As for `metaevents.archive.writer.build`.
        RecordingError: As for `metaevents.archive.writer.build`.
        StorageError: As for `metaevents.archive.writer.build`.
    """
    rules = custom.dataset_rules(source.labels, source.sensor_size)
    rule = _needed_rule(custom, rules, rule)
    # The license is that of real recordings, which simulated ones are not.
    rights = ("", "") if source.name == SIMULATED else (custom.license, custom.citation)
    header = archive_header(rules, *rights, stored=custom.to_json(rules))
    return build(
        source,
        path,
        header,
        rule,
        jobs=jobs,
        force=force,
        exist_ok=exist_ok,
        progress=progress,
    )


def _needed_rule(
    custom: CustomRules, rules: DatasetRules, rule: PartitionRule | None
) -> PartitionRule:
    """Return the partition rule of a dataset: the given one, or the one that its rules name."""
    rule = rule or custom.partition_rule(rules)
    if rule is None:
        raise UsageError(
            f"partition={custom.partition!r} is known to an archive alone; choose one of "
            f"{', '.join(PARTITION_NAMES)}"
        )
    return rule


def _partition_name(partition: str | PartitionRule | None) -> str:
    """Return the name of the partition rule that the user gave by name or as a function."""
    if callable(partition):
        return AS_ARCHIVED
    if partition is None:
        return "blocks-60-20-20"
    if not isinstance(partition, str) or partition not in PARTITION_NAMES:
        raise UsageError(
            f"partition={shown(partition)}; choose one of {', '.join(PARTITION_NAMES)} or give a "
            "function"
        )
    return str(partition)


def _require_same_rules(archive: Archive, custom: CustomRules, rules: DatasetRules) -> None:
    """Check that the archive of a dataset was built by its rules.

    An archive of an earlier release does not say by which.
    """
    kept = archived_rules(archive)
    if kept is None:
        return
    kept_rules = kept.dataset_rules(archive.labels, archive.sensor_size)
    differing = [
        name
        for name in ("composition", "splits", "min_gap")
        if getattr(rules, name) != getattr(kept_rules, name)
    ]
    if AS_ARCHIVED not in (custom.partition, kept.partition) and custom.partition != kept.partition:
        differing.append("partition")
    if differing:
        raise UsageError(
            f"{archive.path} was built by other rules ({', '.join(differing)}); give another name "
            "or root, remove it, or give the archive itself as the source"
        )


def _require_same_origin(archive: Archive, source: Source) -> None:
    """Check that an archive has the name, the labels and the sensor of a source."""
    if (
        archive.source != source.name
        or archive.labels != tuple(source.labels)
        or archive.sensor_size != tuple(source.sensor_size)
    ):
        raise _other_recordings(archive, archive.source)


def _require_same_rights(archive: Archive, custom: CustomRules) -> None:
    """Check that an archive states the license and the citation that were given, if any."""
    if archive.simulated:  # it states neither
        return
    stated = {"license": archive.attributes["licence"], "citation": archive.attributes["citation"]}
    for name, value in stated.items():
        given = getattr(custom, name)
        if given and given != value:
            raise UsageError(
                f"{name}={shown(given)}, but {archive.path} was built with {shown(value)}; leave "
                "it out, give another name or root, or remove the archive"
            )


def _require_same_recordings(archive: Archive, source: Source, rule: PartitionRule) -> None:
    """Check that an archive holds the recordings of a source, divided by a partition rule.

    Only the list of the recordings is compared, not their events.
    """
    differing = differing_columns(source, rule, archive.table, archive.repairs)
    if differing == ["partition"]:
        raise UsageError(
            f"{archive.path} was built with another partition of these recordings; give another "
            "name or root, or remove it"
        )
    if differing:
        raise _other_recordings(archive, f"{len(archive):,} of {archive.source}")


def _other_recordings(archive: Archive, held: str) -> UsageError:
    return UsageError(
        f"{archive.path} holds other recordings ({held}); give another name or root, or remove it"
    )
