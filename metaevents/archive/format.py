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

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metaevents.hashing import digest_json

FORMAT = "metaevents-recordings"

FORMAT_VERSION = 1

CHUNK = 1 << 16  # events

USER_BLOCK = 512

DIGEST_BYTES = 16

RECORDING_COLUMNS = {
    "id": "S",
    "label": "u1",
    "partition": "u1",
    "number": "i4",
    "position": "i4",
    "files": "i4",
}

EVENT_COLUMNS = ("dt", "x", "y", "p")

ATTRIBUTES = (
    "format", "format_version", "dataset", "protocol_version", "source", "labels", "partitions", "sensor_size", "window_us",
    "units", "licence", "citation", "creator", "recordings", "events", "contents", "fingerprint", "dirt",
)  # fmt: skip


def pixel_dtype(size: int) -> str:
    return "u1" if size <= 256 else "u2"


def contents_digest(
    table: Mapping[str, np.ndarray], digest: np.ndarray, labels: Sequence[str]
) -> str:
    """Hex SHA-256 over every recording's id, label, partition, number and events, in the archive's order."""
    hasher = hashlib.sha256(digest_json(list(labels)).encode())
    rows = zip(
        table["id"],
        table["label"].tolist(),
        table["partition"].tolist(),
        table["number"].tolist(),
        digest,
        strict=True,
    )
    for id, label, part, number, events in rows:
        hasher.update(
            struct.pack("<I", len(id))
            + id
            + struct.pack("<BBi", label, part, number)
            + events.tobytes()
        )
    return hasher.hexdigest()


def event_digest(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> bytes:
    """BLAKE2b over t (int32), x, y (uint16) and p (uint8), each little-endian, one column after another."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for column, dtype in ((t, "<i4"), (x, "<u2"), (y, "<u2"), (p, "u1")):
        hasher.update(np.ascontiguousarray(column, dtype=dtype).data)
    return hasher.digest()


def seal(path: Path) -> None:
    """Write length and SHA-256 of the HDF5 part into the user block, and bring the file to the disk."""
    with path.open("r+b") as file:
        line = f"{FORMAT} {FORMAT_VERSION} bytes={hdf5_length(path)} sha256={hdf5_digest(path)}\n"
        file.write(line.encode("ascii").ljust(USER_BLOCK, b" "))
        file.flush()
        os.fsync(file.fileno())


def hdf5_length(path: Path) -> int:
    return path.stat().st_size - USER_BLOCK


def hdf5_digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(USER_BLOCK)
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()
