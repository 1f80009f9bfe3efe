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

Events are those of the window, without loss. What classes and episodes are made of them is left to `metaevents.double`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.errors import ArchiveError, MissingError, UsageError
from metaevents.events import EVENT_DTYPE, Events, window
from metaevents.sources.base import SIMULATED, RecordingRef, Source
from metaevents.tasks import PARTITIONS, PartitionRule, digest_json

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)

FORMAT = "metaevents-recordings"
FORMAT_VERSION = 1

_USER_BLOCK = 512
_CHUNK = 1 << 16  # events
_BATCH = 64  # recordings that a worker reads at a time
_DIGEST_BYTES = 16
_COMPRESSION: Mapping[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": False}
_RECORDING_COLUMNS = {"id": "S", "label": "u1", "partition": "u1", "number": "i4", "position": "i4", "files": "i4"}
_EVENT_COLUMNS = ("dt", "x", "y", "p")
_ATTRIBUTES = (
    "format", "format_version", "dataset", "protocol_version", "source", "labels", "partitions", "sensor_size", "window_us",
    "units", "licence", "citation", "creator", "recordings", "events", "contents", "fingerprint", "dirt",
)  # fmt: skip


# --- writing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArchiveHeader:
    """What an archive says about itself beside its recordings.

    Attributes:
        dataset: the composed dataset that it was made for.
        protocol_version: of that dataset; 0 for a composition of a user's own.
        window_us: microseconds kept from each recording's first event.
        licence, citation: of the recordings.
        fingerprint: gives the dataset's fingerprint from the digest of the contents.
    """

    dataset: str
    protocol_version: int
    window_us: int
    licence: str
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
    """Recordings as a worker hands them over: those kept, their columns one after another, and the dirt met."""

    kept: np.ndarray
    lengths: np.ndarray
    digests: np.ndarray
    columns: dict[str, np.ndarray]
    dirt: Counter[str]


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

    Parameters:
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
            raise UsageError(f"{path} exists and was left as it is; pass --force (force=True) to replace it")
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
        raise UsageError(f"source {source.name} gives one id to several recordings; ids must differ")
    return rows


def _write(
    source: Source, rows: list[_Row], path: Path, header: ArchiveHeader, jobs: int, progress: bool | None
) -> None:
    import h5py
    from tqdm import tqdm

    width, height = source.sensor_size
    dtypes = {"dt": "u4", "x": _pixel_dtype(width), "y": _pixel_dtype(height), "p": "u1"}
    kept, lengths, digests, dirt = [], [], [], Counter[str]()
    with (
        h5py.File(path, "w", userblock_size=_USER_BLOCK, libver=("earliest", "v110")) as file,
        tqdm(
            total=len(rows), unit="rec", desc=path.name.strip("."), disable=None if progress is None else not progress
        ) as bar,
    ):
        events = file.create_group("events")
        columns = {
            name: _Appender(
                events.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(_CHUNK,), **_COMPRESSION)
            )
            for name, dtype in dtypes.items()
        }
        for batch in _read_all(source, rows, header.window_us, jobs):
            for name, column in batch.columns.items():
                columns[name].append(column)
            kept.append(batch.kept)
            lengths.append(batch.lengths)
            digests.append(batch.digests)
            dirt += batch.dirt
            bar.update(len(batch.kept))
        for appender in columns.values():
            appender.flush()
        mask = np.concatenate(kept)
        stay = [row for row, keep in zip(rows, mask, strict=True) if keep]
        if not stay:
            raise MissingError(f"source {source.name} has only empty recordings; download them again")
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
            licence=header.licence,
            citation=header.citation,
            creator=f"metaevents {_version()}",
            recordings=len(stay),
            events=int(offset[-1]),
            contents=contents,
            fingerprint=header.fingerprint(contents),
            dirt=json.dumps(dict(sorted(dirt.items()))),
        )
    for kind, count in sorted(dirt.items()):
        logger.info("%s: %s = %d", path.name, kind, count)


def _version() -> str:
    from metaevents import __version__

    return __version__


def _pixel_dtype(size: int) -> str:
    return "u1" if size <= 256 else "u2"


