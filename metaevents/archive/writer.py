"""Writing an archive: reading a source in parallel and appending its recordings to flat columns.

The file is complete or absent: it is made under a temporary name and renamed. The layout is in
`metaevents.archive.format`. Which recording trains, validates or tests is decided by the partition
rule that the caller gives.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import operator
import os
import pickle
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import compress, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents._version import __version__
from metaevents.archive.format import (
    CHUNK,
    DEFLATE_LEVEL,
    DIGEST_BYTES,
    FORMAT,
    MAX_ID_BYTES,
    MAX_LABELS,
    MAX_SENSOR_SIDE,
    MAX_WINDOW_US,
    RULES_ATTRIBUTE,
    contents_digest,
    event_digest,
    event_dtypes,
    format_version,
    recording_dtypes,
    seal,
)
from metaevents.archive.hdf5 import OutputFile, open_to_write, storage_errors
from metaevents.arguments import whole_number
from metaevents.errors import MissingError, RecordingError, StorageError, UsageError
from metaevents.events import EVENT_DTYPE, Events, as_events, window
from metaevents.files import PathLike, atomic_file, exclusive_lock, progress_bar, user_path
from metaevents.sources.base import (
    RecordingRef,
    Source,
    require_microseconds,
    require_plausible_spans,
)
from metaevents.specs import PARTITIONS, PartitionRule

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)

_BATCH = 64  # recordings that a worker reads at a time

_UNITS = (
    "t and dt: microseconds; x to the right and y downwards in pixels of the upright image; "
    "p: 1 is ON"
)

_COMPRESSION: Mapping[str, Any] = {
    "compression": "gzip",
    "compression_opts": DEFLATE_LEVEL,
    "shuffle": True,
    "fletcher32": False,
}


@dataclass(frozen=True)
class ArchiveHeader:
    """What an archive states beside its recordings.

    Attributes:
        dataset: Name of the composed dataset that the archive is made for.
        protocol_version: Version of that dataset's rules; 0 for a user's own composition.
        window_us: Microseconds kept from each recording's first event.
        license: License of the recordings.
        citation: Citation of the recordings.
        fingerprint: Function from the digest of the contents to the dataset's fingerprint.
        rules: The JSON of a user's own dataset; None for a built-in one.
    """

    dataset: str
    protocol_version: int
    window_us: int
    license: str
    citation: str
    fingerprint: Callable[[str], str]
    rules: str | None = None


@dataclass(frozen=True)
class _Row:
    """One recording of the source, with its place among its label's files and its partition."""

    ref: RecordingRef
    position: int
    files: int
    partition: int


@dataclass(frozen=True)
class _Batch:
    """Recordings that one worker has read.

    Attributes:
        kept: [recordings] bool; False for a recording without events, which is left out.
        lengths: [kept recordings] int64, number of events.
        digests: [kept recordings, 16] uint8.
        columns: The event columns, all kept recordings one after another.
        counts: [kept recordings] int64, number of events before the window was cut out.
        spans: [kept recordings] int64, microseconds from the first of these to the last.
        repairs: Repair counts of all recordings.
    """

    kept: np.ndarray
    lengths: np.ndarray
    digests: np.ndarray
    columns: dict[str, np.ndarray]
    counts: np.ndarray
    spans: np.ndarray
    repairs: Counter[str]


