"""N-Omniglot recordings in the official layout: `dvs_<part>/<alphabet>/character<NN>/`.

Li, Dong, Zhao and Zeng 2022, Scientific Data 9:746. A DAVIS346 camera, 346 x 260 pixels, watched
the strokes of Omniglot's 1,623 characters being drawn on a screen. The folder of a character holds
one AEDAT4 file with all 20 drawings and one CSV file, whose rows are (index, first timestamp, last
timestamp), a header and then one row per drawing. Both are named by four digits. The parts are
Omniglot's own: background with 30 alphabets, evaluation with 20.

The archives that the authors published unpack to `dvs_background_1`, `dvs_background_2` and
`dvs_evaluation`; their loader wants the first two merged as `dvs_background`. Either is read.

`NOmniglot.read` cuts one drawing out of the file and keeps the square of 250 x 250 pixels in which
the characters are drawn: rows 4 to 253 and columns 54 to 303, as the published loader does.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaevents.errors import MissingError, RecordingError
from metaevents.events import EVENT_DTYPE, Events
from metaevents.files import PathLike, visible_entries
from metaevents.sources.aedat4 import Aedat4Error, read_events
from metaevents.sources.base import (
    RecordingRef,
    existing_folder,
    folder_errors,
    repair_events,
    source_name,
)

ALPHABETS: Mapping[str, Mapping[str, int]] = {
    "background": {
        "Alphabet_of_the_Magi": 20,
        "Anglo-Saxon_Futhorc": 29,
        "Arcadian": 26,
        "Armenian": 41,
        "Asomtavruli_(Georgian)": 40,
        "Balinese": 24,
        "Bengali": 46,
        "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
        "Braille": 26,
        "Burmese_(Myanmar)": 34,
        "Cyrillic": 33,
        "Early_Aramaic": 22,
        "Futurama": 26,
        "Grantha": 43,
        "Greek": 24,
        "Gujarati": 48,
        "Hebrew": 22,
        "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
        "Japanese_(hiragana)": 52,
        "Japanese_(katakana)": 47,
        "Korean": 40,
        "Latin": 26,
        "Malay_(Jawi_-_Arabic)": 40,
        "Mkhedruli_(Georgian)": 41,
        "N_Ko": 33,
        "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
        "Sanskrit": 42,
        "Syriac_(Estrangelo)": 23,
        "Tagalog": 17,
        "Tifinagh": 55,
    },
    "evaluation": {
        "Angelic": 20,
        "Atemayar_Qelisayer": 26,
        "Atlantean": 26,
        "Aurek-Besh": 26,
        "Avesta": 26,
        "Ge_ez": 26,
        "Glagolitic": 45,
        "Gurmukhi": 45,
        "Kannada": 41,
        "Keble": 26,
        "Malayalam": 47,
        "Manipuri": 40,
        "Mongolian": 30,
        "Old_Church_Slavonic_(Cyrillic)": 45,
        "Oriya": 46,
        "Sylheti": 28,
        "Syriac_(Serto)": 23,
        "Tengwar": 25,
        "Tibetan": 42,
        "ULOG": 26,
    },
}
"""Part -> alphabet -> number of characters, as in Omniglot (Lake, Salakhutdinov and Tenenbaum 2015,
Science 350:1332)."""

FOLDERS: Mapping[str, str] = {
    "dvs_background": "background",
    "dvs_background_1": "background",
    "dvs_background_2": "background",
    "dvs_evaluation": "evaluation",
}
"""Folder of the official layout -> part of Omniglot."""

CAMERA_SIZE = (346, 260)
"""(width, height) of the DAVIS346 in pixels."""

WRITING_AREA = (54, 4, 250)
"""Left column, top row and side of the square in which the characters are drawn, in pixels."""

DRAWINGS = 20
"""Drawings per character, each by another person."""

_LAYOUT = "dvs_background/<alphabet>/character<NN> and dvs_evaluation/<alphabet>/character<NN>"
_TABLE_LIMIT = 1 << 20  # bytes of a CSV file, which has 21 lines
_LONG_US = 4_800_000  # microseconds; a longer recording is counted


def character_label(alphabet: str, number: int) -> str:
    """Return the label of a character, such as "Greek/character03".

    Args:
        alphabet: Name of the alphabet.
        number: Number of the character, from 1.
    """
    return f"{alphabet}/character{number:02d}"


class _CharacterFiles(NamedTuple):
    """The two files of a character: events of all drawings, and a row per drawing."""

    events: str
    rows: str


class _Character(NamedTuple):
    """What the files of one character hold.

    Attributes:
        columns: t, x, y and p of all events, each [N].
        is_sorted: Whether t never decreases.
        rows: (first, last) timestamp of every drawing, in the order of the CSV file.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    is_sorted: bool
    rows: list[tuple[int, int]]


