"""The HDF5 archive: all recordings of a source in flat columns, written whole or not at all.

Layout (format version 1), readable with plain h5py; `n` recordings, `m` events in the window:

    user block            512 bytes of ASCII: format, length of the HDF5 part and its SHA-256
    /recordings/id        [n] bytes    official folder and number, in sorted order of (folder, label, number)
    /recordings/label     [n] uint8    index into the attribute `labels`
    /recordings/partition [n] uint8    index into the attribute `partitions`
    /recordings/number    [n] int32    official number
    /recordings/position  [n] int32    place among the files of its label and folder, bad files included
    /recordings/files     [n] int32    how many files that label and folder has
    /recordings/digest    [n, 16] uint8  BLAKE2b of the recording's events
    /events/offset        [n + 1] int64  recording i holds events offset[i] .. offset[i + 1]
    /events/dt            [m] uint32   microseconds since the event before; since the recording's start for its first
    /events/x, /events/y  [m] uint8 or uint16, upright pixels at sensor resolution
    /events/p             [m] uint8    1 is ON

Events are those of the window, without loss. What classes and episodes are made of them is left to `metaevents.datasets`.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents._version import __version__
from metaevents.archive.format import (
    CHUNK,
    DIGEST_BYTES,
    FORMAT,
    FORMAT_VERSION,
    RECORDING_COLUMNS,
    USER_BLOCK,
    contents_digest,
    event_digest,
    pixel_dtype,
    seal,
)
from metaevents.errors import MissingError, UsageError
from metaevents.events import EVENT_DTYPE, window
from metaevents.sources.base import RecordingRef, Source
from metaevents.specs import PARTITIONS, PartitionRule

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)

_BATCH = 64  # recordings that a worker reads at a time

_COMPRESSION: Mapping[str, Any] = {
    "compression": "gzip",
    "compression_opts": 4,
    "shuffle": True,
    "fletcher32": False,
}


@dataclass(frozen=True)
class ArchiveHeader:
    """What an archive says about itself beside its recordings.

    Attributes:
        dataset: the composed dataset that it was made for.
        protocol_version: of that dataset; 0 for a composition of a user's own.
        window_us: microseconds kept from each recording's first event.
        license, citation: of the recordings.
        fingerprint: gives the dataset's fingerprint from the digest of the contents.
    """

    dataset: str
    protocol_version: int
    window_us: int
    license: str
    citation: str
    fingerprint: Callable[[str], str]


@dataclass(frozen=True)
class _Row:
    ref: RecordingRef
    position: int
    files: int
    partition: int


@dataclass(frozen=True)
class _Batch:
    """Recordings as a worker hands them over: those kept, their columns one after another, and the repairs met."""

    kept: np.ndarray
    lengths: np.ndarray
    digests: np.ndarray
    columns: dict[str, np.ndarray]
    repairs: Counter[str]


def build(
    source: Source,
    path: str | os.PathLike[str],
    header: ArchiveHeader,
    partition: PartitionRule,
    *,
    jobs: int = 1,
    force: bool = False,
    progress: bool | None = None,
) -> Path:
    """Write all recordings of a source into one archive.

    The file is written under another name and renamed when it is complete and on disk; a build that was killed leaves nothing
    under the final name, and the next one starts over. The bytes do not depend on `jobs` or on the order of files.

    Args:
        path: the archive; its folder is created.
        partition: says for every recording whether it trains, validates or tests.
        jobs: processes that read; memory stays below 1 GiB however many recordings there are.
        force: replace an archive that is already there.
        progress: a progress bar; None shows it on a terminal.

    Raises:
        UsageError: `path` exists and `force` is not given; jobs below 1; a partition rule that returns something else.
        MissingError: the source has no recordings.
        RecordingError: a file that does not have the documented form.
    """
    from filelock import FileLock

    path = Path(path).expanduser()
    if jobs < 1:
        raise UsageError(f"jobs={jobs}; give at least 1")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists() and not force:
            raise UsageError(
                f"{path} exists and was left as it is; pass --force (force=True) to replace it"
            )
        rows = _rows(source, partition)
        temporary = path.with_name(f".{path.name}.part")
        try:
            _write(source, rows, temporary, header, jobs, progress)
            seal(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def _rows(source: Source, rule: PartitionRule) -> list[_Row]:
    """Every recording of the source in canonical order, with its place and partition."""

    def group(ref: RecordingRef) -> tuple[str, str]:
        return ref.folder, ref.label

    rows = []
    refs = sorted(source.recordings(), key=lambda ref: (*group(ref), ref.number, ref.id))
    for _, members in groupby(refs, key=group):
        together = list(members)
        for position, ref in enumerate(together):
            name = rule(ref, position, len(together))
            if name not in PARTITIONS:
                raise UsageError(
                    f"the partition rule gave {name!r} for {ref.id}; return one of {', '.join(PARTITIONS)}"
                )
            rows.append(_Row(ref, position, len(together), PARTITIONS.index(name)))
    if not rows:
        raise MissingError(f"source {source.name} has no recordings; download them first")
    if len({row.ref.id for row in rows}) != len(rows):
        raise UsageError(
            f"source {source.name} gives one id to several recordings; ids must differ"
        )
    return rows


def _write(
    source: Source,
    rows: list[_Row],
    path: Path,
    header: ArchiveHeader,
    jobs: int,
    progress: bool | None,
) -> None:
    import h5py
    from tqdm import tqdm

    width, height = source.sensor_size
    dtypes = {"dt": "u4", "x": pixel_dtype(width), "y": pixel_dtype(height), "p": "u1"}
    kept, lengths, digests, repairs = [], [], [], Counter[str]()
    with (
        h5py.File(path, "w", userblock_size=USER_BLOCK, libver=("earliest", "v110")) as file,
        tqdm(
            total=len(rows),
            unit="rec",
            desc=path.name.strip("."),
            disable=None if progress is None else not progress,
        ) as bar,
    ):
        events = file.create_group("events")
        columns = {
            name: _Appender(
                events.create_dataset(
                    name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), **_COMPRESSION
                )
            )
            for name, dtype in dtypes.items()
        }
        for batch in _read_all(source, rows, header.window_us, jobs):
            for name, column in batch.columns.items():
                columns[name].append(column)
            kept.append(batch.kept)
            lengths.append(batch.lengths)
            digests.append(batch.digests)
            repairs += batch.repairs
            bar.update(len(batch.kept))
        for appender in columns.values():
            appender.flush()
        mask = np.concatenate(kept)
        stay = [row for row, keep in zip(rows, mask, strict=True) if keep]
        if not stay:
            raise MissingError(
                f"source {source.name} has only empty recordings; download them again"
            )
        digest = np.concatenate(digests)
        table = _table(source, stay)
        recordings = file.create_group("recordings")
        for name, values in (*table.items(), ("digest", digest)):
            recordings.create_dataset(name, data=values, **_COMPRESSION)
        offset = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
        events.create_dataset("offset", data=offset, **_COMPRESSION)
        contents = contents_digest(table, digest, source.labels)
        file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            dataset=header.dataset,
            protocol_version=header.protocol_version,
            source=source.name,
            labels=list(source.labels),
            partitions=list(PARTITIONS),
            sensor_size=list(source.sensor_size),
            window_us=header.window_us,
            units="t and dt: microseconds; x to the right and y downwards in pixels of the upright image; p: 1 is ON",
            licence=header.license,
            citation=header.citation,
            creator=f"metaevents {__version__}",
            recordings=len(stay),
            events=int(offset[-1]),
            contents=contents,
            fingerprint=header.fingerprint(contents),
            dirt=json.dumps(dict(sorted(repairs.items()))),
        )
    for kind, count in sorted(repairs.items()):
        logger.info("%s: %s = %d", path.name, kind, count)


class _Appender:
    """Appends to a resizable column in whole chunks, so that no chunk is compressed twice."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset = dataset
        self.pending: list[np.ndarray] = []
        self.count = 0

    def append(self, values: np.ndarray) -> None:
        self.pending.append(values)
        self.count += len(values)
        if self.count >= 4 * CHUNK:
            self._write(self.count - self.count % CHUNK)

    def flush(self) -> None:
        self._write(self.count)

    def _write(self, count: int) -> None:
        values = np.concatenate(self.pending) if self.pending else np.empty(0, self.dataset.dtype)
        start = len(self.dataset)
        self.dataset.resize((start + count,))
        self.dataset[start:] = values[:count]
        self.pending, self.count = [values[count:].copy()], len(values) - count


