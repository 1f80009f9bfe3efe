"""HDF5 files: opening them for reading and for writing, and checking columns before they are read.

A file may come from a stranger, and a disk may be full. The HDF5 library trusts both: it follows
links to other files, and it ends the process when it cannot write. So

- `open_to_read` needs no locks of the file system, and turns every error into an ArchiveError;
- `list_members` and `open_column` refuse what would lead to another file, and sizes that the file
  cannot hold, before anything is read;
- `open_to_write` reserves the space on the disk before the library writes into it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaevents.archive.format import DEFLATE_LEVEL, USER_BLOCK
from metaevents.errors import ArchiveError, MetaeventsError, MissingError, StorageError
from metaevents.files import require_space

if TYPE_CHECKING:
    import h5py

_DEFLATE_RATIO = 1032
"""Bytes that one byte of deflate can unpack to (zlib technical details, "Maximum Compression
Factor")."""

_SLACK = 1 << 20  # bytes for HDF5's own structures

_CACHED = 4 << 20  # bytes of chunks that HDF5 holds in memory: 1 MiB per open column


def read_user_block(path: Path) -> tuple[bytes, int]:
    """Read the user block of a file, which may be anything.

    Args:
        path: The file.

    Returns:
        The first `USER_BLOCK` bytes, and the length of the file in bytes.

    Raises:
        MissingError: There is no such file.
        ArchiveError: It is no file, may not be read, or is open for writing in another process.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ArchiveError(f"{path} is a folder, expected an archive file (.h5)")
        if not stat.S_ISREG(mode):
            raise ArchiveError(f"{path} is a pipe or device, expected an archive file (.h5)")
        # A pipe that replaces the file meanwhile does not block.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _require_no_writer(descriptor, path)
            return file.read(USER_BLOCK) or b"", os.fstat(descriptor).st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(error, MetaeventsError):
            raise
        raise MissingError(f"no archive {path}; make one with `metaevents build`") from error
    except PermissionError as error:
        raise ArchiveError(
            f"{path} cannot be read (no permission); change its mode or copy it"
        ) from error
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be read ({error.strerror}); copy it to another disk"
        ) from error


_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def _require_no_writer(descriptor: int, path: Path) -> None:
    """Raise ArchiveError if another process has locked a file for writing, as HDF5 does."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ArchiveError(
            f"{path} is open for writing in another process; close it there, then try again"
        ) from None
    except OSError:  # the file system has no locks
        return
    fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def open_to_read(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for the time of the block, without a lock.

    Args:
        path: The file.

    Raises:
        MissingError: There is no such file.
        ArchiveError: The file cannot be read, or anything fails in the block.
    """
    import h5py

    with damage_errors(path), h5py.File(path, "r", locking=False) as file:
        yield file


@contextmanager
def damage_errors(path: Path) -> Iterator[None]:
    """Turn every error on reading an archive into an ArchiveError or MissingError.

    Args:
        path: The file.
    """
    try:
        yield
    except MetaeventsError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"no archive {path}; make one with `metaevents build`") from error
    except Exception as error:  # whatever HDF5 trips over in a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ArchiveError(f"{path} is damaged ({reason}); copy or build it again") from error


def list_members(group: h5py.Group, path: Path, allowed: set[str]) -> set[str]:
    """Return the names in a group, all of them hard links.

    Other links lead to other names or other files.

    Args:
        group: The group.
        path: The file's path, for error messages.
        allowed: The names that it may hold.

    Raises:
        ArchiveError: It holds another name, or a link that is not hard.
    """
    from h5py import h5l

    names = {name.decode("utf-8", "replace") for name in group.id}
    if extra := sorted(names - allowed):
        raise ArchiveError(
            f"{path}: {group.name} holds {extra[0]!r}, expected only "
            f"{', '.join(sorted(allowed))}; build it again"
        )
    for name in names:
        if group.id.links.get_info(name.encode()).type != h5l.TYPE_HARD:
            raise ArchiveError(
                f"{path}: {group.name.rstrip('/')}/{name} is a link to another place, expected "
                "data; build it again"
            )
    return names


def open_column(
    file: h5py.File, path: Path, name: str, dtype: str, shape: tuple[int | None, ...], chunk: int
) -> tuple[h5py.h5d.DatasetID, int]:
    """Open a column whose links `list_members` has checked, and check how it is stored.

    Args:
        file: The open file.
        path: The file's path, for error messages.
        name: Name of the column, from the root.
        dtype: Its exact dtype; "S" stands for bytes of any length.
        shape: Its exact shape; None stands for any length.
        chunk: Length of its chunks along the first axis; 0 for any.

    Returns:
        The column, and its size on the disk in bytes.

    Raises:
        ArchiveError: The column has another type, shape or storage.
    """
    from h5py import h5d, h5t, h5z

    def refuse(what: str, actual: object, expected: object) -> ArchiveError:
        return ArchiveError(
            f"{path}: column {name} has {what} {actual}, expected {expected}; build it again"
        )

    column = h5d.open(file.id, name.encode())
    stored = column.get_create_plist()
    # Before anything else: asking a virtual column for its shape opens other files.
    if stored.get_layout() == h5d.VIRTUAL or stored.get_external_count():
        raise refuse("its data in", "another file", "this file")
    if (
        column.shape is None
        or len(column.shape) != len(shape)
        or any(
            length not in (None, given) for length, given in zip(shape, column.shape, strict=True)
        )
    ):
        raise refuse("shape", column.shape, tuple("any" if n is None else n for n in shape))
    actual = column.dtype
    wanted = actual if dtype == "S" and actual.kind == "S" else np.dtype(dtype)
    if wanted.itemsize == 0 or not column.get_type().equal(h5t.py_create(wanted)):
        raise refuse("dtype", actual, np.dtype(dtype))
    if stored.get_layout() != h5d.CHUNKED:
        raise refuse("layout", stored.get_layout(), f"{h5d.CHUNKED} (chunks)")
    if chunk and stored.get_chunk()[0] != chunk:
        raise refuse("chunks of", stored.get_chunk(), (chunk,))
    filters = [stored.get_filter(i) for i in range(stored.get_nfilters())]
    actual_filters = [(code, values) for code, _, values, _ in filters]
    expected_filters = [
        (h5z.FILTER_SHUFFLE, (wanted.itemsize,)),
        (h5z.FILTER_DEFLATE, (DEFLATE_LEVEL,)),
    ]
    if actual_filters != expected_filters:
        raise refuse("the filters", actual_filters, expected_filters)
    on_disk = column.get_storage_size()
    in_memory = prod(column.shape) * wanted.itemsize
    if in_memory > _DEFLATE_RATIO * on_disk:
        raise refuse(
            "the size",
            f"{in_memory:,} bytes",
            f"at most {_DEFLATE_RATIO} times the {on_disk:,} bytes that it takes in the file",
        )
    return column, on_disk


def read_column(column: h5py.h5d.DatasetID) -> np.ndarray:
    """Return the values of a column that `open_column` has checked."""
    from h5py import h5s

    values = np.empty(column.shape, column.dtype)
    column.read(h5s.ALL, h5s.ALL, values)
    return values


class OutputFile:
    """An HDF5 file that is being written; see `open_to_write`.

    Attributes:
        hdf5: The open file.
    """

    def __init__(self, hdf5: h5py.File, path: Path) -> None:
        self.hdf5 = hdf5
        self._path = path
        self._reserved = 0

    def reserve(self, size: int) -> None:
        """Reserve the space on the disk for data that is written next.

        If there is too little, HDF5 is not asked to write: it would end the process when it closes
        the file.

        Args:
            size: Number of bytes before compression.

        Raises:
            StorageError: The disk is full.
        """
        needed = int(self.hdf5.id.get_filesize()) + _CACHED + _SLACK + size
        if needed <= self._reserved:
            return
        with storage_errors(self._path):
            if needed > _largest_file():
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            length = needed - self._reserved
            if not _allocate(self._descriptor, self._reserved, length):
                require_space(self._path.parent, length)
                return
        self._reserved = needed

    def errors(self) -> AbstractContextManager[None]:
        """Return a context that turns errors on writing the file into a StorageError."""
        return storage_errors(self._path)

    def discard(self) -> None:
        """Let HDF5 write what it still holds into memory, since the file is given up."""
        if not hasattr(os, "memfd_create"):
            return
        with suppress(OSError):
            memory = os.memfd_create("metaevents")
            os.dup2(memory, self._descriptor, inheritable=False)
            os.close(memory)

    @property
    def _descriptor(self) -> int:
        return int(self.hdf5.id.get_vfd_handle())


@contextmanager
def open_to_write(path: Path) -> Iterator[OutputFile]:
    """Make an HDF5 file with a user block, open for the time of the block.

    Args:
        path: The file; an existing one is overwritten.

    Raises:
        StorageError: The file cannot be written.
    """
    import h5py

    with storage_errors(path):
        hdf5 = h5py.File(
            path, "w", userblock_size=USER_BLOCK, libver=("earliest", "v110"), locking=False
        )
    output = OutputFile(hdf5, path)
    try:
        output.reserve(0)
        yield output
    except BaseException:
        output.discard()
        with suppress(Exception):
            hdf5.close()
        raise
    with storage_errors(path):
        hdf5.close()
        os.truncate(path, path.stat().st_size)  # releases what was reserved beyond the end


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system on writing an archive into a StorageError.

    Args:
        path: The file under its temporary or its final name.
    """
    try:
        yield
    except MetaeventsError:
        raise
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        number = getattr(error, "errno", None)
        if number is not None:
            reason = os.strerror(number)
        raise StorageError(
            f"cannot write an archive in {path.parent} ({reason}); free some space or give "
            "another folder"
        ) from error


def _largest_file() -> float:
    """Return how many bytes a file of this process may have; reservations may have more."""
    try:
        import resource
    except ImportError:  # Windows
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _allocate(descriptor: int, start: int, length: int) -> bool:
    """Allocate disk blocks for a part of a file, beyond its end too, without changing its size.

    Returns:
        False if this system or its file system cannot.

    Raises:
        OSError: The disk is full, or the file may not become so long.
    """
    try:
        import ctypes

        fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    except (ImportError, OSError, AttributeError, TypeError):
        return False
    keep_size = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h
    while fallocate(descriptor, keep_size, ctypes.c_int64(start), ctypes.c_int64(length)):
        number = ctypes.get_errno()
        if number == errno.EINTR:
            continue
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise OSError(number, os.strerror(number))
        return False
    return True