def build(
    source: Source,
    path: PathLike,
    header: ArchiveHeader,
    partition: PartitionRule,
    *,
    jobs: int = 1,
    force: bool = False,
    exist_ok: bool = False,
    progress: bool | None = None,
) -> Path:
    """Write all recordings of a source into one archive.

    The file is written under a temporary name and renamed when it is complete and flushed to disk.
    A build that was killed leaves nothing under the final name, and the next one starts over. The
    bytes depend neither on `jobs` nor on the order of files.

    Args:
        source: The recordings.
        path: The archive; its folder is created. A symbolic link stays, and the file that it names
            is made or replaced.
        header: What the archive states beside its recordings.
        partition: Decides for every recording whether it trains, validates or tests.
        jobs: Number of reading processes. Memory stays below 1 GiB for any number of recordings.
        force: Replace an existing archive.
        exist_ok: Leave an existing archive as it is, also one that another process finishes while
            this one waits. So several processes may ask for the same archive.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The absolute path of the archive.

    Raises:
        UsageError: `path` exists and neither `force` nor `exist_ok` is set; a number, name or id
            does not fit the format; the partition rule returns anything but a partition; or the
            reading processes cannot work.
        MissingError: The source has no recordings.
        RecordingError: A file does not have the documented form, or the source returns other events
            than `Source.read` promises.
        StorageError: The archive cannot be written, as on a full disk or into a folder that is a
            file.
    """
    path = user_path(path).absolute()
    jobs = whole_number("jobs", jobs, least=1)
    if path.exists() and exist_ok and not force:
        return path
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file, expected the name of an archive; give another name")
    if jobs > 1:
        _require_outermost()
    waiting = f"another process is building {path}; waiting for it"
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(path, waiting=waiting))
        except OSError as error:  # that makes the folder too
            raise StorageError(
                f"{path} cannot be made ({error.strerror or error}); give a folder that takes files"
            ) from error
        if path.exists() and not force:
            if exist_ok:
                return path
            raise UsageError(
                f"{path} exists and was not changed; pass --force (force=True) to replace it"
            )
        _check_header(source, header)
        rows = _list_rows(source, partition)
        if jobs > 1 and len(rows) > _BATCH:
            _require_importable(source)
        with atomic_file(path) as temporary:
            _write(source, rows, temporary, header, jobs, progress)
            with storage_errors(temporary):
                seal(temporary, format_version(len(source.labels)))
    return path


def differing_columns(
    source: Source,
    partition: PartitionRule,
    table: Mapping[str, np.ndarray],
    repairs: Mapping[str, int],
) -> list[str]:
    """Return in which columns the archive of a source would differ from an existing one.

    No events are compared. Recordings that the archive lacks count as empty, as far as the archive
    states how many files their label and folder had.

    Args:
        source: The recordings, with the labels of the archive.
        partition: Decides for every recording whether it trains, validates or tests.
        table: The columns of `RECORDING_COLUMNS` of the archive.
        repairs: The repair counts of the archive.

    Returns:
        Names out of `RECORDING_COLUMNS`; "id" alone if the archive holds other recordings.

    Raises:
        UsageError: An id, label or number of the source does not fit the format, or the partition
            rule returns anything but a partition.
        MissingError: The source has no recordings.
        RecordingError: A recording cannot be read.
    """
    held = set(table["id"].tolist())
    rows = _list_rows(source, partition)
    kept = [row for row in rows if row.ref.id.encode() in held]
    if len(kept) != len(held) or _is_any_new(source, rows, kept, repairs):
        return ["id"]
    expected = _recording_table(source, kept)
    return [name for name, values in expected.items() if not np.array_equal(values, table[name])]


def _is_any_new(
    source: Source, rows: Sequence[_Row], kept: Sequence[_Row], repairs: Mapping[str, int]
) -> bool:
    """Return whether a recording has events although the archive skipped it as empty.

    Args:
        source: The recordings.
        rows: All of them.
        kept: Those that the archive holds.
        repairs: The repair counts of the archive.
    """
    if len(rows) - len(kept) <= repairs.get("recordings_empty", 0):
        return False
    # A source need not count its empty recordings. Where the archive holds some recordings of a
    # label and folder, its column `files` counts the empty ones too. Others have to be read; of a
    # source that has grown, the first one has events already.
    known = {(row.ref.folder, row.ref.label) for row in kept}
    return any(
        len(source.read(row.ref)[0]) for row in rows if (row.ref.folder, row.ref.label) not in known
    )


