"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.specs` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path, PurePosixPath
from random import Random
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from metaevents.errors import FetchError, MissingError, UsageError
from metaevents.files import (
    PathLike,
    exclusive_lock,
    link_or_copy,
    progress_bar,
    rename_into_place,
    require_space,
)

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes

_ALGORITHMS = {"md5": 32, "sha256": 64}  # hexadecimal digits

_MAX_REDIRECTS = 10

_BUSY = (408, 425, 429)  # client-error statuses that pass; so do all from 500 on

_STRIDE = (
    1 << 20
)  # bytes; an attempt that gets so much further than those before starts the count of failures anew


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
        if (
            self.name in ("", ".", "..")
            or PurePosixPath(self.name.replace("\\", "/")).name != self.name
        ):
            raise UsageError(f"{self.name!r} is no file name; give one without folders")
        if self.checksum is not None:
            parse_checksum(self.checksum)


@dataclass(frozen=True)
class RetryPolicy:
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


def download(
    file: RemoteFile,
    folder: PathLike,
    *,
    mirrors: Sequence[str] = (),
    retry: RetryPolicy = RetryPolicy(),
    by_hand: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Bring a file to `folder/<name>`, from the first address that gives the right bytes.

    An interrupted transfer goes on where it stopped if the server still has the same file (ETag or Last-Modified); a
    second process that wants the same file waits for the first. A finished file is verified and not downloaded again.

    Args:
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
    with exclusive_lock(path), requests.Session() as session:
        session.max_redirects = _MAX_REDIRECTS
        # A resumed transfer counts the bytes of the file itself, so no encoding may stand between.
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "metaevents"})
        if path.exists():
            fault = _find_defect(path, file, progress)
            if fault is None:
                return path
            logger.warning("%s %s; downloading it again", path, fault)
        part = _Part(path)
        failures = []
        for url in addresses:
            try:
                _fetch_from(session, url, file, part, retry, progress)
            except PermanentError as error:
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
    algorithm, expected = parse_checksum(checksum)
    return hex_digest(Path(path), algorithm, progress) == expected


