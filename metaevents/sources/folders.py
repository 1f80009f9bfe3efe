"""Recordings in one folder per label: `<label>/<name>.npy`, `.npz`, `.bin` or `.aedat4`.

A .npy file holds a structured array and a .npz file one array per field, in one of the forms that
`metaevents.events.as_events` takes. A .bin file has the 5-byte events of N-MNIST and N-Caltech101,
and a .aedat4 file is one of iniVation's DV software.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from metaevents.errors import MetaeventsError, MissingError, RecordingError
from metaevents.files import PathLike, visible_entries
from metaevents.sources.aedat4 import read_events as read_aedat4
from metaevents.sources.base import existing_folder, folder_errors
from metaevents.sources.nmnist import decode_events
from metaevents.untrusted import describe, read_arrays, read_bytes

_LAYOUT = "<label>/<name> with the ending .npy, .npz, .bin or .aedat4"
_SUFFIXES = (".npy", ".npz", ".bin", ".aedat4")
_FIELDS = ("x", "y", "t", "ts", "timestamp", "p", "on", "pol", "polarity")
_FILE_LIMIT = 1 << 30  # bytes of a file, and of what it unpacks to


class FolderDataset:
    """A map-style dataset of (events, label) pairs from a folder per label.

    Labels and names are in natural order: `take_2` before `take_10`.

    Args:
        root: The folder.

    Attributes:
        files: The path of every recording.
        targets: The label of every recording.
        names: The file name of every recording, without its ending.

    Raises:
        MissingError: The folder does not exist or holds no recordings.
        RecordingError: The folder cannot be listed, or two files of a label have one name.
    """

    def __init__(self, root: PathLike) -> None:
        folder = existing_folder(root, "folders", _LAYOUT)
        self.files: list[Path] = []
        self.targets: list[str] = []
        self.names: list[str] = []
        with folder_errors("folders"):
            labels = [Path(entry.path) for entry in visible_entries(folder) if entry.is_dir()]
            for label in sorted(labels, key=lambda path: natural_key(path.name)):
                self._add(label)
        if not self.files:
            raise MissingError(f"no recording below {folder}; give the folder that holds {_LAYOUT}")

    def _add(self, label: Path) -> None:
        """Add the recordings of a label."""
        found: dict[str, Path] = {}
        for entry in visible_entries(label):
            path = Path(entry.path)
            if path.suffix.lower() not in _SUFFIXES:
                continue
            if other := found.get(path.stem):
                raise RecordingError(
                    f"{other} and {path.name} are both recording {path.stem!r}; rename one of them"
                )
            found[path.stem] = path
        for name in sorted(found, key=natural_key):
            self.files.append(found[name])
            self.targets.append(label.name)
            self.names.append(name)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        """Return the events of a recording, as its file has them, and its label."""
        path = self.files[index]
        try:
            return _read(path), self.targets[index]
        except MetaeventsError:
            raise
        except Exception as error:  # whatever a damaged file leads to
            raise RecordingError(
                f"{path} cannot be read ({describe(error)}); expected events in the form of "
                f"{path.suffix} files, so write it again"
            ) from error


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that compares the numbers in names as numbers: a_2 before a_10."""
    parts = re.split(r"([0-9]+)", name)
    return [(i % 2 == 0, int(part) if i % 2 else 0, part) for i, part in enumerate(parts)]


def _read(path: Path) -> Any:
    """Return the events of a file in the form that it has."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        # A map is refused where the file is shorter than its header states.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    if suffix == ".aedat4":
        return read_aedat4(path)
    content = read_bytes(path, _FILE_LIMIT, "recording", "check the path")
    if suffix == ".npz":
        arrays = read_arrays(content, _FIELDS, _FILE_LIMIT)
        if not arrays:
            raise ValueError(f"it has none of the arrays {', '.join(_FIELDS)}")
        return arrays
    if len(content) % 5:
        raise ValueError(f"it has {len(content):,} bytes, no whole number of 5-byte events")
    return decode_events(np.frombuffer(content, np.uint8).reshape(-1, 5))
