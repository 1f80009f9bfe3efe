"""Unpack untrusted zips: nothing outside the folder, no more than a limit, all or nothing.

Every member is checked before the first one is written. Any error that `zipfile` raises on damaged
data becomes a FetchError.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from unicodedata import normalize

from metaevents.download.disk import lock_target
from metaevents.errors import FetchError, MissingError
from metaevents.files import (
    PathLike,
    atomic_folder,
    is_litter,
    progress_bar,
    require_space,
    user_path,
)

Members: TypeAlias = Callable[[str], str | None]
"""Maps a member's path in the zip to its path in the folder, or to None to leave it out."""

_CHUNK = 1 << 20  # bytes read at a time

_MAX_PATH, _MAX_DEPTH = 1024, 32  # characters and folders in a member's path


def unpack(
    archive: PathLike,
    folder: PathLike,
    *,
    limit: int,
    members: Members | None = None,
    progress: bool | None = None,
) -> int:
    """Unpack a zip into a folder that appears when it is complete.

    A folder that exists and is not empty is left as it is. Nothing is written if a member is
    encrypted, is not a plain file or has a path that leaves the folder, or if two members would
    have the same path.

    Args:
        archive: The zip.
        folder: The folder; its parent folders are made.
        limit: Bytes; a zip that unpacks to more is refused.
        members: Which members to unpack, and where to; by default all, under their own paths.
            It is not asked about litter, which is left out; see `metaevents.files.is_litter`.
        progress: True or False for a progress bar or none; None shows it on a terminal only.

    Returns:
        The number of files written; 0 if the folder existed.

    Raises:
        UsageError: `archive` or `folder` cannot be used as a path.
        MissingError: No such zip.
        FetchError: The zip is damaged, larger than `limit` or has a member as described above; or
            the disk is full or cannot be written to.
    """
    archive, folder = user_path(archive), user_path(folder)
    if not archive.is_file():
        raise MissingError(f"no file {archive}; give the path of a zip")
    with lock_target(folder):
        if folder.is_dir() and any(folder.iterdir()):
            return 0
        with open_zip(archive, str(archive)) as opened:
            return extract(
                opened, str(archive), folder, limit=limit, members=members, progress=progress
            )


def open_zip(archive: Path, name: str) -> zipfile.ZipFile:
    """Open a zip.

    Args:
        archive: The file.
        name: How messages name it.

    Returns:
        The zip, to be closed by the caller.

    Raises:
        FetchError: The file is not a zip, or is damaged.
    """
    with _zip_errors(name):
        return zipfile.ZipFile(archive)


def extract(
    opened: zipfile.ZipFile,
    name: str,
    folder: Path,
    *,
    limit: int,
    members: Members | None,
    progress: bool | None,
) -> int:
    """Unpack an open zip; see `unpack`. The caller holds the lock of `folder`.

    Args:
        opened: The zip.
        name: How messages name it.
        folder: The folder, missing or empty.
        limit: Bytes; a zip that unpacks to more is refused.
        members: Which members to unpack, and where to; None unpacks all.
        progress: As for `unpack`.

    Returns:
        The number of files written.

    Raises:
        FetchError: As for `unpack`.
        OSError: The disk is full or cannot be written to.
    """
    with atomic_folder(folder) as temporary:
        plan = _plan(opened.infolist(), members, name)
        declared = sum(info.file_size for info, _ in plan)
        if declared > limit:
            raise FetchError(
                f"{name} unpacks to {declared:,} bytes, more than the limit of {limit:,}; it was "
                "not unpacked"
            )
        require_space(temporary, declared)
        written = 0
        with progress_bar(f"unpack {folder.name}", len(plan), "file", progress) as bar:
            for info, target in plan:
                path = temporary / target
                path.parent.mkdir(parents=True, exist_ok=True)
                written += write_member(opened, info, path, limit - written, name)
                bar.update()
    return len(plan)


