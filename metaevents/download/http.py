"""Download one file over HTTP: mirrors, retries, resumed transfers, verification.

The module reads from top to bottom as a download goes: `download` tries one URL after another,
`_download_from` repeats requests to one URL, `_transfer` makes one request and writes its body, and
`_find_defect` compares the result with the published size and checksum. The unfinished file is
`<name>.part`; `<name>.part.json` holds what a later request needs to resume it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from itertools import chain
from pathlib import Path, PurePosixPath
from random import Random
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit

from metaevents.arguments import finite_number, whole_number
from metaevents.download.disk import lock_target
from metaevents.errors import FetchError, MissingError, UsageError, printable
from metaevents.files import (
    PathLike,
    atomic_file,
    link_or_copy,
    progress_bar,
    rename_into_place,
    require_space,
    user_path,
    write_atomic,
)

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20  # bytes read at a time

_CHECKSUM_DIGITS = {"md5": 32, "sha256": 64}  # algorithm -> hexadecimal digits

_MAX_REDIRECTS = 10

_REDIRECTS = (301, 302, 303, 307, 308)

_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # requests uses the first that is set

_TEMPORARY = (408, 425, 429)  # client errors (4xx) to retry; all server errors (5xx) are retried

_MIN_ADVANCE = 1 << 20  # bytes; an attempt that gets this much further resets the failure count

MAX_SIZE = 16 << 30
"""Largest number of bytes of a file whose size is not published; the largest has 5.8 GB."""

_SPACE_STEP = 64 << 20  # bytes after which the disk is looked at again if no length is announced

_NUMBER = "[0-9]{1,15}"  # a header's number of bytes

_LONGEST_WAIT = 1e9  # seconds that a header may ask for; no policy waits that long


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: File name in the user's folder.
        urls: URLs in the order in which they are tried, the official one first.
        checksum: "md5:<hex>" or "sha256:<hex>"; None if the publisher gives none.
        size: Bytes; None if unknown.

    Raises:
        UsageError: The name contains folders or control characters, the checksum has another form,
            or the size is no whole number.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None
    size: int | None = None

    def __post_init__(self) -> None:
        if (
            self.name in ("", ".", "..")
            or PurePosixPath(self.name.replace("\\", "/")).name != self.name
            or not self.name.isprintable()
        ):
            raise UsageError(f"{self.name!r} is not a file name; give one without folders")
        if self.checksum is not None:
            parse_checksum(self.checksum)
        if self.size is not None:
            object.__setattr__(self, "size", whole_number("size", self.size, least=0))


@dataclass(frozen=True)
class RetryPolicy:
    """Retry and timeout policy per URL.

    Attributes:
        retries: Attempts after the first failure. An attempt that gets 1 MiB further than all
            before resets the count.
        timeout: (seconds to connect, seconds between two pieces of data).
        backoff: Seconds. Before retry k the wait is random, between 0 and `backoff * 2**(k - 1)`,
            or what the server's Retry-After asks for.
        max_wait: Seconds; no wait is longer.
        min_rate: Bytes per second, averaged over `timeout[1]`. A slower connection is closed and
            the transfer retried.

    Raises:
        UsageError: A number is negative, infinite or no number.
    """

    retries: int = 5
    timeout: tuple[float, float] = (10.0, 60.0)
    backoff: float = 1.0
    max_wait: float = 120.0
    min_rate: float = 1024.0

    def __post_init__(self) -> None:
        whole_number("retries", self.retries, least=0)
        try:
            connect, read = self.timeout
        except (TypeError, ValueError):
            raise UsageError(
                f"timeout={self.timeout!r}; give (seconds to connect, seconds between two pieces)"
            ) from None
        for seconds in (connect, read):
            if not finite_number("timeout", seconds, least=0, most=threading.TIMEOUT_MAX):
                raise UsageError("timeout=0; give more than 0 seconds")
        finite_number("backoff", self.backoff, least=0)
        finite_number("max_wait", self.max_wait, least=0, most=threading.TIMEOUT_MAX)
        finite_number("min_rate", self.min_rate, least=0)


def download(
    file: RemoteFile,
    folder: PathLike,
    *,
    mirrors: Sequence[str] = (),
    retry: RetryPolicy = RetryPolicy(),
    by_hand: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Download a file to `folder/<name>` from the first URL that gives the right bytes.

    An interrupted transfer is resumed if the server still has the same version of the file (by ETag
    or Last-Modified). A second process that downloads the same file waits for the first. A file
    that exists is verified, and downloaded again only if it is wrong.

    Args:
        file: The file to download.
        folder: Made if missing; holds `<name>.part` during the download.
        mirrors: URLs tried before the official ones: of the file itself (the URL ends in its name)
            or of a folder that holds it.
        retry: Retry and timeout policy per URL.
        by_hand: For the error message: a shell command that continues with a file which the user
            got in another way.
        progress: True or False for a progress bar or none; None shows it on a terminal only.

    Returns:
        The path of the file, complete and verified.

    Raises:
        FetchError: No URL gave the file, or the disk is full or cannot be written to. The message
            names the file, its checksum, the reason per URL, and how to continue by hand.
        UsageError: A mirror is not an http or https URL, or `folder` cannot be used as a path.
    """
    from metaevents.download.session import make_session

    urls = _all_urls(file, mirrors)
    folder = user_path(folder)
    path = folder / file.name
    with lock_target(path), make_session() as session:
        if path.exists():
            defect = _find_defect(path, file, progress)
            if defect is None:
                return path
            logger.warning("%s %s; downloading it again", printable(path), defect)
        part = _Part(path)
        failures = []
        for url in urls:
            try:
                _download_from(session, url, file, part, retry, progress)
            except PermanentError as error:
                failures.append(f"{_shown(url)} ({error})")
                continue
            part.finish()
            if failures:
                logger.warning(
                    "downloaded %s from %s, after %s",
                    *map(printable, (path, url, "; ".join(failures))),
                )
            return path
    raise FetchError(
        f"cannot download {file.name}: {'; '.join(failures) or 'no URL is known'}. To continue by "
        f"hand, put the file ({file.checksum or 'no checksum is published'}) into {folder} under "
        "that name and repeat the command" + (f", or run `{by_hand}`" if by_hand else "")
    )