def _check_header(source: Source, header: ArchiveHeader) -> None:
    """Check that what the archive states fits the format's fields."""
    whole_number("window_us", header.window_us, least=1, most=MAX_WINDOW_US)
    for name, side in zip(("width", "height"), source.sensor_size, strict=True):
        whole_number(f"{name} of the sensor", side, least=1, most=MAX_SENSOR_SIDE)
    labels = list(source.labels)
    if len(labels) > MAX_LABELS:
        raise UsageError(
            f"source {source.name} has {len(labels):,} labels, an archive holds at most "
            f"{MAX_LABELS:,}; leave some out"
        )
    if len(set(labels)) != len(labels):
        raise UsageError(f"source {source.name} gives a label twice; labels must differ")
    texts = {
        "name of the dataset": header.dataset,
        "name of the source": source.name,
        "license": header.license,
        "citation": header.citation,
    }
    for what, text in texts.items():
        _require_text(what, text)
    for label in labels:
        _require_text("label", label, MAX_ID_BYTES)


def _require_text(what: str, text: object, most: int | None = None) -> None:
    """Check that a text can be stored: in UTF-8, without null characters, in `most` bytes."""
    try:
        if not isinstance(text, str):
            raise ValueError(f"it is a {type(text).__name__}")
        if "\0" in text:
            raise ValueError("it has a null character")
        if most is not None and len(text.encode()) > most:
            raise ValueError(f"it has more than {most:,} bytes")
        text.encode()
    except ValueError as error:
        shown = ascii(text)
        raise UsageError(
            f"{what} {shown[:60]} cannot be stored ({error}); give another one"
        ) from error


def _list_rows(source: Source, rule: PartitionRule) -> list[_Row]:
    """Return every recording of the source in the archive's order, with its place and partition."""

    def group(ref: RecordingRef) -> tuple[str, str]:
        return ref.folder, ref.label

    rows = []
    listed = list(source.recordings())
    _check_refs(source, listed)
    refs = sorted(listed, key=lambda ref: (*group(ref), ref.number, ref.id))
    for _, members in groupby(refs, key=group):
        label_refs = list(members)
        for position, ref in enumerate(label_refs):
            name = rule(ref, position, len(label_refs))
            if name not in PARTITIONS:
                raise UsageError(
                    f"the partition rule returned {name!r} for {ref.id}; "
                    f"return one of {', '.join(PARTITIONS)}"
                )
            rows.append(_Row(ref, position, len(label_refs), PARTITIONS.index(name)))
    if not rows:
        raise MissingError(f"source {source.name} has no recordings; download them first")
    return rows


def _check_refs(source: Source, refs: Sequence[RecordingRef]) -> None:
    """Check that every recording's id, label and number fit the columns of the archive."""
    if len({ref.id for ref in refs}) != len(refs):
        raise UsageError(
            f"source {source.name} gives one id to several recordings; ids must differ"
        )
    labels = set(source.labels)
    for ref in refs:
        _require_text("the id", ref.id, MAX_ID_BYTES)
        if ref.label not in labels:
            raise UsageError(
                f"source {source.name} gives the label {ref.label!r} to {ref.id}, which is none of "
                "its labels; correct the source"
            )
        try:
            number = operator.index(ref.number)
        except TypeError:
            number = 1 << 31
        if not -(1 << 31) <= number < 1 << 31:
            raise UsageError(
                f"recording {ref.id} has the number {ref.number!r}, expected a whole number of 32 "
                "bits; correct the source"
            )


