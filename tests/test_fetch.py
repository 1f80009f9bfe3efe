"""Downloads from a server that misbehaves, zips that attack, processes that are killed, and files that users have."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from support.http_server import Answer, MisbehavingServer

from metaevents.download import asl_dvs, fetch_recordings, http
from metaevents.download.asl_dvs import fetch_asl_dvs
from metaevents.download.http import RemoteFile, RetryPolicy, adopt, download, verify_checksum
from metaevents.download.nmnist import fetch_nmnist
from metaevents.download.zips import unpack
from metaevents.errors import FetchError, MissingError, UsageError
from metaevents.sources import ASLDVS, NMNIST
from metaevents.specs import get_spec

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
HALF = 150_000
NAME = "data.bin"
BARE = {"ETag": "", "Last-Modified": ""}
QUICK = RetryPolicy(retries=3, timeout=(10.0, 10.0), backoff=0.0)


def checksum(data: bytes, algorithm: str = "md5") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have slept, without sleeping."""
    recorded: list[float] = []
    monkeypatch.setattr(http, "sleep", recorded.append)
    return recorded


def remote(*urls: str, body: bytes = BODY, size: int | None = None) -> RemoteFile:
    return RemoteFile(NAME, urls, checksum(body), size)


def visible(folder: Path) -> list[str]:
    """Names in a folder without lock files."""
    return (
        sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")
        if folder.exists()
        else []
    )


# --- download --------------------------------------------------------------------------------------------------------


def test_brings_the_file_and_leaves_nothing_beside_it(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    path = download(
        remote(server.serve(NAME, BODY), size=len(BODY)), tmp_path / "new" / "folder", retry=QUICK
    )
    assert path == tmp_path / "new" / "folder" / NAME
    assert path.read_bytes() == BODY
    assert visible(path.parent) == [NAME]
    (request,) = server.log
    assert request.headers["Accept-Encoding"] == "identity"


def test_verifies_sha256_too(server: MisbehavingServer, tmp_path: Path) -> None:
    file = RemoteFile(NAME, (server.serve(NAME, BODY),), checksum(BODY, "sha256").upper())
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


def test_does_not_download_a_finished_file_again(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY))
    download(file, tmp_path, retry=QUICK)
    download(file, tmp_path, retry=QUICK)
    assert len(server.log) == 1