def _table(source: Source, rows: Sequence[_Row]) -> dict[str, np.ndarray]:
    index = {label: i for i, label in enumerate(source.labels)}
    columns: dict[str, list[Any]] = {
        "id": [row.ref.id.encode() for row in rows],
        "label": [index[row.ref.label] for row in rows],
        "partition": [row.partition for row in rows],
        "number": [row.ref.number for row in rows],
        "position": [row.position for row in rows],
        "files": [row.files for row in rows],
    }
    return {name: np.array(columns[name], dtype) for name, dtype in RECORDING_COLUMNS.items()}


def _read_batch(source: Source, refs: Sequence[RecordingRef], window_us: int) -> _Batch:
    repairs = Counter[str]()
    kept, lengths, digests, streams = [], [], [], []
    for ref in refs:
        events, mended = source.read(ref)
        repairs.update(mended)
        kept.append(bool(len(events)))
        if not len(events):
            continue
        events = window(events, 0, window_us)
        lengths.append(len(events))
        digests.append(event_digest(events["t"], events["x"], events["y"], events["p"]))
        streams.append(events)
    merged = np.concatenate(streams) if streams else np.empty(0, EVENT_DTYPE)
    width, height = source.sensor_size
    dt = np.diff(merged["t"], prepend=0)
    starts = np.cumsum([0, *lengths])[:-1]
    dt[starts] = merged["t"][starts]
    return _Batch(
        kept=np.array(kept, bool),
        lengths=np.array(lengths, np.int64),
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES),
        columns={
            "dt": dt.astype(np.uint32),
            "x": merged["x"].astype(pixel_dtype(width)),
            "y": merged["y"].astype(pixel_dtype(height)),
            "p": merged["p"].astype(np.uint8),
        },
        repairs=repairs,
    )