def _write(
    source: Source,
    rows: list[_Row],
    path: Path,
    header: ArchiveHeader,
    jobs: int,
    progress: bool | None,
) -> None:
    """Write the HDF5 file, without its seal."""
    kept, lengths, digests, repairs = [], [], [], Counter[str]()
    counts, spans = [], []
    with (
        open_to_write(path) as output,
        progress_bar(path.name.strip("."), len(rows), "rec", progress) as bar,
    ):
        file = output.hdf5
        events = file.create_group("events")
        columns = _create_event_columns(output, events, source.sensor_size)
        for batch in _read_all(source, rows, header.window_us, jobs):
            for name, column in batch.columns.items():
                columns[name].append(column)
            kept.append(batch.kept)
            lengths.append(batch.lengths)
            digests.append(batch.digests)
            counts.append(batch.counts)
            spans.append(batch.spans)
            repairs += batch.repairs
            if len(kept) == 1:  # before all others are read
                _check_spans(source, counts, spans, header)
            bar.update(len(batch.kept))
        _check_spans(source, counts, spans, header)
        for appender in columns.values():
            appender.flush()
        kept_rows = [row for row, keep in zip(rows, np.concatenate(kept), strict=True) if keep]
        if not kept_rows:
            raise MissingError(
                f"source {source.name} has only empty recordings; download them again"
            )
        digest = np.concatenate(digests)
        table = _recording_table(source, kept_rows)
        offset = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
        contents = contents_digest(table, digest, source.labels)
        attributes = {
            "format": FORMAT,
            "format_version": format_version(len(source.labels)),
            # HDF5 would make a type of its own of a subclass of str.
            "dataset": str(header.dataset),
            "protocol_version": header.protocol_version,
            "source": str(source.name),
            "labels": list(map(str, source.labels)),
            "partitions": list(PARTITIONS),
            "sensor_size": list(source.sensor_size),
            "window_us": header.window_us,
            "units": _UNITS,
            "licence": str(header.license),
            "citation": str(header.citation),
            "creator": f"metaevents {__version__}",
            "recordings": len(kept_rows),
            "events": int(offset[-1]),
            "contents": contents,
            "fingerprint": header.fingerprint(contents),
            "dirt": json.dumps(dict(sorted(repairs.items()))),
        }
        if header.rules is not None:
            attributes[RULES_ATTRIBUTE] = header.rules
        tables = {**table, "digest": digest}
        labels = np.array([label.encode() for label in source.labels], "S")
        text = sum(len(str(value)) for value in attributes.values())
        output.reserve(
            sum(values.nbytes for values in (*tables.values(), offset, labels)) + 4 * text
        )
        with storage_errors(path):
            recordings = file.create_group("recordings")
            for name, values in tables.items():
                recordings.create_dataset(name, data=values, **_COMPRESSION)
            events.create_dataset("offset", data=offset, **_COMPRESSION)
            if format_version(len(labels)) > 1:
                del attributes["labels"]
                file.create_dataset("labels", data=labels, **_COMPRESSION)
            file.attrs.update(attributes)
    for kind, count in sorted(repairs.items()):
        logger.info("%s: %s = %d", path.name, kind, count)


def _check_spans(
    source: Source, counts: list[np.ndarray], spans: list[np.ndarray], header: ArchiveHeader
) -> None:
    """Check that the times of the recordings read so far are in microseconds."""
    require_plausible_spans(
        source.name,
        np.concatenate(counts),
        np.concatenate(spans),
        header.window_us,
        source.sensor_size,
    )


def _create_event_columns(
    output: OutputFile, events: h5py.Group, sensor_size: tuple[int, int]
) -> dict[str, _ColumnAppender]:
    """Create the empty event columns and return an appender for each."""
    return {
        name: _ColumnAppender(
            events.create_dataset(
                name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), **_COMPRESSION
            ),
            output,
        )
        for name, dtype in event_dtypes(sensor_size).items()
    }


class _ColumnAppender:
    """Appends to a resizable column in whole chunks, so that no chunk is compressed twice."""

    def __init__(self, dataset: h5py.Dataset, output: OutputFile) -> None:
        self.dataset = dataset
        self.output = output
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
        """Write the first `count` pending values; the others stay pending."""
        values = np.concatenate(self.pending) if self.pending else np.empty(0, self.dataset.dtype)
        start = len(self.dataset)
        self.output.reserve(count * values.itemsize)
        with self.output.errors():
            self.dataset.resize((start + count,))
            self.dataset[start:] = values[:count]
        self.pending, self.count = [values[count:].copy()], len(values) - count


def _recording_table(source: Source, rows: Sequence[_Row]) -> dict[str, np.ndarray]:
    """Return the columns of `RECORDING_COLUMNS` for some recordings."""
    label_index = {label: i for i, label in enumerate(source.labels)}
    columns: dict[str, list[Any]] = {
        "id": [row.ref.id.encode() for row in rows],
        "label": [label_index[row.ref.label] for row in rows],
        "partition": [row.partition for row in rows],
        "number": [row.ref.number for row in rows],
        "position": [row.position for row in rows],
        "files": [row.files for row in rows],
    }
    dtypes = recording_dtypes(format_version(len(source.labels)))
    return {name: np.array(columns[name], dtype) for name, dtype in dtypes.items()}


