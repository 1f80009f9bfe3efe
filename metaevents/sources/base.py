"""The protocol that every source of recordings follows, and what its readers share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from metaevents.errors import MissingError, RecordingError
from metaevents.events import Events, sort_by_time

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordingRef:
    """Where one recording is, without its events.

    Attributes:
        id: official folder and number, "Train/3/00012" or "a/a_0001".
        label: the component class, "3" or "a".
        folder: the official partition folder ("Train", "Test"), or "" where the dataset has none.
        number: the official number; orders a label's recordings within a folder.
        location: what `Source.read` needs to find the events.
    """

    id: str
    label: str
    folder: str
    number: int
    location: str | int


@runtime_checkable
class Source(Protocol):
    """Labelled recordings that an archive can be built from; must be picklable, since workers read in parallel.

    Attributes:
        name: what `info` calls the origin: "n-mnist", "asl-dvs", "simulated", or a name of the user's own.
        labels: the component classes, in order.
        sensor_size: (width, height) in pixels.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def sensor_size(self) -> tuple[int, int]: ...

    def recordings(self) -> Sequence[RecordingRef]:
        """Every recording present, bad ones included; the order does not matter."""
        ...

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """One recording: upright, sorted by time, starting at t = 0 us, all events on the sensor; and what was mended.

        The dictionary counts each kind of repairs met ("events_out_of_range": 3). No events at all means: skip this
        recording (its place among the label's files still counts for the partition).
        """
        ...


def clean(events: Events, sensor_size: tuple[int, int]) -> tuple[Events, dict[str, int]]:
    """Events as they stand in a file, as a recording: off-sensor events dropped, sorted by time, starting at 0.

    Args:
        events: changed in place where nothing has to be dropped or sorted.
        sensor_size: (width, height) in pixels.

    Returns:
        The events and the counts of repairs: events_out_of_range, recordings_unsorted, recordings_not_from_zero.
    """
    repairs = {}
    if len(events) and not all(
        events[axis].min() >= 0 and events[axis].max() < size
        for axis, size in zip("xy", sensor_size, strict=True)
    ):
        inside = np.logical_and.reduce(
            [
                (events[axis] >= 0) & (events[axis] < size)
                for axis, size in zip("xy", sensor_size, strict=True)
            ]
        )
        repairs["events_out_of_range"] = int(len(events) - np.count_nonzero(inside))
        events = events[inside]
    if len(events):
        times = events["t"]
        if np.any(times[1:] < times[:-1]):
            repairs["recordings_unsorted"] = 1
            events = sort_by_time(events)
        if first := int(events["t"][0]):
            repairs["recordings_not_from_zero"] = 1
            events["t"] -= first
    return events, repairs


SIMULATED = "simulated"
SIMULATED_MARK = "SIMULATED.md"  # a file that the simulator leaves beside what it wrote


def origin(root: Path, complete: bool, name: str) -> str:
    """The name of a source: simulated where the folder bears the mark, else the dataset's, or that of a subset of it."""
    if (root / SIMULATED_MARK).exists():
        return SIMULATED
    return name if complete else f"{name}-subset"


def existing_folder(root: str | os.PathLike[str], what: str, layout: str) -> Path:
    """The folder at `root`, or a MissingError that says what it should hold."""
    folder = Path(root).expanduser()
    if not folder.exists():
        raise MissingError(f"{what}: no folder {folder}; give the folder that holds {layout}")
    if not folder.is_dir():
        raise RecordingError(f"{what}: {folder} is a file; give the folder that holds {layout}")
    return folder


def visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder in order of name, without hidden ones and what unzipping on macOS leaves."""
    with os.scandir(folder) as entries:
        yield from sorted(
            (e for e in entries if not e.name.startswith((".", "__MACOSX"))),
            key=lambda entry: entry.name,
        )


def numbered_files(folder: Path, suffix: str, prefix: str = "") -> Iterator[tuple[str, int]]:
    """(stem, number) of every `<prefix><number><suffix>` in a folder, in order of number; other files are passed over.

    Raises:
        RecordingError: a file with the suffix whose name has no number, or two files with one number.
    """
    found: dict[int, str] = {}
    passed_over = 0
    for entry in visible(folder):
        if not entry.name.lower().endswith(suffix):
            passed_over += 1
            continue
        stem = entry.name[: -len(suffix)]
        digits = stem[len(prefix) :] if stem.startswith(prefix) else ""
        if not (digits.isascii() and digits.isdigit()):
            raise RecordingError(
                f"{entry.path} is not named {prefix}<number>{suffix}; move it away or restore its official name"
            )
        number = int(digits)
        if number in found:
            raise RecordingError(
                f"{folder} holds {found[number]}{suffix} and {stem}{suffix}, both number {number}; move one away"
            )
        found[number] = stem
    if passed_over:
        logger.warning(
            "%s: passed over %d entries that are no %s files", folder, passed_over, suffix
        )
    for number in sorted(found):
        yield found[number], number