_worker_source: Source | None = None


def _start_worker(source: Source) -> None:
    """Keep the source, and end with the parent: a killed build must not leave readers behind."""
    import multiprocessing
    import threading

    global _worker_source
    _worker_source = source
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _read_in_worker(refs: Sequence[RecordingRef], window_us: int) -> _Batch:
    if _worker_source is None:
        raise RuntimeError("worker was not started with a source")
    return _read_batch(_worker_source, refs, window_us)


def _read_all(source: Source, rows: Sequence[_Row], window_us: int, jobs: int) -> Iterator[_Batch]:
    """The recordings in the order of rows, batch by batch; few batches are in memory at a time."""
    refs = [row.ref for row in rows]
    batches = (refs[i : i + _BATCH] for i in range(0, len(refs), _BATCH))
    if jobs == 1 or len(refs) <= _BATCH:
        for batch in batches:
            yield _read_batch(source, batch, window_us)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=_process_context(), initializer=_start_worker, initargs=(source,)
    ) as executor:
        pending: deque[Future[_Batch]] = deque()

        def submit(batch: Sequence[RecordingRef]) -> Future[_Batch]:
            return executor.submit(_read_in_worker, batch, window_us)

        pending.extend(map(submit, islice(batches, 3 * jobs)))
        try:
            while pending:
                done = pending.popleft().result()
                if batch := next(batches, []):
                    pending.append(submit(batch))
                yield done
        except BrokenProcessPool as error:
            raise UsageError(
                "a reading process was killed, perhaps for want of memory; run again with --jobs 1"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


def _process_context() -> Any:
    """Processes that inherit neither threads nor the lock; tonic and scipy are imported once, before they fork off."""
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["metaevents.archive.writer", "tonic.io", "scipy.io"])
    return context
