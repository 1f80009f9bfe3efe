"""Composed datasets: recordings side by side, their classes, partitions and pairings, as dense frames or events.

`DoubleNMNIST` and `DoubleASLDVS` are the benchmark; `compose` makes the like of any labeled source, at any arity. Drawing
episodes is left to `metaevents.episodes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from metaevents.archive.reader import Archive
from metaevents.archive.writer import ArchiveHeader, build
from metaevents.errors import ArchiveError
from metaevents.files import PathLike
from metaevents.sources.base import SIMULATED, RecordingRef, Source
from metaevents.specs import PARTITIONS, DatasetRules, get_spec, specs


def archive_path(name: str, root: PathLike) -> Path:
    """Where the archive of a built-in dataset is: `root` itself where it is a file, `root/<name>.h5` otherwise."""
    path = Path(root).expanduser()
    return path if path.is_file() or path.suffix in (".h5", ".hdf5") else path / f"{name}.h5"


def open_source(name: str, folder: PathLike) -> Source:
    """The recordings of a built-in dataset in a folder of the official layout."""
    from metaevents.sources import ASLDVS, NMNIST

    readers: Mapping[str, Callable[[PathLike], Source]] = {"nmnist": NMNIST, "asl-dvs": ASLDVS}
    return readers[get_spec(name).recordings["folder"]](folder)


def build_archive(
    name: str,
    path: PathLike,
    source: Source,
    *,
    jobs: int = 1,
    force: bool = False,
    progress: bool | None = None,
) -> Path:
    """Write the archive of a built-in dataset from its recordings; see `metaevents.archive.writer.build`."""
    spec = get_spec(name)
    simulated = source.name == SIMULATED
    rights = spec.recordings["simulated"] if simulated else spec.recordings
    header = archive_header(spec.rules(simulated=simulated), rights["licence"], rights["citation"])
    return build(
        source, path, header, spec.partition_rule, jobs=jobs, force=force, progress=progress
    )


def verify_rules(archive: Archive) -> list[str]:
    """Partition, classes and fingerprint of a built-in dataset's archive recomputed; a line for each thing checked.

    Raises:
        ArchiveError: whatever does not agree.
    """
    if archive.dataset not in specs():
        return [
            f"fingerprint: {archive.fingerprint} (of {archive.dataset}, not recomputed: its protocol is its maker's)"
        ]
    spec = get_spec(archive.dataset, archive.protocol_version)
    table = archive.table
    for index, id in enumerate(archive.ids):
        folder = id.split("/")[0] if id.count("/") == 2 else ""
        ref = RecordingRef(
            id, archive.labels[table["label"][index]], folder, int(table["number"][index]), ""
        )
        expected = spec.partition_rule(
            ref, int(table["position"][index]), int(table["files"][index])
        )
        if expected != PARTITIONS[table["partition"][index]]:
            raise ArchiveError(
                f"{archive.path}: recording {id} is not in its partition, {expected}; build it again"
            )
    fingerprint = spec.rules(simulated=archive.simulated).fingerprint(archive.contents)
    if fingerprint != archive.fingerprint:
        raise ArchiveError(
            f"{archive.path}: the fingerprint is {archive.fingerprint}, its contents give {fingerprint}; build it again"
        )
    return [
        f"partition: every recording is where protocol version {spec.protocol_version} puts it",
        f"fingerprint: {fingerprint}",
    ]


def archive_header(rules: DatasetRules, license: str, citation: str) -> ArchiveHeader:
    return ArchiveHeader(
        dataset=rules.name,
        protocol_version=rules.version or 0,
        window_us=rules.composition.window_us,
        license=license,
        citation=citation,
        fingerprint=rules.fingerprint,
    )