def write_member(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, limit: int, name: str
) -> int:
    """Unpack one member of a zip into a file.

    Args:
        opened: The zip.
        info: The member.
        path: The file to write.
        limit: Bytes; a member that unpacks to more is refused, whatever size the zip declares.
        name: How messages name the zip.

    Returns:
        The number of bytes written.

    Raises:
        FetchError: The member is damaged or larger than `limit`.
        OSError: The file cannot be written.
    """
    written = 0
    with path.open("wb") as out:
        for chunk in _read_member(opened, info, name):
            written += len(chunk)
            if written > limit:
                raise FetchError(
                    f"{name} unpacks to more than the limit at {info.filename!r}; nothing of it "
                    "was kept"
                )
            out.write(chunk)
    return written


def _read_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Iterator[bytes]:
    """Yield a member's content in chunks."""
    with _zip_errors(name), opened.open(info) as packed:
        while chunk := packed.read(_CHUNK):
            yield chunk


@contextmanager
def _zip_errors(name: str) -> Iterator[None]:
    """Turn every error that `zipfile` raises on damaged data into a FetchError."""
    try:
        yield
    # On damaged data, `zipfile` and its decompressors raise errors of many types.
    except Exception as error:
        raise FetchError(
            f"{name} cannot be read as a zip ({error}); delete it and get it again"
        ) from error


def _plan(
    infos: Iterable[zipfile.ZipInfo], members: Members | None, name: str
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Every file to unpack with its path in the folder.

    Raises:
        FetchError: A member must not be unpacked.
    """
    plan = []
    taken: dict[str, str] = {}  # path in the folder, as `_path_key` -> member's name
    for info in infos:
        # Folders are made as files need them; the entry of a folder may be invalid (Dropbox writes
        # one called "/").
        if info.filename.endswith(("/", "\\")):
            continue
        if members is not None and is_litter(PurePosixPath(info.filename).name):
            continue
        path = _safe_path(info.filename, info.filename, name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise FetchError(
                f"{name} has the member {info.filename!r}, a link or device; it was not unpacked"
            )
        if info.flag_bits & 1:
            raise FetchError(
                f"{name} has the encrypted member {info.filename!r}; get it without a password"
            )
        target = path if members is None else members(str(path))
        if target is None:
            continue
        path = _safe_path(str(target), info.filename, name)
        key = _path_key(path)
        if key in taken:
            raise FetchError(
                f"{name} has the members {taken[key]!r} and {info.filename!r}, which have the same "
                "path; it was not unpacked"
            )
        taken[key] = info.filename
        plan.append((info, path))
    for _, path in plan:
        for parent in path.parents[:-1]:
            if (member := taken.get(_path_key(parent))) is not None:
                raise FetchError(
                    f"{name} has the member {member!r} where it needs a folder; it was not unpacked"
                )
    return plan


def _safe_path(path: str, member: str, name: str) -> PurePosixPath:
    """A path with forward slashes that stays inside the folder on every operating system.

    Raises:
        FetchError: It could leave the folder. The message names `member`.
    """
    if len(path) > _MAX_PATH or path.count("/") + path.count("\\") > _MAX_DEPTH:
        raise FetchError(
            f"{name} has the member {member[:100]!r}..., whose path is too long; it was not "
            "unpacked"
        )
    safe = PurePosixPath(path.replace("\\", "/"))
    # Windows ignores dots and spaces at the end of a name, so ".. " is the parent folder too, and a
    # colon follows a drive's letter.
    if (
        safe.is_absolute()
        or not safe.parts
        or ":" in path
        or any(not part.rstrip(". ") for part in safe.parts)
    ):
        raise FetchError(
            f"{name} has the member {member!r}, whose path leaves the folder; it was not unpacked"
        )
    return safe


def _path_key(path: PurePosixPath) -> str:
    """A string that is equal for paths which name one file if case or Unicode form is ignored."""
    return normalize("NFC", str(path)).casefold()
