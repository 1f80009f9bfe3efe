"""N-MNIST recordings in the official layout: `<Train|Test>/<digit>/<id>.bin`, read through tonic.

Orchard, Jayawant, Cohen and Thakor 2015, Frontiers in Neuroscience 9:437. A file holds 5 bytes an event; a pseudo-event with
y = 240 marks an overflow of the 13-bit timestamp (+8,192 us), which tonic's reader resolves and which is no event.
"""

from __future__ import annotations

import os
from pathlib import Path

from metaevents.errors import MissingError, RecordingError
from metaevents.events import EVENT_DTYPE, Events
from metaevents.sources.base import (
    RecordingRef,
    clean,
    existing_folder,
    numbered_files,
    origin,
    visible,
)

_LAYOUT = "Train/<digit>/<id>.bin and Test/<digit>/<id>.bin"
_FOLDERS = ("Train", "Test")
_BYTES_PER_EVENT = 5


class NMNIST:
    """N-MNIST recordings below a folder.

    Args:
        root: holds `Train` and `Test` (one of them is enough), official or reduced.

    Attributes:
        name: "n-mnist" where all official recordings are there, "n-mnist-subset" where not, "simulated" where they are that.

    Raises:
        MissingError: no such folder.
        RecordingError: a folder without the official layout.
    """

    labels = tuple("0123456789")
    sensor_size = (34, 34)
    official_count = 70_000

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = existing_folder(root, "N-MNIST", _LAYOUT)
        self._recordings = self._scan()
        complete = len(self._recordings) == self.official_count
        self.name = origin(self.root, complete, "n-mnist")

    def _scan(self) -> list[RecordingRef]:
        folders = [name for name in _FOLDERS if (self.root / name).is_dir()]
        if not folders:
            raise RecordingError(
                f"N-MNIST: {self.root} has neither Train nor Test; give the folder that holds {_LAYOUT}"
            )
        refs = [
            RecordingRef(
                f"{folder}/{digit.name}/{stem}",
                digit.name,
                folder,
                number,
                f"{digit.path}/{stem}.bin",
            )
            for folder in folders
            for digit in visible(self.root / folder)
            if self._is_digit(digit)
            for stem, number in numbered_files(Path(digit.path), ".bin")
        ]
        if not refs:
            raise MissingError(
                f"N-MNIST: no .bin file below {self.root}; give the folder that holds {_LAYOUT}"
            )
        return refs

    def _is_digit(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_dir() and entry.name not in self.labels:
            raise RecordingError(
                f"N-MNIST: {entry.path} is no digit's folder; expected 0 to 9, so move it away"
            )
        return entry.is_dir()

    def recordings(self) -> list[RecordingRef]:
        return self._recordings

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """One recording in 34 x 34 pixels; see `Source.read`.

        Raises:
            RecordingError: an empty file, or one that is no whole number of events.
        """
        from tonic.io import read_mnist_file

        path = str(ref.location)
        try:
            size = Path(path).stat().st_size
            if not size or size % _BYTES_PER_EVENT:
                raise RecordingError(
                    f"N-MNIST: {path} has {size} bytes, expected a whole number of {_BYTES_PER_EVENT}-byte events; "
                    "unpack or download it again"
                )
            raw = read_mnist_file(path, dtype=EVENT_DTYPE)
        except OSError as error:
            raise RecordingError(
                f"N-MNIST: cannot read {path} ({error.strerror}); mend or replace the file"
            ) from error
        events, repairs = clean(raw, self.sensor_size)
        if markers := size // _BYTES_PER_EVENT - len(raw):
            repairs["overflow_markers"] = markers
        return events, repairs
