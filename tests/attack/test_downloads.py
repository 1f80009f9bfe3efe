"""Servers, mirrors and zips that lie: the next address is tried, and no wrong byte is kept.

The ordinary run takes a few inputs of each kind; `-m attack` takes all.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from support.downloads import checksum, visible, zip_of
from support.http_server import MisbehavingServer
from support.raw_server import RawServer, always

from metaevents.download import http
from metaevents.download.http import RemoteFile, RetryPolicy, download
from metaevents.download.zips import unpack
from metaevents.errors import FetchError, MetaeventsError

BODY = b"events" * 50
NAME = "data.bin"
HASTY = RetryPolicy(retries=1, timeout=(5.0, 2.0), backoff=0.0, max_wait=0.0)
FEW = pytest.param(25, id="few")
MANY = pytest.param(500, id="many", marks=pytest.mark.attack)

NUMBERS = [
    "0",
    "-1",
    "+5",
    "5,5",
    "1e9",
    "0x10",
    "\xb2",
    "",
    " ",
    "9" * 20,
    "9" * 5_000,
    "300",
    "150",
]
DATES = ["Fri, 01 Jan 1" + "0" * 20 + " 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "soon"]
TEXTS = [
    '"a"',
    'W/"a"',
    '"',
    "\x1b[2J",
    "a" * 70_000,
    "a\r\n b",
    "\xff",
    "chunked",
    "gzip",
    "identity",
]
URLS = [
    "/",
    "//",
    "http://[",
    "http://",
    "http://a:b",
    "ftp://x",
    "javascript:x",
    "\x00",
    "a" * 9_000,
]
RANGES = [f"bytes {a}-{b}/{c}" for a in NUMBERS[:4] for b in NUMBERS[8:] for c in NUMBERS]
HEADERS = {
    "Content-Length": NUMBERS,
    "Content-Range": RANGES + [f"bytes */{c}" for c in NUMBERS],
    "Retry-After": NUMBERS + DATES,
    "ETag": TEXTS,
    "Last-Modified": TEXTS + DATES,
    "Transfer-Encoding": TEXTS,
    "Content-Encoding": TEXTS,
    "Location": URLS,
    "Connection": ["close", "keep-alive", "\x1b"],
    "Set-Cookie": TEXTS,
    "Content-Type": ["multipart/mixed; boundary=x", *TEXTS],
    "\x1b": TEXTS,
}  # fmt: skip
STATUSES = [
    200,
    200,
    200,
    206,
    206,
    416,
    301,
    302,
    307,
    100,
    103,
    204,
    304,
    404,
    407,
    429,
    503,
    999,
]


def answer(rng: np.random.Generator) -> bytes:
    """An answer whose status, headers and body have nothing to do with each other."""
    status = STATUSES[int(rng.integers(len(STATUSES)))]
    lines = [f"HTTP/1.1 {status} {TEXTS[int(rng.integers(len(TEXTS)))]}"]
    for name in rng.choice(list(HEADERS), int(rng.integers(5))):
        values = HEADERS[name]
        lines.append(f"{name}: {values[int(rng.integers(len(values)))]}")
    body = [BODY, BODY[:150], b"", b"96\r\n" + BODY[:150] + b"\r\n0\r\n\r\n"][int(rng.integers(4))]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("known", [True, False])
def test_answers_at_random(
    server: MisbehavingServer,
    tmp_path: Path,
    count: int,
    known: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(known)
    right = server.serve(NAME, BODY)
    for i in range(count):
        answers = [answer(rng) for _ in range(3)]
        folder = tmp_path / str(i)
        # Two requests to the liar, then the right file.
        with RawServer(lambda connection, closing, a=answers: connection.sendall(a.pop())) as liar:
            file = RemoteFile(NAME, (liar.url, right), checksum(BODY) if known else None)
            start = time.monotonic()
            content = download(file, folder, retry=HASTY).read_bytes()
        assert time.monotonic() - start < 10
        # Without a checksum, a liar can send what it likes; but never two halves of two answers.
        assert content == BODY or (not known and content)
        assert visible(folder) == [NAME]
    assert "Traceback" not in caplog.text
    assert not {"\x1b", "\x00"} & set(caplog.text)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_header_values_at_random_never_raise_anything_else(count: int) -> None:
    from types import SimpleNamespace

    rng = np.random.default_rng(0)
    for _ in range(count * 20):
        headers = {
            name: values[int(rng.integers(len(values)))]
            for name, values in HEADERS.items()
            if rng.random() < 0.5
        }
        status = STATUSES[int(rng.integers(len(STATUSES)))]
        response = SimpleNamespace(status_code=status, reason=None, headers=headers)
        state = http.ResumeState("http://a", '"a"', [None, 300, 150][int(rng.integers(3))])
        known = RemoteFile(NAME, (), None, [None, 300][int(rng.integers(2))])
        complete = http._is_complete(response, known, state, 150)  # type: ignore[arg-type]
        assert not complete or (status == 416 and state.total == 150)
        try:
            wait = http._retry_after(headers.get("Retry-After"))
            assert wait is None or 0 <= wait < float("inf")
            http._check_status(response)  # type: ignore[arg-type]
            http._parse_range_response(response, "http://a", state, 150)  # type: ignore[arg-type]
            http._redirected("https://a/b", headers.get("Location", ""))
        except (http.PermanentError, http.TemporaryError):
            pass


@pytest.mark.parametrize("count", [FEW, MANY])
def test_mirrors_at_random(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    letters = [*"htps:/[]@.?#%-_0a \\\t\x00\x1b\xe9\u202e\ud800", "127.0.0.1", "://", ":99999"]
    retry = RetryPolicy(retries=0, timeout=(0.2, 0.2))
    for _ in range(count):
        tail = "".join(rng.choice(letters, int(rng.integers(1, 8))))
        mirror = ("http://127.0.0.1:1" if rng.random() < 0.5 else "http://[") + tail
        with pytest.raises(MetaeventsError) as caught:
            download(RemoteFile(NAME, (), None), tmp_path, mirrors=[mirror], retry=retry)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("count", [FEW, MANY])
def test_changed_zips(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    members = {f"{folder}/{i}.bin": rng.bytes(40) for folder in "abc" for i in range(3)}
    content = zip_of(members)
    archive = tmp_path / "a.zip"
    for i in range(count):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        archive.write_bytes(data)
        folder = tmp_path / str(i)
        try:
            unpack(archive, folder, limit=1 << 20)
        except FetchError as error:
            message = str(error)
        else:
            message = ""
        assert folder.exists() if not message else str(archive) in message
        for path in folder.rglob("*"):
            assert path.is_dir() or path.read_bytes() in (b"", *members.values())


@pytest.mark.attack
def test_a_hundred_redirects_and_slow_answers_end(tmp_path: Path) -> None:
    with RawServer(always(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n")) as loop:
        file = RemoteFile(NAME, (loop.url,), None)
        with pytest.raises(FetchError, match="more than 10 redirects"):
            download(file, tmp_path, retry=HASTY)
        assert len(loop.requests) == 11
