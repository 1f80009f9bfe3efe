"""The protocol that every source of recordings follows, and what the sources share.

Shared by the sources: the repair of events, the name of a source, and the listing of folders.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from metaevents.errors import MetaeventsError, MissingError, RecordingError, printable
from metaevents.events import Events, sort_by_time
from metaevents.files import PathLike, user_path, visible_entries

logger = logging.getLogger(__name__)

SIMULATED = "simulated"
"""Name of every source of simulated recordings."""

SIMULATED_MARK = "SIMULATED.md"
"""A file in a folder of recordings: it says that the recordings are simulated."""

MANY_EVENTS = 1_000
"""A recording of fewer events may be a burst."""

MAX_RATE = 1_000
"""Events per pixel and second that no recording has; those of real scenes have some tens."""

_MAX_DIGITS = 9  # of a recording's number, which archives store in 32 bits


@dataclass(frozen=True)
class RecordingRef:
    """A reference to one recording, without its events.

    Attributes:
        id: Official folder and number, such as "Train/3/00012" or "a/a_0001".
        label: The component class, such as "3" or "a".
        folder: The official partition folder ("Train", "Test"), or "" if the dataset has none.
        number: The official number; it orders a label's recordings within a folder.
        location: What `Source.read` needs to find the events: a path or an index.
    """

    id: str
    label: str
    folder: str
    number: int
    location: str | int


@runtime_checkable
class Source(Protocol):
    """Labeled recordings from which an archive can be built.

    A source must be picklable, because several processes read from it in parallel.
    """

    @property
    def name(self) -> str:
        """Name of the recordings: "n-mnist", "asl-dvs", "simulated", or one of the user's own."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The component classes, in order."""
        ...

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        ...

    def recordings(self) -> Sequence[RecordingRef]:
        """Return a reference to every recording in any order, empty recordings included."""
        ...

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """Read one recording.

        Args:
            ref: One of `recordings()`.

        Returns:
            The events and the repair counts. The events are upright, sorted by time, start at
            t = 0 us and lie on the sensor. If there are none, the archive skips the recording, but
            its position among its label's files still counts for the partition. The dictionary
            counts each kind of repair that was made, for example {"events_out_of_range": 3}.

        Raises:
            RecordingError: The recording cannot be read.
        """
        ...


