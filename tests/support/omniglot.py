"""Small recordings in the official form of N-Omniglot; contents are random but fixed by a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from support.recordings import hash_seed, random_events

from metaevents.events import Events
from metaevents.simulation.n_omniglot import aedat4_bytes
from metaevents.sources.n_omniglot import ALPHABETS

START = 1_600_000_000_000_000  # microseconds since 1970
SPAN, GAP = 3_000_000, 1_000_000  # of a drawing, and between two

FIRST = {
    part: [f"{alphabet}/character01" for alphabet in alphabets]
    for part, alphabets in ALPHABETS.items()
}
"""The first character of every alphabet, by part."""


def drawing(label: str, number: int, n: int = 30) -> Events:
    """One drawing in pixels of the camera and its time, in the writing area."""
    start = START + (number - 1) * (SPAN + GAP)
    events = random_events(hash_seed(label, number), n, 250, 250, duration=SPAN, start=start)
    events["x"] += 54
    events["y"] += 4
    return events


def write_character(
    folder: Path,
    label: str,
    drawings: int = 20,
    *,
    events: Sequence[Events] | None = None,
    rows: Sequence[str | tuple[int, int, int]] | None = None,
    name: str = "0001",
) -> Path:
    """Write the two files of a character below a part's folder; returns the character's folder."""
    parts = [drawing(label, k + 1) for k in range(drawings)] if events is None else events
    if rows is None:
        rows = [(k, int(part["t"][0]), int(part["t"][-1]) + 1) for k, part in enumerate(parts)]
    lines = ["index,start,end"]
    lines += [row if isinstance(row, str) else ",".join(map(str, row)) for row in rows]
    path = folder / label
    path.mkdir(parents=True, exist_ok=True)
    (path / f"{name}.aedat4").write_bytes(aedat4_bytes(np.concatenate(parts)))
    (path / f"{name}.csv").write_text("\n".join([*lines, ""]))
    return path


def write_n_omniglot(
    folder: Path, labels: Mapping[str, Sequence[str]] | None = None, drawings: int = 20
) -> Path:
    """Write characters in the official layout; by default the first one of every alphabet."""
    for part, names in (FIRST if labels is None else labels).items():
        for label in names:
            write_character(folder / f"dvs_{part}", label, drawings)
    return folder
