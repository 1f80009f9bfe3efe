"""Files and folders on disk: atomic writes, locks, disk space, progress bars.

Everything that writes a file or folder uses these functions, so that

- a file or folder under its final name is always complete: `write_atomic` for content in memory,
  `atomic_file` and `atomic_folder` for what another writer makes;
- one process at a time makes the same file or folder: `exclusive_lock`;
- a command that works long finds out first whether its files can be written: `require_writable`;
- every progress bar obeys the same `progress` argument: `progress_bar`.

Trouble with the disk is an OSError here. Callers that promise other errors translate it.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeAlias

from metaevents.errors import UsageError, printable

if TYPE_CHECKING:
    from tqdm import tqdm

    ProgressBar: TypeAlias = tqdm[Any]
else:
    ProgressBar = Any  # tqdm is slow to import, and generic in its type stubs only

logger = logging.getLogger(__name__)

PathLike: TypeAlias = str | os.PathLike[str]


# Names that operating systems and network storage leave in folders, in lower case.
_LITTER = frozenset(
    {
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "lost+found",
    }
)

# What Windows and Synology append to the name of a file that they describe, in lower case.
_LITTER_ENDINGS = (":zone.identifier", "@synoeastream", "@synoresource")


def is_litter(name: str) -> bool:
    """Return whether a file or folder is none of the user's, to judge by its name.

    Everything that lists or counts a folder of the user passes over such entries: hidden ones
    (`.DS_Store`, `._x`, `.nfs0001`) and what Windows, macOS and network storage leave behind
    (`Thumbs.db`, `desktop.ini`, `__MACOSX`, `@eaDir`).

    Args:
        name: Name of the entry, without its folder.
    """
    lower = name.lower()
    return lower.startswith(".") or lower in _LITTER or lower.endswith(_LITTER_ENDINGS)


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are no litter, in order of name; see `is_litter`.

    Args:
        folder: An existing folder.

    Raises:
        OSError: The folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not is_litter(entry.name)), key=lambda entry: entry.name
        )


def user_path(path: PathLike) -> Path:
    """Return a path with `~` expanded.

    Args:
        path: A path as a user gives it, absolute or relative. An object that keeps the path makes
            it absolute, because the process can change its folder.

    Raises:
        UsageError: It is no path, names the home of an unknown user, is too long, or has a
            character that no path can have.
    """
    try:
        text = os.fsdecode(path)
        if "\0" in text:
            raise ValueError("it has a null character")
        plain = Path(text)
        if text.startswith("~") or not str(plain).startswith("~"):
            plain = plain.expanduser()
        else:
            plain = plain.absolute()  # `./~x` is a file in the working folder, not a home
        return _possible(plain)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{path!r:.200} cannot be used as a path ({error}); give the path of a file or folder"
        ) from error


_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


def file_in(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder.

    Args:
        folder: A path from `user_path`.
        name: Name of the file, without slashes.

    Raises:
        UsageError: The file system takes no name of that length.
    """
    try:
        return _possible(folder / name)
    except ValueError as error:
        raise UsageError(
            f"{name[:60]!r} cannot be used as the name of a file ({error}); give a shorter name"
        ) from error


def _possible(path: Path) -> Path:
    """Return a path that the file system can look up, or raise ValueError."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # what `Path.exists` would raise
            raise ValueError("it is too long") from error
    return path


def write_atomic(path: PathLike, content: bytes | str, *, sync: bool = True) -> None:
    r"""Write a file under a temporary name and rename it into place.

    Readers see the old content or the new, never a part. Needs no lock: the temporary name is
    unique. A symbolic link stays, and the file that it names is replaced. A device or pipe, such as
    `/dev/stdout`, is written to directly.

    Args:
        path: The file; its folder must exist.
        content: Bytes, or text, which is written as UTF-8 with "\n" line ends.
        sync: Flush the file to the disk before it is renamed, so that a power cut cannot leave an
            empty file. False is faster, for many small files that can be made again.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    if (stream := _open_file_number(path)) is not None:
        # A copy of the number shares the place at which the process goes on writing.
        with os.fdopen(os.dup(stream), "wb") as file:
            file.write(data)
        return
    if is_stream(path):
        path.write_bytes(data)
        return
    path = link_target(path)
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # a full disk names no file
        temporary.unlink(missing_ok=True)
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_stream(path: Path) -> bool:
    """Return whether a path is a device or pipe, or an open file such as `/dev/stdout`.

    A redirected `/dev/stdout` is no ordinary file: if it were replaced, what the process writes to
    it next would be lost.
    """
    if _open_file_number(path) is not None:
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def _open_file_number(path: Path) -> int | None:
    """Return the number of the open file that a path names; None if it names none."""
    number = _STANDARD_STREAMS.get(str(path))
    if number is None and (match := re.fullmatch(r"/(?:dev|proc/self)/fd/(\d{1,9})", str(path))):
        number = int(match[1])
    return number if number is not None and path.exists() else None