def repair_events(events: Events, sensor_size: tuple[int, int]) -> tuple[Events, dict[str, int]]:
    """Drop events outside the sensor, sort the rest by time and let time start at 0.

    Args:
        events: Events as read from a file; may be changed in place.
        sensor_size: (width, height) in pixels.

    Returns:
        The events, and the count of each kind of repair that was made: events_out_of_range,
        recordings_unsorted, recordings_not_from_zero, and recordings_empty if no event is left.

    Raises:
        RecordingError: The recording spans more microseconds than a 64-bit number can hold.
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
    if not len(events):
        repairs["recordings_empty"] = 1
        return events, repairs
    times = events["t"]
    if np.any(times[1:] < times[:-1]):
        repairs["recordings_unsorted"] = 1
        events = sort_by_time(events)
    if first := int(events["t"][0]):
        last = int(events["t"][-1])
        if last - first > np.iinfo(np.int64).max:
            raise RecordingError(
                f"times span {first} to {last} microseconds, beyond 64 bits; correct the times"
            )
        repairs["recordings_not_from_zero"] = 1
        events["t"] -= first
    return events, repairs


def require_microseconds(events: Events, window_us: int, recording: str) -> None:
    """Check that a window holds at least 1 % of a recording's span.

    Less means that times are not in microseconds, or that the window is far too short. The first
    and the last hundredth of the events do not count, since a file may hold a few wrong times.

    Args:
        events: Events in order of time, [N].
        window_us: Length of the window in microseconds.
        recording: Id of the recording, for the error message.

    Raises:
        RecordingError: The window holds less than 1 % of the span.
    """
    count = len(events)
    if not count:
        return
    trim = count // 100
    span = int(events["t"][count - 1 - trim]) - int(events["t"][trim])
    if span * count > 100 * window_us * (count - 2 * trim):
        raise RecordingError(
            f"recording {recording} spans {span:,} microseconds, of which the window of "
            f"{window_us:,} holds less than 1 %; give times in microseconds, not nanoseconds, or "
            "a longer window"
        )


def require_plausible_spans(
    source: str,
    counts: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int64],
    window_us: int,
    sensor_size: tuple[int, int],
) -> None:
    """Check that the recordings of a source are not in milliseconds or seconds.

    Whole milliseconds cannot be told from microseconds by one recording's times. They are refused
    if the typical recording has many events, spans less than 1 % of the window, and has more events
    per pixel and second than any sensor gives.

    Args:
        source: Name of the source, for the error message.
        counts: Number of events of each recording, [n].
        spans: Microseconds from its first event to its last, [n].
        window_us: Length of the window in microseconds.
        sensor_size: (width, height) in pixels.

    Raises:
        RecordingError: The times are in another unit.
    """
    if not len(counts):
        return
    width, height = sensor_size
    count, span = float(np.median(counts)), float(np.median(spans))
    rates = counts * 1e6 / (width * height * (spans + 1.0))
    if count >= MANY_EVENTS and 100 * span < window_us and np.median(rates) > MAX_RATE:
        raise RecordingError(
            f"the recordings of {source} have {count:,.0f} events in {span:,.0f} microseconds "
            f"(medians), more than {MAX_RATE:,} per pixel and second, and less than 1 % of the "
            f"window of {window_us:,}; give times in microseconds, so multiply milliseconds by "
            "1,000 or seconds by 1,000,000"
        )


def source_name(root: Path, complete: bool, name: str) -> str:
    """Return the name of the source in a folder of recordings.

    Args:
        root: The folder.
        complete: Whether the folder holds every official recording.
        name: Name of the official dataset, such as "n-mnist".

    Returns:
        "simulated" if the folder is marked so, `name` if it is complete, "<name>-subset" otherwise.
    """
    if (root / SIMULATED_MARK).exists():
        return SIMULATED
    return name if complete else f"{name}-subset"


def existing_folder(root: PathLike, title: str, layout: str) -> Path:
    """Return the absolute path of the folder at `root`, with `~` expanded.

    Args:
        root: The folder's path.
        title: Title of the dataset, for error messages.
        layout: What the folder should hold, for error messages.

    Raises:
        UsageError: `root` cannot be used as a path.
        MissingError: The folder does not exist.
        RecordingError: `root` is a file.
    """
    folder = user_path(root).absolute()  # it stays valid when the process changes its folder
    if not folder.exists():
        raise MissingError(f"{title}: no folder {folder}; give the folder that holds {layout}")
    if not folder.is_dir():
        raise RecordingError(f"{title}: {folder} is a file; give the folder that holds {layout}")
    return folder


@contextmanager
def folder_errors(title: str) -> Iterator[None]:
    """Turn every error of the operating system on listing folders into a RecordingError.

    Args:
        title: Title of the dataset, for the error message.
    """
    try:
        yield
    except MetaeventsError:
        raise
    except OSError as error:
        raise RecordingError(
            f"{title}: cannot list {error.filename} ({error.strerror}); check its permissions"
        ) from error


class NumberedFile(NamedTuple):
    """A recording's file.

    Attributes:
        stem: Its name without the suffix.
        number: The number in its name.
        path: Its path, spelled as the folder spells it.
    """

    stem: str
    number: int
    path: str


def numbered_files(folder: Path, suffix: str, prefix: str = "") -> list[NumberedFile]:
    """Return every file `<prefix><number><suffix>` in a folder, by number.

    Files with another suffix are ignored, with a warning, and so is litter; see
    `metaevents.files.is_litter`.

    Args:
        folder: An existing folder.
        suffix: The suffix in lower case, such as ".bin"; files may spell it in any case.
        prefix: What precedes the number in every name.

    Raises:
        RecordingError: A file with the suffix has no number in its name, or two files have the same
            number.
    """
    files: dict[int, NumberedFile] = {}
    ignored = 0
    for entry in visible_entries(folder):
        if not entry.name.lower().endswith(suffix):
            ignored += 1
            continue
        stem = entry.name[: -len(suffix)]
        digits = stem[len(prefix) :] if stem.startswith(prefix) else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise RecordingError(
                f"{entry.path} is not named {prefix}<number>{suffix}; "
                "move it to another folder or restore its official name"
            )
        number = int(digits)
        if number in files:
            raise RecordingError(
                f"{files[number].path} and {entry.path} are both number {number}; "
                "move one of them to another folder"
            )
        files[number] = NumberedFile(stem, number, entry.path)
    if ignored:
        logger.warning(
            "%s: ignored %d entries that are not %s files", printable(folder), ignored, suffix
        )
    return [files[number] for number in sorted(files)]
