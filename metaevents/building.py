"""Archives of datasets: their paths, how they are built and opened, and their rules.

`build_archive` writes the archive of a built-in dataset, `open_archive` opens the archive of any
dataset and makes that of a built-in one first if it is missing, and `verify_rules` checks it
against the dataset's rules. The archive format is left to `metaevents.archive`, building a user's
own datasets to `metaevents.composition`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

from metaevents.archive.reader import Archive
from metaevents.archive.writer import ArchiveHeader, build
from metaevents.arguments import shown
from metaevents.custom_rules import archived_rules
from metaevents.download import fetch_recordings
from metaevents.errors import ArchiveError, MetaeventsError, MissingError, UsageError
from metaevents.files import PathLike, file_in, user_path
from metaevents.sources import ASLDVS, NMNIST, NOmniglot
from metaevents.sources.base import SIMULATED, RecordingRef, Source
from metaevents.specs import (
    PARTITIONS,
    DatasetRules,
    DatasetSpec,
    PartitionRule,
    get_spec,
    specs,
)

_READERS: Mapping[str, Callable[[PathLike], Source]] = {
    "nmnist": NMNIST,
    "asl-dvs": ASLDVS,
    "n-omniglot": NOmniglot,
}

_MAX_SEARCHED = 50  # files of a folder in which an archive is looked for


def archive_path(name: str, root: PathLike) -> Path:
    """Return the path of a dataset's archive.

    Args:
        name: Name of the dataset.
        root: The archive itself (an existing file, or a name that ends in .h5 or .hdf5), or the
            folder that holds `<name>.h5`.

    Raises:
        UsageError: `root` cannot be used as a path, or the name is too long for a file.
    """
    path = user_path(root)
    is_archive = path.is_file() or path.suffix in (".h5", ".hdf5")
    return path if is_archive else file_in(path, f"{name}.h5")


def open_source(name: str, folder: PathLike) -> Source:
    """Return the recordings of a built-in dataset.

    Args:
        name: Name of the dataset.
        folder: Folder of the recordings, in the official layout.

    Raises:
        UsageError: There is no dataset of that name.
        MissingError: There is no such folder.
        RecordingError: The folder does not have the official layout.
    """
    return _READERS[get_spec(name).recordings["folder"]](folder)


def archive_header(
    rules: DatasetRules, license: str, citation: str, stored: str | None = None
) -> ArchiveHeader:
    """Return what the archive of a dataset states beside its recordings.

    Args:
        rules: The dataset's rules.
        license: License of the recordings.
        citation: Citation of the recordings.
        stored: The JSON of a user's own dataset, which the archive keeps.
    """
    return ArchiveHeader(
        dataset=rules.name,
        protocol_version=rules.version or 0,
        window_us=rules.composition.window_us,
        license=license,
        citation=citation,
        fingerprint=rules.fingerprint,
        rules=stored,
    )


def build_archive(
    name: str,
    path: PathLike,
    source: Source,
    *,
    jobs: int = 1,
    force: bool = False,
    exist_ok: bool = False,
    progress: bool | None = None,
) -> Path:
    """Write the archive of a built-in dataset from its recordings.

    Args:
        name: Name of the dataset.
        path: The archive; its folder is created.
        source: The recordings.
        jobs: Number of reading processes.
        force: Replace an existing archive.
        exist_ok: Leave an existing archive as it is, also one that another process finishes
            meanwhile.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The absolute path of the archive.

    Raises:
        UsageError: There is no dataset of that name, or as for `metaevents.archive.writer.build`.
        MissingError: As for `metaevents.archive.writer.build`.
        RecordingError: As for `metaevents.archive.writer.build`.
        StorageError: As for `metaevents.archive.writer.build`.
    """
    spec = get_spec(name)
    simulated = source.name == SIMULATED
    rights = spec.recordings["simulated"] if simulated else spec.recordings
    header = archive_header(spec.rules(simulated=simulated), rights["license"], rights["citation"])
    return build(
        source,
        path,
        header,
        spec.partition_rule(),
        jobs=jobs,
        force=force,
        exist_ok=exist_ok,
        progress=progress,
    )


def open_archive(name: str, root: PathLike, *, download: bool = False) -> Archive:
    """Open the archive of a dataset.

    Args:
        name: Name of the dataset: a built-in one, or one of the user's own.
        root: The archive, or the folder that holds it; see `archive_path`.
        download: Fetch the recordings and build the archive if it is missing. Only the recordings
            of built-in datasets can be fetched.

    Returns:
        The open archive.

    Raises:
        UsageError: There is no built-in dataset of that name, and no archive.
        MissingError: There is no archive and `download` is False; the message names the two
            commands that make it, or the file that is an archive of the dataset under another name.
        FetchError: The download failed.
        ArchiveError: The file is not a complete archive of this dataset.
    """
    if not isinstance(name, str):
        raise UsageError(
            f"name={shown(name)} is no text; give the name of a dataset, such as 'double-nmnist'"
        )
    path = archive_path(name, root)
    if not path.exists():
        if not download and (renamed := _find_renamed(name, path.parent)):
            raise MissingError(
                f"no archive {path}, but {renamed} is an archive of {name}; give that file, or "
                "rename it"
            )
        if name not in specs():
            raise UsageError(
                f"no dataset {name!r}; choose one of {', '.join(specs())}, or build {path} with "
                "`metaevents build --rules`"
            )
        spec, folder = get_spec(name), path.parent
        quoted = shlex.quote(str(folder))
        if not download:
            raise MissingError(
                f"no archive {path}; make it with "
                f"`metaevents download {spec.recordings['folder']} --root {quoted}` and "
                f"`metaevents build {name} --root {quoted}`, or pass download=True"
            )
        source = open_source(name, fetch_recordings(spec.recordings, folder))
        build_archive(name, path, source, exist_ok=True)
    archive = Archive(path)
    if archive.dataset != name:
        raise ArchiveError(
            f"{path} is an archive of {archive.dataset}, expected {name}; give the other file"
        )
    return archive


def _find_renamed(name: str, folder: Path) -> Path | None:
    """Return the first archive of a dataset in a folder, whatever its name; None if it has none."""
    for file in islice(sorted(folder.glob("*.h5")), _MAX_SEARCHED):
        try:
            if Archive(file).dataset == name:
                return file
        except (MetaeventsError, OSError):  # another program's, or damaged
            continue
    return None


def dataset_rules(archive: Archive) -> DatasetRules | None:
    """Return the rules of the dataset that an archive was made for.

    Args:
        archive: An open archive.

    Returns:
        The rules of the built-in dataset, or those that the archive keeps; None for a user's own
        composition of an earlier release, which keeps none.

    Raises:
        ArchiveError: This release does not know the protocol version, or the archive keeps
            something else than rules for its recordings.
    """
    if archive.dataset in specs():
        spec = get_spec(archive.dataset, archive.protocol_version)
        return spec.rules(simulated=archive.simulated)
    custom = archived_rules(archive)
    if custom is None:
        return None
    try:
        return custom.dataset_rules(archive.labels, archive.sensor_size)
    except MetaeventsError as error:
        raise ArchiveError(f"the rules in {archive.path}: {error}") from error


def required_rules(archive: Archive) -> DatasetRules:
    """Return the rules of the dataset that an archive was made for; see `dataset_rules`.

    Args:
        archive: An open archive.

    Raises:
        ArchiveError: As for `dataset_rules`, or the archive keeps no rules.
    """
    rules = dataset_rules(archive)
    if rules is None:
        raise ArchiveError(
            f"{archive.path} keeps no rules of {archive.dataset}; compose it in Python with "
            "metaevents.compose, or build it again with `metaevents build --rules`"
        )
    return rules


def verify_rules(archive: Archive) -> list[str]:
    """Recompute partition and fingerprint of an archive by the rules of its dataset.

    Args:
        archive: An open archive.

    Returns:
        One line per check that passed, or that could not be made.

    Raises:
        ArchiveError: A check failed.
    """
    rules = dataset_rules(archive)
    if rules is None:
        return [
            f"fingerprint: {archive.fingerprint} (not recomputed: the archive keeps no rules of "
            f"{archive.dataset})"
        ]
    if archive.dataset in specs():
        spec = get_spec(archive.dataset, archive.protocol_version)
        _require_geometry(archive, spec)
        rule: PartitionRule | None = spec.partition_rule()
        origin = f"protocol version {spec.protocol_version}"
    else:
        custom = archived_rules(archive)
        rule = custom.partition_rule(rules) if custom else None
        origin = f"partition {custom.partition!r}" if custom else ""
    if rule is not None:
        _require_partition(archive, rule)
    fingerprint = rules.fingerprint(archive.contents)
    if fingerprint != archive.fingerprint:
        raise ArchiveError(
            f"{archive.path}: the fingerprint is {archive.fingerprint}, "
            f"its contents give {fingerprint}; build it again"
        )
    return [
        "partition: not recomputed, since it was given as a function"
        if rule is None
        else f"partition: every recording is where {origin} puts it",
        f"fingerprint: {fingerprint}",
    ]


def _require_partition(archive: Archive, rule: PartitionRule) -> None:
    """Check that every recording is in the partition that a rule gives."""
    table = archive.table
    for index, id in enumerate(archive.ids):
        label = archive.labels[table["label"][index]]
        folder, inner, _ = id.partition(f"/{label}/")
        number = int(table["number"][index])
        ref = RecordingRef(id, label, folder if inner else "", number, "")
        expected = rule(ref, int(table["position"][index]), int(table["files"][index]))
        if expected != PARTITIONS[table["partition"][index]]:
            raise ArchiveError(
                f"{archive.path}: recording {id} is not in its partition, {expected}; "
                "build it again"
            )


def _require_geometry(archive: Archive, spec: DatasetSpec) -> None:
    """Check labels, sensor and window of an archive against the dataset's rules.

    The digest of the contents does not cover the sensor and the window.
    """
    recordings = spec.recordings
    stated = {
        "labels": (archive.labels, tuple(recordings["labels"])),
        "sensor_size": (archive.sensor_size, tuple(recordings["sensor_size"])),
        "window_us": (archive.window_us, spec.composition.window_us),
    }
    for name, (actual, expected) in stated.items():
        if actual != expected:
            raise ArchiveError(
                f"{archive.path}: attribute {name} is {actual}, {archive.dataset} has {expected}; "
                "build it again"
            )
