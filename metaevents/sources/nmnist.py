"""N-MNIST recordings in the official layout: `<Train|Test>/<digit>/<id>.bin`.

Orchard, Jayawant, Cohen and Thakor 2015, Frontiers in Neuroscience 9:437. A file holds 5 bytes per
event: x, y, then the polarity bit and 23 bits of microseconds, big-endian. A pseudo-event with y =
240 marks an overflow of the camera's 13-bit timestamp: it adds 8,192 us to all later times and is
dropped. The events are those of tonic's reader, whose time grows with the square of the number of
pseudo-events.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metaevents.errors import MissingError, RecordingError
from metaevents.events import EVENT_DTYPE, Events
from metaevents.files import PathLike, visible_entries
from metaevents.sources.base import (
    RecordingRef,
    existing_folder,
    folder_errors,
    numbered_files,
    repair_events,
    source_name,
)

_LAYOUT = "Train/<digit>/<id>.bin and Test/<digit>/<id>.bin"
_FOLDERS = ("Train", "Test")
_BYTES_PER_EVENT = 5
_FILE_LIMIT = 1 << 26  # bytes: 13 million events, where a recording has some thousands
_OVERFLOW_Y = 240
_OVERFLOW_US = 8_192


class NMNIST:
    """N-MNIST recordings in a folder.

    Args:
        root: A folder with `Train`, `Test` or both, with all official files or some of them.

    Attributes:
        labels: The ten digits.
        sensor_size: (34, 34) pixels.
        official_count: Number of official recordings.
        root: The folder.
        name: "n-mnist" if all official recordings are present, "simulated" if the recordings are
            simulated, "n-mnist-subset" otherwise.

    Raises:
        MissingError: The folder does not exist or holds no recordings.
        RecordingError: The folder does not have the official layout.
    """

    labels = tuple("0123456789")
    sensor_size = (34, 34)
    official_count = 70_000

    def __init__(self, root: PathLike) -> None:
        self.root = existing_folder(root, "N-MNIST", _LAYOUT)
        with folder_errors("N-MNIST"):
            self._recordings = self._scan()
        complete = len(self._recordings) == self.official_count
        self.name = source_name(self.root, complete, "n-mnist")

    def _scan(self) -> list[RecordingRef]:
        """References to all recordings below the root, ordered by folder, digit and number."""
        folders = [name for name in _FOLDERS if (self.root / name).is_dir()]
        if not folders:
            raise RecordingError(
                f"N-MNIST: {self.root} has neither Train nor Test; "
                f"give the folder that holds {_LAYOUT}"
            )
        refs = [
            RecordingRef(
                f"{folder}/{digit.name}/{file.stem}", digit.name, folder, file.number, file.path
            )
            for folder in folders
            for digit in visible_entries(self.root / folder)
            if self._is_digit_folder(digit)
            for file in numbered_files(Path(digit.path), ".bin")
        ]
        if not refs:
            raise MissingError(
                f"N-MNIST: no .bin file below {self.root}; give the folder that holds {_LAYOUT}"
            )
        return refs

    def _is_digit_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a digit's folder; files are ignored, other folders are an error."""
        if entry.is_dir() and entry.name not in self.labels:
            raise RecordingError(
                f"N-MNIST: {entry.path} is no digit's folder; expected 0 to 9, "
                "so move it to another folder"
            )
        return entry.is_dir()

    def recordings(self) -> list[RecordingRef]:
        """Return a reference to every recording, ordered by folder, digit and number."""
        return self._recordings

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """Read one recording in 34 x 34 pixels.

        Args:
            ref: One of `recordings()`.

        Returns:
            The events and the repair counts; see `Source.read`. Besides the counts of
            `repair_events`, "overflow_markers" counts the pseudo-events that were dropped.

        Raises:
            RecordingError: The file cannot be read, is empty, does not hold a whole number of
                events, or has more than 64 MiB.
        """
        path = str(ref.location)
        try:
            size = Path(path).stat().st_size  # 0 for what is no file, such as a pipe
            if not size or size % _BYTES_PER_EVENT or size > _FILE_LIMIT:
                raise RecordingError(
                    f"N-MNIST: {path} has {size:,} bytes, "
                    f"expected a whole number of {_BYTES_PER_EVENT}-byte events in at most "
                    f"{_FILE_LIMIT:,} bytes; unpack or download it again"
                )
            content = np.fromfile(path, np.uint8)
        except OSError as error:
            raise RecordingError(
                f"N-MNIST: cannot read {path} ({error.strerror}); "
                "check its permissions, or unpack or download it again"
            ) from error
        raw = decode_events(content.reshape(-1, _BYTES_PER_EVENT))
        events, repairs = repair_events(raw, self.sensor_size)
        if markers := len(content) // _BYTES_PER_EVENT - len(raw):
            repairs["overflow_markers"] = markers
        return events, repairs


def decode_events(rows: npt.NDArray[np.uint8]) -> Events:
    """Decode events and apply the overflow markers among them.

    Args:
        rows: The bytes of a file, [events and markers, 5].

    Returns:
        The events in the order of the file, [events], without the markers.
    """
    is_marker = rows[:, 1] == _OVERFLOW_Y
    times = (rows[:, 2] & 0x7F).astype(np.int64) << 16
    times |= rows[:, 3].astype(np.int64) << 8
    times |= rows[:, 4]
    if is_marker.any():
        times += np.cumsum(is_marker) * _OVERFLOW_US
        rows, times = rows[~is_marker], times[~is_marker]
    events = np.empty(len(rows), EVENT_DTYPE)
    events["x"], events["y"], events["t"] = rows[:, 0], rows[:, 1], times
    events["p"] = rows[:, 2] >> 7
    return events
