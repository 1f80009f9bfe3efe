"""The archive format: layout, column types, digests and the seal over the file.

An archive holds all recordings of a source in flat columns. Layout of format version 1, readable
with plain h5py; `n` recordings, `m` events in the window:

    user block            512 bytes of ASCII: format, length of the HDF5 part and its SHA-256, and
                          spaces up to the end
    /recordings/id        [n] bytes    official folder and number, sorted by (folder, label, number)
    /recordings/label     [n] uint8    index into the attribute `labels`
    /recordings/partition [n] uint8    index into the attribute `partitions`
    /recordings/number    [n] int32    official number
    /recordings/position  [n] int32    place among the files of its label and folder, empty ones
                                       included
    /recordings/files     [n] int32    number of files of that label and folder
    /recordings/digest    [n, 16] uint8  BLAKE2b of the recording's events
    /events/offset        [n + 1] int64  recording i holds events offset[i] .. offset[i + 1]
    /events/dt            [m] uint32   microseconds since the event before; since the recording's
                                       start for its first event
    /events/x, /events/y  [m] uint8 or uint16, upright pixels at sensor resolution
    /events/p             [m] uint8    1 is ON

Format version 2 is for more than 256 labels. It differs in two columns:

    /recordings/label     [n] uint16   index into /labels
    /labels               [k] bytes    the labels in UTF-8, in place of the attribute `labels`

The attribute `rules`, in either version, is the JSON of a user's own dataset; see
`metaevents.custom_rules`. Archives of built-in datasets do not have it.

Every column is stored in chunks through the filters shuffle and deflate (level 4). All links are
hard. The events are those of the window, without loss. Classes and episodes are left to
`metaevents.datasets` and `metaevents.sampling`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metaevents.hashing import digest_json

FORMAT = "metaevents-recordings"

FORMAT_VERSIONS = (1, 2)
"""The versions that this release reads. It writes the lowest one that holds the labels."""

CHUNK = 1 << 16  # events per HDF5 chunk

DEFLATE_LEVEL = 4  # of every column

USER_BLOCK = 512  # bytes

DIGEST_BYTES = 16  # of a recording's events

LABELS_IN_VERSION_1 = 1 << 8

MAX_LABELS = 1 << 16

MAX_ID_BYTES = 1024  # of a recording's id and of a label, in UTF-8

MAX_SENSOR_SIDE = 1 << 15  # pixels; event arrays hold coordinates in 16 bits with a sign

MAX_WINDOW_US = (1 << 31) - 1  # digests cover times in 32 bits with a sign

RECORDING_COLUMNS = ("id", "label", "partition", "number", "position", "files")
"""Columns of the group `recordings`, without `digest`."""

EVENT_COLUMNS = ("dt", "x", "y", "p")

TEXT_ATTRIBUTES = (
    "format", "dataset", "source", "units", "licence", "citation", "creator", "contents",
    "fingerprint", "dirt",
)  # fmt: skip

RULES_ATTRIBUTE = "rules"
"""Name of the optional text attribute."""

MAX_RULES = 1 << 24  # characters of the attribute `rules`

NUMBER_ATTRIBUTES = ("format_version", "protocol_version", "window_us", "recordings", "events")

LIST_ATTRIBUTES = ("labels", "partitions", "sensor_size")


def format_version(labels: int) -> int:
    """Return the format version of an archive with that many labels."""
    return 1 if labels <= LABELS_IN_VERSION_1 else 2


def recording_dtypes(version: int) -> dict[str, str]:
    """Return the dtype of every column of `RECORDING_COLUMNS`; ids are as wide as the longest."""
    label = "u1" if version == 1 else "u2"
    return dict(zip(RECORDING_COLUMNS, ("S", label, "u1", "i4", "i4", "i4"), strict=True))


def event_dtypes(sensor_size: tuple[int, int]) -> dict[str, str]:
    """Return the dtype of every column of `EVENT_COLUMNS`.

    Args:
        sensor_size: (width, height) in pixels.
    """
    width, height = sensor_size
    return {"dt": "u4", "x": pixel_dtype(width), "y": pixel_dtype(height), "p": "u1"}


def pixel_dtype(size: int) -> str:
    """Return the dtype of a pixel column of a sensor with `size` pixels along that axis."""
    return "u1" if size <= 256 else "u2"


_ROWS = 4096  # recordings that are hashed at a time


def contents_digest(
    table: Mapping[str, np.ndarray], digest: np.ndarray, labels: Sequence[str]
) -> str:
    """Return the hex SHA-256 over every recording's id, label, partition, number and events.

    Args:
        table: The columns of `RECORDING_COLUMNS`, each [n], in the archive's order.
        digest: [n, 16] uint8, the digests of the recordings' events.
        labels: The archive's labels; column `label` is an index into them.
    """
    hasher = hashlib.sha256(digest_json(list(labels)).encode())
    ids = np.ascontiguousarray(table["id"])
    row = np.dtype(
        [
            ("length", "<u4"),
            ("id", ids.dtype),
            ("label", "<u1" if format_version(len(labels)) == 1 else "<u2"),
            ("partition", "u1"),
            ("number", "<i4"),
            ("digest", "u1", DIGEST_BYTES),
        ]
    )
    is_id = np.zeros(row.itemsize, bool)
    is_id[4 : 4 + ids.dtype.itemsize] = True
    place_in_id = np.cumsum(is_id) - 1
    for start in range(0, len(ids), _ROWS):
        part = slice(start, start + _ROWS)
        rows = np.zeros(len(ids[part]), row)
        rows["length"], rows["id"] = np.char.str_len(ids[part]), ids[part]
        for name in ("label", "partition", "number"):
            rows[name] = table[name][part]
        rows["digest"] = digest[part]
        # Ids count with their own lengths, without the null bytes behind them.
        counts = ~is_id | (place_in_id < rows["length"][:, None])
        hasher.update(rows.view(np.uint8).reshape(len(rows), -1)[counts].data)
    return hasher.hexdigest()


EVENT_DIGEST_DTYPES = ("<i4", "<u2", "<u2", "u1")
"""The dtypes in which t, x, y and p of a recording are hashed."""


def event_digest(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> bytes:
    """Return the BLAKE2b digest of a recording's events, `DIGEST_BYTES` long.

    It covers t (int32, microseconds), x, y (uint16) and p (uint8), little-endian, one column after
    another.
    """
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for column, dtype in zip((t, x, y, p), EVENT_DIGEST_DTYPES, strict=True):
        hasher.update(np.ascontiguousarray(column, dtype=dtype).data)
    return hasher.digest()


class Seal(NamedTuple):
    """What the user block says about the HDF5 part.

    Attributes:
        version: Version of the format.
        length: Number of bytes.
        sha256: Hex SHA-256.
    """

    version: int
    length: int
    sha256: str

    def to_bytes(self) -> bytes:
        """Return the user block."""
        line = f"{FORMAT} {self.version} bytes={self.length} sha256={self.sha256}\n"
        return line.encode("ascii").ljust(USER_BLOCK, b" ")


_SEAL = re.compile(
    rb"%s (\d{1,9})( bytes=(\d{1,18}) sha256=([0-9a-f]{64})\n *)?" % FORMAT.encode("ascii"),
    re.DOTALL,
)


def seal(path: Path, version: int = 1) -> None:
    """Write length and SHA-256 of the HDF5 part into the user block, and flush the file to disk.

    Args:
        path: The file.
        version: Version of the format.

    Raises:
        OSError: The file cannot be read or written.
    """
    with path.open("r+b") as file:
        block = Seal(version, hdf5_length(path), hdf5_digest(path)).to_bytes()
        file.write(block)
        file.flush()
        os.fsync(file.fileno())


def parse_seal(block: bytes) -> Seal | None:
    """Return the seal that a user block holds.

    Args:
        block: The first `USER_BLOCK` bytes of a file.

    Returns:
        The seal; None if the block does not begin with the name of the format. Of a version that
        is not in `FORMAT_VERSIONS`, only the version is known.

    Raises:
        ValueError: A byte differs from what `seal` writes.
    """
    if not block.startswith(FORMAT.encode("ascii")):
        return None
    match = _SEAL.match(block)
    if match is None:
        raise ValueError("the user block is damaged")
    version = int(match[1])
    if version not in FORMAT_VERSIONS:
        return Seal(version, 0, "")
    if match[2] is not None:
        seal = Seal(version, int(match[3]), match[4].decode("ascii"))
        if seal.to_bytes() == block:  # the padding too
            return seal
    raise ValueError("the user block is damaged")


def hdf5_length(path: Path) -> int:
    """Return the number of bytes after the user block."""
    return path.stat().st_size - USER_BLOCK


def hdf5_digest(path: Path) -> str:
    """Return the hex SHA-256 of all bytes after the user block."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(USER_BLOCK)
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()
