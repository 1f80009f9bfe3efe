"""Reading an archive: opening with checks, recordings as events, and full verification.

The layout is in `metaevents.archive.format`, how files of strangers are opened in
`metaevents.archive.hdf5`. Whether partition and fingerprint follow a dataset's rules is checked by
`metaevents.building.verify_rules`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.archive.format import (
    CHUNK,
    DIGEST_BYTES,
    EVENT_COLUMNS,
    EVENT_DIGEST_DTYPES,
    FORMAT,
    FORMAT_VERSIONS,
    LIST_ATTRIBUTES,
    MAX_ID_BYTES,
    MAX_LABELS,
    MAX_RULES,
    MAX_SENSOR_SIDE,
    MAX_WINDOW_US,
    NUMBER_ATTRIBUTES,
    RECORDING_COLUMNS,
    RULES_ATTRIBUTE,
    TEXT_ATTRIBUTES,
    USER_BLOCK,
    Seal,
    contents_digest,
    event_digest,
    event_dtypes,
    format_version,
    hdf5_digest,
    parse_seal,
    recording_dtypes,
)
from metaevents.archive.hdf5 import (
    damage_errors,
    list_members,
    open_column,
    open_to_read,
    read_column,
    read_user_block,
)
from metaevents.archive.hdf5_attributes import AttributeValue, read_attributes
from metaevents.arguments import whole_number
from metaevents.errors import ArchiveError
from metaevents.events import EVENT_DTYPE, Events
from metaevents.files import PathLike, progress_bar, user_path
from metaevents.sources.base import SIMULATED
from metaevents.specs import PARTITIONS

if TYPE_CHECKING:
    import h5py

_HEX_DIGEST = re.compile("[0-9a-f]{64}")

_SPAN = 16 * CHUNK  # events that are read at once


class Archive:
    """An archive opened for reading.

    Opening checks the seal, the attributes, and type, shape and storage of every column; it reads
    no events. The file is open only while something is read, so that an Archive can be pickled and
    used in any process.

    Attributes:
        path: The file, absolute.
        seal: The file's length and SHA-256, as its user block states them.
        attributes: The HDF5 attributes, as Python values.
        offset: [n + 1] int64; recording i holds events offset[i] .. offset[i + 1].
        table: The columns of the group `recordings`, each [n]: id, label, partition, number,
            position, files. See `metaevents.archive.format`.
        digests: [n, 16] uint8, the stated digests of the recordings' events.

    Raises:
        MissingError: The file does not exist.
        ArchiveError: The file is no archive, has another version, is truncated or damaged, is open
            for writing in another process, or has a column of another type, shape or storage.

    Example:
        archive = Archive("data/double-nmnist.h5")
        events = archive.read(0)
    """

    def __init__(self, path: PathLike) -> None:
        self.path = user_path(path).absolute()  # it stays valid when the process changes its folder
        self.seal = self._read_seal()
        self.attributes: dict[str, Any]
        self.offset: np.ndarray
        self.table: dict[str, np.ndarray]
        self._ids: list[str] | None = None
        self.digests: np.ndarray
        try:
            with damage_errors(self.path):
                stated = read_attributes(self.path)
            with open_to_read(self.path) as file:
                self._read_head(file, stated)
        except ArchiveError:
            self._require_digest()  # the more likely cause, and the clearer message
            raise
        self._contents_agree = False

    @property
    def dataset(self) -> str:
        """Name of the composed dataset that the archive was made for."""
        return str(self.attributes["dataset"])

    @property
    def protocol_version(self) -> int:
        """Version of that dataset's rules; 0 for a user's own composition."""
        return int(self.attributes["protocol_version"])

    @property
    def source(self) -> str:
        """Name of the recordings: "n-mnist", "n-mnist-subset", "simulated" ..."""
        return str(self.attributes["source"])

    @property
    def simulated(self) -> bool:
        """Whether the recordings are simulated."""
        return self.source == SIMULATED

    @property
    def labels(self) -> tuple[str, ...]:
        """The component labels."""
        return tuple(map(str, self.attributes["labels"]))

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(width, height) of a recording in pixels."""
        width, height = self.attributes["sensor_size"]
        return int(width), int(height)

    @property
    def window_us(self) -> int:
        """Microseconds kept from each recording's first event."""
        return int(self.attributes["window_us"])

    @property
    def contents(self) -> str:
        """Hex SHA-256 over the recordings; see `metaevents.archive.format.contents_digest`."""
        return str(self.attributes["contents"])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the dataset: contents and rules."""
        return str(self.attributes["fingerprint"])

    @property
    def rules(self) -> str | None:
        """The JSON of a user's own dataset; None if the archive has none.

        `metaevents.custom_rules.archived_rules` reads it.
        """
        rules: str | None = self.attributes.get(RULES_ATTRIBUTE)
        return rules

    @property
    def repairs(self) -> dict[str, int]:
        """Kind of repair -> number of cases, counted when the archive was built."""
        return dict(json.loads(str(self.attributes["dirt"])))

    def __len__(self) -> int:
        """The number of recordings."""
        return len(self.offset) - 1

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r}: {self.dataset}, {self.source}, {len(self)} recordings)"

    @property
    def ids(self) -> list[str]:
        """The recordings' ids, in the archive's order."""
        # No cached_property: before Python 3.12 it has a lock, which a fork could leave locked.
        if self._ids is None:
            try:
                self._ids = [id.decode() for id in self.table["id"]]
            except UnicodeDecodeError as error:
                raise self._damaged("an id is not in UTF-8") from error
        return self._ids

    def select(self, label: str, partitions: Sequence[str]) -> np.ndarray:
        """Return the indices of a label's recordings in some partitions.

        Args:
            label: A component label.
            partitions: Names out of "train", "val" and "test".

        Returns:
            [k] int64 archive indices, in order of id.
        """
        wanted = [PARTITIONS.index(name) for name in partitions]
        return np.flatnonzero(
            (self.table["label"] == self.labels.index(label))
            & np.isin(self.table["partition"], wanted)
        )

    def read(self, index: int) -> Events:
        """Return one recording: its events in the window, upright, t in microseconds.

        Args:
            index: Place of the recording in the archive.

        Raises:
            UsageError: There is no such recording.
            ArchiveError: The recording is corrupt, or the file is another one than was opened.
            MissingError: The file was removed.
        """
        index = whole_number("index", index, least=0, most=len(self) - 1)
        ((_, events),) = self.iterate([index])
        return events

    def iterate(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, Events]]:
        """Yield (index, events) of recordings, in bounded memory, each checked against its digest.

        Args:
            indices: The recordings, in the order wanted; all of them by default.

        Returns:
            An iterator over (archive index, [N] event array).

        Raises:
            ArchiveError: The events of a recording are not those that were written, or lie outside
                the sensor or the window, or the file is another one than was opened.
            MissingError: The file was removed.
        """
        with self._open() as file:
            for start, stop in self._spans(indices):
                columns = self._read_span(file, start, stop)
                for index, (t, x, y, p) in self._split_span(columns, start, stop):
                    events = np.empty(len(t), EVENT_DTYPE)
                    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
                    yield index, events

    def require_contents(self) -> None:
        """Check that the digests of the recordings give the archive's `contents`.

        A dataset's fingerprint, and with it the name of its side files, follows from `contents`.

        Raises:
            ArchiveError: They give another digest.
        """
        if self._contents_agree:
            return
        contents = contents_digest(self.table, self.digests, self.labels)
        if contents != self.contents:
            raise ArchiveError(
                f"{self.path}: the digest of all recordings is {contents}, "
                f"expected {self.contents}; build it again"
            )
        self._contents_agree = True

    def verify(self, progress: bool | None = None) -> list[str]:
        """Recompute every checksum, offset and coordinate.

        The checksum of the file is the first, so that a damaged file is called so, and its
        structures are not trusted.

        Args:
            progress: Whether to show a progress bar; None shows it on a terminal.

        Returns:
            One line per check that passed.

        Raises:
            ArchiveError: A check failed.
            MissingError: The file was removed.
        """
        self._require_same_file()
        self._require_digest()
        checked = ["file: SHA-256 of every byte agrees"]
        if len(set(self.table["id"].tolist())) != len(self):
            raise self._damaged("two recordings have the same id")
        with progress_bar("verify", len(self), "rec", progress) as bar, self._open() as file:
            for start, stop in self._spans():
                if stop == start + 1 and self._count(start) > _SPAN:
                    self._check_long(file, start)
                else:
                    columns = self._read_span(file, start, stop)
                    for index, (t, *_) in self._split_span(columns, start, stop):
                        self._require_from_zero(index, t)
                bar.update(stop - start)
        checked.append(f"recordings: {len(self)} digests, offsets, times and coordinates agree")
        self.require_contents()
        checked.append(f"contents: {self.contents}")
        return checked

    def _spans(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, int]]:
        """Yield ranges of recordings to read at once.

        Single recordings if `indices` is given, otherwise all, about a million events at a time.
        """
        if indices is not None:
            yield from ((index, index + 1) for index in indices)
            return
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.offset, self.offset[start] + _SPAN, side="right")) - 1
            stop = max(stop, start + 1)
            yield start, stop
            start = stop

    def _count(self, index: int) -> int:
        """Return the number of events of a recording."""
        return int(self.offset[index + 1]) - int(self.offset[index])

    def _read_span(self, file: h5py.File, start: int, stop: int) -> list[np.ndarray]:
        """Return the columns dt, x, y and p of the recordings start .. stop - 1."""
        first, last = int(self.offset[start]), int(self.offset[stop])
        columns = [self._read_events(file, name, first, last) for name in EVENT_COLUMNS]
        for values, bound in zip(columns[1:], self._bounds, strict=True):
            if values.max(initial=0) >= bound:
                place = first + int(np.argmax(values >= bound))
                index = int(np.searchsorted(self.offset, place, side="right")) - 1
                raise self._outside(index)
        return columns

    def _read_events(self, file: h5py.File, name: str, first: int, last: int) -> np.ndarray:
        """Return the events first .. last - 1 of a column."""
        try:
            values: np.ndarray = file["events"][name][first:last]
        except OSError as error:
            raise ArchiveError(
                f"{self.path}: column events/{name} is corrupt; build the archive again"
            ) from error
        return values

    def _split_span(
        self, columns: Sequence[np.ndarray], start: int, stop: int
    ) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        """Yield (index, (t, x, y, p)) of every recording in a span, checked against its digest."""
        first, window = int(self.offset[start]), self.window_us
        for index in range(start, stop):
            part = slice(int(self.offset[index]) - first, int(self.offset[index + 1]) - first)
            dt, x, y, p = (column[part] for column in columns)
            t = np.cumsum(dt, dtype=np.int64)
            if len(t) and t[-1] >= window:
                raise self._outside(index)
            if event_digest(t, x, y, p) != self.digests[index].tobytes():
                raise self._corrupt(index)
            yield index, (t, x, y, p)

    def _check_long(self, file: h5py.File, index: int) -> None:
        """Check a recording that is too long to be read at once."""
        hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
        bounds = (self.window_us, *self._bounds)
        start, stop = int(self.offset[index]), int(self.offset[index + 1])
        for name, dtype, bound in zip(EVENT_COLUMNS, EVENT_DIGEST_DTYPES, bounds, strict=True):
            time = 0
            for first in range(start, stop, _SPAN):
                values = self._read_events(file, name, first, min(first + _SPAN, stop))
                if name == "dt":
                    values = np.cumsum(values, dtype=np.int64) + time
                    time = int(values[-1])
                    if first == start:
                        self._require_from_zero(index, values)
                if values.max() >= bound:
                    raise self._outside(index)
                hasher.update(np.ascontiguousarray(values, dtype=dtype).data)
        if hasher.digest() != self.digests[index].tobytes():
            raise self._corrupt(index)

    @property
    def _bounds(self) -> tuple[int, int, int]:
        """What x, y and p stay below."""
        return (*self.sensor_size, 2)

    def _require_from_zero(self, index: int, t: np.ndarray) -> None:
        """Check that a recording has events, from time 0 on."""
        if not len(t):
            raise ArchiveError(
                f"{self.path}: recording {self.ids[index]} is empty; build the archive again"
            )
        if t[0]:
            raise self._outside(index)

    def _corrupt(self, index: int) -> ArchiveError:
        return ArchiveError(
            f"{self.path}: recording {self.ids[index]} is corrupt; build the archive again"
        )

    def _outside(self, index: int) -> ArchiveError:
        width, height = self.sensor_size
        return ArchiveError(
            f"{self.path}: recording {self.ids[index]} has events outside {width} x {height} "
            f"pixels and {self.window_us} us; build the archive again"
        )

    def _damaged(self, what: str) -> ArchiveError:
        return ArchiveError(f"{self.path} is damaged ({what}); copy or build it again")

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open the HDF5 file for the time of the block, if it is still the one that was opened."""
        self._require_same_file()
        with open_to_read(self.path) as file:
            yield file

    def _require_same_file(self) -> None:
        """Check that the file was not replaced by another one since it was opened."""
        if self._read_seal() != self.seal:
            raise ArchiveError(
                f"{self.path} was replaced by another archive after it was opened; open it again"
            )

    def _read_seal(self) -> Seal:
        """Return the seal in the user block, with format, version and length checked."""
        block, length = read_user_block(self.path)
        try:
            seal = parse_seal(block)
        except ValueError as error:
            if length < USER_BLOCK:
                raise self._damaged("it is truncated") from error
            raise self._damaged(str(error)) from error
        if seal is None:
            raise ArchiveError(
                f"{self.path} is no metaevents archive; "
                "expected a file that `metaevents build` wrote, so build it again"
            )
        if seal.version not in FORMAT_VERSIONS:
            raise ArchiveError(
                f"{self.path} has archive format {seal.version}, this release reads "
                f"{' and '.join(map(str, FORMAT_VERSIONS))}; upgrade metaevents or build it again"
            )
        if seal.length != length - USER_BLOCK:
            raise ArchiveError(
                f"{self.path} has {length - USER_BLOCK} bytes of HDF5, expected {seal.length}: "
                "it is truncated or was changed; copy or build it again"
            )
        return seal

    def _require_digest(self) -> None:
        """Check the SHA-256 of the file against its seal."""
        try:
            digest = hdf5_digest(self.path)
        except OSError as error:
            raise self._damaged(f"it cannot be read: {error.strerror}") from error
        if self.seal.sha256 != digest:
            raise ArchiveError(
                f"{self.path}: the SHA-256 of the file differs from the one that was written with "
                "it; copy or build it again"
            )

    def _read_head(self, file: h5py.File, stated: Mapping[str, AttributeValue]) -> None:
        """Read and check everything but the events.

        Args:
            file: The open file.
            stated: The attributes as they are stored.
        """
        names = self._list_columns(file)
        self.attributes = self._check_attributes(file, stated)
        columns = self._open_columns(file, names)
        self.offset = read_column(columns["events/offset"])
        self.digests = read_column(columns["recordings/digest"])
        self.table = {
            name: read_column(columns[f"recordings/{name}"]) for name in RECORDING_COLUMNS
        }
        self._check_table()

    def _list_columns(self, file: h5py.File) -> set[str]:
        """Return the names of all columns, from the root; all links are hard."""
        labels = {"labels"} if self.seal.version > 1 else set()
        groups = {
            "recordings": {*RECORDING_COLUMNS, "digest"},
            "events": {*EVENT_COLUMNS, "offset"},
        }
        columns = list_members(file, self.path, {*groups, *labels})
        for group in sorted(columns & set(groups)):
            names = list_members(file[group], self.path, groups[group])
            columns |= {f"{group}/{name}" for name in names}
        return columns

    def _check_attributes(
        self, file: h5py.File, stated: Mapping[str, AttributeValue]
    ) -> dict[str, Any]:
        """Return the attributes, checked for completeness, type and range.

        Args:
            file: The open file; format 2 keeps the labels in a column.
            stated: The attributes as they are stored.
        """
        attributes: dict[str, Any] = dict(stated)
        if self.seal.version > 1:
            column, _ = open_column(file, self.path, "labels", "S", (None,), 0)
            attributes["labels"] = [label.decode() for label in read_column(column)]
        names = (*TEXT_ATTRIBUTES, *NUMBER_ATTRIBUTES, *LIST_ATTRIBUTES)
        if missing := [name for name in names if name not in attributes]:
            raise ArchiveError(
                f"{self.path} lacks the attributes {', '.join(missing)}; build it again"
            )
        optional = [name for name in (RULES_ATTRIBUTE,) if name in attributes]
        attributes = {name: attributes[name] for name in (*names, *optional)}
        if attributes["format"] != FORMAT or attributes["format_version"] != self.seal.version:
            raise ArchiveError(
                f"{self.path} has format {attributes['format']} {attributes['format_version']}, "
                f"its user block says {FORMAT} {self.seal.version}; "
                "upgrade metaevents or build it again"
            )
        for name, fits in self._attribute_checks().items():
            value = attributes.get(name, "")
            if not fits(value):
                shown = "of another type" if value is None else repr(value)[:60]
                raise ArchiveError(
                    f"{self.path}: attribute {name} is {shown}, which no archive has; "
                    "build it again"
                )
        return attributes

    def _attribute_checks(self) -> dict[str, Callable[[Any], bool]]:
        """Return attribute -> whether a value is allowed."""

        def text(value: Any) -> bool:
            return isinstance(value, str)

        def number(least: int, most: int = (1 << 63) - 1) -> Callable[[Any], bool]:
            return lambda value: type(value) is int and least <= value <= most

        def digest(value: Any) -> bool:
            return text(value) and bool(_HEX_DIGEST.fullmatch(value))

        def labels(value: Any) -> bool:
            return (
                isinstance(value, list)
                and all(map(text, value))
                and 0 < len(value) <= MAX_LABELS
                and format_version(len(value)) == self.seal.version
                and len(set(value)) == len(value)
            )

        def sides(value: Any) -> bool:
            return isinstance(value, list) and len(value) == 2 and all(map(side, value))

        side = number(1, MAX_SENSOR_SIDE)

        def repairs(value: Any) -> bool:
            try:
                counts = json.loads(value)
            except (TypeError, ValueError, RecursionError):
                return False
            return isinstance(counts, dict) and all(map(number(0), counts.values()))

        return {
            **dict.fromkeys(TEXT_ATTRIBUTES, text),
            "contents": digest,
            "fingerprint": digest,
            "dirt": repairs,
            RULES_ATTRIBUTE: lambda value: text(value) and len(value) <= MAX_RULES,
            "protocol_version": number(0),
            "window_us": number(1, MAX_WINDOW_US),
            "recordings": number(1),
            "events": number(0),
            "labels": labels,
            "partitions": lambda value: value == list(PARTITIONS),
            "sensor_size": sides,
        }

    def _open_columns(self, file: h5py.File, names: set[str]) -> dict[str, h5py.h5d.DatasetID]:
        """Open every column; check type, shape and storage, and their sum against the file.

        Args:
            file: The open file.
            names: The names of all columns in it.
        """
        n, m = self.attributes["recordings"], self.attributes["events"]
        tables: dict[str, str] = recording_dtypes(self.seal.version)
        expected: dict[str, tuple[str, tuple[int, ...], int]] = {
            **{f"recordings/{name}": (dtype, (n,), 0) for name, dtype in tables.items()},
            "recordings/digest": ("u1", (n, DIGEST_BYTES), 0),
            "events/offset": ("i8", (n + 1,), 0),
            **{
                f"events/{name}": (dtype, (m,), CHUNK)
                for name, dtype in event_dtypes(self.sensor_size).items()
            },
        }
        columns, total = {}, 0
        for name, (dtype, shape, chunk) in expected.items():
            if name not in names:
                raise ArchiveError(
                    f"{self.path}: column {name} has shape None, expected {shape}; build it again"
                )
            columns[name], size = open_column(file, self.path, name, dtype, shape, chunk)
            total += size
        if total > self.seal.length:
            raise self._damaged(f"its columns take {total:,} of {self.seal.length:,} bytes")
        if columns["recordings/id"].dtype.itemsize > MAX_ID_BYTES:
            raise self._damaged(f"ids are longer than {MAX_ID_BYTES} bytes")
        return columns

    def _check_table(self) -> None:
        """Check that offsets ascend and that labels and partitions are in range."""
        offset = self.offset
        if (
            offset[0] != 0
            or offset[-1] != self.attributes["events"]
            or np.any(offset[1:] < offset[:-1])
        ):
            raise ArchiveError(
                f"{self.path}: column events/offset is not an ascending list from 0 to the number "
                "of events; build it again"
            )
        label, partition = self.table["label"], self.table["partition"]
        if label.max(initial=0) >= len(self.labels) or partition.max(initial=0) >= len(PARTITIONS):
            raise ArchiveError(
                f"{self.path}: a recording has a label or partition out of range; build it again"
            )
