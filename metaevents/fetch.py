"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.tasks` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import lzma
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from itertools import chain
from pathlib import Path, PurePosixPath
from random import Random
from time import monotonic, sleep
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from unicodedata import normalize
from urllib.parse import quote, unquote, urlsplit

from metaevents.errors import FetchError, MetaeventsError, MissingError, UsageError

if TYPE_CHECKING:
    import requests
    from tqdm import tqdm

logger = logging.getLogger(__name__)

PathLike: TypeAlias = str | os.PathLike[str]
Members: TypeAlias = Callable[[str], str | None]

_CHUNK = 1 << 20  # bytes
_ALGORITHMS = {"md5": 32, "sha256": 64}  # hexadecimal digits
_MAX_REDIRECTS = 10
_BUSY = (408, 425, 429)  # client-error statuses that pass; so do all from 500 on
_STRIDE = 1 << 20  # bytes; an attempt that gets so much further than those before starts the count of failures anew
_NMNIST_LIMIT = 4 << 30  # bytes that one zip may unpack to; the official Train folder has about 1.2 GB
_LETTER_LIMIT = 8 << 30  # bytes that one letter may unpack to; 4,200 files of uncompressed float64 have about 4 GB


@dataclass(frozen=True)
class RemoteFile:
    """One file that somebody publishes.

    Attributes:
        name: its name in the user's folder.
        urls: official address first; all are tried in order.
        checksum: "md5:<hex>" or "sha256:<hex>"; None where the publisher gives none.
        size: bytes, where known.

    Raises:
        UsageError: a name that is a path, or a checksum of another form.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or PurePosixPath(self.name.replace("\\", "/")).name != self.name:
            raise UsageError(f"{self.name!r} is no file name; give one without folders")
        if self.checksum is not None:
            _parse_checksum(self.checksum)


@dataclass(frozen=True)
class Patience:
    """How long a download puts up with an address.

    Attributes:
        retries: attempts after a failed one; one that gets 1 MiB further than those before starts the count anew.
        timeout: seconds to connect, and seconds between two pieces of data.
        backoff: seconds; before retry k a random wait of at most backoff * 2**(k - 1), or what Retry-After asks for.
        max_wait: seconds; no wait is longer.
        min_rate: bytes a second, averaged over the second timeout; a slower connection is cut and tried again.
    """

    retries: int = 5
    timeout: tuple[float, float] = (10.0, 60.0)
    backoff: float = 1.0
    max_wait: float = 120.0
    min_rate: float = 1024.0


# --- one file --------------------------------------------------------------------------------------------------------


def download(
    file: RemoteFile,
    folder: PathLike,
    *,
    mirrors: Sequence[str] = (),
    patience: Patience = Patience(),
    by_hand: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Bring a file to `folder/<name>`, from the first address that gives the right bytes.

    An interrupted transfer goes on where it stopped if the server still has the same file (ETag or Last-Modified); a
    second process that wants the same file waits for the first. A finished file is verified and not downloaded again.

    Parameters:
        folder: made where missing; holds `<name>.part` meanwhile.
        mirrors: tried before the official addresses; a base address, or one that ends in the file's name.
        by_hand: a shell command for the error message that goes on with a file brought by other means.
        progress: True or False for a progress bar or none; None shows one in a terminal.

    Returns:
        The path of the file, whole and verified.

    Raises:
        FetchError: no address gave it (the message says why, address by address, and how to go on by hand), or the disk
            is full or cannot be written to.
        UsageError: a mirror that is no http or https address.
    """
    import requests

    addresses = _addresses(file, mirrors)
    folder = Path(folder).expanduser()
    path = folder / file.name
    with _sole(path), requests.Session() as session:
        session.max_redirects = _MAX_REDIRECTS
        # A resumed transfer counts the bytes of the file itself, so no encoding may stand between.
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "metaevents"})
        if path.exists():
            fault = _fault(path, file, progress)
            if fault is None:
                return path
            logger.warning("%s %s; downloading it again", path, fault)
        part = _Part(path)
        failures = []
        for url in addresses:
            try:
                _fetch_from(session, url, file, part, patience, progress)
            except _GiveUp as error:
                failures.append(f"{url} ({error})")
                continue
            part.finish()
            if failures:
                logger.warning("%s comes from %s, after %s", path, url, "; ".join(failures))
            return path
    raise FetchError(
        f"cannot download {file.name}: {'; '.join(failures) or 'no address is known'}. To go on by hand, put the file "
        f"({file.checksum or 'no checksum is published'}) into {folder} under that name and repeat the command"
        + (f", or run `{by_hand}`" if by_hand else "")
    )


