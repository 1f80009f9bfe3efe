"""Servers that would keep a client busy for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.downloads import checksum
from support.http_server import MisbehavingServer
from support.raw_server import RawServer, Respond, always, endless

from metaevents.download import http
from metaevents.download.http import RemoteFile, RetryPolicy, download
from metaevents.errors import FetchError

BODY = b"events" * 1000
NAME = "data.bin"
HASTY = RetryPolicy(retries=0, timeout=(5.0, 1.0), backoff=0.0)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nTransfer-Encoding: chunked\r\n\r\n"

ENDLESS = {
    "100 Continue": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "100 Continue, slowly": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05),
    "headers of 100 Continue": endless(b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n" * 100),
    "headers": endless(OK, b"A: b\r\n" * 100),
    "one header": endless(OK + b"A: ", b"a" * 10_000),
    "dripped status": endless(b"H", b"T", pause=0.05),
    "dripped headers": endless(OK + b"A: ", b"a", pause=0.05),
    "dripped length of a chunk": endless(CHUNKED + b"1\r\nx\r\n", b"0", pause=0.05),
    "length of a chunk": endless(CHUNKED + b"1\r\nx\r\n", b"0" * 10_000),
    "trailers": endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 100),
    "dripped trailers": endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n", pause=0.05),
    "dripped body": endless(CHUNKED, b"1\r\nx\r\n", pause=0.05),
    "empty lines": endless(b"", b"\r\n" * 100),
}


@pytest.mark.parametrize("respond", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_end_costs_seconds_and_the_next_url_is_tried(
    server: MisbehavingServer, tmp_path: Path, respond: Respond
) -> None:
    with RawServer(respond) as attacker:
        file = RemoteFile(NAME, (attacker.url, server.serve(NAME, BODY)), checksum(BODY))
        start = time.monotonic()
        assert download(file, tmp_path, retry=HASTY).read_bytes() == BODY
    assert time.monotonic() - start < 10
    assert len(attacker.requests) == 1


def test_the_body_of_a_redirect_is_not_read(server: MisbehavingServer, tmp_path: Path) -> None:
    target = server.serve(NAME, BODY)
    with RawServer(endless(MOVED % target.encode(), b"1000\r\n%b\r\n" % bytes(0x1000))) as moved:
        file = RemoteFile(NAME, (moved.url,), checksum(BODY))
        assert download(file, tmp_path, retry=HASTY).read_bytes() == BODY


def test_the_body_of_an_error_is_not_read(server: MisbehavingServer, tmp_path: Path) -> None:
    failure = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
    with RawServer(endless(failure, b"1000\r\n%b\r\n" % bytes(0x1000))) as broken:
        file = RemoteFile(NAME, (broken.url, server.serve(NAME, BODY)), checksum(BODY))
        assert download(file, tmp_path, retry=HASTY).read_bytes() == BODY


def test_a_body_without_end_stops_at_the_limit(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_SIZE", 10 << 20)
    piece = b"100000\r\n%b\r\n" % bytes(1 << 20)
    with RawServer(endless(CHUNKED, piece)) as attacker:
        file = RemoteFile(NAME, (attacker.url,), None)
        with pytest.raises(FetchError, match="more than the limit of 10,485,760 bytes"):
            download(file, tmp_path, retry=HASTY)
    assert not (tmp_path / f"{NAME}.part").exists()


def test_a_body_without_length_leaves_room_on_the_disk(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, size: int) -> None:
        if (tmp_path / f"{NAME}.part").exists() and size > len(BODY):
            raise OSError("the disk is nearly full")

    monkeypatch.setattr(http, "_SPACE_STEP", 1 << 20)
    monkeypatch.setattr(http, "require_space", full)
    with RawServer(endless(CHUNKED, b"100000\r\n%b\r\n" % bytes(1 << 20))) as attacker:
        file = RemoteFile(NAME, (attacker.url, server.serve(NAME, BODY)), None)
        assert download(file, tmp_path, retry=HASTY).read_bytes() == BODY


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 99999999999999999999 OK\r\n\r\n",
        OK + b"no colon\r\nContent-Length: 5\r\n\r\nhello",
        OK + b": no name\r\n\r\n",
        OK + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n",
        OK + b"\xff\xfe\x00: \x00\r\n\r\n",
        CHUNKED + b"-5\r\nhello\r\n",
        CHUNKED + b"zz\r\nhello\r\n",
        CHUNKED + b"ffffffffffffffffffffffff\r\nhello\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_malformed_answer_is_a_reason_in_the_message_and_the_next_url_is_tried(
    server: MisbehavingServer,
    tmp_path: Path,
    answer: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RawServer(always(answer)) as attacker:
        file = RemoteFile(NAME, (attacker.url, server.serve(NAME, BODY)), checksum(BODY))
        assert download(file, tmp_path, retry=HASTY).read_bytes() == BODY
    assert "Traceback" not in caplog.text
    assert f"after {attacker.url} (" in caplog.text
