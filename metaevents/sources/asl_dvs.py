"""ASL-DVS recordings in the official layout: `<letter>/<letter>_0001.mat`, MATLAB variables ts, x, y, pol.

Bi, Chadha, Abbas, Bourtsoulatze and Andreopoulos 2019, ICCV. DAVIS240C, 240 x 180 pixels, 24 letters (a to y without j), files of
about 100 ms. Pixels are stored flipped on both axes against the image; here they come upright, (239 - x, 179 - y).
The known repairs of the files is mended and counted, never hidden: see `ASLDVS.read`.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from metaevents.errors import MissingError, RecordingError
from metaevents.events import EVENT_DTYPE, Events, make_events
from metaevents.sources.base import (
    RecordingRef,
    clean,
    existing_folder,
    numbered_files,
    origin,
    visible,
)

_LAYOUT = "<letter>/<letter>_<number>.mat"
_VARIABLES = ("ts", "x", "y", "pol")
_LONG = 200_000  # microseconds


class ASLDVS:
    """ASL-DVS recordings below a folder.

    Args:
        root: holds one folder a letter, official or reduced.

    Attributes:
        name: "asl-dvs" where all official recordings are there, "asl-dvs-subset" where not, "simulated" where they are that.

    Raises:
        MissingError: no such folder.
        RecordingError: a folder without the official layout.
    """

    labels = tuple("abcdefghiklmnopqrstuvwxy")
    sensor_size = (240, 180)
    official_count = 4_200

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = existing_folder(root, "ASL-DVS", _LAYOUT)
        self._recordings = self._scan()
        per_letter = Counter(ref.label for ref in self._recordings)
        complete = all(per_letter[label] == self.official_count for label in self.labels)
        self.name = origin(self.root, complete, "asl-dvs")

    def _scan(self) -> list[RecordingRef]:
        refs = [
            RecordingRef(
                f"{letter.name}/{stem}", letter.name, "", number, f"{letter.path}/{stem}.mat"
            )
            for letter in visible(self.root)
            if self._is_letter(letter)
            for stem, number in numbered_files(Path(letter.path), ".mat", prefix=f"{letter.name}_")
        ]
        if not refs:
            raise MissingError(
                f"ASL-DVS: no .mat file below {self.root}; give the folder that holds {_LAYOUT}"
            )
        return refs

    def _is_letter(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_dir() and entry.name not in self.labels:
            raise RecordingError(
                f"ASL-DVS: {entry.path} is no letter's folder; expected a to y without j, so move it away"
            )
        return entry.is_dir()

    def recordings(self) -> list[RecordingRef]:
        return self._recordings

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """One recording, upright, in 240 x 180 pixels; see `Source.read`.

        Counted: recordings_empty (skipped), events_out_of_range (x > 239 or y > 179; dropped), events_off_as_minus_one
        (pol = -1, read as OFF), recordings_unsorted (sorted), recordings_not_from_zero (moved to start at 0) and
        recordings_over_200_ms (the archive keeps its window alone).

        Raises:
            RecordingError: no MATLAB file, a variable missing, lengths that differ, or values that are no event's.
        """
        columns = self._load(ref)
        x, y, ts, pol = (columns[name] for name in ("x", "y", "ts", "pol"))
        if not len(ts):
            return np.empty(0, EVENT_DTYPE), {"recordings_empty": 1}
        repairs = {}
        if minus := int(np.count_nonzero(pol == -1)):
            repairs["events_off_as_minus_one"] = minus
        width, height = self.sensor_size
        x, y = (
            np.clip(width - 1 - x, -1, width),
            np.clip(height - 1 - y, -1, height),
        )  # what is off the sensor stays off it
        events, mended = clean(make_events(x, y, ts, pol), self.sensor_size)
        repairs |= mended
        if not len(events):
            repairs["recordings_empty"] = 1
        elif events["t"][-1] > _LONG:
            repairs["recordings_over_200_ms"] = 1
        return events, repairs

    def _load(self, ref: RecordingRef) -> dict[str, np.ndarray]:
        """The four variables as int64 [N]."""
        from scipy.io import loadmat

        path = str(ref.location)
        try:
            if not Path(path).stat().st_size:
                return {name: np.empty(0, np.int64) for name in _VARIABLES}
            variables = loadmat(path, variable_names=list(_VARIABLES))
        except Exception as error:  # scipy raises whatever its parser trips over
            raise RecordingError(
                f"ASL-DVS: {path} is no readable MATLAB file ({error}); unpack or download it again"
            ) from error
        if missing := [name for name in _VARIABLES if name not in variables]:
            raise RecordingError(
                f"ASL-DVS: {path} lacks {', '.join(missing)}; expected the variables {', '.join(_VARIABLES)}, each (N, 1)"
            )
        columns = {name: np.asarray(variables[name]).ravel() for name in _VARIABLES}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise RecordingError(
                f"ASL-DVS: {path} has {lengths} entries; expected four variables of one length"
            )
        for name, column in columns.items():
            if column.dtype.kind not in "iufb" or (
                column.dtype.kind == "f" and not np.all(np.isfinite(column))
            ):
                raise RecordingError(
                    f"ASL-DVS: {path} has values in {name} that are no numbers; download it again"
                )
        whole = {name: column.astype(np.int64) for name, column in columns.items()}
        if not np.isin(whole["pol"], (-1, 0, 1)).all():
            raise RecordingError(
                f"ASL-DVS: {path} has polarities {np.unique(whole['pol'])[:5]}; expected 1 for ON, 0 or -1 for OFF"
            )
        return whole
