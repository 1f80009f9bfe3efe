"""A TCP server on loopback that answers every connection with whatever a function writes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

Respond = Callable[[socket.socket, threading.Event], None]


class RawServer:
    """Reads the head of a request, then lets `respond(connection, closing)` write the answer.

    Attributes:
        url: URL of the server, without a slash at the end.
        requests: The heads of all requests so far.

    Example:
        with RawServer(lambda connection, closing: connection.sendall(b"nonsense")) as server:
            download(RemoteFile("x", (server.url,), None), folder)
    """

    def __init__(self, respond: Respond) -> None:
        self.requests: list[bytes] = []
        self._respond = respond
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the client hangs up
            connection.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head and (piece := connection.recv(1 << 16)):
                head += piece
            if head:
                self.requests.append(head)
                self._respond(connection, self._closing)
            connection.shutdown(socket.SHUT_RDWR)


def always(answer: bytes) -> Respond:
    """Answer with these bytes and close the connection."""
    return lambda connection, closing: connection.sendall(answer)


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Respond:
    """Answer with `head`, then with `piece` again and again, until the client hangs up."""

    def respond(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(head)
        while not closing.wait(pause):
            connection.sendall(piece)

    return respond