class NOmniglot:
    """N-Omniglot recordings in a folder. A recording is one drawing of one character.

    Args:
        root: A folder with `dvs_background`, `dvs_evaluation` or both, with all official files or
            some of them. `dvs_background_1` and `dvs_background_2` may stand for `dvs_background`.

    Attributes:
        labels: The 1,623 characters, such as "Greek/character03", in order of part, alphabet and
            number.
        sensor_size: (250, 250) pixels: the writing area.
        official_count: Number of official recordings.
        root: The folder.
        name: "n-omniglot" if all official characters are present, "simulated" if the recordings are
            simulated, "n-omniglot-subset" otherwise.

    Raises:
        MissingError: The folder does not exist or holds no recordings.
        RecordingError: The folder does not have the official layout.
    """

    labels = tuple(
        character_label(alphabet, number)
        for alphabets in ALPHABETS.values()
        for alphabet, characters in alphabets.items()
        for number in range(1, characters + 1)
    )
    sensor_size = (WRITING_AREA[2], WRITING_AREA[2])
    official_count = DRAWINGS * len(labels)

    def __init__(self, root: PathLike) -> None:
        self.root = existing_folder(root, "N-Omniglot", _LAYOUT)
        self._last: tuple[str, _Character] | None = None
        self._files: dict[str, _CharacterFiles] = {}
        with folder_errors("N-Omniglot"):
            self._recordings = self._scan()
        complete = len(self._recordings) == self.official_count
        self.name = source_name(self.root, complete, "n-omniglot")

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads other characters.
        return {**vars(self), "_last": None}

    def _scan(self) -> list[RecordingRef]:
        """References to all recordings below the root, ordered by part, alphabet and character."""
        folders = [name for name in FOLDERS if (self.root / name).is_dir()]
        if not folders:
            raise RecordingError(
                f"N-Omniglot: {self.root} has none of {', '.join(FOLDERS)}; "
                f"give the folder that holds {_LAYOUT}"
            )
        refs = []
        for folder in folders:
            part = FOLDERS[folder]
            for label, path in _characters(self.root / folder, part):
                if label in self._files:
                    raise RecordingError(
                        f"N-Omniglot: {path} and {Path(self._files[label].events).parent} are the "
                        "same character; move one of them to another folder"
                    )
                self._files[label] = _find_files(path)
                refs += [
                    RecordingRef(f"{part}/{label}/{number:02d}", label, part, number, label)
                    for number in range(1, DRAWINGS + 1)
                ]
        if not refs:
            raise MissingError(
                f"N-Omniglot: no character below {self.root}; give the folder that holds {_LAYOUT}"
            )
        return refs

    def recordings(self) -> list[RecordingRef]:
        """Return a reference to every recording: 20 per character that is there."""
        return self._recordings

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """Read one drawing in the 250 x 250 pixels of the writing area.

        The drawing is the events from the first timestamp of its row on and before the last one, as
        the published loader cuts it. All drawings of a character come from one file, which stays
        decoded until another character is read.

        Args:
            ref: One of `recordings()`.

        Returns:
            The events and the repair counts; see `Source.read`. The counts are

            - recordings_without_row: the CSV file has fewer rows; the archive skips the recording;
            - recordings_reversed: the row ends before it begins; the archive skips the recording;
            - recordings_empty: no event in the writing area; the archive skips the recording;
            - recordings_overlapping: an earlier row shares a part of the time; kept;
            - rows_beyond_20: rows after the 20th; left out;
            - events_out_of_range: outside 346 x 260 pixels; dropped;
            - events_outside_writing_area: elsewhere on the sensor; dropped;
            - recordings_unsorted: sorted by time;
            - recordings_over_4800_ms: kept; the archive keeps only its window.

        Raises:
            MissingError: The package `aedat` is not installed.
            RecordingError: The AEDAT4 or CSV file of the character cannot be read.
        """
        character = self._character(str(ref.location))
        repairs: dict[str, int] = {}
        if ref.number == 1 and len(character.rows) > DRAWINGS:
            repairs["rows_beyond_20"] = len(character.rows) - DRAWINGS
        empty = np.empty(0, EVENT_DTYPE)
        if ref.number > len(character.rows):
            return empty, repairs | {"recordings_without_row": 1}
        first, last = character.rows[ref.number - 1]
        if last < first:
            return empty, repairs | {"recordings_reversed": 1}
        if any(
            max(first, other[0]) < min(last, other[1]) for other in character.rows[: ref.number - 1]
        ):
            repairs["recordings_overlapping"] = 1
        raw, dropped = _in_writing_area(_cut(character, first, last))
        repairs |= dropped
        if len(raw):
            raw["t"] -= raw["t"].min()  # a drawing begins in the middle of its file
        events, counted = repair_events(raw, self.sensor_size)
        repairs |= counted
        if len(events) and events["t"][-1] >= _LONG_US:
            repairs["recordings_over_4800_ms"] = 1
        return events, repairs

    def _character(self, label: str) -> _Character:
        """The decoded files of a character."""
        if self._last is not None and self._last[0] == label:
            return self._last[1]
        files = self._files[label]
        rows = _read_rows(Path(files.rows))
        try:
            columns = read_events(Path(files.events))
        except Aedat4Error as error:
            raise RecordingError(
                f"N-Omniglot: {files.events} is no readable AEDAT4 file ({error}); unpack or "
                "download it again"
            ) from error
        except OSError as error:
            if isinstance(error, MissingError):
                raise
            raise RecordingError(
                f"N-Omniglot: cannot read {files.events} ({error.strerror}); check its "
                "permissions, or unpack or download it again"
            ) from error
        times = columns["t"]
        character = _Character(columns, not np.any(times[1:] < times[:-1]), rows)
        self._last = label, character
        return character