def test_replaces_a_file_of_wrong_bytes_that_has_the_final_name(
    server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(OTHER)
    assert download(remote(server.serve(NAME, BODY)), tmp_path, retry=QUICK).read_bytes() == BODY
    assert checksum(OTHER)[4:] in caplog.text


def test_keeps_a_file_of_wrong_bytes_where_nothing_better_can_be_had(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(OTHER)
    with pytest.raises(FetchError):
        download(remote(f"{server.url}/missing"), tmp_path, retry=QUICK)
    assert (tmp_path / NAME).read_bytes() == OTHER


def test_goes_on_where_the_connection_broke(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    first, second = server.log
    assert (first.range, first.sent) == (None, HALF)
    assert (second.range, second.status, second.sent) == (f"bytes={HALF}-", 206, len(BODY) - HALF)
    assert second.headers["If-Range"] == f'"{hashlib.md5(BODY).hexdigest()}"'


def test_goes_on_as_often_as_it_gets_further(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_STRIDE", 20_000)
    file = remote(server.serve(NAME, BODY, *[Answer(cut_after=25_000)] * 11))
    assert download(file, tmp_path, retry=RetryPolicy(retries=1, backoff=0.0)).read_bytes() == BODY
    assert sum(request.sent for request in server.log) == len(BODY)


def test_gives_up_on_a_server_that_always_breaks_at_the_same_place(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_STRIDE", HALF)
    file = remote(server.serve(NAME, BODY, *[Answer(cut_after=HALF, ranges=False)] * 50))
    with pytest.raises(FetchError, match="4 attempts"):
        download(file, tmp_path, retry=QUICK)
    assert len(server.log) == 4  # the first gets further than nothing, the others do not


def test_a_later_call_goes_on_with_what_an_earlier_one_left(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF)))
    with pytest.raises(FetchError, match="the connection broke"):
        download(file, tmp_path, retry=RetryPolicy(retries=0))
    download(file, tmp_path, retry=QUICK)
    assert [request.sent for request in server.log] == [HALF, len(BODY) - HALF]


def test_resumes_by_date_where_the_etag_is_weak(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF, weak=True)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert server.log[1].headers["If-Range"].endswith("GMT")
    assert server.log[1].status == 206


def test_starts_over_where_the_server_ignores_range(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF), Answer(ranges=False)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [(request.range, request.status) for request in server.log] == [
        (None, 200),
        (f"bytes={HALF}-", 200),
    ]


def test_asks_for_no_range_without_a_validator(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF, headers=BARE)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.range for request in server.log] == [None, None]


def test_starts_over_where_the_file_changed_between_two_halves(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(body=OTHER, cut_after=HALF)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.status for request in server.log] == [200, 200]
    assert server.log[1].range == f"bytes={HALF}-"


@pytest.mark.parametrize(
    ("second", "known"),
    [
        (Answer(heeds_if_range=False), None),
        (Answer(heeds_if_range=False, headers=BARE), checksum(BODY)),
        (
            Answer(
                heeds_if_range=False,
                headers={**BARE, "Content-Range": f"bytes 0-299999/{len(BODY)}"},
            ),
            None,
        ),
        (Answer(heeds_if_range=False, headers={**BARE, "Content-Range": ""}), None),
        (Answer(heeds_if_range=False, headers=BARE, body=BODY + b"more"), None),
        (Answer(status=416), None),
    ],
    ids=["other ETag", "no ETag", "other start", "no Content-Range", "other length", "416"],
)
def test_never_joins_halves_of_two_files(
    server: MisbehavingServer, tmp_path: Path, second: Answer, known: str | None
) -> None:
    url = server.serve(NAME, BODY, Answer(body=OTHER, cut_after=HALF), second)
    file = RemoteFile(NAME, (url,), known)
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.range for request in server.log] == [None, f"bytes={HALF}-", None]


def test_a_part_where_the_whole_was_asked_for_is_refused(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    with pytest.raises(FetchError, match="a part of the file"):
        download(remote(server.serve(NAME, BODY, Answer(status=206))), tmp_path, retry=QUICK)


def test_an_interrupt_before_the_renaming_costs_no_second_transfer(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    file = remote(server.serve(NAME, BODY))
    with monkeypatch.context() as patch:
        patch.setattr(http, "rename_into_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(file, tmp_path, retry=QUICK)
    assert NAME not in visible(tmp_path)
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert len(server.log) == 1


def test_a_length_announced_too_long_is_found_out(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(announced=len(BODY) + 100)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.status for request in server.log] == [200, 416]  # there was nothing to add


def test_an_answer_without_a_length_that_ends_too_soon_is_asked_for_again(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(body=BODY[:HALF], chunked=True)), size=len(BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


def test_a_length_announced_too_short_is_found_out(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    url = server.serve(NAME, BODY, *[Answer(announced=HALF)] * 9)
    with pytest.raises(FetchError, match="has the MD5"):
        download(remote(url), tmp_path, retry=QUICK)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    "answer", [Answer(body=BODY[:HALF]), Answer(body=BODY * 2), Answer(body=BODY * 2, chunked=True)]
)
def test_another_length_than_published_sends_it_to_the_next_address(
    server: MisbehavingServer, tmp_path: Path, answer: Answer
) -> None:
    file = remote(server.serve("first", BODY, answer), server.serve("second", BODY), size=len(BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.path for request in server.log] == ["/first", "/second"]


def test_wrong_bytes_never_get_the_final_name(server: MisbehavingServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        download(remote(server.serve(NAME, OTHER)), tmp_path, retry=QUICK)
    assert checksum(OTHER)[4:] in str(caught.value)
    assert checksum(BODY)[4:] in str(caught.value)
    assert visible(tmp_path) == []
    assert len(server.log) == 1


def test_wrong_bytes_are_reported_and_send_it_to_the_next_address(
    server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = remote(server.serve("first", OTHER), server.serve("second", BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert f"{server.url}/first (the file has the MD5 {checksum(OTHER)[4:]}" in caplog.text


HTML = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"


def test_an_html_page_is_called_so_and_costs_nothing_that_has_come(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF), Answer(body=HTML)))
    with pytest.raises(FetchError, match="an HTML page came in place of the file"):
        download(file, tmp_path, retry=QUICK)
    download(file, tmp_path, retry=QUICK)
    assert server.log[-1].range == f"bytes={HALF}-"


def test_an_html_page_that_comes_byte_by_byte_is_called_so_too(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, HTML, Answer(trickle=(1, 0.001))))
    with pytest.raises(FetchError, match=r"an HTML page .*in place of the file"):
        download(file, tmp_path, retry=QUICK)
    assert visible(tmp_path) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_final_for_its_address(
    server: MisbehavingServer, tmp_path: Path, status: int
) -> None:
    file = remote(server.serve("first", BODY, Answer(status=status)), server.serve("second", BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.path for request in server.log] == ["/first", "/second"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(
    server: MisbehavingServer, tmp_path: Path, status: int
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(status=status), Answer(status=status)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.status for request in server.log] == [status, status, 200]


def test_waits_for_as_long_as_retry_after_says(
    server: MisbehavingServer, tmp_path: Path, waits: list[float]
) -> None:
    now = datetime.now(timezone.utc)
    asked = ["7", "100000", format_datetime(now + timedelta(hours=9), usegmt=True)]
    asked += [format_datetime(now - timedelta(hours=9), usegmt=True)]
    answers = [Answer(status=429, headers={"Retry-After": value}) for value in asked]
    file = remote(server.serve(NAME, BODY, *answers))
    download(file, tmp_path, retry=RetryPolicy(max_wait=33.0))
    assert waits == [7.0, 33.0, 33.0, 0.0]


@pytest.mark.parametrize("nonsense", ["soon", "-5", "1e3", "Thu, 99 Foo 2020"])
def test_backs_off_with_jitter_where_retry_after_says_nothing(
    server: MisbehavingServer, tmp_path: Path, waits: list[float], nonsense: str
) -> None:
    file = remote(
        server.serve(NAME, BODY, *[Answer(status=503, headers={"Retry-After": nonsense})] * 5)
    )
    state = random.getstate()
    download(file, tmp_path, retry=RetryPolicy(retries=5, backoff=1.0))
    assert len(waits) == 5
    assert all(0 <= wait < 2.0**k for k, wait in enumerate(waits))
    assert len(set(waits)) == 5
    assert random.getstate() == state


def test_a_redirect_is_followed_and_resumed_through(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    target = server.serve("target", BODY, Answer(cut_after=HALF))
    moved = Answer(status=302, headers={"Location": target})
    file = remote(server.serve(NAME, b"", moved, moved))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.range for request in server.asked("target")] == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("location", ["loop", "ftp://127.0.0.1/x", "http://[bad"])
def test_a_redirect_that_leads_nowhere_is_final(
    server: MisbehavingServer, tmp_path: Path, location: str
) -> None:
    loop = server.serve("loop", BODY, *[Answer(status=302, headers={"Location": location})] * 99)
    assert (
        download(remote(loop, server.serve(NAME, BODY)), tmp_path, retry=QUICK).read_bytes() == BODY
    )
    assert len(server.asked("loop")) <= 11


def test_a_slow_trickle_is_cut_and_resumed(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(trickle=(100, 0.02))))
    retry = RetryPolicy(retries=1, timeout=(10.0, 1.0), backoff=0.0, min_rate=1e6)
    assert download(file, tmp_path, retry=retry).read_bytes() == BODY
    first, second = server.log
    assert 0 < first.sent < len(BODY)
    assert second.status == 206


def test_a_trickle_is_named_as_the_reason(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(trickle=(100, 0.02))))
    retry = RetryPolicy(retries=0, timeout=(10.0, 1.0), min_rate=1e6)
    with pytest.raises(FetchError, match="slower than 1e\\+06 bytes a second"):
        download(file, tmp_path, retry=retry)


def test_a_silent_connection_is_cut_and_resumed(server: MisbehavingServer, tmp_path: Path) -> None:
    silent = Answer(hold=threading.Event(), hold_after=HALF)
    file = remote(server.serve(NAME, BODY, silent))
    assert (
        download(file, tmp_path, retry=RetryPolicy(timeout=(10.0, 1.0), backoff=0.0)).read_bytes()
        == BODY
    )
    assert server.log[1].range == f"bytes={HALF}-"


def test_chunks_without_a_length_come_through(server: MisbehavingServer, tmp_path: Path) -> None:
    assert (
        download(
            remote(server.serve(NAME, BODY, Answer(chunked=True))), tmp_path, retry=QUICK
        ).read_bytes()
        == BODY
    )


def test_chunks_that_stop_are_resumed(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(chunked=True, cut_after=HALF)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert server.log[1].status == 206


def test_a_body_in_another_encoding_is_refused(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(headers={"Content-Encoding": "gzip"})))
    with pytest.raises(FetchError, match="encoding gzip"):
        download(file, tmp_path, retry=QUICK)


def test_an_unreachable_server_is_a_reason_in_the_message(tmp_path: Path) -> None:
    with MisbehavingServer() as gone:
        url = gone.serve(NAME, BODY)
    with pytest.raises(FetchError, match="Connection refused; 4 attempts"):
        download(remote(url), tmp_path, retry=QUICK)


def test_mirrors_come_first_and_in_order(server: MisbehavingServer, tmp_path: Path) -> None:
    complete = f"{server.url}/two/{NAME}?token=1"
    official = server.serve("official", BODY)
    mirrors = [f"{server.url}/one/", complete, f"{server.url}/one"]
    download(remote(official), tmp_path, mirrors=mirrors, retry=QUICK)
    assert [request.path for request in server.log] == [
        f"/one/{NAME}",
        f"/two/{NAME}?token=1",
        "/official",
    ]


def test_another_mirror_of_the_same_file_goes_on_where_the_first_stopped(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    first = server.serve("first", BODY, Answer(cut_after=HALF), *[Answer(status=503)] * 9)
    file = remote(first, server.serve("second", BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert server.log[-1].range == f"bytes={HALF}-"


def test_without_a_checksum_no_other_mirror_goes_on(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    first = server.serve("first", BODY, Answer(cut_after=HALF), *[Answer(status=503)] * 9)
    file = RemoteFile(NAME, (first, server.serve("second", BODY)), None)
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert server.log[-1].range is None


def test_without_a_checksum_an_empty_or_html_answer_is_no_file(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = RemoteFile(
        NAME,
        (server.serve("first", HTML), server.serve("second", b""), server.serve("3", BODY)),
        None,
    )
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


def test_a_failure_says_everything_that_is_needed_to_go_on_by_hand(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(
        server.serve("one", BODY, Answer(status=403)),
        server.serve("two", BODY, *[Answer(status=500)] * 9),
    )
    with pytest.raises(FetchError) as caught:
        download(
            file,
            tmp_path,
            retry=QUICK,
            by_hand="metaevents download nmnist --root data --from FILE",
        )
    text = str(caught.value)
    for part in (
        f"{server.url}/one (HTTP 403 Forbidden)",
        f"{server.url}/two (HTTP 500 Internal Server Error; 4 attempts)",
        checksum(BODY),
        str(tmp_path),
        "`metaevents download nmnist --root data --from FILE`",
    ):
        assert part in text
    assert "\n" not in text


def test_a_full_disk_is_seen_before_the_first_byte(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)
    )
    with pytest.raises(FetchError, match=r"1,000 bytes free, 300,000 are needed"):
        download(remote(server.serve(NAME, BODY)), tmp_path, retry=QUICK)
    assert visible(tmp_path) == []


def test_what_has_come_counts_against_the_space_that_is_needed(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF)))
    with pytest.raises(FetchError):
        download(file, tmp_path, retry=RetryPolicy(retries=0))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - HALF, HALF)
    )
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


def test_a_disk_that_fills_up_on_the_way_is_no_fault_of_the_server(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(http._Part):
        def write_notes(self, notes: http.ResumeState) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(http, "_Part", Full)
    with pytest.raises(FetchError, match="No space left on device"):
        download(remote(server.serve(NAME, BODY)), tmp_path, retry=QUICK)
    assert len(server.log) == 1


def test_a_folder_that_cannot_be_made_is_a_fetch_error(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match="cannot make"):
        download(remote(server.serve(NAME, BODY)), tmp_path / "file", retry=QUICK)


@pytest.mark.parametrize(
    "mirror", ["mirror.example.org/data", "ftp://example.org", "", "/local/folder"]
)
def test_a_mirror_that_is_no_address_is_refused_at_once(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(UsageError, match="mirror"):
        download(remote("http://127.0.0.1:1/"), tmp_path, mirrors=[mirror])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b"])
def test_a_name_with_folders_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="file name"):
        RemoteFile(name, (), None)


@pytest.mark.parametrize(
    "text",
    ["", "md5", "md5:123", "sha1:" + "0" * 40, "0" * 32, "md5:" + "g" * 32, "sha256:" + "0" * 32],
)
def test_a_checksum_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="checksum"):
        RemoteFile(NAME, (), text)
    with pytest.raises(UsageError, match="checksum"):
        verify_checksum(tmp_path, text)


def test_verify_checksum_tells_right_from_wrong(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(BODY)
    assert verify_checksum(path, checksum(BODY))
    assert verify_checksum(path, checksum(BODY, "sha256"))
    assert not verify_checksum(path, checksum(OTHER))


# --- processes -------------------------------------------------------------------------------------------------------


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs `code` with `sys.argv[1:]` = arguments."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


DOWNLOAD = """
import sys
from metaevents.download.http import RemoteFile, download
print("ready", flush=True)
print(download(RemoteFile("data.bin", (sys.argv[1],), sys.argv[2]), sys.argv[3]))
"""


def test_two_processes_at_once_do_the_work_once(server: MisbehavingServer, tmp_path: Path) -> None:
    both_run = threading.Event()
    url = server.serve(NAME, BODY, Answer(hold=both_run, hold_after=HALF))
    processes = [start(DOWNLOAD, url, checksum(BODY), tmp_path) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    until(lambda: len(server.log) > 0)
    both_run.set()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, f"{tmp_path / NAME}\n"), err
    assert [request.sent for request in server.log] == [len(BODY)]
    assert visible(tmp_path) == [NAME]


def test_a_process_killed_in_the_middle_of_a_download_is_taken_up(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    url = server.serve(NAME, BODY, Answer(hold=threading.Event(), hold_after=HALF))
    with start(DOWNLOAD, url, checksum(BODY), tmp_path) as process:
        part = tmp_path / f"{NAME}.part"
        until(lambda: part.exists() and part.stat().st_size > 0)
        process.send_signal(signal.SIGKILL)
    held = part.stat().st_size
    assert 0 < held <= HALF
    assert not (tmp_path / NAME).exists()
    assert download(remote(url), tmp_path, retry=QUICK).read_bytes() == BODY
    assert server.log[1].range == f"bytes={held}-"


STOP_IN_THE_MIDDLE = """
import sys, time, zipfile

count, original = 0, zipfile.ZipFile.open

def stop(*arguments, **options):
    global count
    count += 1
    if count == int(sys.argv[1]):
        print("in the middle", flush=True)
        time.sleep(60)
    return original(*arguments, **options)

zipfile.ZipFile.open = stop
"""

UNPACK = """
from metaevents.download.zips import unpack
unpack(sys.argv[2], sys.argv[3], limit=10**6)
"""

TAKE_ASL = """
from metaevents.download.asl_dvs import fetch_asl_dvs
expected = dict.fromkeys("abcdefghiklmnopqrstuvwxy", 10)
fetch_asl_dvs(sys.argv[2], dataset="", filename="", expected=expected, given=[sys.argv[3]])
"""


def kill_in_the_middle(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGKILL)


def test_a_process_killed_in_the_middle_of_an_unpacking_leaves_nothing_half(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "out" / "folder"
    archive.write_bytes(zip_of({f"{i}.txt": b"text" for i in range(9)}))
    with start(STOP_IN_THE_MIDDLE + UNPACK, 5, archive, folder) as process:
        kill_in_the_middle(process)
    assert not folder.exists()
    assert unpack(archive, folder, limit=1000) == 9
    assert visible(folder.parent) == ["folder"]
    assert len(visible(folder)) == 9


# --- files given -----------------------------------------------------------------------------------------------------


def test_adopt_links_the_file_and_leaves_the_users_in_place(tmp_path: Path) -> None:
    given = tmp_path / "downloads (1).zip"
    given.write_bytes(BODY)
    (tmp_path / "symlink").symlink_to(given)
    path = adopt(tmp_path / "symlink", remote(), tmp_path / "folder")
    assert path == tmp_path / "folder" / NAME
    assert path.samefile(given)
    assert not path.is_symlink()
    assert adopt(path, remote(), tmp_path / "folder") == path
    assert visible(path.parent) == [NAME]


def test_adopt_copies_where_no_link_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "given").write_bytes(BODY)
    (tmp_path / "symlink").symlink_to(tmp_path / "given")
    path = adopt(tmp_path / "symlink", remote(), tmp_path / "folder")
    assert path.read_bytes() == BODY
    assert not path.is_symlink()
    assert not path.samefile(tmp_path / "given")
    assert visible(path.parent) == [NAME]


def test_adopt_refuses_other_bytes_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(OTHER)
    with pytest.raises(FetchError, match=checksum(BODY)[4:]):
        adopt(tmp_path / "given", remote(), tmp_path / "folder")
    with pytest.raises(FetchError, match="300,000 bytes, expected 5;"):
        adopt(tmp_path / "given", remote(size=5), tmp_path / "folder")
    (tmp_path / "page").write_bytes(HTML)
    for file in (remote(), RemoteFile(NAME, (), None)):
        with pytest.raises(FetchError, match="an HTML page in place of the file"):
            adopt(tmp_path / "page", file, tmp_path / "folder")
    with pytest.raises(MissingError, match="no file"):
        adopt(tmp_path / "absent", remote(), tmp_path / "folder")
    assert visible(tmp_path / "folder") == []


# --- unpack ----------------------------------------------------------------------------------------------------------


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    return zip_with(
        *((zipfile.ZipInfo(name), data) for name, data in members.items()), compression=compression
    )


def zip_with(
    *members: tuple[zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, data in members:
            archive.writestr(info, data, compress_type=compression)
    return buffer.getvalue()


def special(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("special")
    info.create_system = 3
    info.external_attr = (mode | 0o777) << 16
    return info


def patched(archive: bytes, offset: int, form: str, value: int) -> bytes:
    """The zip with a field of its first central directory entry overwritten."""
    changed = bytearray(archive)
    struct.pack_into(form, changed, archive.index(b"PK\x01\x02") + offset, value)
    return bytes(changed)


def damaged(archive: bytes) -> bytes:
    changed = bytearray(archive)
    changed[37] ^= 0xFF
    return bytes(changed)


TEXT = zip_of({"a.txt": b"text" * 100})
ZEROS = zip_of({"zeros": bytes(200_000)})

REFUSED = {
    "absolute path": (zip_of({"fine": b"", "/etc/x": b""}), "leaves the folder"),
    "climbs": (zip_of({"../x": b""}), "leaves the folder"),
    "climbs inside": (zip_of({"a/../../x": b""}), "leaves the folder"),
    "climbs with backslashes": (zip_of({"..\\x": b""}), "leaves the folder"),
    "climbs on Windows": (zip_of({"a/.. /x": b""}), "leaves the folder"),
    "absolute with backslash": (zip_of({"\\x": b""}), "leaves the folder"),
    "drive": (zip_of({"C:\\x": b""}), "leaves the folder"),
    "drive without root": (zip_of({"C:x": b""}), "leaves the folder"),
    "symbolic link": (zip_with((special(stat.S_IFLNK), b"/etc/passwd")), "a link or device"),
    "device": (zip_with((special(stat.S_IFCHR), b"")), "a link or device"),
    "pipe": (zip_with((special(stat.S_IFIFO), b"")), "a link or device"),
    "encrypted": (patched(TEXT, 8, "<H", 1), "the encrypted member"),
    "same place": (zip_of({"a/b": b"1", "a//b": b"2"}), "for one place"),
    "same place but for case": (zip_of({"a.txt": b"1", "A.TXT": b"2"}), "for one place"),
    "same place but for Unicode form": (zip_of({"\u00e9": b"1", "e\u0301": b"2"}), "for one place"),
    "file as folder": (zip_of({"a": b"1", "A/b": b"2"}), "needs a folder"),
    "too large": (ZEROS, "more than the limit"),
    "too large together": (
        zip_of({f"{i}": bytes(60_000) for i in range(2)}),
        "more than the limit",
    ),
    "larger than it declares": (patched(ZEROS, 24, "<I", 10), "cannot be read as a zip"),
    "truncated": (TEXT[:-30], "cannot be read as a zip"),
    "truncated at the front": (TEXT[30:], "cannot be read as a zip"),
    "empty": (b"", "cannot be read as a zip"),
    "no zip": (b"<html>", "cannot be read as a zip"),
    "damaged": (damaged(TEXT), "cannot be read as a zip"),
    "unknown compression": (patched(TEXT, 10, "<H", 77), "cannot be read as a zip"),
}


@pytest.mark.parametrize(("archive", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_zip_that_cannot_be_trusted_leaves_no_trace(
    tmp_path: Path, archive: bytes, reason: str
) -> None:
    place = tmp_path / "place"
    (tmp_path / "a.zip").write_bytes(archive)
    with pytest.raises(FetchError, match=reason) as caught:
        unpack(tmp_path / "a.zip", place / "folder", limit=100_000)
    assert "\n" not in str(caught.value)
    assert visible(place) == []
    assert visible(tmp_path) == ["a.zip", "place"]


def test_a_zip_that_declares_too_much_is_not_even_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"small": b"1", "large": bytes(200_000)}))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("begun"))
    with pytest.raises(
        FetchError, match="unpacks to 200,001 bytes, more than the limit of 100,000"
    ):
        unpack(tmp_path / "a.zip", tmp_path / "folder", limit=100_000)


def test_the_limit_holds_for_what_is_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python's zipfile never gives more than the directory declares; another reader might.
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: io.BytesIO(bytes(10_000_000)))
    (tmp_path / "a.zip").write_bytes(TEXT)
    with pytest.raises(FetchError, match="more than the limit"):
        unpack(tmp_path / "a.zip", tmp_path / "folder", limit=100_000)
    assert visible(tmp_path) == ["a.zip"]


def test_unpack_writes_every_file_and_counts_them(tmp_path: Path) -> None:
    # Dropbox's zips begin with a folder called "/".
    members = {"/": b"", "a/": b"", "a/b.txt": b"1", "./a/c.txt": b"2", "a\\d.txt": b"3"}
    (tmp_path / "a.zip").write_bytes(zip_of(members, zipfile.ZIP_STORED))
    assert unpack(tmp_path / "a.zip", tmp_path / "x" / "folder", limit=3) == 3
    texts = [
        (tmp_path / "x" / "folder" / "a" / name).read_text() for name in ("b.txt", "c.txt", "d.txt")
    ]
    assert texts == ["1", "2", "3"]
    assert visible(tmp_path / "x") == ["folder"]


def test_unpack_places_members_as_told(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(
        zip_of({"keep/a": b"1", "keep/b": b"2", "drop/c": bytes(10**6)})
    )
    members = {"keep/a": "x/a", "keep/b": "b"}.get
    assert unpack(tmp_path / "a.zip", tmp_path / "folder", limit=2, members=members) == 2
    assert (tmp_path / "folder" / "x" / "a").read_bytes() == b"1"
    assert visible(tmp_path / "folder") == ["b", "x"]


def test_unpack_trusts_no_mapping_that_leads_outside(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(TEXT)
    with pytest.raises(FetchError, match="leaves the folder"):
        unpack(
            tmp_path / "a.zip", tmp_path / "folder", limit=1000, members=lambda name: f"../{name}"
        )


def test_unpack_leaves_a_complete_folder_alone_and_fills_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(TEXT)
    (tmp_path / "folder").mkdir()
    assert unpack(tmp_path / "a.zip", tmp_path / "folder", limit=1000) == 1
    (tmp_path / "folder" / "a.txt").write_text("mine")
    assert unpack(tmp_path / "a.zip", tmp_path / "folder", limit=1000) == 0
    assert (tmp_path / "folder" / "a.txt").read_text() == "mine"


def test_unpack_sees_a_full_disk_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(TEXT)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 0, 9))
    with pytest.raises(FetchError, match="9 bytes free, 400 are needed"):
        unpack(tmp_path / "a.zip", tmp_path / "folder", limit=1000)
    assert visible(tmp_path) == ["a.zip"]


def test_unpack_of_a_missing_archive_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        unpack(tmp_path / "absent.zip", tmp_path / "folder", limit=1)


# --- N-MNIST ---------------------------------------------------------------------------------------------------------

NMNIST_COUNTS = {"Train": 120, "Test": 240}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="session")
def nmnist_zips(nmnist_folder: Path) -> dict[str, bytes]:
    """Train.zip and Test.zip of the official layout, with an extra leading folder and the litter of macOS in one."""
    zips = {}
    for name, lead in (("Train", ""), ("Test", "n-mnist/")):
        members = {
            f"{lead}{name}/{path}": data for path, data in tree(nmnist_folder / name).items()
        }
        litter = {
            f"__MACOSX/{name}/0/._00001.bin": b"x",
            f"{lead}{name}/.DS_Store": b"x",
            "README.txt": b"x",
        }
        zips[f"{name}.zip"] = zip_of({**members, **litter}, zipfile.ZIP_STORED)
    return zips


def nmnist_files(zips: Mapping[str, bytes], url: str) -> list[RemoteFile]:
    return [RemoteFile(name, (f"{url}/{name}",), checksum(data)) for name, data in zips.items()]


def publish(server: MisbehavingServer, zips: Mapping[str, bytes]) -> list[RemoteFile]:
    for name, data in zips.items():
        server.serve(name, data)
    return nmnist_files(zips, server.url)


def test_nmnist_arrives_in_the_official_layout(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes], nmnist_folder: Path
) -> None:
    files = publish(server, nmnist_zips)
    folder = fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS, retry=QUICK)
    assert folder == tmp_path / "nmnist"
    assert tree(folder) == tree(nmnist_folder)
    assert len(NMNIST(folder).recordings()) == 360
    assert visible(tmp_path) == ["downloads", "nmnist"]
    assert fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS) == folder
    assert len(server.log) == 2


def test_nmnist_goes_on_with_the_folder_that_is_missing(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    files = publish(server, {**nmnist_zips, "Test.zip": b"wrong"})
    right = nmnist_files(nmnist_zips, server.url)
    with pytest.raises(FetchError, match=r"Test\.zip"):
        fetch_nmnist(tmp_path, right, expected=NMNIST_COUNTS, retry=QUICK)
    assert not (tmp_path / "nmnist").exists()
    (tmp_path / "downloads" / "Train.zip").unlink()
    server.serve("Test.zip", nmnist_zips["Test.zip"])
    fetch_nmnist(tmp_path, right, expected=NMNIST_COUNTS, retry=QUICK)
    assert len(server.asked("Train.zip")) == 1
    assert files[0] == right[0]


def test_nmnist_of_another_number_of_recordings_is_an_error_with_the_numbers(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    files = publish(server, nmnist_zips)
    official = {"Train": 60_000, "Test": 10_000}
    for _ in range(2):
        with pytest.raises(FetchError, match=r"120 recordings .* expected 60,000"):
            fetch_nmnist(tmp_path, files, expected=official, retry=QUICK)
    assert not (tmp_path / "nmnist").exists()
    fetch_nmnist(tmp_path, files, expected=NMNIST_COUNTS, retry=QUICK)
    with pytest.raises(FetchError, match=r"120 recordings, expected 60,000"):
        fetch_nmnist(tmp_path, files, expected=official, retry=QUICK)


def test_nmnist_failure_names_the_command_to_go_on_with(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    root = tmp_path / "my data"
    with pytest.raises(FetchError) as caught:
        fetch_nmnist(
            root, nmnist_files(nmnist_zips, server.url), expected=NMNIST_COUNTS, retry=QUICK
        )
    assert f"metaevents download nmnist --root '{root}' --from FILE" in str(caught.value)
    assert str(root / "downloads") in str(caught.value)


def test_nmnist_takes_zips_of_any_name(
    tmp_path: Path, nmnist_zips: dict[str, bytes], nmnist_folder: Path
) -> None:
    places = []
    for number, data in enumerate(nmnist_zips.values()):
        places.append(tmp_path / f"file_downloaded({number})")
        places[-1].write_bytes(data)
    files = nmnist_files(nmnist_zips, "http://127.0.0.1:1")
    folder = fetch_nmnist(
        tmp_path / "root", files, expected=NMNIST_COUNTS, given=places[::-1], retry=QUICK
    )
    assert tree(folder) == tree(nmnist_folder)
    assert all(place.exists() for place in places)


def test_nmnist_takes_a_folder_of_zips_and_downloads_the_rest(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes], nmnist_folder: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "x.zip").write_bytes(nmnist_zips["Train.zip"])
    (given / "unrelated.zip").write_bytes(TEXT)
    files = publish(server, nmnist_zips)
    folder = fetch_nmnist(
        tmp_path / "root", files, expected=NMNIST_COUNTS, given=[given], retry=QUICK
    )
    assert tree(folder) == tree(nmnist_folder)
    assert [request.path for request in server.log] == ["/Test.zip"]


def test_nmnist_uses_a_folder_of_the_official_layout_where_it_is(
    tmp_path: Path, nmnist_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    expected = {**NMNIST_COUNTS, "Test": 10_000}
    assert fetch_nmnist(root, [], expected=expected, given=[nmnist_folder]) == nmnist_folder
    assert f"metaevents build --source {nmnist_folder}" in caplog.text
    assert "Test 240 of 10,000" in caplog.text
    assert not root.exists()


def test_nmnist_refuses_what_is_none_of_its_zips(
    tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    files = nmnist_files(nmnist_zips, "http://127.0.0.1:1")
    (tmp_path / "other.zip").write_bytes(TEXT)
    (tmp_path / "empty").mkdir()
    for given in ("other.zip", "empty"):
        with pytest.raises(FetchError, match=checksum(nmnist_zips["Test.zip"])):
            fetch_nmnist(tmp_path / "root", files, expected=NMNIST_COUNTS, given=[tmp_path / given])
    with pytest.raises(MissingError, match="no file or folder"):
        fetch_nmnist(tmp_path / "root", files, expected=NMNIST_COUNTS, given=[tmp_path / "absent"])


def test_fetch_recordings_follows_the_package_file(
    server: MisbehavingServer, tmp_path: Path, nmnist_zips: dict[str, bytes]
) -> None:
    published = [
        {"name": f.name, "url": f.urls[0], "checksum": f.checksum}
        for f in publish(server, nmnist_zips)
    ]
    recordings = {
        **get_spec("double-nmnist").recordings,
        "files": published,
        "counts": NMNIST_COUNTS,
    }
    assert fetch_recordings(recordings, tmp_path, retry=QUICK) == tmp_path / "nmnist"


# --- ASL-DVS ---------------------------------------------------------------------------------------------------------

LETTERS = "abcdefghiklmnopqrstuvwxy"
ASL: dict[str, Any] = {
    "dataset": "OpenI/ASLDVS",
    "filename": "outer.zip",
    "expected": dict.fromkeys(LETTERS, 10),
    "dead_links": ("https://dead.example.org/asl",),
    "retry": QUICK,
}


@pytest.fixture(scope="session")
def inner_zips(asl_folder: Path) -> dict[str, bytes]:
    """Letters' zips, some with a leading folder, one with litter."""
    zips = {}
    for letter in LETTERS:
        lead = f"Yin Bi - {letter}/" if letter in "bcd" else ""
        members = {f"{lead}{name}": data for name, data in tree(asl_folder / letter).items()}
        litter = {"__MACOSX/._a_0001.mat": b"x", "thumbs.db": b"x"} if letter == "a" else {}
        zips[f"Yin Bi - {letter}.zip"] = zip_of({**members, **litter}, zipfile.ZIP_STORED)
    return zips


@pytest.fixture(scope="session")
def outer_zip(inner_zips: dict[str, bytes]) -> bytes:
    members = {
        "/": b"",
        **{f"ICCV2019_DVS_dataset/{name}": data for name, data in inner_zips.items()},
    }
    return zip_of({**members, "__MACOSX/._Yin Bi - a.zip": b"x"})


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_asl_dvs_from_the_outer_zip(tmp_path: Path, outer_zip: bytes, asl_folder: Path) -> None:
    given = write(tmp_path / "given", {"any name": outer_zip}) / "any name"
    folder = fetch_asl_dvs(tmp_path / "root", given=[given], **ASL)
    assert folder == tmp_path / "root" / "asl-dvs"
    assert tree(folder) == tree(asl_folder)
    assert len(ASLDVS(folder).recordings()) == 240
    assert visible(tmp_path / "root") == ["asl-dvs"]
    assert fetch_asl_dvs(tmp_path / "root", **ASL) == folder


def test_asl_dvs_from_the_letters_zips_or_a_folder_of_them(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    given = write(tmp_path / "given", inner_zips)
    assert tree(fetch_asl_dvs(tmp_path / "one", given=[given], **ASL)) == tree(asl_folder)
    assert tree(fetch_asl_dvs(tmp_path / "two", given=sorted(given.iterdir()), **ASL)) == tree(
        asl_folder
    )


def test_asl_dvs_from_zips_that_lie_in_the_root_itself(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    root = write(tmp_path / "root", {**inner_zips, "._Yin Bi - a.zip": b"litter"})
    assert tree(fetch_asl_dvs(root, given=[root], **ASL)) == tree(asl_folder)


def test_asl_dvs_folder_that_lacks_letters_is_an_error(tmp_path: Path, asl_folder: Path) -> None:
    shutil.copytree(asl_folder, tmp_path / "asl-dvs")
    shutil.rmtree(tmp_path / "asl-dvs" / "k")
    with pytest.raises(FetchError, match="no recordings of k; move it away"):
        fetch_asl_dvs(tmp_path, **ASL)


def test_asl_dvs_from_one_zip_of_all_letters(tmp_path: Path, asl_folder: Path) -> None:
    given = write(
        tmp_path / "given", {"repacked.zip": zip_of(tree(asl_folder), zipfile.ZIP_STORED)}
    )
    assert tree(fetch_asl_dvs(tmp_path / "root", given=[given / "repacked.zip"], **ASL)) == tree(
        asl_folder
    )


def test_asl_dvs_uses_unpacked_letters_where_they_are(
    tmp_path: Path, asl_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**ASL, "expected": {**ASL["expected"], "c": 4_200}}
    assert fetch_asl_dvs(tmp_path / "root", given=[asl_folder], **options) == asl_folder
    assert f"metaevents build --source {asl_folder}" in caplog.text
    assert "c 10 of 4,200" in caplog.text
    assert not (tmp_path / "root").exists()


def test_asl_dvs_from_letters_partly_unpacked_and_partly_not(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    packed = write(
        tmp_path / "packed", {name: data for name, data in inner_zips.items() if name[-5] < "m"}
    )
    for letter in LETTERS[11:]:
        write(tmp_path / "unpacked" / f"Yin Bi - {letter}", tree(asl_folder / letter))
    folder = fetch_asl_dvs(tmp_path / "root", given=[packed, tmp_path / "unpacked"], **ASL)
    assert tree(folder) == tree(asl_folder)
    assert (folder / "y" / "y_0001.mat").samefile(
        tmp_path / "unpacked" / "Yin Bi - y" / "y_0001.mat"
    )


def test_asl_dvs_keeps_the_letters_it_has_and_names_those_it_lacks(
    tmp_path: Path, inner_zips: dict[str, bytes], asl_folder: Path
) -> None:
    given = write(tmp_path / "given", inner_zips)
    rest = {name: inner_zips[name] for name in ("Yin Bi - k.zip", "Yin Bi - y.zip")}
    for name in rest:
        (given / name).unlink()
    with pytest.raises(FetchError, match=r"of k, y in .* --from FILE_OR_DIR"):
        fetch_asl_dvs(tmp_path / "root", given=[given], **ASL)
    assert not (tmp_path / "root" / "asl-dvs").exists()
    # What is kept is not unpacked again, so a zip of it that is damaged in the second place does no harm.
    (tmp_path / "rest.zip").write_bytes(zip_of({**rest, "Yin Bi - a.zip": b"damaged"}))
    assert tree(fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "rest.zip"], **ASL)) == tree(
        asl_folder
    )


def test_asl_dvs_goes_on_after_a_process_was_killed_in_the_middle(
    tmp_path: Path, outer_zip: bytes, asl_folder: Path
) -> None:
    (tmp_path / "outer.zip").write_bytes(outer_zip)
    with start(
        STOP_IN_THE_MIDDLE + TAKE_ASL, 30, tmp_path / "root", tmp_path / "outer.zip"
    ) as process:
        kill_in_the_middle(process)
    assert not (tmp_path / "root" / "asl-dvs").exists()
    for letter in LETTERS[1:]:
        write(tmp_path / "given" / letter, tree(asl_folder / letter))
    folder = fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "given"], **ASL)
    assert tree(folder) == tree(
        asl_folder
    )  # "a" is the killed process's, and nothing else of it is there


def test_asl_dvs_warns_of_another_number_of_files(
    tmp_path: Path, inner_zips: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    given = write(tmp_path / "given", inner_zips)
    with caplog.at_level(logging.WARNING):
        fetch_asl_dvs(
            tmp_path / "root", given=[given], **{**ASL, "expected": {**ASL["expected"], "e": 4_200}}
        )
    assert "e 10 of 4,200" in caplog.text


def test_asl_dvs_names_the_inner_zip_that_is_damaged(
    tmp_path: Path, inner_zips: dict[str, bytes]
) -> None:
    zips = {**inner_zips, "Yin Bi - f.zip": inner_zips["Yin Bi - f.zip"][:-100]}
    given = write(tmp_path / "given", {"outer.zip": zip_of(zips, zipfile.ZIP_STORED)})
    with pytest.raises(
        FetchError, match=r"Yin Bi - f\.zip in .*outer\.zip cannot be read as a zip"
    ):
        fetch_asl_dvs(tmp_path / "root", given=[given / "outer.zip"], **ASL)
    assert not (tmp_path / "root" / "asl-dvs").exists()


def test_asl_dvs_refuses_what_is_no_zip_and_what_is_there_twice(
    tmp_path: Path, asl_folder: Path
) -> None:
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(FetchError, match="cannot be read as a zip"):
        fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "text.zip"], **ASL)
    for copy in ("one", "two"):
        write(tmp_path / "given" / copy, tree(asl_folder / "a"))
    with pytest.raises(FetchError, match=r"a_0001\.mat twice"):
        fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "given"], **ASL)
    with pytest.raises(MissingError, match="no file or folder"):
        fetch_asl_dvs(tmp_path / "root", given=[tmp_path / "absent"], **ASL)


def test_asl_dvs_from_a_mirror(
    server: MisbehavingServer, tmp_path: Path, outer_zip: bytes, asl_folder: Path
) -> None:
    server.serve("outer.zip", outer_zip, Answer(cut_after=len(outer_zip) // 2))
    assert tree(fetch_asl_dvs(tmp_path, mirrors=[server.url], **ASL)) == tree(asl_folder)
    assert [request.status for request in server.log] == [200, 206]


def test_asl_dvs_of_a_dead_mirror_goes_on_with_openi_or_says_why_not(
    server: MisbehavingServer,
    openi: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asl_folder: Path,
) -> None:
    monkeypatch.setenv("SUCCEEDS_AT", "1")
    assert tree(fetch_asl_dvs(tmp_path / "root", mirrors=[server.url], **ASL)) == tree(asl_folder)
    monkeypatch.setattr(asl_dvs, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match="HTTP 404 Not Found"):
        fetch_asl_dvs(tmp_path / "other", mirrors=[server.url], **ASL)


def test_asl_dvs_without_the_openi_client_says_what_to_install_and_what_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asl_dvs, "find_spec", lambda name: None)
    with pytest.raises(MissingError) as caught:
        fetch_recordings(get_spec("double-asl-dvs").recordings, tmp_path)
    text = str(caught.value)
    for part in (
        "pip install 'metaevents[openi]'",
        f"metaevents download asl-dvs --root {tmp_path} --from",
        "https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa",
        "Google Drive",
    ):
        assert part in text
    assert "\n" not in text


CLIENT = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--local_dir") + 1])
calls = pathlib.Path(os.environ["CALLS"])
with calls.open("a") as log:
    print(json.dumps(sys.argv[1:]), file=log)
if len(calls.read_text().splitlines()) < int(os.environ["SUCCEEDS_AT"]):
    print("\\x1b[31mconnection lost\\x1b[0m")
    sys.exit(0)
data = pathlib.Path(os.environ["OUTER"]).read_bytes()
(folder / ".openi--cache--outer.zip").write_bytes(data)
(folder / ".openi--cache--outer.zip").rename(folder / "outer.zip")
"""


@pytest.fixture
def openi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer_zip: bytes) -> Path:
    """A stand-in for the OpenI client with its command line, which logs its arguments in the file returned."""
    package = tmp_path / "site" / "openi" / "commands"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "openi_cli.py").write_text(CLIENT)
    (tmp_path / "outer").write_bytes(outer_zip)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("OUTER", str(tmp_path / "outer"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_asl_dvs_through_the_openi_client(
    openi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asl_folder: Path
) -> None:
    monkeypatch.setenv("SUCCEEDS_AT", "2")
    root = tmp_path / "root"
    assert tree(fetch_asl_dvs(root, **ASL)) == tree(asl_folder)
    calls = [json.loads(line) for line in openi.read_text().splitlines()]
    assert len(calls) == 2
    assert calls[0][:3] == ["dataset", "download", "OpenI/ASLDVS"]
    assert calls[0][calls[0].index("--local_dir") + 1] == str(root / "downloads")
    assert visible(root) == ["asl-dvs", "downloads"]
    assert visible(root / "downloads") == ["outer.zip"]


def test_asl_dvs_failing_through_the_openi_client_says_how_to_go_on(
    openi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUCCEEDS_AT", "99")
    with pytest.raises(FetchError) as caught:
        fetch_asl_dvs(tmp_path / "root", **{**ASL, "retry": RetryPolicy(retries=1, backoff=0.0)})
    text = str(caught.value)
    for part in (
        "(connection lost)",
        "`openi dataset download OpenI/ASLDVS --local_dir",
        "https://dead.example.org/asl is dead",
    ):
        assert part in text
    assert len(openi.read_text().splitlines()) == 2
    assert "\n" not in text