def verify_checksum(path: PathLike, checksum: str, *, progress: bool | None = None) -> bool:
    """Whether a file has a checksum "md5:<hex>" or "sha256:<hex>"; reads it piece by piece.

    Raises:
        UsageError: a checksum of another form.
        OSError: a file that cannot be read.
    """
    algorithm, expected = _parse_checksum(checksum)
    return _hex_digest(Path(path), algorithm, progress) == expected


def adopt(given: PathLike, file: RemoteFile, folder: PathLike, *, progress: bool | None = None) -> Path:
    """Take a file that the user has already as `folder/<name>`: verified, then hard-linked or copied; theirs stays.

    Raises:
        MissingError: no such file.
        FetchError: another size or checksum than expected, or a folder that cannot be written to.
    """
    given, folder = Path(given).expanduser(), Path(folder).expanduser()
    path = folder / file.name
    if not given.is_file():
        raise MissingError(f"no file {given}; give the path of {file.name}")
    with _sole(path):
        fault = _fault(given, file, progress)
        if fault is not None:
            raise FetchError(f"{given} {fault}; give the file that is published as {file.name}, or download it")
        if not (path.exists() and path.samefile(given)):
            temporary = path.with_name(f".{path.name}.adopting")
            temporary.unlink(missing_ok=True)
            try:
                _link_or_copy(given, temporary)
                _rename_into_place(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    return path


class _GiveUp(Exception):
    """This address will not do."""


class _TryAgain(Exception):
    """This address may do later; `wait` is how many seconds the server asks for."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class _StartOver(_TryAgain):
    """What has come so far is of no use."""


@dataclass(frozen=True)
class _Notes:
    """What a transfer is resumed by: the address, the server's mark of the file's version, and the file's length."""

    url: str
    validator: str | None
    total: int | None


class _Part:
    """The unfinished file, and its notes in a small file beside it."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f"{final.name}.part")
        self._notes = final.with_name(f"{final.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def resumable(self, file: RemoteFile, url: str) -> _Notes | None:
        """The notes by which `url` can go on with what is there; None where it has to begin."""
        try:
            notes = _Notes(**json.loads(self._notes.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        # Of a file begun at one address and finished at another the checksum is the judge, or nothing is.
        stranger = file.checksum is None and notes.url != url
        return None if notes.validator is None or stranger or not self.size else notes

    def write_notes(self, notes: _Notes) -> None:
        self._notes.write_text(json.dumps(asdict(notes)), "utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def finish(self) -> None:
        _rename_into_place(self.path, self.final)
        self._notes.unlink(missing_ok=True)


def _addresses(file: RemoteFile, mirrors: Sequence[str]) -> list[str]:
    for mirror in mirrors:
        if urlsplit(mirror).scheme not in ("http", "https"):
            raise UsageError(f"mirror {mirror!r} is no address; give one that starts with https://")
    named = [
        mirror
        if unquote(urlsplit(mirror).path).endswith(f"/{file.name}")
        else f"{mirror.rstrip('/')}/{quote(file.name)}"
        for mirror in mirrors
    ]
    return list(dict.fromkeys([*named, *file.urls]))


def _fetch_from(
    session: requests.Session, url: str, file: RemoteFile, part: _Part, patience: Patience, progress: bool | None
) -> None:
    """Complete the part file from one address and verify it; raises _GiveUp where that address will not do."""
    jitter = Random()
    failures, furthest = 0, part.size
    while True:
        try:
            one_answer = _transfer(session, url, file, part, patience, progress)
            fault = _fault(part.path, file, progress)
            if fault is None:
                return
            if not one_answer:
                raise _StartOver(f"the file, put together from several answers, {fault}")
            part.discard()
            raise _GiveUp(f"the file {fault}")
        except _TryAgain as again:
            reached = part.size
            if isinstance(again, _StartOver):
                part.discard()
            failures = 1 if reached >= furthest + _STRIDE else failures + 1
            furthest = max(furthest, reached)
            if failures > patience.retries:
                raise _GiveUp(f"{again}; {failures} attempts") from again
            asked = patience.backoff * 2 ** (failures - 1) * jitter.random() if again.wait is None else again.wait
            wait = min(asked, patience.max_wait)
            logger.info("%s: %s; trying again in %.1f s", url, again, wait)
            sleep(wait)


def _transfer(
    session: requests.Session, url: str, file: RemoteFile, part: _Part, patience: Patience, progress: bool | None
) -> bool:
    """Bring the part file to its full length with one request; returns whether all of it came from this one answer."""
    old = part.resumable(file, url)
    if old is not None and part.size == old.total:
        return False  # stopped between the last byte and the renaming
    with _answer(session, url, _resume_headers(old, part.size), patience) as response:
        if old is not None and response.headers.get("Content-Range") == f"bytes */{part.size}":
            return False  # 416: there is nothing to add
        _check_status(response)
        start, notes = _terms(response, url, old, part.size)
        if notes.total is not None and file.size not in (None, notes.total):
            raise _GiveUp(f"it has {notes.total:,} bytes, expected {file.size:,}")
        length = file.size if notes.total is None else notes.total
        if length is not None:
            _require_space(part.path.parent, length - part.size)
        pieces = _pieces(response, patience)
        first = next(pieces, b"")
        # Looked at before the part file is touched: a log-in page must not cost the user what has come so far.
        if not start and _is_html(first, file):
            raise _GiveUp("an HTML page came in place of the file")
        with (
            part.path.open("ab" if start else "wb") as out,
            _bar(file.name, total=length, unit="B", unit_scale=True, initial=start, progress=progress) as bar,
        ):
            part.write_notes(notes)
            for piece in chain((first,), pieces):
                out.write(piece)
                bar.update(len(piece))
                if length is not None and out.tell() > length:
                    break
    if length is not None and part.size < length:
        raise _TryAgain(f"it stopped after {part.size:,} of {length:,} bytes")
    if length is not None and part.size > length:
        part.discard()
        raise _GiveUp(f"it sends more than the expected {length:,} bytes")
    return not start


def _resume_headers(notes: _Notes | None, held: int) -> dict[str, str]:
    if notes is None or notes.validator is None:
        return {}
    return {"Range": f"bytes={held}-", "If-Range": notes.validator}


def _terms(response: requests.Response, url: str, old: _Notes | None, held: int) -> tuple[int, _Notes]:
    """Where the body of a 200 or 206 belongs in the file, and what to resume it by; not every server heeds If-Range."""
    fresh = _Notes(url, _validator(response), _content_length(response))
    if response.status_code == 200:
        return 0, fresh
    if old is None:
        raise _GiveUp("it sent a part of the file where all of it was asked for")
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if span is None or int(span[1]) != held or fresh.validator not in (None, old.validator):
        raise _StartOver("it went on with another part or another file")
    total = old.total if span[2] == "*" else int(span[2])
    if old.total not in (None, total):
        raise _StartOver(f"the file had {old.total:,} bytes and now has {total:,}")
    return held, _Notes(url, old.validator, total)


@contextmanager
def _answer(
    session: requests.Session, url: str, headers: Mapping[str, str], patience: Patience
) -> Iterator[requests.Response]:
    """The answer to a request, its body unread; requests' own errors become _GiveUp or _TryAgain."""
    from requests import exceptions

    try:
        response = session.get(url, headers=headers, stream=True, timeout=patience.timeout)
    except exceptions.SSLError as error:
        raise _GiveUp(f"its certificate is not trusted: {_innermost(error)}") from error
    except exceptions.ConnectTimeout as error:
        raise _TryAgain(f"no connection within {patience.timeout[0]:g} s") from error
    except exceptions.Timeout as error:
        raise _TryAgain(f"no answer within {patience.timeout[1]:g} s") from error
    except (exceptions.ConnectionError, exceptions.ChunkedEncodingError) as error:
        raise _TryAgain(_innermost(error)) from error
    except exceptions.TooManyRedirects as error:
        raise _GiveUp(f"more than {_MAX_REDIRECTS} redirects") from error
    except (exceptions.RequestException, ValueError) as error:
        raise _GiveUp(_innermost(error)) from error
    with response:
        yield response


def _innermost(error: BaseException) -> str:
    """The cause in the words of whoever met it first, without the layers of reports around it."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    return str(cause).rsplit(": ", 1)[-1]


def _pieces(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The body as it arrives; a connection that breaks, falls silent or trickles raises _TryAgain."""
    from urllib3 import exceptions

    window = patience.timeout[1]
    since, received = monotonic(), 0
    while True:
        try:
            # read1 returns with what is there; read would wait for the whole chunk, however slowly it comes.
            piece: bytes = response.raw.read1(_CHUNK, decode_content=False)
        except exceptions.ReadTimeoutError as error:
            raise _TryAgain(f"no data for {window:g} s") from error
        except (exceptions.HTTPError, OSError) as error:
            raise _TryAgain(f"the connection broke ({error})") from error
        if not piece:
            return
        yield piece
        received += len(piece)
        elapsed = monotonic() - since
        if elapsed >= window:
            if received < patience.min_rate * elapsed:
                raise _TryAgain(f"slower than {patience.min_rate:g} bytes a second for {window:g} s")
            since, received = monotonic(), 0


def _status(response: requests.Response) -> str:
    return f"HTTP {response.status_code} {response.reason}".rstrip()


def _check_status(response: requests.Response) -> None:
    """Let 200 and 206 with a plain body through."""
    status = response.status_code
    if status == 416:
        raise _StartOver(_status(response))
    if status in _BUSY or status >= 500:
        raise _TryAgain(_status(response), wait=_retry_after(response.headers.get("Retry-After")))
    if status not in (200, 206):
        raise _GiveUp(_status(response))
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise _GiveUp(f"it sends the file in the encoding {encoding}, against the request")


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or an HTTP date; None where it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _validator(response: requests.Response) -> str | None:
    """What If-Range may ask for: a strong ETag, or else Last-Modified (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _content_length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None


def _fault(path: Path, file: RemoteFile, progress: bool | None = None) -> str | None:
    """What is wrong with a file, as a predicate ("has ..."), or None."""
    with path.open("rb") as opened:
        page = ", an HTML page in place of the file" if _is_html(opened.read(1024), file) else ""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size:,} bytes, expected {file.size:,}{page}"
    if file.checksum is not None:
        algorithm, expected = _parse_checksum(file.checksum)
        found = _hex_digest(path, algorithm, progress)
        if found != expected:
            return f"has the {algorithm.upper()} {found}, expected {expected}{page}"
    elif page:
        return f"is{page[1:]}"
    elif not size:
        return "is empty"
    return None


def _is_html(beginning: bytes, file: RemoteFile) -> bool:
    if file.name.lower().endswith((".html", ".htm")):
        return False
    return beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html"))


def _parse_checksum(checksum: str) -> tuple[str, str]:
    algorithm, _, digits = checksum.lower().partition(":")
    if len(digits) != _ALGORITHMS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digits):
        raise UsageError(f"checksum {checksum!r} has another form than md5:<32 hex digits> or sha256:<64 hex digits>")
    return algorithm, digits


def _hex_digest(path: Path, algorithm: str, progress: bool | None = None) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with (
        path.open("rb") as opened,
        _bar(f"verify {path.name}", total=path.stat().st_size, unit="B", unit_scale=True, progress=progress) as bar,
    ):
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


# --- the disk --------------------------------------------------------------------------------------------------------


@contextmanager
def _sole(path: Path) -> Iterator[None]:
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
        raise FetchError(f"cannot make {path} ({error}); mend that, or choose another folder") from error


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(f"{folder} has {free:,} bytes free, {needed:,} are needed; make room or choose another folder")


def _rename_into_place(temporary: Path, final: Path) -> None:
    """Rename a file so that a power cut leaves it whole, under the one name or the other."""
    _sync(temporary)
    temporary.replace(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    if os.name == "posix":  # elsewhere neither folders nor files opened for reading can be synchronised
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, a copy elsewhere."""
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        _require_space(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)


def _bar(
    what: str, *, total: int | None, unit: str, progress: bool | None, unit_scale: bool = False, initial: int = 0
) -> tqdm[Any]:
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    # The delay keeps what is done at once from leaving a bar behind.
    return tqdm(desc=what, total=total, unit=unit, unit_scale=unit_scale, initial=initial, disable=hidden, delay=0.5)


# --- one zip ---------------------------------------------------------------------------------------------------------


def unpack(
    archive: PathLike, folder: PathLike, *, limit: int, members: Members | None = None, progress: bool | None = None
) -> int:
    """Unpack a zip into a folder that appears when it is complete.

    A folder that is there and not empty is complete already and left as it is. Nothing is written where any member is
    encrypted or no plain file, or has a path that leaves the folder, or where two would take the same place.

    Parameters:
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
    with _sole(folder):
        if folder.is_dir() and any(folder.iterdir()):
            return 0
        return _extract(archive, folder, limit=limit, members=members, progress=progress)


def _extract(
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
    with _open_zip(archive, called) as opened, _made_aside(folder) as temporary:
        plan = _plan(opened.infolist(), members, called)
        declared = sum(info.file_size for info, _ in plan)
        if declared > limit:
            raise FetchError(
                f"{called} unpacks to {declared:,} bytes, more than the limit of {limit:,}; it is left packed"
            )
        _require_space(temporary, declared)
        written = 0
        with _bar(f"unpack {folder.name}", total=len(plan), unit="file", progress=progress) as bar:
            for info, target in plan:
                place = temporary / target
                place.parent.mkdir(parents=True, exist_ok=True)
                written += _write_member(opened, info, place, limit - written, called)
                bar.update()
    return len(plan)


@contextmanager
def _made_aside(folder: Path) -> Iterator[Path]:
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


@contextmanager
def _zip_errors(called: str) -> Iterator[None]:
    """Whatever reading damaged data raises, as a FetchError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise FetchError(f"{called} cannot be read as a zip ({error}); delete it and get it again") from error


def _open_zip(archive: Path, called: str) -> zipfile.ZipFile:
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
            raise FetchError(f"{called} has the member {info.filename!r}, a link or device; it is left packed")
        if info.flag_bits & 1:
            raise FetchError(f"{called} has the encrypted member {info.filename!r}; get it without a password")
        target = path if members is None else members(str(path))
        if target is None:
            continue
        place = _inside(str(target), info.filename, called)
        key = _place_key(place)
        if key in places:
            raise FetchError(f"{called} has {places[key]!r} and {info.filename!r} for one place; it is left packed")
        places[key] = info.filename
        plan.append((info, place))
    for _, place in plan:
        for parent in place.parents[:-1]:
            if (taken := places.get(_place_key(parent))) is not None:
                raise FetchError(f"{called} has the member {taken!r} where it needs a folder; it is left packed")
    return plan


def _inside(name: str, member: str, called: str) -> PurePosixPath:
    """A member's path with forward slashes, refused where it could leave the folder on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    # Windows drops dots and spaces at the end of a name, so that ".. " climbs as well, and reads a colon as a drive.
    if path.is_absolute() or not path.parts or ":" in name or any(not part.rstrip(". ") for part in path.parts):
        raise FetchError(f"{called} has the member {member!r}, whose path leaves the folder; it is left packed")
    return path


def _place_key(place: PurePosixPath) -> str:
    """Equal for paths that are one file on a file system that ignores case or the Unicode form."""
    return normalize("NFC", str(place)).casefold()


def _write_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, allowed: int, called: str) -> int:
    written = 0
    with place.open("wb") as out:
        for chunk in _unpacked(opened, info, called):
            written += len(chunk)
            if written > allowed:
                raise FetchError(f"{called} unpacks to more than the limit at {info.filename!r}; nothing of it is kept")
            out.write(chunk)
    return written


def _unpacked(opened: zipfile.ZipFile, info: zipfile.ZipInfo, called: str) -> Iterator[bytes]:
    with _zip_errors(called), opened.open(info) as packed:
        while chunk := packed.read(_CHUNK):
            yield chunk


# --- recordings ------------------------------------------------------------------------------------------------------


def fetch_recordings(
    recordings: Mapping[str, Any],
    root: PathLike,
    *,
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    patience: Patience = Patience(),
    progress: bool | None = None,
) -> Path:
    """What a dataset's package file describes (`DatasetSpec.recordings`), as a folder of the official layout.

    Parameters, result and errors as for `fetch_nmnist` and `fetch_asl_dvs`.
    """
    common: dict[str, Any] = {"given": given, "mirrors": mirrors, "patience": patience, "progress": progress}
    if "openi" in recordings:
        return fetch_asl_dvs(
            root,
            dataset=recordings["openi"]["dataset"],
            filename=recordings["openi"]["file"],
            expected=recordings["counts"],
            dead_links=recordings["dead_links"],
            **common,
        )
    files = [RemoteFile(f["name"], (f["url"],), f["checksum"], f.get("size")) for f in recordings["files"]]
    return fetch_nmnist(root, files, expected=recordings["counts"], **common)


def fetch_nmnist(
    root: PathLike,
    files: Sequence[RemoteFile],
    *,
    expected: Mapping[str, int],
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    patience: Patience = Patience(),
    progress: bool | None = None,
) -> Path:
    """N-MNIST as `root/nmnist` with `Train/<digit>/<id>.bin` and `Test/<digit>/<id>.bin`.

    Orchard, Jayawant, Cohen and Thakor 2015, Frontiers in Neuroscience 9:437.

    Parameters:
        files: one zip a folder, named after it: `Train.zip`, `Test.zip`. They are kept in `root/downloads`.
        expected: folder -> number of recordings.
        given: what the user has already: zips, known by their checksum whatever their names, or a folder of them; or a
            folder of the official layout, which is used where it is.
        mirrors, patience, progress: as for `download`.

    Returns:
        `root/nmnist`, or the given folder of the official layout.

    Raises:
        MissingError: a given path that does not exist.
        FetchError: a download or an unpacking that failed, a given file that is none of the zips, or another number of
            recordings than expected.
    """
    root = Path(root).expanduser()
    final = root / "nmnist"
    places = _existing(given)
    for place in places:
        if all((place / folder).is_dir() for folder in expected):
            _report_counts(place, expected, {folder: _count(place / folder, "*/*.bin") for folder in expected})
            return _used_where_it_is(place)
    with _sole(final):
        if final.exists():
            for folder, count in expected.items():
                if (found := _count(final / folder, "*/*.bin")) != count:
                    raise FetchError(
                        f"{final / folder} holds {found:,} recordings, expected {count:,}; move {final} away "
                        "and repeat the command"
                    )
            return final
        downloads = root / "downloads"
        for file, path in _recognise(places, files, progress):
            adopt(path, file, downloads, progress=progress)
        zips = {Path(file.name).stem: file for file in files}
        by_hand = _command("nmnist", root, "FILE")
        staging = _staging(final)
        for folder, count in expected.items():
            part = staging / folder
            if _count(part, "*/*.bin") == count:  # of an earlier call
                continue
            if part.exists():
                shutil.rmtree(part)
            path = download(
                zips[folder], downloads, mirrors=mirrors, patience=patience, by_hand=by_hand, progress=progress
            )
            found = _extract(path, part, limit=_NMNIST_LIMIT, members=_nmnist_members(folder), progress=progress)
            if found != count:
                raise FetchError(
                    f"{path} holds {found:,} recordings {folder}/<digit>/<id>.bin, expected {count:,}; move it away "
                    "and repeat the command"
                )
        staging.rename(final)
    return final


def fetch_asl_dvs(
    root: PathLike,
    *,
    dataset: str,
    filename: str,
    expected: Mapping[str, int],
    dead_links: Sequence[str] = (),
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    patience: Patience = Patience(),
    progress: bool | None = None,
) -> Path:
    """ASL-DVS as `root/asl-dvs` with `<letter>/<letter>_0001.mat`.

    Bi, Chadha, Abbas, Bourtsoulatze and Andreopoulos 2019, ICCV. The authors' Dropbox link
    (https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa) has been dead since April 2024, and their
    Google Drive holds something else. What works is the mirror at OpenI, through its own client
    (`pip install 'metaevents[openi]'`). Its zip of about 5.8 GB holds one zip a letter, `Yin Bi - <letter>.zip`.
    Dropbox packed the outer zip anew each time, so no checksum can verify it; its contents are verified instead.

    Parameters:
        dataset, filename: at OpenI. The file is kept in `root/downloads`.
        expected: letter -> number of files; another number is a warning.
        dead_links: addresses for the messages to warn of.
        given: what the user has already: the outer zip, the letters' zips, unpacked letters, or folders that hold them.
            A folder of the official layout with all letters is used where it is.
        mirrors: tried before OpenI, as for `download`.
        patience, progress: as for `download`.

    Returns:
        `root/asl-dvs`, or the given folder of the official layout.

    Raises:
        MissingError: no OpenI client and nothing given, or a given path that does not exist.
        FetchError: a download or an unpacking that failed, or letters without any file; the letters that were found are
            kept for the next call.
    """
    root = Path(root).expanduser()
    final = root / "asl-dvs"
    places = _existing(given)
    for place in places:
        counts = _letter_counts(place, expected)
        if not _missing(counts):
            _report_counts(place, expected, counts)
            return _used_where_it_is(place)
    with _sole(final):
        if final.exists():
            counts = _letter_counts(final, expected)
            if missing := _missing(counts):
                raise FetchError(f"{final} has no recordings of {missing}; move it away and repeat the command")
            _report_counts(final, expected, counts)
            return final
        staging = _staging(final)
        if not places and _missing(_letter_counts(staging, expected)):
            places = [_asl_zip(root, dataset, filename, dead_links, mirrors, patience, progress)]
        for place in places:
            _take_letters(place, staging, expected, progress)
        counts = _letter_counts(staging, expected)
        if missing := _missing(counts):
            raise FetchError(
                f"ASL-DVS: no <letter>_<number>.mat of {missing} in {', '.join(map(str, places))}; give what is missing "
                f"with `{_command('asl-dvs', root, 'FILE_OR_DIR')}`, the other letters are kept"
            )
        _report_counts(staging, expected, counts)
        staging.rename(final)
    return final


def _existing(given: Sequence[PathLike]) -> list[Path]:
    places = [Path(place).expanduser() for place in given]
    for place in places:
        if not place.exists():
            raise MissingError(f"no file or folder {place}; give a path that exists")
    return places


def _command(dataset: str, root: Path, given: str) -> str:
    return f"metaevents download {dataset} --root {shlex.quote(str(root))} --from {given}"


def _used_where_it_is(place: Path) -> Path:
    logger.warning(
        "%s is used where it is; build from it with `metaevents build --source %s`", place, shlex.quote(str(place))
    )
    return place


def _staging(final: Path) -> Path:
    """The hidden folder in which `final` comes together part by part, without what a killed process left half."""
    staging = final.with_name(f".{final.name}.unpacking")
    staging.mkdir(exist_ok=True)
    for leftover in staging.glob(".*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    return staging


def _count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


def _report_counts(place: Path, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    other = [f"{name} {found[name]:,} of {count:,}" for name, count in expected.items() if found[name] != count]
    if other:
        logger.warning(
            "%s is not the official dataset, it holds other numbers of recordings: %s", place, ", ".join(other)
        )


def _nmnist_members(folder: str) -> Members:
    layout = re.compile(rf"(?:[^/]+/)?{folder}/(\d/\d+\.bin)", re.ASCII)

    def place(member: str) -> str | None:
        match = layout.fullmatch(member)
        return match[1] if match else None

    return place


def _recognise(
    places: Sequence[Path], files: Sequence[RemoteFile], progress: bool | None
) -> Iterator[tuple[RemoteFile, Path]]:
    """The published files among those given, by checksum."""
    by_checksum = {_parse_checksum(file.checksum): file for file in files if file.checksum is not None}
    algorithms = sorted({algorithm for algorithm, _ in by_checksum})
    for place in places:
        candidates = sorted(place.glob("*.zip")) if place.is_dir() else [place]
        found = {
            by_checksum[key]: path
            for path in candidates
            for key in ((algorithm, _hex_digest(path, algorithm, progress)) for algorithm in algorithms)
            if key in by_checksum
        }
        if not found:
            wanted = ", ".join(f"{file.name} ({file.checksum})" for file in files)
            folders = " and ".join(Path(file.name).stem for file in files)
            raise FetchError(
                f"{place} is none of {wanted}, no folder of them and no folder that holds {folders}; give one of these"
            )
        yield from found.items()


def _letter_counts(folder: Path, expected: Mapping[str, int]) -> dict[str, int]:
    return {
        letter: sum(_letter_of(path.name, expected) == letter for path in (folder / letter).glob("*.mat"))
        for letter in expected
    }


def _missing(counts: Mapping[str, int]) -> str:
    """The letters without any file, for a message."""
    return ", ".join(letter for letter, count in counts.items() if not count)


def _letter_of(name: str, expected: Mapping[str, int]) -> str | None:
    """The letter of a recording's file name, "a" of "a_0001.mat"."""
    letter, _, rest = name.partition("_")
    return letter if letter in expected and re.fullmatch(r"\d{4}\.mat", rest, re.ASCII) else None


def _take_letters(place: Path, staging: Path, expected: Mapping[str, int], progress: bool | None) -> None:
    """Every letter at a place that `staging` lacks: unpacked, linked or copied, and renamed into it when complete."""
    if not place.is_dir():
        _unpack_letters(place, staging, expected, progress)
        return
    letters: dict[str, list[Path]] = {}
    for parent, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(parent) / name
            if letter := _letter_of(name, expected):
                letters.setdefault(letter, []).append(path)
            elif name.lower().endswith(".zip"):
                _unpack_letters(path, staging, expected, progress)
    for letter, paths in sorted(letters.items()):
        if not (staging / letter).is_dir():
            twice = [name for name, number in Counter(path.name for path in paths).items() if number > 1]
            if twice:
                raise FetchError(f"{place} holds {twice[0]} twice; give a folder that holds every file once")
            with (
                _made_aside(staging / letter) as temporary,
                _bar(f"take {letter}", total=len(paths), unit="file", progress=progress) as bar,
            ):
                for path in paths:
                    _link_or_copy(path, temporary / path.name)
                    bar.update()


def _unpack_letters(
    archive: Path, staging: Path, expected: Mapping[str, int], progress: bool | None, called: str | None = None
) -> None:
    """The letters of a zip that holds .mat files or, at the outermost level, letters' zips."""
    nested = called is not None
    called = called or str(archive)
    with _open_zip(archive, called) as opened:
        infos = {info.filename: info for info in opened.infolist()}
        letters = {_letter_of(PurePosixPath(name).name, expected) for name in infos}
        for letter in sorted(letter for letter in letters if letter is not None):
            if not (staging / letter).is_dir():
                members = _asl_members(letter, expected)
                _extract(
                    archive, staging / letter, limit=_LETTER_LIMIT, members=members, progress=progress, called=called
                )
        if nested:
            return
        for name, info in sorted(infos.items()):
            base = PurePosixPath(name).name
            named = re.fullmatch(r"Yin Bi - (.)\.zip", base)
            if not base.endswith(".zip") or base.startswith(".") or (named and (staging / named[1]).is_dir()):
                continue
            inner = staging / ".inner.zip"  # beside the recordings: the system's temporary folder may be memory
            try:
                _require_space(staging, info.file_size)
                _write_member(opened, info, inner, _LETTER_LIMIT, called)
                _unpack_letters(inner, staging, expected, progress, called=f"{base} in {called}")
            finally:
                inner.unlink(missing_ok=True)


def _asl_members(letter: str, expected: Mapping[str, int]) -> Members:
    def place(member: str) -> str | None:
        name = PurePosixPath(member).name
        return name if _letter_of(name, expected) == letter else None

    return place


def _asl_zip(
    root: Path,
    dataset: str,
    filename: str,
    dead_links: Sequence[str],
    mirrors: Sequence[str],
    patience: Patience,
    progress: bool | None,
) -> Path:
    """The outer zip in `root/downloads`, from a mirror or through the OpenI client."""
    downloads = root / "downloads"
    path = downloads / filename
    if path.exists():
        return path
    by_hand = _command("asl-dvs", root, "FILE_OR_DIR")
    installed = find_spec("openi") is not None
    if mirrors:
        file = RemoteFile(filename, (), None)
        try:
            return download(file, downloads, mirrors=mirrors, patience=patience, by_hand=by_hand, progress=progress)
        except FetchError as error:
            if not installed:
                raise
            logger.warning("%s; trying OpenI", error)
    warning = "; ".join([*(f"{link} is dead" for link in dead_links), "the authors' Google Drive holds something else"])
    if not installed:
        raise MissingError(
            "ASL-DVS comes through the client of OpenI, which is not installed; run `pip install 'metaevents[openi]'` "
            f"and repeat the command, or give files that you have with `{by_hand}` ({warning})"
        )
    why = _run_openi(dataset, filename, downloads, patience, progress)
    if not path.exists():
        raise FetchError(
            f"cannot download {filename} of {dataset} through the client of OpenI ({why}). To go on by hand, run "
            f"`openi dataset download {dataset} --local_dir {shlex.quote(str(downloads))} --max_workers 10` and repeat "
            f"the command, or give files that you have with `{by_hand}` (no checksum is published; {warning})"
        )
    return path


def _run_openi(dataset: str, filename: str, folder: Path, patience: Patience, progress: bool | None) -> str:
    """Run the OpenI client until it brings the file or has failed too often; returns its last words.

    In a process of its own, since importing the client changes the event-loop policy and the logging of whoever does.
    It resumes by itself, and its exit status says nothing: a failed download ends with 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "openi.commands.openi_cli", "dataset", "download", dataset]
    command += ["--filename", filename, "--local_dir", str(folder), "--max_workers", "10"]
    words = folder / f".{filename}.log"
    try:
        for attempt in range(1 + patience.retries):
            if attempt:
                sleep(min(patience.backoff * 2 ** (attempt - 1), patience.max_wait))
            with words.open("wb") as output:
                _watch(command, output, folder, filename, progress)
            if (folder / filename).exists():
                break
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", words.read_text("utf-8", "replace")).split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    finally:
        words.unlink(missing_ok=True)


def _watch(command: Sequence[str], output: IO[bytes], folder: Path, filename: str, progress: bool | None) -> None:
    """Run a command to its end, its progress told by the growth of the hidden file that it writes."""
    with (
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as client,
        _bar(filename, total=None, unit="B", unit_scale=True, progress=progress) as bar,
    ):
        try:
            while client.poll() is None:
                with suppress(FileNotFoundError):  # renamed just now
                    sizes = [path.stat().st_size for path in folder.glob(f".openi*{glob.escape(filename)}")]
                    bar.update(max(sizes, default=bar.n) - bar.n)
                sleep(0.2)
        finally:
            client.terminate()
