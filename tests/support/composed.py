"""Composed datasets of made-up recordings, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np

from metaevents import events as ev
from metaevents.composition import compose
from metaevents.sources import DatasetSource
from metaevents.specs import PARTITIONS


def in_all_splits(labels: Iterable[str], arity: int = 2) -> dict[str, list[tuple[str, ...]]]:
    """Every class of some labels in each split."""
    classes = list(product(labels, repeat=arity))
    return dict.fromkeys(PARTITIONS, classes)


PAIRS = in_all_splits("ab")
"""The four classes of `busy_archive` in each split."""


def busy_archive(folder: Path, events: int = 300) -> Path:
    """Build `folder/busy.h5`; each recording has `events` events on one pixel in the first ms."""
    one = ev.make_events(np.zeros(events), np.zeros(events), np.zeros(events), np.ones(events))
    pairs = [(one, label) for label in "ab" for _ in range(5)]
    source = DatasetSource(pairs, sensor_size=(4, 4), labels="ab", name="busy")
    compose(source, root=folder, name="busy", splits=PAIRS)
    return folder / "busy.h5"
