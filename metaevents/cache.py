"""An archive's recordings decoded once into a memory-mapped side file, which all processes share.

An archive is compressed for the disk; episodes want random access. The first use decodes it into the user's cache, under the
fingerprint, written aside and renamed; every later process maps the same pages. `metaevents info` tells size and place,
`metaevents clean` removes. The environment variable METAEVENTS_CACHE moves the cache.

Two kinds: "cells" holds each recording's occupied cells on the composed grid and their counts (frames and sums are made of it),
"events" holds its events (event lists are made of it).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from metaevents.archive.reader import Archive
from metaevents.events import Events, crop
from metaevents.specs import Composition

logger = logging.getLogger(__name__)

Decode: TypeAlias = Callable[[Events], Mapping[str, np.ndarray]]

CACHE_VARIABLE = "METAEVENTS_CACHE"

_VERSION = 2

_META = "side-file.json"

_EVENT_COLUMNS = {"t": "i4", "x": "u2", "y": "u2", "p": "u1"}


def cache_root() -> Path:
    """The folder of all side files: METAEVENTS_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("metaevents")


def side_files(fingerprint: str | None = None) -> list[tuple[Path, int]]:
    """(folder, bytes) of every side file in the cache, or of those of one fingerprint."""
    pattern = f"{_name(fingerprint, '*') if fingerprint else '*'}/{_META}"
    folders = sorted(meta.parent for meta in cache_root().glob(pattern))
    return [(folder, sum(file.stat().st_size for file in folder.iterdir())) for folder in folders]


def clear_cache(fingerprint: str | None = None) -> int:
    """Remove the side files of a fingerprint, or all; returns the bytes freed."""
    freed = 0
    for folder, size in side_files(fingerprint):
        shutil.rmtree(folder)
        freed += size
    return freed


def _name(fingerprint: str, kind: str) -> str:
    return f"{fingerprint[:40]}-{kind}-v{_VERSION}"


class Columns:
    """The mapped columns of one side file.

    Attributes:
        offset: recording i holds entries offset[i] .. offset[i + 1]; [n + 1] int64.
        largest: the largest entry of the column `count`, where there is one.
    """

    def __init__(self, folder: Path, meta: Mapping[str, Any]) -> None:
        self._columns = {
            name: _map(folder / name, column["dtype"]) for name, column in meta["columns"].items()
        }
        self.offset = np.array(self._columns.pop("offset"))
        self.largest = int(meta["largest"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def spans(self, recordings: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """First and last entry of recordings [n, sides]; the same shape, int64."""
        shape = len(recordings), len(recordings[0])
        index = np.fromiter(chain.from_iterable(recordings), np.int64, shape[0] * shape[1]).reshape(
            shape
        )
        return self.offset[index], self.offset[index + 1]


def _map(path: Path, dtype: str) -> np.ndarray:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    # A plain view: slicing a np.memmap costs several times as much.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))


def cells(
    archive: Archive, composition: Composition, fingerprint: str, progress: bool | None = None
) -> Columns:
    """Columns `cell` and `count`: every occupied cell of a recording as the leftmost side of a sample, in order.

    A cell is ((bin * 2 + polarity) * H + y) * W + x on the composed grid [T, 2, H, W]; as side s it lies s * (W / arity)
    further on. Counts are at least 1.
    """
    # No cell can hold more events than its recording.
    longest = int(np.diff(archive.offset).max())
    dtypes = {
        "cell": "u4",
        "count": "u1" if longest < 1 << 8 else "u2" if longest < 1 << 16 else "u4",
    }

    def decode(events: Events) -> dict[str, np.ndarray]:
        cell, count = np.unique(cell_index(events, composition), return_counts=True)
        return {"cell": cell, "count": count}

    return _open("cells", archive, fingerprint, dtypes, decode, progress)


def events(
    archive: Archive, composition: Composition, fingerprint: str, progress: bool | None = None
) -> Columns:
    """Columns `t` (us), `x`, `y` (pixels of the cropped recording), `p`: every event of a recording in order of time."""

    def decode(recording: Events) -> dict[str, np.ndarray]:
        inside = crop(recording, *composition.crop)
        return {name: inside[name] for name in _EVENT_COLUMNS}

    return _open("events", archive, fingerprint, _EVENT_COLUMNS, decode, progress)


def cell_index(recording: Events, composition: Composition) -> np.ndarray:
    """The cell of every event of a recording within the crop, as the leftmost side of a sample; [m] int64."""
    T, P, H, W = composition.frame_shape
    inside = crop(recording, *composition.crop)
    x, y = (inside[name].astype(np.int64) // composition.downsample for name in ("x", "y"))
    time_bin = inside["t"] * T // composition.window_us
    index: np.ndarray = ((time_bin * P + inside["p"]) * H + y) * W + x
    return index


def _open(
    kind: str,
    archive: Archive,
    fingerprint: str,
    dtypes: Mapping[str, str],
    decode: Decode,
    progress: bool | None,
) -> Columns:
    """The side file of a kind, made first where it is missing; processes that want the same one wait for each other."""
    from filelock import FileLock

    root = _writable_root()
    folder = root / _name(fingerprint, kind)
    found = _load(folder)
    if found is None:
        with FileLock(root / f".{folder.name}.lock"):
            found = _load(folder)
            if found is None:
                _make(folder, archive, dtypes, decode, progress)
                found = _load(folder)
    if found is None:
        raise OSError(f"side file {folder} vanished while it was made")
    return found


def _writable_root() -> Path:
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK):
            return root
    except OSError:
        pass
    fallback = (
        Path(tempfile.gettempdir())
        / f"metaevents-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    )
    logger.warning(
        "cannot write to %s; decoding into %s (set %s to choose a place)",
        root,
        fallback,
        CACHE_VARIABLE,
    )
    fallback.mkdir(parents=True, exist_ok=True)
    return fallback


def _load(folder: Path) -> Columns | None:
    """The side file in a folder, or None where it is missing or not whole."""
    try:
        meta = json.loads((folder / _META).read_text("utf-8"))
        whole = all(
            (folder / name).stat().st_size == column["length"] * np.dtype(column["dtype"]).itemsize
            for name, column in meta["columns"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Columns(folder, meta) if whole else None


def _make(
    folder: Path, archive: Archive, dtypes: Mapping[str, str], decode: Decode, progress: bool | None
) -> None:
    from tqdm import tqdm

    for stale in (
        folder,
        *folder.parent.glob(f".{folder.name}.*/"),
    ):  # of another length, or of a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        lengths, largest = [0], 0
        with ExitStack() as stack:
            files = {name: stack.enter_context((temporary / name).open("wb")) for name in dtypes}
            hidden = None if progress is None else not progress
            recordings = tqdm(
                archive.iterate(), total=len(archive), unit="rec", desc="decode", disable=hidden
            )
            for _, recording in stack.enter_context(recordings):
                columns = decode(recording)
                for name, dtype in dtypes.items():
                    np.asarray(columns[name], dtype).tofile(files[name])
                lengths.append(len(next(iter(columns.values()))))
                if "count" in columns:
                    largest = max(largest, int(columns["count"].max(initial=0)))
        offset = np.cumsum(lengths, dtype=np.int64)
        (temporary / "offset").write_bytes(offset.tobytes())
        described = {
            name: {"dtype": dtype, "length": int(offset[-1])} for name, dtype in dtypes.items()
        }
        described["offset"] = {"dtype": "i8", "length": len(offset)}
        (temporary / _META).write_text(
            json.dumps({"columns": described, "largest": largest}), "utf-8"
        )
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
