"""An HTTP session whose server cannot keep the client busy for ever.

`requests` limits the time between two pieces of data. A server can still send status lines
`100 Continue` without end, a header byte by byte, trailers without end, or a redirect with a body
without end, which `requests` reads. This session gives up on each of these. Redirects are left to
the caller.

The module imports `requests` at its top, so it is imported when a download starts.
"""

from __future__ import annotations

import http.client
import io
from time import monotonic
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HeaderParsingError
from urllib3.util.response import assert_header_parsing

_MAX_TEXT = 1 << 18  # bytes of status lines, headers, lengths of chunks and trailers in a row
_SECONDS = 60.0  # for them, if the socket has no timeout
_BUFFER = 1 << 16  # bytes that are read from a socket at a time; small chunks then cost less


def make_session() -> requests.Session:
    """Return a session as described above.

    Status line and headers may take as long as the timeout of the request's second number, and so
    may the text between two pieces of the body.
    """
    session = _Session()
    # Resuming counts bytes of the file itself, so the server must not compress it.
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "metaevents"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


class _Session(requests.Session):
    """A session that follows no redirect.

    Even with `allow_redirects=False`, `requests` reads the body of a redirect to its end.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """No response is a redirect."""
        return None


class _Waits(io.RawIOBase):
    """The bytes of a socket; while `end` is set, no wait for the server begins after that time.

    Args:
        raw: The file below what a socket's `makefile("rb")` gives.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.end: float | None = None

    def readable(self) -> bool:
        """Bytes can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has arrived, or wait for the server."""
        if self.end is not None and monotonic() > self.end:
            raise TimeoutError("the headers take too long")
        size: int | None = self._raw.readinto(buffer)
        return size

    def fileno(self) -> int:
        """Number of the socket."""
        number: int = self._raw.fileno()
        return number

    def close(self) -> None:
        """Close the socket's file."""
        self._raw.close()
        super().close()


class _TextLimit:
    """The bytes of a response, with a limit on the lines that are read between pieces of its body.

    Args:
        file: What a socket's `makefile("rb")` gives; it is of no use afterwards.
        seconds: How long the lines in a row may take.
    """

    def __init__(self, file: io.BufferedReader, seconds: float) -> None:
        self._waits = _Waits(file.detach())
        self._file = io.BufferedReader(self._waits, _BUFFER)
        self._seconds = seconds
        self._bytes = 0  # of the lines in a row
        self._end: float | None = None  # when they must have come; None before the first of them
        # Bound here, since a body in chunks is read by three calls per chunk.
        self.read, self._read1, self._readline = (
            self._file.read,
            self._file.read1,
            self._file.readline,
        )

    def readline(self, limit: int = -1) -> bytes:
        """Read a line of at most `limit` bytes."""
        if self._bytes > _MAX_TEXT:
            raise http.client.HTTPException("the server sends headers without end")
        if self._end is None:
            self._end = monotonic() + self._seconds
        self._waits.end = self._end
        try:
            line = self._readline(limit)
        finally:
            self._waits.end = None
        self._bytes += len(line)
        return line

    def read1(self, size: int = -1) -> bytes:
        """Read a piece of the body."""
        piece = self._read1(size)
        self._bytes, self._end = 0, None
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Response(http.client.HTTPResponse):
    """A response that is read through `_TextLimit`."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        timeout = sock.gettimeout()
        self.fp: Any = _TextLimit(self.fp, _SECONDS if timeout is None else timeout)

    def begin(self) -> None:
        """Read status line and headers, and refuse headers that cannot be parsed."""
        super().begin()
        try:
            assert_header_parsing(self.headers)  # urllib3 would log what it finds
        except (HeaderParsingError, TypeError, ValueError, LookupError) as error:
            raise http.client.HTTPException("the server sends malformed headers") from error


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    """An adapter whose connections, also those through a proxy, have the limits."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):  # its connections are of a kind of their own
            manager.pool_classes_by_scheme = _POOLS
        return manager