def adopt(
    given: PathLike, file: RemoteFile, folder: PathLike, *, progress: bool | None = None
) -> Path:
    """Take a file that the user has already as `folder/<name>`: verified, then hard-linked or copied; theirs stays.

    Raises:
        MissingError: no such file.
        FetchError: another size or checksum than expected, or a folder that cannot be written to.
    """
    given, folder = Path(given).expanduser(), Path(folder).expanduser()
    path = folder / file.name
    if not given.is_file():
        raise MissingError(f"no file {given}; give the path of {file.name}")
    with exclusive_lock(path):
        fault = _find_defect(given, file, progress)
        if fault is not None:
            raise FetchError(
                f"{given} {fault}; give the file that is published as {file.name}, or download it"
            )
        if not (path.exists() and path.samefile(given)):
            temporary = path.with_name(f".{path.name}.adopting")
            temporary.unlink(missing_ok=True)
            try:
                link_or_copy(given, temporary)
                rename_into_place(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    return path


class PermanentError(Exception):
    """This address will not do."""


class TemporaryError(Exception):
    """This address may do later; `wait` is how many seconds the server asks for."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class StartOver(TemporaryError):
    """What has come so far is of no use."""


@dataclass(frozen=True)
class ResumeState:
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

    def resumable(self, file: RemoteFile, url: str) -> ResumeState | None:
        """The notes by which `url` can go on with what is there; None where it has to begin."""
        try:
            notes = ResumeState(**json.loads(self._notes.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        # Of a file begun at one address and finished at another the checksum is the judge, or nothing is.
        stranger = file.checksum is None and notes.url != url
        return None if notes.validator is None or stranger or not self.size else notes

    def write_notes(self, notes: ResumeState) -> None:
        self._notes.write_text(json.dumps(asdict(notes)), "utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def finish(self) -> None:
        rename_into_place(self.path, self.final)
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
    session: requests.Session,
    url: str,
    file: RemoteFile,
    part: _Part,
    retry: RetryPolicy,
    progress: bool | None,
) -> None:
    """Complete the part file from one address and verify it; raises _GiveUp where that address will not do."""
    jitter = Random()
    failures, furthest = 0, part.size
    while True:
        try:
            one_answer = _transfer(session, url, file, part, retry, progress)
            fault = _find_defect(part.path, file, progress)
            if fault is None:
                return
            if not one_answer:
                raise StartOver(f"the file, put together from several answers, {fault}")
            part.discard()
            raise PermanentError(f"the file {fault}")
        except TemporaryError as again:
            reached = part.size
            if isinstance(again, StartOver):
                part.discard()
            failures = 1 if reached >= furthest + _STRIDE else failures + 1
            furthest = max(furthest, reached)
            if failures > retry.retries:
                raise PermanentError(f"{again}; {failures} attempts") from again
            asked = (
                retry.backoff * 2 ** (failures - 1) * jitter.random()
                if again.wait is None
                else again.wait
            )
            wait = min(asked, retry.max_wait)
            logger.info("%s: %s; trying again in %.1f s", url, again, wait)
            sleep(wait)


def _transfer(
    session: requests.Session,
    url: str,
    file: RemoteFile,
    part: _Part,
    retry: RetryPolicy,
    progress: bool | None,
) -> bool:
    """Bring the part file to its full length with one request; returns whether all of it came from this one answer."""
    old = part.resumable(file, url)
    if old is not None and part.size == old.total:
        return False  # stopped between the last byte and the renaming
    with _answer(session, url, _resume_headers(old, part.size), retry) as response:
        if old is not None and response.headers.get("Content-Range") == f"bytes */{part.size}":
            return False  # 416: there is nothing to add
        _check_status(response)
        start, notes = _parse_range_response(response, url, old, part.size)
        if notes.total is not None and file.size not in (None, notes.total):
            raise PermanentError(f"it has {notes.total:,} bytes, expected {file.size:,}")
        length = file.size if notes.total is None else notes.total
        if length is not None:
            require_space(part.path.parent, length - part.size)
        pieces = _pieces(response, retry)
        first = next(pieces, b"")
        # Looked at before the part file is touched: a log-in page must not cost the user what has come so far.
        if not start and _is_html(first, file):
            raise PermanentError("an HTML page came in place of the file")
        with (
            part.path.open("ab" if start else "wb") as out,
            progress_bar(
                file.name, total=length, unit="B", unit_scale=True, initial=start, progress=progress
            ) as bar,
        ):
            part.write_notes(notes)
            for piece in chain((first,), pieces):
                out.write(piece)
                bar.update(len(piece))
                if length is not None and out.tell() > length:
                    break
    if length is not None and part.size < length:
        raise TemporaryError(f"it stopped after {part.size:,} of {length:,} bytes")
    if length is not None and part.size > length:
        part.discard()
        raise PermanentError(f"it sends more than the expected {length:,} bytes")
    return not start


def _resume_headers(notes: ResumeState | None, held: int) -> dict[str, str]:
    if notes is None or notes.validator is None:
        return {}
    return {"Range": f"bytes={held}-", "If-Range": notes.validator}


def _parse_range_response(
    response: requests.Response, url: str, old: ResumeState | None, held: int
) -> tuple[int, ResumeState]:
    """Where the body of a 200 or 206 belongs in the file, and what to resume it by; not every server heeds If-Range."""
    fresh = ResumeState(url, _validator(response), _content_length(response))
    if response.status_code == 200:
        return 0, fresh
    if old is None:
        raise PermanentError("it sent a part of the file where all of it was asked for")
    span = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if span is None or int(span[1]) != held or fresh.validator not in (None, old.validator):
        raise StartOver("it went on with another part or another file")
    total = old.total if span[2] == "*" else int(span[2])
    if old.total not in (None, total):
        raise StartOver(f"the file had {old.total:,} bytes and now has {total:,}")
    return held, ResumeState(url, old.validator, total)


@contextmanager
def _answer(
    session: requests.Session, url: str, headers: Mapping[str, str], retry: RetryPolicy
) -> Iterator[requests.Response]:
    """The answer to a request, its body unread; requests' own errors become _GiveUp or _TryAgain."""
    from requests import exceptions

    try:
        response = session.get(url, headers=headers, stream=True, timeout=retry.timeout)
    except exceptions.SSLError as error:
        raise PermanentError(f"its certificate is not trusted: {_innermost(error)}") from error
    except exceptions.ConnectTimeout as error:
        raise TemporaryError(f"no connection within {retry.timeout[0]:g} s") from error
    except exceptions.Timeout as error:
        raise TemporaryError(f"no answer within {retry.timeout[1]:g} s") from error
    except (exceptions.ConnectionError, exceptions.ChunkedEncodingError) as error:
        raise TemporaryError(_innermost(error)) from error
    except exceptions.TooManyRedirects as error:
        raise PermanentError(f"more than {_MAX_REDIRECTS} redirects") from error
    except (exceptions.RequestException, ValueError) as error:
        raise PermanentError(_innermost(error)) from error
    with response:
        yield response


def _innermost(error: BaseException) -> str:
    """The cause in the words of whoever met it first, without the layers of reports around it."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    return str(cause).rsplit(": ", 1)[-1]


def _pieces(response: requests.Response, retry: RetryPolicy) -> Iterator[bytes]:
    """The body as it arrives; a connection that breaks, falls silent or trickles raises _TryAgain."""
    from urllib3 import exceptions

    window = retry.timeout[1]
    since, received = monotonic(), 0
    while True:
        try:
            # read1 returns with what is there; read would wait for the whole chunk, however slowly it comes.
            piece: bytes = response.raw.read1(CHUNK, decode_content=False)
        except exceptions.ReadTimeoutError as error:
            raise TemporaryError(f"no data for {window:g} s") from error
        except (exceptions.HTTPError, OSError) as error:
            raise TemporaryError(f"the connection broke ({error})") from error
        if not piece:
            return
        yield piece
        received += len(piece)
        elapsed = monotonic() - since
        if elapsed >= window:
            if received < retry.min_rate * elapsed:
                raise TemporaryError(
                    f"slower than {retry.min_rate:g} bytes a second for {window:g} s"
                )
            since, received = monotonic(), 0


def _status(response: requests.Response) -> str:
    return f"HTTP {response.status_code} {response.reason}".rstrip()


def _check_status(response: requests.Response) -> None:
    """Let 200 and 206 with a plain body through."""
    status = response.status_code
    if status == 416:
        raise StartOver(_status(response))
    if status in _BUSY or status >= 500:
        raise TemporaryError(
            _status(response), wait=_retry_after(response.headers.get("Retry-After"))
        )
    if status not in (200, 206):
        raise PermanentError(_status(response))
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise PermanentError(f"it sends the file in the encoding {encoding}, against the request")


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


def _find_defect(path: Path, file: RemoteFile, progress: bool | None = None) -> str | None:
    """What is wrong with a file, as a predicate ("has ..."), or None."""
    with path.open("rb") as opened:
        page = ", an HTML page in place of the file" if _is_html(opened.read(1024), file) else ""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size:,} bytes, expected {file.size:,}{page}"
    if file.checksum is not None:
        algorithm, expected = parse_checksum(file.checksum)
        found = hex_digest(path, algorithm, progress)
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
    return (
        beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:14]
        .lower()
        .startswith((b"<!doctype html", b"<html"))
    )


def parse_checksum(checksum: str) -> tuple[str, str]:
    algorithm, _, digits = checksum.lower().partition(":")
    if len(digits) != _ALGORITHMS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digits):
        raise UsageError(
            f"checksum {checksum!r} has another form than md5:<32 hex digits> or sha256:<64 hex digits>"
        )
    return algorithm, digits


def hex_digest(path: Path, algorithm: str, progress: bool | None = None) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with (
        path.open("rb") as opened,
        progress_bar(
            f"verify {path.name}",
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            progress=progress,
        ) as bar,
    ):
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