def _read_batch(source: Source, refs: Sequence[RecordingRef], window_us: int) -> _Batch:
    """Read some recordings and return their columns."""
    repairs = Counter[str]()
    kept, lengths, digests, streams = [], [], [], []
    counts, spans = [], []
    for ref in refs:
        events, repaired = source.read(ref)
        repairs.update(repaired)
        kept.append(bool(len(events)))
        if not len(events):
            continue
        if getattr(events, "dtype", None) != EVENT_DTYPE:
            events = _converted(source, ref, events)
        require_microseconds(events, window_us, ref.id)
        counts.append(len(events))
        span = int(events["t"][-1]) - int(events["t"][0])
        spans.append(min(span, np.iinfo(np.int64).max))
        events = window(events, 0, window_us)
        lengths.append(len(events))
        digests.append(event_digest(events["t"], events["x"], events["y"], events["p"]))
        streams.append(events)
    merged = np.concatenate(streams) if streams else np.empty(0, EVENT_DTYPE)
    if 0 in lengths:
        _find_bad_recording(source, refs, kept, streams)
    dt = np.diff(merged["t"], prepend=0)
    starts = np.cumsum([0, *lengths])[:-1]
    dt[starts] = merged["t"][starts]
    if not _keeps_promise(merged, dt, dt[starts], source.sensor_size):
        _find_bad_recording(source, refs, kept, streams)
    dtypes = event_dtypes(source.sensor_size)
    return _Batch(
        kept=np.array(kept, bool),
        lengths=np.array(lengths, np.int64),
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES),
        columns={
            "dt": dt.astype(dtypes["dt"]),
            **{name: merged[name].astype(dtypes[name]) for name in ("x", "y", "p")},
        },
        counts=np.array(counts, np.int64),
        spans=np.array(spans, np.int64),
        repairs=repairs,
    )


def _converted(source: Source, ref: RecordingRef, events: Any) -> Events:
    """Return what a user's source returned as an event array, if that changes no number."""
    try:
        return as_events(events)
    except UsageError as error:
        raise RecordingError(
            f"source {source.name} returned events of {ref.id}: {error}"
        ) from error


def _keeps_promise(
    events: Events, dt: np.ndarray, first: np.ndarray, sensor_size: tuple[int, int]
) -> bool:
    """Return whether events are as `Source.read` promises, so that the columns hold them.

    Args:
        events: Events of recordings one after another, [N].
        dt: Microseconds since the event before, [N].
        first: Time of each recording's first event.
        sensor_size: (width, height) in pixels.
    """
    if not len(events):
        return True
    bounds = zip(("x", "y", "p"), (*sensor_size, 2), strict=True)
    return bool(
        dt.min() >= 0
        and not first.any()
        and all(events[name].min() >= 0 and events[name].max() < bound for name, bound in bounds)
    )


def _find_bad_recording(
    source: Source, refs: Sequence[RecordingRef], kept: Sequence[bool], streams: Sequence[Events]
) -> None:
    """Raise RecordingError for the first recording whose events are not as promised."""
    width, height = source.sensor_size
    for ref, events in zip(compress(refs, kept), streams, strict=True):
        dt = np.diff(events["t"])
        if not len(events) or not _keeps_promise(
            events, np.append(dt, 0), events["t"][:1], source.sensor_size
        ):
            raise RecordingError(
                f"source {source.name} returned events of {ref.id} that are not sorted by time "
                f"from 0 on, or are outside {width} x {height} pixels; correct the source"
            )


_worker_source: Source | None = None  # the source that this reading process was started with


def _start_worker(source: Source) -> None:
    """Keep the source, and end with the parent, so that a killed build leaves no reader behind."""
    global _worker_source
    _worker_source = source
    parent = multiprocessing.parent_process()

    def exit_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def _read_in_worker(refs: Sequence[RecordingRef], window_us: int) -> _Batch:
    """Read some recordings of the worker's source."""
    if _worker_source is None:
        raise RuntimeError("the reading process was not started with a source")
    return _read_batch(_worker_source, refs, window_us)


