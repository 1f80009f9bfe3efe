"""Decoded recordings in memory-mapped side files, which all processes share.

An archive is compressed for the disk; episodes need random access. The first use decodes the
archive into a folder of the user's cache, named by the fingerprint. Every later process maps the
same pages. The environment variable METAEVENTS_CACHE moves the cache. `metaevents info` prints the
side files of an archive and `metaevents clean` removes them.

There are two kinds of side files. "cells" holds each recording's occupied cells on the composed
grid and their counts: frames and sums are made from it. "events" holds each recording's events:
event lists are made from it.

A side file is checked when it is mapped: its checksums, and that no entry lies outside the frame,
since compiled loops write to the places that it names. What fails a check is decoded anew. A check
takes time in proportion to the size, so a note beside the columns says which state of the files has
passed; while the operating system reports that state, this user's later processes map them at once.
If the cache cannot be used, a folder for temporary files takes its place, which only this user may
enter.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import prod
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from platformdirs import user_cache_path

from metaevents.archive.reader import Archive
from metaevents.errors import MetaeventsError, StorageError
from metaevents.events import Events, crop
from metaevents.files import atomic_folder, exclusive_lock, progress_bar, user_path
from metaevents.specs import Composition

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "METAEVENTS_CACHE"

_VERSION = 3  # of the side files; part of their names

_META = "side-file.json"

_NOTE = ".checked"  # ending of the notes that a side file was checked

_META_BYTES = 1 << 16  # no side file describes itself in more

_PAGE = 4096  # bytes that are summed for a checksum

_SETTLED_NS = 2_000_000_000  # a file changed again within this time could look the same

_EVENT_COLUMNS = {"t": "i4", "x": "u2", "y": "u2", "p": "u1"}

_DISK_FULL = (errno.ENOSPC, errno.EFBIG, *filter(None, [getattr(errno, "EDQUOT", None)]))


def cache_root() -> Path:
    """Return the folder of all side files: METAEVENTS_CACHE, or the user's cache folder.

    A user without a home has no cache folder; a folder for temporary files takes its place.

    Raises:
        UsageError: METAEVENTS_CACHE cannot be used as a path.
    """
    return _chosen_root() or _temporary_root()


def _chosen_root() -> Path | None:
    """Return the folder that METAEVENTS_CACHE or the system names; None without a home."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return user_path(chosen).absolute()
    try:
        path = user_cache_path("metaevents")
    except (OSError, RuntimeError, KeyError):
        return None
    return None if str(path).startswith("~") else path.absolute()


def side_files(fingerprint: str | None = None) -> list[tuple[Path, int]]:
    """Return the side files in the cache.

    Args:
        fingerprint: Only those of this dataset fingerprint; all by default.

    Returns:
        A (folder, size in bytes) per side file, in order of name.
    """
    pattern = f"{_name(fingerprint, '*') if fingerprint else '*'}/{_META}"
    found = []
    with suppress(OSError):  # a folder that may not be read holds nothing for this user
        for meta in sorted(cache_root().glob(pattern)):
            folder = meta.parent
            with suppress(OSError):  # another process may be removing it
                if not folder.is_symlink():
                    files = (path for path in folder.iterdir() if path.suffix != _NOTE)
                    found.append((folder, sum(file.lstat().st_size for file in files)))
    return found


def clear_cache(fingerprint: str | None = None) -> int:
    """Remove side files from the cache.

    Args:
        fingerprint: Only those of this dataset fingerprint; all by default.

    Returns:
        The number of bytes freed.

    Raises:
        StorageError: A side file cannot be removed.
    """
    freed = 0
    for folder, size in side_files(fingerprint):
        try:
            _remove(folder)
        except OSError as error:
            raise StorageError(
                f"cannot remove {folder} ({error.strerror}); remove it as its owner"
            ) from error
        freed += size
    return freed


def _name(fingerprint: str, kind: str) -> str:
    """Return the folder name of a side file."""
    return f"{fingerprint[:40]}-{kind}-v{_VERSION}"


class Columns:
    """The memory-mapped columns of one side file.

    Attributes:
        offset: [n + 1] int64; recording i holds entries offset[i] .. offset[i + 1].
        largest: The largest entry of the column `count`; 0 if there is no such column.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], largest: int | None = None) -> None:
        self._columns = dict(columns)
        self.offset = np.array(self._columns.pop("offset"))
        if largest is None:
            count = self._columns.get("count")
            largest = 0 if count is None else int(count.max(initial=0))
        self.largest = largest

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def spans(self, recordings: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Return where the entries of recordings begin and end.

        Args:
            recordings: [n, sides] archive indices.

        Returns:
            The first entry and the one after the last, each [n, sides] int64.
        """
        shape = len(recordings), len(recordings[0])
        flat = chain.from_iterable(recordings)
        index = np.fromiter(flat, np.int64, shape[0] * shape[1]).reshape(shape)
        return self.offset[index], self.offset[index + 1]