def adopt(
    given: PathLike, file: RemoteFile, folder: PathLike, *, progress: bool | None = None
) -> Path:
    """Use a file that the user has as `folder/<name>`: verify it, then hard-link or copy it.

    The user's file stays where it is.

    Args:
        given: The user's file, under any name.
        file: The published file that it should be.
        folder: Made if missing.
        progress: As for `download`.

    Returns:
        The path of the file in `folder`.

    Raises:
        MissingError: No such file.
        FetchError: The size or checksum is wrong, or the folder cannot be written to.
        UsageError: `given` or `folder` cannot be used as a path.
    """
    given, folder = user_path(given), user_path(folder)
    path = folder / file.name
    if not given.is_file():
        raise MissingError(f"no file {given}; give the path of {file.name}")
    with lock_target(path):
        defect = _find_defect(given, file, progress)
        if defect is not None:
            raise FetchError(
                f"{given} {defect}; give the file that is published as {file.name}, or download it"
            )
        if not (path.exists() and path.samefile(given)):
            with atomic_file(path) as temporary:
                link_or_copy(given, temporary)
    return path


def read_url(url: str, *, limit: int, retry: RetryPolicy = RetryPolicy()) -> bytes:
    """Return what a URL gives, for texts that are small enough for memory.

    Args:
        url: An http or https URL.
        limit: Bytes; a longer answer is refused.
        retry: Retry and timeout policy.

    Raises:
        FetchError: The URL gave no answer, or one that is longer than the limit.
    """
    from metaevents.download.session import make_session

    failures = 0
    while True:
        try:
            with make_session() as session, _request(session, url, {}, retry) as response:
                _check_status(response)
                content = bytearray()
                for piece in _read_pieces(response, retry):
                    content += piece
                    if len(content) > limit:
                        raise PermanentError(f"the answer has more than {limit:,} bytes")
                length = _content_length(response)
                if length is not None and len(content) < length:
                    raise TemporaryError(f"the answer stopped after {len(content):,} bytes")
                return bytes(content)
        except PermanentError as error:
            raise FetchError(f"cannot read {url} ({error}); try again later") from error
        except TemporaryError as error:
            failures += 1
            if failures > retry.retries:
                raise FetchError(f"cannot read {url} ({error}); try again later") from error
            wait = (
                retry.backoff * 2.0 ** min(failures - 1, 60) if error.wait is None else error.wait
            )
            sleep(min(wait, retry.max_wait))


