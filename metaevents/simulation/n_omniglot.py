"""Writer of simulated recordings in the official form of N-Omniglot.

The source `NOmniglot` reads the files like real ones. `metaevents.simulation.characters` simulates
the drawings; this module encodes the events and writes the files.

An AEDAT 4.0 file is written without compression and without the table of packets at its end, which
is what DV's software leaves when a recording is interrupted. Readers find the packets all the same.
"""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metaevents.arguments import whole_number
from metaevents.events import Events
from metaevents.files import PathLike
from metaevents.simulation.characters import character_recordings
from metaevents.simulation.recording_files import claim_folder, write_parts, write_recording
from metaevents.sources.n_omniglot import (
    ALPHABETS,
    CAMERA_SIZE,
    DRAWINGS,
    WRITING_AREA,
    character_label,
)

_START_US = 1_600_000_000_000_000
"""Time of the first drawing in microseconds, as DV writes it: since 1970."""

_GAP_US = 500_000
"""Microseconds between two drawings."""

_PACKET = 4_096
"""Events per packet."""

_EVENT = np.dtype(
    {
        "names": ["t", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "u1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
"""An event as the FlatBuffer of AEDAT 4.0 has it."""


class _CharacterFile(NamedTuple):
    """One character: its part, its label, and the four digits in the names of its files."""

    part: str
    label: str
    number: int


def write_n_omniglot(
    folder: PathLike,
    *,
    characters: int = 1,
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Write simulated N-Omniglot recordings: 20 drawings of characters of every alphabet.

    The layout is `dvs_<part>/<alphabet>/character<NN>/<number>.aedat4` and `.csv`. The alphabets
    have the official names, but the characters in them are made up.

    Args:
        folder: Made if it does not exist. It may hold the files of an earlier call with the same
            arguments, which are replaced.
        characters: Characters per alphabet, the first ones, 1 to 14.
        seed: Seed of everything random.
        progress: Whether to show a progress bar; None shows it on a terminal only.
        jobs: Number of processes.

    Returns:
        The folder.

    Raises:
        UsageError: A number is out of range, or the folder holds other recordings, such as real
            ones.
    """
    least = min(count for alphabets in ALPHABETS.values() for count in alphabets.values())
    characters = whole_number("characters", characters, least=1, most=least)
    seed, jobs = whole_number("seed", seed), whole_number("jobs", jobs, least=1)
    form = f"N-Omniglot (characters={characters}, seed={seed})"
    root = claim_folder(folder, "dvs_*/*/*/*.aedat4", form)
    planned = _plan(characters)
    total = DRAWINGS * len(planned)
    write_parts(
        partial(_write_character, root, seed), planned, total, progress, jobs,
        "simulated N-Omniglot",
    )  # fmt: skip
    return root


def _plan(characters: int) -> list[_CharacterFile]:
    """The first characters of every alphabet, with the numbers that all characters have."""
    files, number = [], 0
    for part, alphabets in ALPHABETS.items():
        for alphabet, count in alphabets.items():
            files += [
                _CharacterFile(part, character_label(alphabet, k), number + k)
                for k in range(1, characters + 1)
            ]
            number += count
    return files


def _write_character(root: Path, seed: int, file: _CharacterFile) -> int:
    """Simulate and write one character; returns the number of recordings written."""
    left, top, _ = WRITING_AREA
    drawings, rows = [], []
    start = _START_US
    for number, drawing in enumerate(character_recordings(seed, file.label, DRAWINGS)):
        moved = drawing.copy()
        moved["x"] += left
        moved["y"] += top
        moved["t"] += start
        rows.append((number, int(moved["t"][0]), int(moved["t"][-1])))
        drawings.append(moved)
        start = int(moved["t"][-1]) + _GAP_US
    folder = root / f"dvs_{file.part}" / file.label
    write_recording(folder / f"{file.number:04d}.aedat4", aedat4_bytes(np.concatenate(drawings)))
    lines = ["index,start,end", *(",".join(map(str, row)) for row in rows)]
    write_recording(folder / f"{file.number:04d}.csv", "\n".join([*lines, ""]).encode())
    return len(rows)


def aedat4_bytes(events: Events) -> bytes:
    """Encode events as an AEDAT 4.0 file with one stream of events.

    Args:
        events: Events in pixels of the camera, t in microseconds, [N].
    """
    packets = [events[i : i + _PACKET] for i in range(0, len(events), _PACKET)]
    return _header() + b"".join(map(_packet, packets))


def _header() -> bytes:
    """The beginning of a file: what it is, and a FlatBuffer that describes its stream."""
    width, height = CAMERA_SIZE
    description = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        '<node name="0" path="/mainloop/Recorder/outInfo/0/">'
        '<attr key="compression" type="string">NONE</attr>'
        '<attr key="typeIdentifier" type="string">EVTS</attr>'
        '<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{width}</attr>'
        f'<attr key="sizeY" type="int">{height}</attr>'
        '<attr key="source" type="string">simulated by metaevents</attr>'
        "</node></node></node></dv>"
    ).encode()
    # Root table and identifier; the table's sizes and the places of its fields; the table:
    # compression (none), description, end of the packets (-1: not stated).
    table = struct.pack("<I4s5H2x", 20, b"IOHE", 10, 24, 4, 16, 8)
    table += struct.pack("<iiI4xq", 12, 0, 16, -1)
    body = table + struct.pack("<I", len(description)) + description + b"\0"
    body += b"\0" * (-(len(body) + 4) % 8)
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(body)) + body


def _packet(events: Events) -> bytes:
    """A packet: number of the stream, length, and a FlatBuffer that holds the events."""
    rows = np.zeros(len(events), _EVENT)
    for name in ("t", "x", "y", "p"):
        rows[name] = events[name]
    # Size, root table and identifier; the table's sizes and the place of its field; the table: the
    # vector of events, whose length precedes it.
    start = struct.pack("<II4s3H2xiI", 28 + rows.nbytes, 16, b"EVTS", 6, 8, 4, 8, 4)
    body = start + struct.pack("<I", len(rows)) + rows.tobytes()
    return struct.pack("<II", 0, len(body)) + body