class _Appender:
    """Appends to a resizable column in whole chunks, so that no chunk is compressed twice."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset = dataset
        self.pending: list[np.ndarray] = []
        self.count = 0

    def append(self, values: np.ndarray) -> None:
        self.pending.append(values)
        self.count += len(values)
        if self.count >= 4 * _CHUNK:
            self._write(self.count - self.count % _CHUNK)

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
    return {name: np.array(columns[name], dtype) for name, dtype in _RECORDING_COLUMNS.items()}


def contents_digest(table: Mapping[str, np.ndarray], digest: np.ndarray, labels: Sequence[str]) -> str:
    """Hex SHA-256 over every recording's id, label, partition, number and events, in the archive's order."""
    hasher = hashlib.sha256(digest_json(list(labels)).encode())
    rows = zip(
        table["id"], table["label"].tolist(), table["partition"].tolist(), table["number"].tolist(), digest, strict=True
    )
    for id, label, part, number, events in rows:
        hasher.update(struct.pack("<I", len(id)) + id + struct.pack("<BBi", label, part, number) + events.tobytes())
    return hasher.hexdigest()


def _event_digest(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> bytes:
    """BLAKE2b over t (int32), x, y (uint16) and p (uint8), each little-endian, one column after another."""
    hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for column, dtype in ((t, "<i4"), (x, "<u2"), (y, "<u2"), (p, "u1")):
        hasher.update(np.ascontiguousarray(column, dtype=dtype).data)
    return hasher.digest()


def _read_batch(source: Source, refs: Sequence[RecordingRef], window_us: int) -> _Batch:
    dirt = Counter[str]()
    kept, lengths, digests, streams = [], [], [], []
    for ref in refs:
        events, mended = source.read(ref)
        dirt.update(mended)
        kept.append(bool(len(events)))
        if not len(events):
            continue
        events = window(events, 0, window_us)
        lengths.append(len(events))
        digests.append(_event_digest(events["t"], events["x"], events["y"], events["p"]))
        streams.append(events)
    merged = np.concatenate(streams) if streams else np.empty(0, EVENT_DTYPE)
    width, height = source.sensor_size
    dt = np.diff(merged["t"], prepend=0)
    starts = np.cumsum([0, *lengths])[:-1]
    dt[starts] = merged["t"][starts]
    return _Batch(
        kept=np.array(kept, bool),
        lengths=np.array(lengths, np.int64),
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _DIGEST_BYTES),
        columns={
            "dt": dt.astype(np.uint32),
            "x": merged["x"].astype(_pixel_dtype(width)),
            "y": merged["y"].astype(_pixel_dtype(height)),
            "p": merged["p"].astype(np.uint8),
        },
        dirt=dirt,
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
    context.set_forkserver_preload(["metaevents.archive", "tonic.io", "scipy.io"])
    return context


# --- sealing -------------------------------------------------------------------------------------------------------


def seal(path: Path) -> None:
    """Write length and SHA-256 of the HDF5 part into the user block, and bring the file to the disk."""
    with path.open("r+b") as file:
        line = f"{FORMAT} {FORMAT_VERSION} bytes={_hdf5_length(path)} sha256={_hdf5_digest(path)}\n"
        file.write(line.encode("ascii").ljust(_USER_BLOCK, b" "))
        file.flush()
        os.fsync(file.fileno())


def _hdf5_length(path: Path) -> int:
    return path.stat().st_size - _USER_BLOCK


def _hdf5_digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(_USER_BLOCK)
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


# --- reading -------------------------------------------------------------------------------------------------------


class Archive:
    """An archive opened for reading. Opening checks format, version, length and the size of every column; it reads no events.

    The file is open only while something is read, so that an Archive can be pickled and used in any process.

    Raises:
        MissingError: no such file.
        ArchiveError: not an archive, another version, truncated, or a column of the wrong size.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        if not self.path.exists():
            raise MissingError(f"no archive {self.path}; make one with `metaevents build`")
        if self.path.is_dir():
            raise ArchiveError(f"{self.path} is a folder, expected an archive file (.h5)")
        self._check_seal()
        with self._open() as file:
            self.attributes = self._read_attributes(file)
            self._check_columns(file)
            self.offset: np.ndarray = file["events/offset"][:]
            self.table: dict[str, np.ndarray] = {name: file["recordings"][name][:] for name in _RECORDING_COLUMNS}
        self._check_offsets()

    # Attributes, by the names users know.

    @property
    def dataset(self) -> str:
        return str(self.attributes["dataset"])

    @property
    def protocol_version(self) -> int:
        return int(self.attributes["protocol_version"])

    @property
    def source(self) -> str:
        return str(self.attributes["source"])

    @property
    def simulated(self) -> bool:
        return self.source == SIMULATED

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(map(str, self.attributes["labels"]))

    @property
    def sensor_size(self) -> tuple[int, int]:
        width, height = self.attributes["sensor_size"]
        return int(width), int(height)

    @property
    def window_us(self) -> int:
        return int(self.attributes["window_us"])

    @property
    def contents(self) -> str:
        return str(self.attributes["contents"])

    @property
    def fingerprint(self) -> str:
        return str(self.attributes["fingerprint"])

    @property
    def dirt(self) -> dict[str, int]:
        return dict(json.loads(str(self.attributes["dirt"])))

    def __len__(self) -> int:
        """The number of recordings."""
        return len(self.offset) - 1

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r}: {self.dataset}, {self.source}, {len(self)} recordings)"

    @cached_property
    def ids(self) -> list[str]:
        """The recordings' ids, in the archive's order."""
        return [id.decode() for id in self.table["id"]]

    def select(self, label: str, partitions: Sequence[str]) -> np.ndarray:
        """Indices of a label's recordings in some partitions, in order of id; [k] int64."""
        wanted = [PARTITIONS.index(name) for name in partitions]
        return np.flatnonzero(
            (self.table["label"] == self.labels.index(label)) & np.isin(self.table["partition"], wanted)
        )

    def read(self, index: int) -> Events:
        """One recording: its events in the window, upright at sensor resolution, t in microseconds."""
        ((_, events),) = self.iterate([index])
        return events

    def iterate(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, Events]]:
        """(index, events) of the given recordings, or of all in order, in bounded memory; each checked against its digest.

        Raises:
            ArchiveError: a recording whose events are not those that were written.
        """
        with self._open() as file:
            digests = file["recordings/digest"]
            for start, stop in self._spans(indices):
                first, last = int(self.offset[start]), int(self.offset[stop])
                columns = [self._column(file, name, first, last) for name in _EVENT_COLUMNS]
                expected = digests[start:stop]
                for index in range(start, stop):
                    part = slice(int(self.offset[index]) - first, int(self.offset[index + 1]) - first)
                    dt, x, y, p = (column[part] for column in columns)
                    t = np.cumsum(dt, dtype=np.int64)
                    if _event_digest(t, x, y, p) != expected[index - start].tobytes():
                        raise ArchiveError(
                            f"{self.path}: recording {self.ids[index]} is corrupt; build the archive again"
                        )
                    events = np.empty(len(t), EVENT_DTYPE)
                    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
                    yield index, events

    def _spans(self, indices: Sequence[int] | None) -> Iterator[tuple[int, int]]:
        """Ranges of recordings to read at once: single ones as asked for, or all, some million events at a time."""
        if indices is not None:
            yield from ((index, index + 1) for index in indices)
            return
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.offset, self.offset[start] + 16 * _CHUNK, side="right")) - 1
            stop = max(stop, start + 1)
            yield start, stop
            start = stop

    def _column(self, file: h5py.File, name: str, first: int, last: int) -> np.ndarray:
        try:
            values: np.ndarray = file["events"][name][first:last]
        except OSError as error:
            raise ArchiveError(f"{self.path}: column events/{name} is corrupt; build the archive again") from error
        return values

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        import h5py

        try:
            file = h5py.File(self.path, "r")
        except PermissionError as error:
            raise ArchiveError(f"{self.path} cannot be read (no permission); change its mode or copy it") from error
        except OSError as error:
            raise ArchiveError(f"{self.path} is no readable HDF5 file ({error}); build it again") from error
        with file:
            yield file

    def _seal(self) -> dict[str, str]:
        """What the user block says, or nothing where there is none of ours."""
        try:
            with self.path.open("rb") as file:
                words = file.read(_USER_BLOCK).decode("ascii", "replace").split()
        except OSError as error:
            raise ArchiveError(f"{self.path} cannot be read ({error.strerror}); change its mode or copy it") from error
        if words[:1] != [FORMAT]:
            return {}
        return {"version": words[1], **dict(word.split("=", 1) for word in words[2:] if "=" in word)}

    def _check_seal(self) -> None:
        said = self._seal()
        if not said:
            raise ArchiveError(
                f"{self.path} is no metaevents archive; expected a file that `metaevents build` wrote, so build it again"
            )
        if said["version"] != str(FORMAT_VERSION):
            raise ArchiveError(
                f"{self.path} has archive format {said['version']}, this release reads {FORMAT_VERSION}; "
                "upgrade metaevents or build it again"
            )
        length = _hdf5_length(self.path)
        if said.get("bytes") != str(length):
            raise ArchiveError(
                f"{self.path} has {length} bytes of HDF5, expected {said.get('bytes')}: it is truncated or was changed; "
                "copy or build it again"
            )

    def _read_attributes(self, file: h5py.File) -> dict[str, Any]:
        missing = [name for name in _ATTRIBUTES if name not in file.attrs]
        if missing:
            raise ArchiveError(f"{self.path} lacks the attributes {', '.join(missing)}; build it again")
        attributes = {name: file.attrs[name] for name in _ATTRIBUTES}
        if attributes["format"] != FORMAT or int(attributes["format_version"]) != FORMAT_VERSION:
            raise ArchiveError(
                f"{self.path} has format {attributes['format']} {attributes['format_version']}, this release reads "
                f"{FORMAT} {FORMAT_VERSION}; upgrade metaevents or build it again"
            )
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()}

    def _check_columns(self, file: h5py.File) -> None:
        n, m = int(self.attributes["recordings"]), int(self.attributes["events"])
        expected: dict[str, tuple[int, ...]] = {
            **{f"recordings/{name}": (n,) for name in _RECORDING_COLUMNS},
            "recordings/digest": (n, _DIGEST_BYTES),
            "events/offset": (n + 1,),
            **{f"events/{name}": (m,) for name in _EVENT_COLUMNS},
        }
        for name, shape in expected.items():
            found = file[name].shape if name in file else None
            if found != shape:
                raise ArchiveError(f"{self.path}: column {name} has shape {found}, expected {shape}; build it again")

    def _check_offsets(self) -> None:
        offset = self.offset
        if offset[0] != 0 or offset[-1] != int(self.attributes["events"]) or np.any(np.diff(offset) < 0):
            raise ArchiveError(f"{self.path}: column events/offset is not an ascending list from 0; build it again")
        if self.table["label"].max(initial=0) >= len(self.labels) or self.table["partition"].max(initial=0) >= len(
            PARTITIONS
        ):
            raise ArchiveError(f"{self.path}: a recording has a label or partition out of range; build it again")

    def verify(self, progress: bool | None = None) -> list[str]:
        """Every checksum, offset and coordinate recomputed; one line for each thing that was checked.

        Raises:
            ArchiveError: whatever does not agree.
        """
        from tqdm import tqdm

        if self._seal().get("sha256") != _hdf5_digest(self.path):
            raise ArchiveError(
                f"{self.path}: the SHA-256 of the file is not the one it was sealed with; copy or build it again"
            )
        checked = ["file: SHA-256 of every byte agrees"]
        width, height = self.sensor_size
        with tqdm(
            total=len(self), unit="rec", desc="verify", disable=None if progress is None else not progress
        ) as bar:
            for index, events in self.iterate():
                if not len(events):
                    raise ArchiveError(f"{self.path}: recording {self.ids[index]} is empty; build the archive again")
                t = events["t"]
                inside = (
                    events["x"].max() < width and events["y"].max() < height and t[0] == 0 and t[-1] < self.window_us
                )
                if not inside:
                    raise ArchiveError(
                        f"{self.path}: recording {self.ids[index]} has events outside {width} x {height} pixels and "
                        f"{self.window_us} us; build the archive again"
                    )
                bar.update()
        checked.append(f"recordings: {len(self)} digests, offsets, times and coordinates agree")
        with self._open() as file:
            contents = contents_digest(self.table, file["recordings/digest"][:], self.labels)
        if contents != self.contents:
            raise ArchiveError(
                f"{self.path}: the digest of all recordings is {contents}, expected {self.contents}; build it again"
            )
        checked.append(f"contents: {contents}")
        return checked