def verify_checksum(path: PathLike, checksum: str, *, progress: bool | None = None) -> bool:
    """Return whether a file has a checksum.

    Args:
        path: The file.
        checksum: "md5:<hex>" or "sha256:<hex>".
        progress: As for `download`.

    Raises:
        UsageError: The checksum has another form.
        OSError: The file cannot be read.
    """
    algorithm, expected = parse_checksum(checksum)
    return hex_digest(Path(path), algorithm, progress) == expected


# --- One URL: requests until the file is complete and verified ------------------------------------


class PermanentError(Exception):
    """This URL cannot give the file; try the next one."""


class TemporaryError(Exception):
    """This URL may give the file later.

    Attributes:
        wait: Seconds that the server asks to wait; None if it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class StartOverError(TemporaryError):
    """The bytes received so far are of no use; start from the first byte."""


def _all_urls(file: RemoteFile, mirrors: Sequence[str]) -> list[str]:
    """The file's URLs in the order in which they are tried, without duplicates.

    Raises:
        UsageError: A mirror is not an http or https URL.
    """
    urls = []
    for mirror in [mirrors] if isinstance(mirrors, str) else mirrors:
        if not isinstance(mirror, str) or not re.match("https?://", mirror, re.IGNORECASE):
            raise UsageError(f"mirror {mirror!r} is not a URL; give one that starts with https://")
        try:
            path = unquote(urlsplit(mirror).path)
        except ValueError:  # it is tried, fails, and does not keep the others from being tried
            path = ""
        complete = path.endswith(f"/{file.name}")
        urls.append(mirror if complete else f"{mirror.rstrip('/')}/{quote(file.name)}")
    return list(dict.fromkeys([*urls, *file.urls]))


def _download_from(
    session: requests.Session,
    url: str,
    file: RemoteFile,
    part: _Part,
    retry: RetryPolicy,
    progress: bool | None,
) -> None:
    """Complete the part file from one URL and verify it.

    Raises:
        PermanentError: The URL cannot give the file, or failed too often.
    """
    jitter = Random()
    failures, furthest = 0, part.size
    while True:
        try:
            from_one_response = _transfer(session, url, file, part, retry, progress)
            defect = _find_defect(part.path, file, progress)
            if defect is None:
                return
            if not from_one_response:
                raise StartOverError(f"the file, assembled from several responses, {defect}")
            part.discard()
            raise PermanentError(f"the file {defect}")
        except TemporaryError as error:
            reached = part.size
            if isinstance(error, StartOverError):
                part.discard()
            failures = 1 if reached >= furthest + _MIN_ADVANCE else failures + 1
            furthest = max(furthest, reached)
            if failures > retry.retries:
                attempts = "1 attempt" if failures == 1 else f"{failures} attempts"
                raise PermanentError(f"{error}; {attempts}") from error
            wait = error.wait
            if wait is None:
                wait = retry.backoff * 2.0 ** min(failures - 1, 60) * jitter.random()
            wait = min(wait, retry.max_wait)
            logger.info("%s: %s; trying again in %.1f s", printable(url), printable(error), wait)
            sleep(wait)


def _transfer(
    session: requests.Session,
    url: str,
    file: RemoteFile,
    part: _Part,
    retry: RetryPolicy,
    progress: bool | None,
) -> bool:
    """Bring the part file to its full length with one request.

    Returns:
        Whether the whole file came in this one response.

    Raises:
        PermanentError: The URL cannot give the file.
        TemporaryError: The transfer failed or stopped early.
    """
    state = part.resume_state(file, url)
    if state is not None and part.size == state.total:
        return False  # an earlier process stopped after the last byte, before the renaming
    with _request(session, url, _resume_headers(state, part.size), retry) as response:
        if state is not None and _is_complete(response, file, state, part.size):
            return False
        _check_status(response)
        start, state = _parse_range_response(response, url, state, part.size)
        if state.total is not None and file.size not in (None, state.total):
            raise PermanentError(f"the file has {state.total:,} bytes, expected {file.size:,}")
        length = file.size if state.total is None else state.total
        _check_length(response, file, length)
        _require_space(part, file, length)
        pieces = _read_pieces(response, retry)
        first = next(pieces, b"")
        # Before the part file is opened: a log-in page must not overwrite what has been received.
        if not start and _is_html(first, file):
            raise PermanentError("an HTML page came in place of the file")
        with (
            part.path.open("ab" if start else "wb") as out,
            progress_bar(file.name, length, "B", progress, unit_scale=True, initial=start) as bar,
        ):
            part.save_state(state)
            size = looked_at = out.tell()
            most = MAX_SIZE if length is None else length
            for piece in chain((first,), pieces):
                out.write(piece)
                bar.update(len(piece))
                size += len(piece)
                if size > most:
                    break
                if length is None and size >= looked_at + _SPACE_STEP:
                    out.flush()
                    looked_at = size
                    _require_space(part, file, length)
    if length is not None and part.size < length:
        raise TemporaryError(f"the transfer stopped after {part.size:,} of {length:,} bytes")
    if part.size > (MAX_SIZE if length is None else length):
        part.discard()
        expected = f"limit of {MAX_SIZE:,}" if length is None else f"expected {length:,}"
        raise PermanentError(f"the server sends more than the {expected} bytes")
    return not start


def _is_complete(
    response: requests.Response, file: RemoteFile, state: ResumeState, size: int
) -> bool:
    """Whether the answer to a request for the rest of a file says that there is no rest.

    It is believed if the result can be verified, or if the length is that of the first answer: a
    server can say of any half that it is the whole.

    Args:
        response: The response, its body unread.
        file: The file.
        state: The state that the request was made from.
        size: Bytes received before.
    """
    return (
        response.status_code == 416
        and response.headers.get("Content-Range", "").strip() == f"bytes */{size}"
        and (file.checksum is not None or size in (file.size, state.total))
    )


def _check_length(response: requests.Response, file: RemoteFile, length: int | None) -> None:
    """Refuse a response that announces too much, or whose end nobody could tell from a broken line.

    Raises:
        PermanentError: The length is beyond the limit; or there is none, and the response is not
            in chunks, and no checksum is published.
    """
    if length is not None and length > MAX_SIZE and file.size is None:
        raise PermanentError(
            f"the server announces {length:,} bytes, more than the limit of {MAX_SIZE:,}"
        )
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    if length is None and not chunked and file.checksum is None:
        raise PermanentError(
            "the server does not say how long the file is, and no checksum is published"
        )


def _require_space(part: _Part, file: RemoteFile, length: int | None) -> None:
    """Check that the disk has room for the rest of a file.

    Raises:
        PermanentError: It has not, by what the server alone says; another URL may say otherwise.
            What has been received of an answer without length is removed.
        OSError: It has not, by the published size.
    """
    missing = _SPACE_STEP if length is None else length - part.size
    try:
        require_space(part.path.parent, missing)
    except OSError as error:
        if file.size is not None:
            raise
        if length is None:
            part.discard()
        raise PermanentError(str(error)) from error


# --- One request ----------------------------------------------------------------------------------


@contextmanager
def _request(
    session: requests.Session, url: str, headers: Mapping[str, str], retry: RetryPolicy
) -> Iterator[requests.Response]:
    """Yield the response to a GET request and to the redirects that follow, its body unread.

    Raises:
        PermanentError: The URL, the server's certificate or the proxy is invalid, or redirects do
            not end or lead to an unsafe place.
        TemporaryError: The server cannot be reached or does not respond in time.
    """
    for _ in range(_MAX_REDIRECTS + 1):
        with _get(session, url, headers, retry) as response:
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                yield response
                return
        url = _redirected(url, location)
    raise PermanentError(f"more than {_MAX_REDIRECTS} redirects")


def _redirected(url: str, location: str) -> str:
    """The URL to which a redirect leads.

    Args:
        url: The URL of the redirect.
        location: Its header Location, absolute or relative.

    Raises:
        PermanentError: It is no URL, or the way from https to http, on which anyone can listen.
    """
    try:
        target = urljoin(url, location.encode("latin-1").decode("utf-8", "replace"))
        schemes = urlsplit(url).scheme.lower(), urlsplit(target).scheme.lower()
    except ValueError as error:
        raise PermanentError(f"it redirects to {_shown(location)}, which is no URL") from error
    if schemes[1] not in ("http", "https"):
        raise PermanentError(f"it redirects to {_shown(location)}, which is no https URL")
    if schemes == ("https", "http"):
        raise PermanentError(f"it redirects from https to {_shown(target)}, which is not secure")
    return target


def _get(
    session: requests.Session, url: str, headers: Mapping[str, str], retry: RetryPolicy
) -> requests.Response:
    """Return the response to one GET request, its body unread.

    Raises:
        PermanentError: The URL, the server's certificate or the proxy is invalid.
        TemporaryError: The server cannot be reached or does not respond in time.
    """
    from requests import exceptions

    try:
        return session.get(url, headers=headers, stream=True, timeout=retry.timeout)
    except exceptions.SSLError as error:
        raise _secure_error(error) from error
    except exceptions.ProxyError as error:
        raise _proxy_error(error) from error
    except exceptions.ConnectTimeout as error:
        raise TemporaryError(f"no connection within {retry.timeout[0]:g} s") from error
    except exceptions.Timeout as error:
        raise TemporaryError(f"no response within {retry.timeout[1]:g} s") from error
    except (exceptions.ConnectionError, exceptions.ChunkedEncodingError) as error:
        raise TemporaryError(_root_message(error)) from error
    # Parsers of URLs and headers raise errors of many types, on what a server or a user wrote.
    except Exception as error:
        if "CA certificate bundle" in str(error):
            raise PermanentError(_bundle_advice(error)) from error
        raise PermanentError(_root_message(error)) from error


def _secure_error(error: Exception) -> PermanentError | TemporaryError:
    """What an error of a secure connection means."""
    text = str(error)
    if "certificate verify failed" in text.lower():
        return PermanentError(
            f"the certificate is not trusted: {_root_message(error)}; if your network has its own, "
            "name its file in the environment variable REQUESTS_CA_BUNDLE"
        )
    if any(mark in text for mark in ("[X509", "[Errno", "PEM")):
        return PermanentError(_bundle_advice(error))
    if "EOF" in text:
        return TemporaryError(f"the secure connection broke: {_root_message(error)}")
    return PermanentError(f"no secure connection is possible: {_root_message(error)}")


def _bundle_advice(error: Exception) -> str:
    """The message about a certificate bundle that cannot be read."""
    name = next((name for name in _BUNDLE_VARIABLES if os.environ.get(name)), None)
    advice = f"correct {name}, or unset it" if name else "install the package certifi again"
    return f"the bundle of certificates cannot be read: {_root_message(error)}; {advice}"


def _proxy_error(error: Exception) -> PermanentError | TemporaryError:
    """What an error of a proxy means. One that refuses is not asked again."""
    status = re.search(r"Tunnel connection failed: ([0-9]{3})\b", str(error))
    if status and int(status[1]) not in _TEMPORARY and int(status[1]) < 500:
        return PermanentError(_proxy_advice(status[1]))
    return TemporaryError(f"the proxy cannot be used: {_root_message(error)}")


def _proxy_advice(status: str) -> str:
    """The message about a proxy that refuses a connection."""
    if status == "407":
        return (
            "the proxy asks for a name and a password (HTTP 407); give them in the environment "
            "variables HTTP_PROXY and HTTPS_PROXY, as http://NAME:PASSWORD@HOST:PORT"
        )
    return (
        f"the proxy refuses the connection (HTTP {status}); check the environment variables "
        "HTTPS_PROXY and NO_PROXY"
    )


def _root_message(error: BaseException) -> str:
    """The message of the innermost exception, without those of the exceptions around it."""
    for _ in range(10):
        inner = [
            cause
            for cause in (getattr(error, "reason", None), *reversed(error.args))
            if isinstance(cause, BaseException)
        ]
        if not inner:
            break
        error = inner[0]
    return _shown(str(error).rsplit(": ", 1)[-1] or type(error).__name__)


def _shown(text: str) -> str:
    """A server's text for a message, in at most 200 characters."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= 200 else f"{text[:197]}..."