def link_target(path: Path) -> Path:
    """Return the file or folder that a symbolic link names, or a path that is no link as it is.

    Raises:
        OSError: Symbolic links name each other in a circle.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def require_writable(path: Path) -> None:
    """Check that a file can be written, before the work whose result it will hold.

    Args:
        path: The file, which need not exist. It is neither made nor changed.

    Raises:
        OSError: It is a folder, its folder does not exist, or the folder takes no new files.
    """
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "this cannot be written", str(path))
        return
    path = link_target(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder, expected a file", str(path))
    _require_new_files(path.parent, path)


def require_writable_folder(folder: Path) -> None:
    """Check that files can be made in a folder, before the work whose results it will hold.

    Args:
        folder: The folder. If it does not exist, its nearest parent that does is checked. Nothing
            is made.

    Raises:
        OSError: It is a file, or takes no new files.
    """
    folder = folder.absolute()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "this is a file, expected a folder", str(nearest))
    _require_new_files(nearest, folder)


def _require_new_files(folder: Path, path: Path) -> None:
    """Raise OSError, with a path for the message, if no file can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"no file can be made ({error.strerror})", str(path)) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside `path`; the file written there is renamed to `path` at the end.

    It is removed if the block fails. What a killed process left is removed at the start, so the
    caller holds the `exclusive_lock` of `path`. A symbolic link stays, and the file that it names
    is replaced.

    Raises:
        OSError: The file cannot be renamed, or the block wrote none.
    """
    path = link_target(path)
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        rename_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `folder` that is renamed to `folder` at the end.

    It is removed if the block fails. What a killed process left is removed at the start, so the
    caller holds the `exclusive_lock` of `folder`. An empty `folder` is replaced.

    Raises:
        OSError: The hidden folder cannot be made or renamed, or `folder` exists and is not empty.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.is_dir():
            folder.rmdir()  # Windows does not rename onto an empty folder
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def rename_into_place(temporary: Path, final: Path) -> None:
    """Rename a file so that a power cut leaves it complete, under the old name or the new one.

    Raises:
        OSError: The file cannot be flushed to the disk or renamed.
    """
    _flush_to_disk(temporary)
    temporary.replace(final)
    _flush_to_disk(final.parent)


def _flush_to_disk(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    if os.name != "posix":  # elsewhere, neither folders nor files opened for reading can be flushed
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where the file system allows no link.

    Args:
        source: A file; a symbolic link is followed.
        target: A path that does not exist.

    Raises:
        OSError: Neither is possible, or the disk lacks the space for a copy.
    """
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        require_space(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)


def require_space(folder: Path, size: int) -> None:
    """Check that a folder's disk has `size` bytes free.

    Raises:
        OSError: It has fewer.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{folder} has {free:,} bytes free, {size:,} are needed")


@contextmanager
def exclusive_lock(path: Path, *, wait: bool = True, waiting: str | None = None) -> Iterator[None]:
    """Hold the lock of a file or folder, so that one process at a time makes it.

    The lock is the file `.<name>.lock` beside `path`, or beside the file that a symbolic link
    names. It stays on disk and is released when the process ends, however it ends. A process that
    holds a lock must not take it again.

    Args:
        path: The file or folder, which need not exist. Its parent folder is made.
        wait: Wait while another process holds the lock. False raises UsageError instead.
        waiting: A message for the user in case another process holds the lock: logged as a warning
            before waiting, or the text of the UsageError. By default nothing is logged.

    Raises:
        UsageError: Another process holds the lock, and `wait` is False.
        OSError: The parent folder or the lock file cannot be made, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    path = link_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_file(path))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        require_lockable(path)  # or it would wait for ever
        if not wait:
            raise UsageError(
                waiting or f"another process is using {path}; wait until it ends"
            ) from None
        if waiting:
            logger.warning(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_file(path: Path) -> Path:
    """The lock file of a file or folder."""
    return path.with_name(f".{path.name}.lock")


def require_lockable(path: Path) -> None:
    """Check that `exclusive_lock` can lock a file or folder, now or when another process is done.

    Args:
        path: The file or folder, which need not exist; its parent folder does.

    Raises:
        OSError: The lock file cannot be made, or the file system has no locks.
    """
    lock_file = _lock_file(link_target(path))
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK):
            raise OSError(
                error.errno,
                f"the file system has no locks ({error.strerror}), give a folder on another one",
                str(lock_file),
            ) from error
    finally:
        os.close(descriptor)


def progress_bar(
    description: str, total: int | None, unit: str, progress: bool | None, **options: Any
) -> ProgressBar:
    """Make a progress bar. Work that takes less than half a second shows none.

    Args:
        description: Text at the left of the bar.
        total: Number of units of the whole work; None if unknown.
        unit: Name of one unit: "rec", "ep", "B" ...
        progress: True shows the bar, False hides it. None shows it on a terminal and in a notebook,
            unless the logger "metaevents" is silent for warnings, as `--quiet` makes it.
        options: Further arguments of `tqdm.tqdm`: `iterable`, `initial`, `leave`, `unit_scale` ...

    Returns:
        The bar: a context manager, and an iterator if `iterable` is given.

    Example:
        with progress_bar("verify", len(archive), "rec", None) as bar:
            for recording in archive.iterate():
                check(recording)
                bar.update()
    """
    from tqdm.std import TqdmWarning
    from tqdm.std import tqdm as tqdm_of_terminal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets
        from tqdm.auto import tqdm
        from tqdm.autonotebook import tqdm as tqdm_of_place

    disable = None if progress is None else not progress
    if disable is None and not logger.isEnabledFor(logging.WARNING):
        disable = True
    if disable is None and tqdm_of_place is not tqdm_of_terminal:
        disable = False  # a notebook, whose output says that it is no terminal
    settings: dict[str, Any] = {"delay": 0.5, **options}
    return tqdm(desc=printable(description), total=total, unit=unit, disable=disable, **settings)
