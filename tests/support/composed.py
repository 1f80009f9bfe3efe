"""Composed datasets of made-up recordings, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metaevents import events as ev
from metaevents.composition import compose
from metaevents.sources import DatasetSource


def busy_archive(folder: Path, events: int = 300) -> Path:
    """Build `folder/busy.h5`; each recording has `events` events on one pixel in the first ms."""
    one = ev.make_events(np.zeros(events), np.zeros(events), np.zeros(events), np.ones(events))
    pairs = [(one, label) for label in "ab" for _ in range(5)]
    source = DatasetSource(pairs, sensor_size=(4, 4), labels="ab", name="busy")
    compose(source, root=folder, name="busy")
    return folder / "busy.h5"