def _characters(folder: Path, part: str) -> Iterator[tuple[str, Path]]:
    """Yield the label and the folder of every character in a folder of the official layout.

    Files are ignored.

    Raises:
        RecordingError: A folder is no official alphabet or character.
    """
    for alphabet in _folders(folder):
        characters = ALPHABETS[part].get(alphabet.name, 0)
        if not characters:
            raise RecordingError(
                f"N-Omniglot: {alphabet.path} is no alphabet of the {part} part; "
                "move it to another folder or restore its official name"
            )
        official = {f"character{number:02d}" for number in range(1, characters + 1)}
        for character in _folders(Path(alphabet.path)):
            if character.name not in official:
                raise RecordingError(
                    f"N-Omniglot: {character.path} is no character; expected character01 to "
                    f"character{characters:02d}, so move it to another folder"
                )
            yield f"{alphabet.name}/{character.name}", Path(character.path)


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    """The folders in a folder, in order of name."""
    return [entry for entry in visible_entries(folder) if entry.is_dir()]


def _find_files(folder: Path) -> _CharacterFiles:
    """Find the AEDAT4 file and the CSV file of a character.

    If there are several of a kind, those that are named by the same four digits belong together.

    Raises:
        RecordingError: One is missing, or it is not clear which belong together.
    """
    found: dict[str, dict[str, str]] = {".aedat4": {}, ".csv": {}}
    for entry in visible_entries(folder):
        stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
        if suffix.lower() in found and entry.is_file():
            found[suffix.lower()][stem] = entry.path
    for suffix, files in found.items():
        if not files:
            raise RecordingError(
                f"N-Omniglot: {folder} has no {suffix} file; unpack it again, or move the folder "
                "away"
            )
    events, rows = found.values()
    if len(events) == len(rows) == 1:
        return _CharacterFiles(*events.values(), *rows.values())
    pairs = [stem for stem in events if stem in rows and stem.isdigit() and len(stem) == 4]
    if len(pairs) != 1:
        raise RecordingError(
            f"N-Omniglot: {folder} has {len(events)} .aedat4 and {len(rows)} .csv files, expected "
            "one of each; move the others to another folder"
        )
    return _CharacterFiles(events[pairs[0]], rows[pairs[0]])


