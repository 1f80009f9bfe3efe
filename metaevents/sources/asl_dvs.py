"""ASL-DVS recordings in the official layout: `<letter>/<letter>_0001.mat`.

Bi, Chadha, Abbas, Bourtsoulatze and Andreopoulos 2019, ICCV. DAVIS240C camera, 240 x 180 pixels,
24 letters (a to y without j), about 100 ms per file, MATLAB variables ts, x, y and pol. The files
store pixels flipped on both axes; `ASLDVS.read` returns them upright, at (239 - x, 179 - y). It
also repairs and counts the known defects of the files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metaevents.errors import MissingError, RecordingError, UsageError
from metaevents.events import EVENT_DTYPE, Events, make_events, whole_numbers
from metaevents.files import PathLike, visible_entries
from metaevents.sources.base import (
    RecordingRef,
    existing_folder,
    folder_errors,
    numbered_files,
    repair_events,
    source_name,
)
from metaevents.sources.mat5 import MatError, read_variables

_LAYOUT = "<letter>/<letter>_<number>.mat"
_VARIABLES = ("ts", "x", "y", "pol")
_LONG_US = 200_000  # microseconds; a longer recording is counted as a defect


class ASLDVS:
    """ASL-DVS recordings in a folder.

    Args:
        root: A folder with one folder per letter, with all official files or some of them.

    Attributes:
        labels: The 24 letters.
        sensor_size: (240, 180) pixels.
        official_count: Number of official recordings per letter.
        root: The folder.
        name: "asl-dvs" if all official recordings are present, "simulated" if the recordings are
            simulated, "asl-dvs-subset" otherwise.

    Raises:
        MissingError: The folder does not exist or holds no recordings.
        RecordingError: The folder does not have the official layout.
    """

    labels = tuple("abcdefghiklmnopqrstuvwxy")
    sensor_size = (240, 180)
    official_count = 4_200

    def __init__(self, root: PathLike) -> None:
        self.root = existing_folder(root, "ASL-DVS", _LAYOUT)
        with folder_errors("ASL-DVS"):
            self._recordings = self._scan()
        per_letter = Counter(ref.label for ref in self._recordings)
        complete = all(per_letter[label] == self.official_count for label in self.labels)
        self.name = source_name(self.root, complete, "asl-dvs")

    def _scan(self) -> list[RecordingRef]:
        """References to all recordings below the root, ordered by letter and number."""
        refs = [
            RecordingRef(f"{letter.name}/{file.stem}", letter.name, "", file.number, file.path)
            for letter in visible_entries(self.root)
            if self._is_letter_folder(letter)
            for file in numbered_files(Path(letter.path), ".mat", prefix=f"{letter.name}_")
        ]
        if not refs:
            raise MissingError(
                f"ASL-DVS: no .mat file below {self.root}; give the folder that holds {_LAYOUT}"
            )
        return refs

    def _is_letter_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a letter's folder; files are ignored, other folders are an error."""
        if entry.is_dir() and entry.name not in self.labels:
            raise RecordingError(
                f"ASL-DVS: {entry.path} is no letter's folder; expected a to y without j, "
                "so move it to another folder"
            )
        return entry.is_dir()

    def recordings(self) -> list[RecordingRef]:
        """Return a reference to every recording, ordered by letter and number."""
        return self._recordings

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """Read one recording, upright, in 240 x 180 pixels.

        Args:
            ref: One of `recordings()`.

        Returns:
            The events and the repair counts; see `Source.read`. The counts are

            - recordings_empty: no event, or none on the sensor; the archive skips the recording;
            - events_out_of_range: x > 239 or y > 179; dropped;
            - events_off_as_minus_one: pol = -1; read as OFF;
            - recordings_unsorted: sorted by time;
            - recordings_not_from_zero: moved to start at t = 0;
            - recordings_over_200_ms: kept; the archive keeps only its window.

        Raises:
            RecordingError: The file is no MATLAB 5 file, lacks a variable, has variables of
                different lengths, or has values that no event can have.
        """
        path = str(ref.location)
        columns = self._load(path)
        x, y, ts, pol = (columns[name] for name in ("x", "y", "ts", "pol"))
        if not len(ts):
            return np.empty(0, EVENT_DTYPE), {"recordings_empty": 1}
        repairs = {}
        if minus_one := int(np.count_nonzero(pol == -1)):
            repairs["events_off_as_minus_one"] = minus_one
        width, height = self.sensor_size
        # The flip must not move an event from outside the sensor onto it, nor overflow int16.
        x, y = np.clip(width - 1 - x, -1, width), np.clip(height - 1 - y, -1, height)
        try:
            events, counted = repair_events(make_events(x, y, ts, pol), self.sensor_size)
        except RecordingError as error:
            raise RecordingError(f"ASL-DVS: {path}: {error}") from error
        repairs |= counted
        if len(events) and events["t"][-1] > _LONG_US:
            repairs["recordings_over_200_ms"] = 1
        return events, repairs

    def _load(self, path: str) -> dict[str, npt.NDArray[np.integer[Any]]]:
        """The four variables of a file, each [N]; N = 0 for a file of zero bytes."""
        try:
            if not Path(path).stat().st_size:
                return {name: np.empty(0, np.int64) for name in _VARIABLES}
            columns = read_variables(Path(path), _VARIABLES)
        except OSError as error:
            raise RecordingError(
                f"ASL-DVS: cannot read {path} ({error.strerror}); "
                "check its permissions, or unpack or download it again"
            ) from error
        except MatError as error:
            raise RecordingError(
                f"ASL-DVS: {path} is no readable MATLAB file ({error}); unpack or download it again"
            ) from error
        if missing := [name for name in _VARIABLES if name not in columns]:
            raise RecordingError(
                f"ASL-DVS: {path} lacks {', '.join(missing)}; "
                f"expected the variables {', '.join(_VARIABLES)}, each (N, 1); download it again"
            )
        return self._checked_columns(path, columns)

    @staticmethod
    def _checked_columns(
        path: str, columns: Mapping[str, npt.NDArray[np.generic]]
    ) -> dict[str, npt.NDArray[np.integer[Any]]]:
        """The columns as whole numbers, or a RecordingError if they are not those of events."""
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise RecordingError(
                f"ASL-DVS: {path} has {lengths} entries; "
                "expected four variables of one length, so download it again"
            )
        try:
            whole = {name: whole_numbers(name, column) for name, column in columns.items()}
        except UsageError as error:
            raise RecordingError(f"ASL-DVS: {path}: {error}, or download it again") from error
        if not (whole["pol"].min(initial=0) >= -1 and whole["pol"].max(initial=0) <= 1):
            raise RecordingError(
                f"ASL-DVS: {path} has polarities {np.unique(whole['pol'])[:5]}; "
                "expected 1 for ON, 0 or -1 for OFF, so download it again"
            )
        return whole
