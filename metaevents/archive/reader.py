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
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.archive.format import (
    ATTRIBUTES,
    CHUNK,
    DIGEST_BYTES,
    EVENT_COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    RECORDING_COLUMNS,
    USER_BLOCK,
    contents_digest,
    event_digest,
    hdf5_digest,
    hdf5_length,
)
from metaevents.errors import ArchiveError, MissingError
from metaevents.events import EVENT_DTYPE, Events
from metaevents.sources.base import SIMULATED
from metaevents.specs import PARTITIONS

if TYPE_CHECKING:
    import h5py


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
            self.table: dict[str, np.ndarray] = {
                name: file["recordings"][name][:] for name in RECORDING_COLUMNS
            }
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
    def repairs(self) -> dict[str, int]:
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
            (self.table["label"] == self.labels.index(label))
            & np.isin(self.table["partition"], wanted)
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
                columns = [self._column(file, name, first, last) for name in EVENT_COLUMNS]
                expected = digests[start:stop]
                for index in range(start, stop):
                    part = slice(
                        int(self.offset[index]) - first, int(self.offset[index + 1]) - first
                    )
                    dt, x, y, p = (column[part] for column in columns)
                    t = np.cumsum(dt, dtype=np.int64)
                    if event_digest(t, x, y, p) != expected[index - start].tobytes():
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
            stop = (
                int(np.searchsorted(self.offset, self.offset[start] + 16 * CHUNK, side="right")) - 1
            )
            stop = max(stop, start + 1)
            yield start, stop
            start = stop

    def _column(self, file: h5py.File, name: str, first: int, last: int) -> np.ndarray:
        try:
            values: np.ndarray = file["events"][name][first:last]
        except OSError as error:
            raise ArchiveError(
                f"{self.path}: column events/{name} is corrupt; build the archive again"
            ) from error
        return values

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        import h5py

        try:
            file = h5py.File(self.path, "r")
        except PermissionError as error:
            raise ArchiveError(
                f"{self.path} cannot be read (no permission); change its mode or copy it"
            ) from error
        except OSError as error:
            raise ArchiveError(
                f"{self.path} is no readable HDF5 file ({error}); build it again"
            ) from error
        with file:
            yield file

    def _seal(self) -> dict[str, str]:
        """What the user block says, or nothing where there is none of ours."""
        try:
            with self.path.open("rb") as file:
                words = file.read(USER_BLOCK).decode("ascii", "replace").split()
        except OSError as error:
            raise ArchiveError(
                f"{self.path} cannot be read ({error.strerror}); change its mode or copy it"
            ) from error
        if words[:1] != [FORMAT]:
            return {}
        return {
            "version": words[1],
            **dict(word.split("=", 1) for word in words[2:] if "=" in word),
        }

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
        length = hdf5_length(self.path)
        if said.get("bytes") != str(length):
            raise ArchiveError(
                f"{self.path} has {length} bytes of HDF5, expected {said.get('bytes')}: it is truncated or was changed; "
                "copy or build it again"
            )

    def _read_attributes(self, file: h5py.File) -> dict[str, Any]:
        missing = [name for name in ATTRIBUTES if name not in file.attrs]
        if missing:
            raise ArchiveError(
                f"{self.path} lacks the attributes {', '.join(missing)}; build it again"
            )
        attributes = {name: file.attrs[name] for name in ATTRIBUTES}
        if attributes["format"] != FORMAT or int(attributes["format_version"]) != FORMAT_VERSION:
            raise ArchiveError(
                f"{self.path} has format {attributes['format']} {attributes['format_version']}, this release reads "
                f"{FORMAT} {FORMAT_VERSION}; upgrade metaevents or build it again"
            )
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in attributes.items()
        }

    def _check_columns(self, file: h5py.File) -> None:
        n, m = int(self.attributes["recordings"]), int(self.attributes["events"])
        expected: dict[str, tuple[int, ...]] = {
            **{f"recordings/{name}": (n,) for name in RECORDING_COLUMNS},
            "recordings/digest": (n, DIGEST_BYTES),
            "events/offset": (n + 1,),
            **{f"events/{name}": (m,) for name in EVENT_COLUMNS},
        }
        for name, shape in expected.items():
            found = file[name].shape if name in file else None
            if found != shape:
                raise ArchiveError(
                    f"{self.path}: column {name} has shape {found}, expected {shape}; build it again"
                )

    def _check_offsets(self) -> None:
        offset = self.offset
        if (
            offset[0] != 0
            or offset[-1] != int(self.attributes["events"])
            or np.any(np.diff(offset) < 0)
        ):
            raise ArchiveError(
                f"{self.path}: column events/offset is not an ascending list from 0; build it again"
            )
        if self.table["label"].max(initial=0) >= len(self.labels) or self.table["partition"].max(
            initial=0
        ) >= len(PARTITIONS):
            raise ArchiveError(
                f"{self.path}: a recording has a label or partition out of range; build it again"
            )

    def verify(self, progress: bool | None = None) -> list[str]:
        """Every checksum, offset and coordinate recomputed; one line for each thing that was checked.

        Raises:
            ArchiveError: whatever does not agree.
        """
        from tqdm import tqdm

        if self._seal().get("sha256") != hdf5_digest(self.path):
            raise ArchiveError(
                f"{self.path}: the SHA-256 of the file is not the one it was sealed with; copy or build it again"
            )
        checked = ["file: SHA-256 of every byte agrees"]
        width, height = self.sensor_size
        with tqdm(
            total=len(self),
            unit="rec",
            desc="verify",
            disable=None if progress is None else not progress,
        ) as bar:
            for index, events in self.iterate():
                if not len(events):
                    raise ArchiveError(
                        f"{self.path}: recording {self.ids[index]} is empty; build the archive again"
                    )
                t = events["t"]
                inside = (
                    events["x"].max() < width
                    and events["y"].max() < height
                    and t[0] == 0
                    and t[-1] < self.window_us
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
