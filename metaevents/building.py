"""Archives of the built-in datasets: their paths, how they are built and opened, and their rules.

`build_archive` writes the archive of recordings, `open_archive` opens it and makes it first if it
is missing, and `verify_rules` checks it against the dataset's rules. The archive format is left to
`metaevents.archive`, archives of a user's own datasets to `metaevents.composition`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from metaevents.archive.reader import Archive
from metaevents.archive.writer import ArchiveHeader, build
from metaevents.download import fetch_recordings
from metaevents.errors import ArchiveError, MissingError
from metaevents.files import PathLike, user_path
from metaevents.sources import ASLDVS, NMNIST
from metaevents.sources.base import SIMULATED, RecordingRef, Source
from metaevents.specs import PARTITIONS, DatasetRules, DatasetSpec, get_spec, specs

_READERS: Mapping[str, Callable[[PathLike], Source]] = {"nmnist": NMNIST, "asl-dvs": ASLDVS}


def archive_path(name: str, root: PathLike) -> Path:
    """Return the path of a dataset's archive.

    Args:
        name: Name of the dataset.
        root: The archive itself (an existing file, or a name that ends in .h5 or .hdf5), or the
            folder that holds `<name>.h5`.

    Raises:
        UsageError: `root` cannot be used as a path.
    """
    path = user_path(root)
    return path if path.is_file() or path.suffix in (".h5", ".hdf5") else path / f"{name}.h5"


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


def archive_header(rules: DatasetRules, license: str, citation: str) -> ArchiveHeader:
    """Return what the archive of a dataset states beside its recordings.

    Args:
        rules: The dataset's rules.
        license: License of the recordings.
        citation: Citation of the recordings.
    """
    return ArchiveHeader(
        dataset=rules.name,
        protocol_version=rules.version or 0,
        window_us=rules.composition.window_us,
        license=license,
        citation=citation,
        fingerprint=rules.fingerprint,
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
        spec.partition_rule,
        jobs=jobs,
        force=force,
        exist_ok=exist_ok,
        progress=progress,
    )


def open_archive(name: str, root: PathLike, *, download: bool = False) -> Archive:
    """Open the archive of a built-in dataset.

    Args:
        name: Name of the dataset.
        root: The archive, or the folder that holds it; see `archive_path`.
        download: Fetch the recordings and build the archive if it is missing.

    Returns:
        The open archive.

    Raises:
        UsageError: There is no dataset of that name.
        MissingError: There is no archive and `download` is False; the message names the two
            commands that make it.
        FetchError: The download failed.
        ArchiveError: The file is not a complete archive of this dataset.
    """
    spec = get_spec(name)
    path = archive_path(name, root)
    if not path.exists():
        folder = path.parent
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


def verify_rules(archive: Archive) -> list[str]:
    """Recompute partition and fingerprint of an archive by the rules of its dataset.

    Args:
        archive: An open archive. Only built-in datasets have rules to check against.

    Returns:
        One line per check that passed.

    Raises:
        ArchiveError: A check failed.
    """
    if archive.dataset not in specs():
        return [
            f"fingerprint: {archive.fingerprint} (not recomputed: the rules of {archive.dataset} "
            "are not built in)"
        ]
    spec = get_spec(archive.dataset, archive.protocol_version)
    _require_geometry(archive, spec)
    table = archive.table
    for index, id in enumerate(archive.ids):
        folder = id.split("/")[0] if id.count("/") == 2 else ""
        label = archive.labels[table["label"][index]]
        ref = RecordingRef(id, label, folder, int(table["number"][index]), "")
        expected = spec.partition_rule(
            ref, int(table["position"][index]), int(table["files"][index])
        )
        if expected != PARTITIONS[table["partition"][index]]:
            raise ArchiveError(
                f"{archive.path}: recording {id} is not in its partition, {expected}; "
                "build it again"
            )
    fingerprint = spec.rules(simulated=archive.simulated).fingerprint(archive.contents)
    if fingerprint != archive.fingerprint:
        raise ArchiveError(
            f"{archive.path}: the fingerprint is {archive.fingerprint}, "
            f"its contents give {fingerprint}; build it again"
        )
    return [
        f"partition: every recording is where protocol version {spec.protocol_version} puts it",
        f"fingerprint: {fingerprint}",
    ]


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