Decode: TypeAlias = Callable[[Events], Mapping[str, np.ndarray]]
"""One recording's events -> the columns that a side file holds of them."""


@dataclass(frozen=True)
class _Kind:
    """One kind of side file of one dataset.

    Attributes:
        name: Name of the folder.
        dtypes: Column -> dtype, without `offset`.
        bounds: Column -> what all its entries stay below.
        lengths: [n] int64, the number of entries that each recording has at most.
        decode: Returns the columns of one recording.
    """

    name: str
    dtypes: Mapping[str, str]
    bounds: Mapping[str, int]
    lengths: np.ndarray
    decode: Decode

    def fits(self, columns: Columns, entries: bool) -> bool:
        """Return whether every entry is where compiled loops may write.

        Args:
            columns: The columns of a side file.
            entries: Whether to look at every entry, not only at where recordings begin and end.
        """
        offset = columns.offset
        lengths = np.diff(offset)
        return bool(
            len(offset) == len(self.lengths) + 1
            and offset[0] == 0
            and (lengths >= 0).all()
            and (lengths <= self.lengths).all()
            and all(len(columns[name]) == offset[-1] for name in self.dtypes)
            and all(
                columns[name].max(initial=0) < bound
                and (columns[name].dtype.kind == "u" or columns[name].min(initial=0) >= 0)
                for name, bound in (self.bounds.items() if entries else ())
            )
        )


def cells(
    archive: Archive, composition: Composition, fingerprint: str, progress: bool | None = None
) -> Columns:
    """Return the occupied cells of every recording, decoded first if needed.

    A cell is ((bin * 2 + polarity) * H + y) * W + x on the composed grid [T, 2, H, W], for the
    recording as the leftmost side of a sample. As side s, it lies s * (W / arity) further on.

    Args:
        archive: The recordings.
        composition: The grid.
        fingerprint: Fingerprint of the dataset; names the side file.
        progress: Whether to show a progress bar while decoding; None shows it on a terminal.

    Returns:
        The columns `cell`, ascending within a recording, and `count`, at least 1.

    Raises:
        ArchiveError: The archive is corrupt, is not what it states, or was replaced by another one
            since it was opened.
        StorageError: No folder can be found for the side file, or its disk is full.
    """
    # No cell can hold more events than its recording.
    lengths = np.diff(archive.offset)
    longest = int(lengths.max())
    dtypes = {
        "cell": "u4",
        "count": "u1" if longest < 1 << 8 else "u2" if longest < 1 << 16 else "u4",
    }
    moved = (composition.arity - 1) * composition.side_shape[1]
    bounds = {"cell": prod(composition.frame_shape) - moved, "count": longest + 1}

    def decode(events: Events) -> dict[str, np.ndarray]:
        cell, count = np.unique(cell_index(events, composition), return_counts=True)
        return {"cell": cell, "count": count}

    return _open(
        _Kind(_name(fingerprint, "cells"), dtypes, bounds, lengths, decode), archive, progress
    )


def events(
    archive: Archive, composition: Composition, fingerprint: str, progress: bool | None = None
) -> Columns:
    """Return the events of every recording within crop and window, decoded first if needed.

    Args:
        archive: As for `cells`.
        composition: As for `cells`.
        fingerprint: As for `cells`.
        progress: As for `cells`.

    Returns:
        The columns `t` (microseconds), `x`, `y` (pixels of the cropped recording) and `p`, in order
        of time within a recording.

    Raises:
        ArchiveError: As for `cells`.
        StorageError: As for `cells`.
    """
    width, height = composition.crop
    bounds = {"t": composition.window_us, "x": width, "y": height, "p": 2}

    def decode(recording: Events) -> dict[str, np.ndarray]:
        inside = _kept(recording, composition)
        return {name: inside[name] for name in _EVENT_COLUMNS}

    lengths = np.diff(archive.offset)
    name = _name(fingerprint, "events")
    return _open(_Kind(name, _EVENT_COLUMNS, bounds, lengths, decode), archive, progress)