def _read_all(source: Source, rows: Sequence[_Row], window_us: int, jobs: int) -> Iterator[_Batch]:
    """Yield the recordings in the order of `rows`, in batches; few are in memory at a time."""
    refs = [row.ref for row in rows]
    batches = (refs[i : i + _BATCH] for i in range(0, len(refs), _BATCH))
    if jobs == 1 or len(refs) <= _BATCH:
        for batch in batches:
            yield _read_batch(source, batch, window_us)
        return
    executor = ProcessPoolExecutor(
        jobs, mp_context=_process_context(), initializer=_start_worker, initargs=(source,)
    )
    pending: deque[Future[_Batch]] = deque()

    def submit(batch: Sequence[RecordingRef]) -> None:
        # A process that ends while it is started breaks the pipe through which it is started.
        try:
            pending.append(executor.submit(_read_in_worker, batch, window_us))
        except (OSError, EOFError) as error:
            raise BrokenProcessPool from error

    try:
        for batch in islice(batches, 3 * jobs):
            submit(batch)
        while pending:
            done = pending.popleft().result()
            if batch := next(batches, []):
                submit(batch)
            yield done
    except BrokenProcessPool as error:
        raise UsageError(
            "a reading process ended before it was done, perhaps because memory ran out or because "
            'the script lacks `if __name__ == "__main__":`; run again with --jobs 1 (jobs=1)'
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


_WAY_OUT = "or pass jobs=1 (--jobs 1)"


def _require_outermost() -> None:
    """Check that this is no reading process that runs the program once more.

    It would wait for the lock of the process that waits for it.

    Raises:
        UsageError: It is one.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # importing the program
        raise UsageError(
            "a reading process started the program once more; put the program's own calls under "
            f'`if __name__ == "__main__":`, {_WAY_OUT}'
        )


def _require_importable(source: Source) -> None:
    """Check that reading processes can import the program and receive the source.

    A reading process imports the main module, as every process does that is not a fork.

    Raises:
        UsageError: They cannot, so that only `jobs=1` works.
    """
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and file is not None:
        script = Path(file)
        if not script.is_file():
            raise UsageError(
                f"the program comes from {file}, which reading processes cannot import; keep it in "
                f"a file, {_WAY_OUT}"
            )
        if script.suffix == ".py" and not _has_guard(script):
            raise UsageError(
                f'{script} calls metaevents outside of `if __name__ == "__main__":`, so that '
                f"every reading process would start it again; put the calls under it, {_WAY_OUT}"
            )
    sink = _PickleSink()
    try:
        pickle.Pickler(sink, pickle.HIGHEST_PROTOCOL).dump(source)
    except Exception as error:  # whatever the parts of a user's source raise
        raise UsageError(
            f"the source {type(source).__name__} cannot be sent to reading processes ({error}); "
            "keep only what can be pickled in it, " + _WAY_OUT
        ) from error
    if sink.names_main and file is None:
        raise UsageError(
            f"the source {type(source).__name__} or a part of it is defined in a notebook or at a "
            f"prompt, where reading processes cannot import it; define it in a module, {_WAY_OUT}"
        )


def _has_guard(script: Path) -> bool:
    """Return whether a script tells the main program from its import, to judge by its text."""
    try:
        text = script.read_text("utf-8", "replace")
    except OSError:
        return True
    return "__main__" in text or "parent_process" in text or "current_process" in text


class _PickleSink:
    """A file for pickles that keeps nothing, so that a large source takes no memory."""

    def __init__(self) -> None:
        self.names_main = False

    def write(self, data: Any) -> int:
        # Names come in small pieces; arrays of any size come through as they are.
        if len(data) <= 1 << 16 and b"__main__" in bytes(data):
            self.names_main = True
        return len(data)


def _process_context() -> Any:
    """Return a multiprocessing context whose processes inherit neither threads nor the lock.

    Where a fork server exists, this module is imported once, before the processes are forked. The
    fork server of some Python versions searches the current folder first, so nothing is preloaded
    if a package of this name is there: it may be another version of this one.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    another = Path("metaevents")
    if not another.exists() or another.resolve() == Path(__file__).resolve().parents[1]:
        context.set_forkserver_preload(["metaevents.archive.writer"])
    return context