def _check_status(response: requests.Response) -> None:
    """Accept a response with status 200 or 206 and an uncompressed body.

    Raises:
        PermanentError: The status is a client error, or the body is compressed.
        TemporaryError: The status is worth a retry.
    """
    status = response.status_code
    reason = f"HTTP {status} {_shown(response.reason or '')}".rstrip()
    if status == 416:
        raise StartOverError(reason)
    if status in _TEMPORARY or status >= 500:
        raise TemporaryError(reason, wait=_retry_after(response.headers.get("Retry-After")))
    if status == 407:
        raise PermanentError(_proxy_advice("407"))
    if status not in (200, 206):
        raise PermanentError(reason)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise PermanentError(
            f"the server sends the file in the encoding {_shown(encoding)}, which was not requested"
        )


def _retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for: a number or an HTTP date; None if invalid."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value) if len(value) < 10 else _LONGEST_WAIT
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    # Written for mail, the parser raises errors of many types on what is no date.
    except Exception:
        return None


def _read_pieces(response: requests.Response, retry: RetryPolicy) -> Iterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        TemporaryError: The connection breaks, is silent for `retry.timeout[1]` or is slower than
            `retry.min_rate`.
    """
    from urllib3 import exceptions

    window = retry.timeout[1]
    since, received = monotonic(), 0
    while True:
        try:
            # read1 returns what has arrived; read would wait for the whole chunk, however slow.
            piece: bytes = response.raw.read1(_CHUNK, decode_content=False)
        except exceptions.ReadTimeoutError as error:
            raise TemporaryError(f"no data for {window:g} s") from error
        except (exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            raise TemporaryError(f"the connection broke ({_shown(str(error))})") from error
        if not piece:
            return
        yield piece
        received += len(piece)
        elapsed = monotonic() - since
        if elapsed >= window:
            if received < retry.min_rate * elapsed:
                raise TemporaryError(
                    f"slower than {retry.min_rate:g} bytes per second for {window:g} s"
                )
            since, received = monotonic(), 0


# --- Resuming -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResumeState:
    """What a later request needs to resume a transfer.

    Attributes:
        url: URL of the transfer.
        validator: The server's mark of the file's version, for If-Range; None if it gave none.
        total: Bytes of the whole file; None if unknown.
    """

    url: str
    validator: str | None
    total: int | None


class _Part:
    """The unfinished file, with its `ResumeState` in a small file beside it."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f"{final.name}.part")
        self._state_file = final.with_name(f"{final.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def resume_state(self, file: RemoteFile, url: str) -> ResumeState | None:
        """The state from which `url` can resume the transfer; None if it must start over."""
        try:
            state = ResumeState(**json.loads(self._state_file.read_text("utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        if not (
            isinstance(state.url, str)
            and (state.validator is None or _is_validator(state.validator))
            and (state.total is None or type(state.total) is int)
        ):
            return None
        # Another URL may have another file; only a checksum can verify the result.
        unverifiable = file.checksum is None and state.url != url
        return None if state.validator is None or unverifiable or not self.size else state

    def save_state(self, state: ResumeState) -> None:
        """Write the state beside the unfinished file."""
        # Atomically, so that a full disk leaves the old state, from which the transfer goes on.
        write_atomic(self._state_file, json.dumps(asdict(state)), sync=False)

    def discard(self) -> None:
        """Delete the unfinished file and its state."""
        self.path.unlink(missing_ok=True)
        self._state_file.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the complete file its final name."""
        rename_into_place(self.path, self.final)
        self._state_file.unlink(missing_ok=True)


def _resume_headers(state: ResumeState | None, size: int) -> dict[str, str]:
    """The request headers that ask for all after the first `size` bytes, or none."""
    if state is None or state.validator is None:
        return {}
    return {"Range": f"bytes={size}-", "If-Range": state.validator}


def _parse_range_response(
    response: requests.Response, url: str, old: ResumeState | None, size: int
) -> tuple[int, ResumeState]:
    """Find where the body of a 200 or 206 response belongs in the file.

    The response is checked against the request, since not every server respects If-Range.

    Args:
        response: The response, its body unread.
        url: Its URL.
        old: The state that the request was made from; None if it asked for the whole file.
        size: Bytes received before.

    Returns:
        (offset of the body in the file, state from which this transfer can be resumed).

    Raises:
        PermanentError: A part came although the whole file was requested, or the length is absurd.
        StartOverError: The part is not the one that was requested, or is of another version.
    """
    new = ResumeState(url, _validator(response), _content_length(response))
    if response.status_code == 200:
        return 0, new
    if old is None:
        raise PermanentError("the server sent a part of the file, the whole was requested")
    span = re.fullmatch(
        rf"bytes ({_NUMBER})-{_NUMBER}/({_NUMBER}|\*)",
        response.headers.get("Content-Range", "").strip(),
    )
    if span is None or int(span[1]) != size or new.validator not in (None, old.validator):
        raise StartOverError("the server continued with another part or another file")
    total = old.total if span[2] == "*" else int(span[2])
    if old.total not in (None, total):
        raise StartOverError(f"the file had {old.total:,} bytes and now has {total:,}")
    return size, ResumeState(url, old.validator, total)


def _validator(response: requests.Response) -> str | None:
    """A value for If-Range: a strong ETag, else Last-Modified (RFC 9110, section 13.1.5)."""
    etag = response.headers.get("ETag", "").strip()
    value = etag if etag.startswith('"') else response.headers.get("Last-Modified", "").strip()
    return value if _is_validator(value) else None


def _is_validator(value: object) -> bool:
    """Whether a value can be sent back as If-Range: short, on one line, in plain characters."""
    return (
        isinstance(value, str) and re.fullmatch(r"[\x20-\x7e\x80-\xff]{1,1000}", value) is not None
    )


def _content_length(response: requests.Response) -> int | None:
    """The Content-Length in bytes; None if it is missing or invalid.

    Raises:
        PermanentError: It has more digits than the length of any file.
    """
    value = response.headers.get("Content-Length", "").strip()
    if not re.fullmatch("[0-9]+", value):
        return None
    if not re.fullmatch(_NUMBER, value):
        raise PermanentError(f"the server announces an impossible length of {_shown(value)} bytes")
    return int(value)


# --- Verification ---------------------------------------------------------------------------------


def _find_defect(path: Path, file: RemoteFile, progress: bool | None = None) -> str | None:
    """Compare a file with what is published.

    Returns:
        What is wrong, as a predicate for a message ("has the MD5 ..."); None if nothing is.
    """
    with path.open("rb") as opened:
        page = ", an HTML page in place of the file" if _is_html(opened.read(1024), file) else ""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size:,} bytes, expected {file.size:,}{page}"
    if file.size is None and size > MAX_SIZE:  # such as a sparse file, which would take hours
        return f"has {size:,} bytes, more than the limit of {MAX_SIZE:,}"
    if file.checksum is not None:
        algorithm, expected = parse_checksum(file.checksum)
        actual = hex_digest(path, algorithm, progress)
        if actual != expected:
            return f"has the {algorithm.upper()} {actual}, expected {expected}{page}"
    elif page:
        return f"is{page[1:]}"
    elif not size:
        return "is empty"
    return None


def _is_html(beginning: bytes, file: RemoteFile) -> bool:
    """Return whether content is an HTML page although the file's name promises something else."""
    if file.name.lower().endswith((".html", ".htm")):
        return False
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower()
    return text.startswith((b"<!doctype html", b"<html"))


def parse_checksum(checksum: str) -> tuple[str, str]:
    """Split a checksum "md5:<hex>" or "sha256:<hex>".

    Returns:
        (algorithm, hexadecimal digits), both in lower case.

    Raises:
        UsageError: The checksum has another form.
    """
    algorithm, _, digits = checksum.lower().partition(":")
    if len(digits) != _CHECKSUM_DIGITS.get(algorithm) or not re.fullmatch("[0-9a-f]+", digits):
        raise UsageError(
            f"checksum {checksum!r} has another form than md5:<32 hex digits> or "
            "sha256:<64 hex digits>"
        )
    return algorithm, digits


def hex_digest(path: Path, algorithm: str, progress: bool | None = None) -> str:
    """The digest of a file in hexadecimal digits.

    Args:
        path: The file; it is read in chunks.
        algorithm: "md5" or "sha256".
        progress: As for `download`.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    size = path.stat().st_size
    with (
        path.open("rb") as opened,
        progress_bar(f"verify {path.name}", size, "B", progress, unit_scale=True) as bar,
    ):
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
