"""An HTTP server on loopback that misbehaves as requested and logs every request."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from types import TracebackType
from typing import Any

_DATE = formatdate(1_600_000_000, usegmt=True)


@dataclass(frozen=True)
class Answer:
    """How one request is answered. The default is correct, with ranges and a strong ETag.

    Attributes:
        status: Any other status than 200 is sent with `headers` and without the file.
        headers: Added to the server's own; an empty value removes a header.
        body: Sent in place of the file, with an ETag of its own.
        ranges: False ignores Range.
        respects_if_range: False answers a Range whatever If-Range asks for.
        weak: Send a weak ETag, which If-Range must not use.
        announced: Content-Length, in place of the true one.
        chunked: Send chunks and no Content-Length.
        cut_after: Bytes of the body after which the connection is closed.
        trickle: (bytes, seconds): send so many bytes, wait so long, and repeat.
        hold_after: Bytes of the body after which the server waits for `hold`.
        hold: The event that it waits for.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    ranges: bool = True
    respects_if_range: bool = True
    weak: bool = False
    announced: int | None = None
    chunked: bool = False
    cut_after: int | None = None
    trickle: tuple[int, float] | None = None
    hold_after: int = 0
    hold: threading.Event | None = None


@dataclass
class Request:
    """One entry of the log: the request, the status and the bytes of the body sent so far."""

    path: str
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("Range")


class MisbehavingServer:
    """Serves files from memory. Each request takes the file's next answer, then the correct one.

    Args:
        certificate: A PEM file with a certificate for "localhost" and its key, to serve https.

    Example:
        with MisbehavingServer() as server:
            url = server.serve("Train.zip", body, Answer(cut_after=1000))
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.log: list[Request] = []
        self._files: dict[str, tuple[bytes, list[Answer]]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._secure = certificate is not None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # Handshakes belong into the threads of the connections.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self) -> MisbehavingServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """URL of the server, without a slash at the end."""
        address = "https://localhost" if self._secure else "http://127.0.0.1"
        return f"{address}:{self._server.server_address[1]}"

    def serve(self, name: str, body: bytes, *answers: Answer) -> str:
        """Publish a file at `/name`; return its URL."""
        self._files[f"/{name}"] = (body, list(answers))
        return f"{self.url}/{name}"

    def requests(self, name: str) -> list[Request]:
        """The log entries of one file."""
        return [request for request in self.log if request.path == f"/{name}"]

    def _take(self, request: Request) -> tuple[bytes, Answer]:
        with self._lock:
            self.log.append(request)
            if request.path not in self._files:
                return b"", Answer(status=404)
            body, answers = self._files[request.path]
            return body, answers.pop(0) if answers else Answer()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(OSError):  # the client gives up at the handshake
                    super().handle()

            def do_GET(self) -> None:
                self.close_connection = True
                request = Request(self.path, dict(self.headers.items()))
                body, answer = outer._take(request)
                if answer.status != 200:
                    request.status = answer.status
                    self._head(answer.status, {"Content-Length": "0", **answer.headers})
                    return
                body = body if answer.body is None else answer.body
                etag = f'"{hashlib.md5(body).hexdigest()}"'
                headers = {"ETag": f"W/{etag}" if answer.weak else etag, "Last-Modified": _DATE}
                status, start = self._range(request, answer, len(body), etag)
                request.status = status
                if status == 416:
                    self._head(
                        416,
                        {
                            "Content-Range": f"bytes */{len(body)}",
                            "Content-Length": "0",
                            **answer.headers,
                        },
                    )
                    return
                if status == 206:
                    headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
                if answer.chunked:
                    headers["Transfer-Encoding"] = "chunked"
                else:
                    headers["Content-Length"] = str(
                        len(body) if answer.announced is None else answer.announced
                    )
                self._head(status, {**headers, **answer.headers})
                with suppress(OSError):  # the client has disconnected
                    self._body(request, answer, body)

            def _range(
                self, request: Request, answer: Answer, size: int, etag: str
            ) -> tuple[int, int]:
                requested = request.range
                valid = not answer.respects_if_range or request.headers.get("If-Range") in (
                    None,
                    etag,
                    _DATE,
                )
                if requested is None or not answer.ranges or not valid:
                    return 200, 0
                start = int(requested.removeprefix("bytes=").removesuffix("-"))
                return (206, start) if start < size else (416, start)

            def _head(self, status: int, headers: Mapping[str, str]) -> None:
                self.send_response(status, HTTPStatus(status).phrase)
                self.send_header("Connection", "close")
                for name, value in headers.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()

            def _body(self, request: Request, answer: Answer, body: bytes) -> None:
                whole = len(body) if answer.cut_after is None else min(answer.cut_after, len(body))
                step, pause = answer.trickle or (1 << 16, 0.0)
                while request.sent < whole:
                    end = min(request.sent + step, whole)
                    if answer.hold is not None and request.sent < answer.hold_after:
                        end = min(end, answer.hold_after)
                    piece = body[request.sent : end]
                    request.sent = end  # before the client can read it, and a test the log
                    self.wfile.write(
                        b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece
                    )
                    if answer.hold is not None and request.sent == answer.hold_after:
                        answer.hold.wait(60)
                    if pause and outer._closing.wait(pause):
                        return
                if answer.cut_after is not None:
                    self.connection.shutdown(SHUT_RDWR)
                elif answer.chunked:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
