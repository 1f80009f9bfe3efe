"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.specs` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from unicodedata import normalize

from metaevents.download.http import CHUNK
from metaevents.errors import FetchError, MissingError
from metaevents.files import PathLike, atomic_folder, exclusive_lock, progress_bar, require_space

Members: TypeAlias = Callable[[str], str | None]


def unpack(
    archive: PathLike,
    folder: PathLike,
    *,
    limit: int,
    members: Members | None = None,
    progress: bool | None = None,
) -> int:
    """Unpack a zip into a folder that appears when it is complete.

    A folder that is there and not empty is complete already and left as it is. Nothing is written where any member is
    encrypted or no plain file, or has a path that leaves the folder, or where two would take the same place.

    Args:
        limit: bytes; an archive that unpacks to more is refused.
        members: a member's path -> its path in `folder`, or None to leave it out; by default all keep theirs.
        progress: as for `download`.

    Returns:
        The number of files written; 0 where the folder was there.

    Raises:
        MissingError: no such archive.
        FetchError: a file that is no whole zip, a member as above, or too little room.
    """
    archive, folder = Path(archive).expanduser(), Path(folder).expanduser()
    if not archive.is_file():
        raise MissingError(f"no file {archive}; give the path of a zip")
    with exclusive_lock(folder):
        if folder.is_dir() and any(folder.iterdir()):
            return 0
        return extract(archive, folder, limit=limit, members=members, progress=progress)


def extract(
    archive: Path,
    folder: Path,
    *,
    limit: int,
    members: Members | None,
    progress: bool | None,
    called: str | None = None,
) -> int:
    """See `unpack`; the caller holds the lock. `called` names the archive in messages."""
    called = called or str(archive)
    with open_zip(archive, called) as opened, atomic_folder(folder) as temporary:
        plan = _plan(opened.infolist(), members, called)
        declared = sum(info.file_size for info, _ in plan)
        if declared > limit:
            raise FetchError(
                f"{called} unpacks to {declared:,} bytes, more than the limit of {limit:,}; it is left packed"
            )
        require_space(temporary, declared)
        written = 0
        with progress_bar(
            f"unpack {folder.name}", total=len(plan), unit="file", progress=progress
        ) as bar:
            for info, target in plan:
                place = temporary / target
                place.parent.mkdir(parents=True, exist_ok=True)
                written += write_member(opened, info, place, limit - written, called)
                bar.update()
    return len(plan)


@contextmanager
def _zip_errors(called: str) -> Iterator[None]:
    """Whatever reading damaged data raises, as a FetchError."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise FetchError(
            f"{called} cannot be read as a zip ({error}); delete it and get it again"
        ) from error


def open_zip(archive: Path, called: str) -> zipfile.ZipFile:
    with _zip_errors(called):
        return zipfile.ZipFile(archive)


def _plan(
    infos: Iterable[zipfile.ZipInfo], members: Members | None, called: str
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Every file to unpack with its place, all of them checked."""
    plan = []
    places: dict[str, str] = {}
    for info in infos:
        # Folders are made as files need them, so their entries matter to nobody (Dropbox writes one called "/").
        if info.filename.endswith(("/", "\\")):
            continue
        path = _inside(info.filename, info.filename, called)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise FetchError(
                f"{called} has the member {info.filename!r}, a link or device; it is left packed"
            )
        if info.flag_bits & 1:
            raise FetchError(
                f"{called} has the encrypted member {info.filename!r}; get it without a password"
            )
        target = path if members is None else members(str(path))
        if target is None:
            continue
        place = _inside(str(target), info.filename, called)
        key = _place_key(place)
        if key in places:
            raise FetchError(
                f"{called} has {places[key]!r} and {info.filename!r} for one place; it is left packed"
            )
        places[key] = info.filename
        plan.append((info, place))
    for _, place in plan:
        for parent in place.parents[:-1]:
            if (taken := places.get(_place_key(parent))) is not None:
                raise FetchError(
                    f"{called} has the member {taken!r} where it needs a folder; it is left packed"
                )
    return plan


def _inside(name: str, member: str, called: str) -> PurePosixPath:
    """A member's path with forward slashes, refused where it could leave the folder on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    # Windows drops dots and spaces at the end of a name, so that ".. " climbs as well, and reads a colon as a drive.
    if (
        path.is_absolute()
        or not path.parts
        or ":" in name
        or any(not part.rstrip(". ") for part in path.parts)
    ):
        raise FetchError(
            f"{called} has the member {member!r}, whose path leaves the folder; it is left packed"
        )
    return path


def _place_key(place: PurePosixPath) -> str:
    """Equal for paths that are one file on a file system that ignores case or the Unicode form."""
    return normalize("NFC", str(place)).casefold()


def write_member(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, allowed: int, called: str
) -> int:
    written = 0
    with place.open("wb") as out:
        for chunk in _unpacked(opened, info, called):
            written += len(chunk)
            if written > allowed:
                raise FetchError(
                    f"{called} unpacks to more than the limit at {info.filename!r}; nothing of it is kept"
                )
            out.write(chunk)
    return written


def _unpacked(opened: zipfile.ZipFile, info: zipfile.ZipInfo, called: str) -> Iterator[bytes]:
    with _zip_errors(called), opened.open(info) as packed:
        while chunk := packed.read(CHUNK):
            yield chunk