def _read_rows(path: Path) -> list[tuple[int, int]]:
    """Read (first, last) timestamp of every drawing from a CSV file; its first line is a header.

    Raises:
        RecordingError: The file cannot be read, or a row is not (index, first, last).
    """
    try:
        size = path.stat().st_size
        if size > _TABLE_LIMIT:
            raise RecordingError(
                f"N-Omniglot: {path} has {size:,} bytes, more than the limit of {_TABLE_LIMIT:,}; "
                "unpack or download it again"
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise RecordingError(
            f"N-Omniglot: cannot read {path} ({error.strerror}); check its permissions, or unpack "
            "it again"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(
            f"N-Omniglot: {path} is no CSV file ({error}); unpack or download it again"
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        if number == 1 or not any(field.strip() for field in line):
            continue
        try:
            rows.append((_timestamp(line[1]), _timestamp(line[2])))
        except (ValueError, IndexError):
            raise RecordingError(
                f"N-Omniglot: line {number} of {path} is {','.join(line)[:80]!r}; expected index, "
                "first and last timestamp, so unpack or download it again"
            ) from None
    return rows


def _timestamp(text: str) -> int:
    """A whole number of microseconds; a table may have been saved as decimal numbers.

    Raises:
        ValueError: The text is no whole number from 0 on of 64 bits.
    """
    whole, _, fraction = text.strip().partition(".")
    value = int(whole)
    if fraction.strip("0") or not 0 <= value < 1 << 63:
        raise ValueError(text)
    return value


def _cut(character: _Character, first: int, last: int) -> dict[str, npt.NDArray[Any]]:
    """The events of a character with first <= t < last, as columns."""
    times = character.columns["t"]
    if character.is_sorted:
        begin, end = np.searchsorted(times, [first, last])
        return {name: column[begin:end] for name, column in character.columns.items()}
    kept = (times >= first) & (times < last)
    return {name: column[kept] for name, column in character.columns.items()}


def _in_writing_area(columns: Mapping[str, npt.NDArray[Any]]) -> tuple[Events, dict[str, int]]:
    """Events in the writing area, whose upper left corner becomes (0, 0).

    Args:
        columns: t, x, y and p of the events, each [N]; x and y in pixels of the sensor.

    Returns:
        The events, and the counts of those that were dropped.
    """
    left, top, side = WRITING_AREA
    x, y = columns["x"], columns["y"]
    on_sensor = (x >= 0) & (x < CAMERA_SIZE[0]) & (y >= 0) & (y < CAMERA_SIZE[1])
    inside = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
    events = np.empty(np.count_nonzero(inside), EVENT_DTYPE)
    events["x"], events["y"] = x[inside] - left, y[inside] - top
    events["t"], events["p"] = columns["t"][inside], columns["p"][inside]
    dropped = Counter(
        events_out_of_range=len(x) - int(np.count_nonzero(on_sensor)),
        events_outside_writing_area=int(np.count_nonzero(on_sensor)) - len(events),
    )
    return events, dict(+dropped)