def cell_index(recording: Events, composition: Composition) -> np.ndarray:
    """Return the cell of every event within crop and window, as the leftmost side of a sample.

    Args:
        recording: Events of one recording at sensor resolution.
        composition: The grid; see `cells` for the numbering.

    Returns:
        [m] int64; m is the number of events within crop and window.
    """
    T, P, H, W = composition.frame_shape
    inside = _kept(recording, composition)
    x, y = (inside[name].astype(np.int64) // composition.downsample for name in ("x", "y"))
    time_bin = inside["t"] * T // composition.window_us
    index: np.ndarray = ((time_bin * P + inside["p"]) * H + y) * W + x
    return index


def _kept(recording: Events, composition: Composition) -> Events:
    """Return the events of a recording that a sample keeps.

    An archive may keep a longer window than the composition.
    """
    t = recording["t"]
    if len(t) and t[-1] >= composition.window_us:
        recording = recording[: np.searchsorted(t, composition.window_us)]
    return crop(recording, *composition.crop)


def _open(kind: _Kind, archive: Archive, progress: bool | None) -> Columns:
    """Return a side file, made first if it is missing or damaged, by one process at a time."""
    archive.require_contents()
    root = _chosen_root()
    if root is not None:
        columns = _load(root / kind.name, kind)  # also from a cache that cannot be written
        if columns is not None:
            return columns
        try:
            return _make_once(root, kind, archive, progress)
        except MetaeventsError:
            raise
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise _storage_error(root, error) from error
            logger.warning(
                "cannot write to %s (%s); decoding into a folder for temporary files (set %s to "
                "choose another folder)",
                root,
                error.strerror or error,
                CACHE_VARIABLE,
            )
    try:
        root = _private_folder()
        return _load(root / kind.name, kind) or _make_once(root, kind, archive, progress)
    except MetaeventsError:
        raise
    except OSError as error:
        raise _storage_error(root, error) from error


def _storage_error(root: Path | None, error: OSError) -> StorageError:
    folder = root or "a folder for temporary files"
    return StorageError(
        f"cannot decode the archive into {folder} ({error.strerror or error}); free some space, or "
        f"set {CACHE_VARIABLE} to a folder on another disk"
    )


def _temporary_root() -> Path:
    """Return the folder that takes the place of a cache that cannot be used."""
    user = os.getuid() if hasattr(os, "getuid") else "cache"
    return Path(tempfile.gettempdir()) / f"metaevents-{user}"


def _private_folder() -> Path:
    """Return a folder for temporary files that nobody else could have written into.

    Raises:
        OSError: None can be made.
    """
    folder = _temporary_root()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    return folder if _is_private(folder) else _unpredictable_folder()


def _is_private(folder: Path) -> bool:
    """Return whether a folder is this user's own, and closed to all others."""
    if not hasattr(os, "geteuid"):  # Windows has a folder for temporary files for each user
        return folder.is_dir()
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return False
    if status.st_mode & 0o022:  # others may have written into it
        return False
    if status.st_mode & 0o077:
        with suppress(OSError):
            folder.chmod(0o700)
    return True


@cache
def _unpredictable_folder() -> Path:
    """Return a new folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="metaevents-"))
    process = os.getpid()

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _make_once(root: Path, kind: _Kind, archive: Archive, progress: bool | None) -> Columns:
    """Return a side file in a folder, made by one process at a time.

    Raises:
        OSError: It cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / kind.name
    with exclusive_lock(folder):
        columns = _load(folder, kind)
        if columns is None:
            _make(folder, kind, archive, progress)
            columns = _load(folder, kind)
    if columns is None:
        raise StorageError(
            f"side file {folder} was damaged or removed while it was made; run again, or set "
            f"{CACHE_VARIABLE} to another folder"
        )
    return columns


def _load(folder: Path, kind: _Kind) -> Columns | None:
    """Return the side file in a folder, or None if it is missing, incomplete or damaged."""
    try:
        with _open_regular(folder / _META) as file:
            meta = json.loads(os.read(file, _META_BYTES))
        stated = meta["columns"]
        dtypes = {**kind.dtypes, "offset": "i8"}
        if stated.keys() != dtypes.keys():
            return None
        opened = {name: _map(folder / name, dtype) for name, dtype in dtypes.items()}
        state = {name: list(status) for name, (_, status) in opened.items()}
        largest = _noted(folder, state)
        for name, (values, _) in opened.items():
            if largest is not None and name != "offset":
                continue
            if stated[name]["checksum"] != _checksum(values):
                return None
        columns = Columns({name: values for name, (values, _) in opened.items()}, largest)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not kind.fits(columns, entries=largest is None):
        return None
    if largest is None:
        _note(folder, state, columns.largest)
    return columns


class _FileState(NamedTuple):
    """What the operating system says of a file; a change of its content changes it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def _note_path(folder: Path) -> Path:
    """Return the path of this user's note that a side file was checked."""
    user = os.geteuid() if hasattr(os, "geteuid") else "user"
    return folder / f"{user}{_NOTE}"


def _noted(folder: Path, state: Mapping[str, Sequence[int]]) -> int | None:
    """Return the largest count of a side file of which this user has checked this very state.

    Args:
        folder: The side file.
        state: `_FileState` of each column, as a list.
    """
    try:
        with _open_regular(_note_path(folder)) as file:
            status = os.fstat(file)
            note = json.loads(os.read(file, _META_BYTES))
        own = not hasattr(os, "geteuid") or (
            status.st_uid == os.geteuid() and not status.st_mode & 0o022
        )
        settled = status.st_mtime_ns >= _newest(state) + _SETTLED_NS
        if own and settled and note["state"] == state:
            largest: int = note["largest"]
            return largest
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def _note(folder: Path, state: Mapping[str, Sequence[int]], largest: int) -> None:
    """Write down that a side file in this state has passed its checks."""
    if time.time_ns() < _newest(state) + _SETTLED_NS:
        return  # the note would not be believed
    with suppress(OSError):  # the cache of somebody else, or a full disk
        # Not through `write_atomic`: nobody else may write into this file at any moment.
        descriptor, name = tempfile.mkstemp(".part", ".", folder)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump({"state": state, "largest": largest}, file)
            Path(name).replace(_note_path(folder))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _newest(state: Mapping[str, Sequence[int]]) -> int:
    """Return when a file of a side file was last changed, in nanoseconds."""
    return max(max(_FileState(*values)[-2:]) for values in state.values())


@contextmanager
def _open_regular(path: Path) -> Iterator[int]:
    """Open a file for reading, if it is one: no link, pipe or device.

    Raises:
        OSError: It is none, or cannot be opened.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "this is no file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def _map(path: Path, dtype: str) -> tuple[np.ndarray, _FileState]:
    """Return a file's memory-mapped contents, and the state of the file before they were read.

    Raises:
        OSError: It is no file, or cannot be opened.
        ValueError: Its length is not a multiple of the dtype's.
    """
    with _open_regular(path) as descriptor:
        status = os.fstat(descriptor)
        state = _FileState(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )
        if not status.st_size:  # an empty file cannot be mapped
            return np.empty(0, dtype), state
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # A plain view: slicing an np.memmap takes several times as long.
            return np.asarray(np.memmap(file, dtype=dtype, mode="r")), state


def _checksum(values: np.ndarray) -> str:
    """Return a checksum of a column, at the speed of memory.

    It is the hex SHA-256 of the length and of the sum of every page, as 64-bit numbers. So a bit
    that flips, a page of zeros and two pages that change places are all found.
    """
    octets = values.view(np.uint8)
    whole = len(octets) // _PAGE * _PAGE
    sums = octets[:whole].view("<u8").reshape(-1, _PAGE // 8).sum(axis=1, dtype=np.uint64)
    hasher = hashlib.sha256(f"{len(octets)}:".encode())
    hasher.update(sums.astype("<u8").data)
    hasher.update(octets[whole:].data)
    return hasher.hexdigest()


def _make(folder: Path, kind: _Kind, archive: Archive, progress: bool | None) -> None:
    """Decode all recordings into a side file, replacing a damaged one.

    Raises:
        OSError: It cannot be written.
        ArchiveError: The archive is corrupt, or was replaced by another one since it was opened.
    """
    _remove(folder)
    with atomic_folder(folder) as temporary:
        lengths = [0]
        with ExitStack() as stack:
            files = {
                name: stack.enter_context((temporary / name).open("wb")) for name in kind.dtypes
            }
            recordings = stack.enter_context(
                progress_bar("decode", len(archive), "rec", progress, iterable=archive.iterate())
            )
            for _, recording in recordings:
                columns = kind.decode(recording)
                for name, dtype in kind.dtypes.items():
                    files[name].write(np.ascontiguousarray(columns[name], dtype).data)
                lengths.append(len(next(iter(columns.values()))))
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        _write_synced(temporary / "offset", np.cumsum(lengths, dtype="i8").tobytes())
        stated = {
            name: {"dtype": dtype, "checksum": _checksum(_map(temporary / name, dtype)[0])}
            for name, dtype in (*kind.dtypes.items(), ("offset", "i8"))
        }
        _write_synced(temporary / _META, json.dumps({"columns": stated}).encode())
        _share(temporary, folder.parent)


def _write_synced(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _share(folder: Path, root: Path) -> None:
    """Let everybody read a side file who may write to its cache, whatever the umask."""
    mode = root.stat().st_mode
    if not mode & 0o022:
        return
    with suppress(OSError):  # some file systems have no modes
        for file in folder.iterdir():
            file.chmod(0o600 | (mode & 0o044))
        folder.chmod(0o700 | (mode & 0o055))


def _remove(path: Path) -> None:
    """Remove whatever is in a side file's place: a folder, a file, a link or a pipe.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        pass
