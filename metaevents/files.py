"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.specs` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from metaevents.errors import FetchError, MetaeventsError

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)

PathLike: TypeAlias = str | os.PathLike[str]


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Make `path` as the only process that does; trouble with the disk becomes a FetchError."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".{path.name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.warning("another process is making %s; waiting for it", path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except MetaeventsError:
        raise
    except OSError as error:
        raise FetchError(
            f"cannot make {path} ({error}); mend that, or choose another folder"
        ) from error


def require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{folder} has {free:,} bytes free, {needed:,} are needed; make room or choose another folder"
        )


def rename_into_place(temporary: Path, final: Path) -> None:
    """Rename a file so that a power cut leaves it whole, under the one name or the other."""
    sync(temporary)
    temporary.replace(final)
    sync(final.parent)


def sync(path: Path) -> None:
    if (
        os.name == "posix"
    ):  # elsewhere neither folders nor files opened for reading can be synchronized
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, a copy elsewhere."""
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        require_space(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)


def progress_bar(
    what: str,
    *,
    total: int | None,
    unit: str,
    progress: bool | None,
    unit_scale: bool = False,
    initial: int = 0,
) -> tqdm[Any]:
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    # The delay keeps what is done at once from leaving a bar behind.
    return tqdm(
        desc=what,
        total=total,
        unit=unit,
        unit_scale=unit_scale,
        initial=initial,
        disable=hidden,
        delay=0.5,
    )


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` that takes its name when the block ends, and goes if it fails."""
    temporary = folder.with_name(f".{folder.name}.unpacking")
    if temporary.exists():  # of a process that was killed
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


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it into place, so that it is always whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
