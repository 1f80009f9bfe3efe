"""Downloads from a server that misbehaves, and files that the user has."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from support.downloads import QUICK, checksum, visible
from support.http_server import Answer, MisbehavingServer
from support.processes import start, until
from support.raw_server import RawServer, always

from metaevents.download import http
from metaevents.download.http import RemoteFile, RetryPolicy, adopt, download, verify_checksum
from metaevents.errors import FetchError, MissingError, UsageError

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
HALF = 150_000
NAME = "data.bin"
BARE = {"ETag": "", "Last-Modified": ""}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have slept, without sleeping."""
    recorded: list[float] = []
    monkeypatch.setattr(http, "sleep", recorded.append)
    return recorded


def remote(*urls: str, body: bytes = BODY, size: int | None = None) -> RemoteFile:
    return RemoteFile(NAME, urls, checksum(body), size)


def test_downloads_the_file_and_leaves_nothing_else(
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


def test_replaces_an_existing_file_with_wrong_bytes(
    server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(OTHER)
    assert download(remote(server.serve(NAME, BODY)), tmp_path, retry=QUICK).read_bytes() == BODY
    assert checksum(OTHER)[4:] in caplog.text


def test_keeps_an_existing_file_with_wrong_bytes_if_the_download_fails(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(OTHER)
    with pytest.raises(FetchError):
        download(remote(f"{server.url}/missing"), tmp_path, retry=QUICK)
    assert (tmp_path / NAME).read_bytes() == OTHER


def test_resumes_where_the_connection_broke(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    first, second = server.log
    assert (first.range, first.sent) == (None, HALF)
    assert (second.range, second.status, second.sent) == (f"bytes={HALF}-", 206, len(BODY) - HALF)
    assert second.headers["If-Range"] == f'"{hashlib.md5(BODY).hexdigest()}"'


def test_an_attempt_that_advances_resets_the_count_of_failures(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_MIN_ADVANCE", 20_000)
    file = remote(server.serve(NAME, BODY, *[Answer(cut_after=25_000)] * 11))
    assert download(file, tmp_path, retry=RetryPolicy(retries=1, backoff=0.0)).read_bytes() == BODY
    assert sum(request.sent for request in server.log) == len(BODY)


def test_gives_up_on_a_server_that_always_breaks_at_the_same_place(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_MIN_ADVANCE", HALF)
    file = remote(server.serve(NAME, BODY, *[Answer(cut_after=HALF, ranges=False)] * 50))
    with pytest.raises(FetchError, match="4 attempts"):
        download(file, tmp_path, retry=QUICK)
    assert len(server.log) == 4  # the first gets further than nothing, the others do not


def test_a_later_call_resumes_the_transfer_of_an_earlier_one(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF)))
    with pytest.raises(FetchError, match="the connection broke"):
        download(file, tmp_path, retry=RetryPolicy(retries=0))
    download(file, tmp_path, retry=QUICK)
    assert [request.sent for request in server.log] == [HALF, len(BODY) - HALF]


def test_resumes_by_date_if_the_etag_is_weak(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF, weak=True)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert server.log[1].headers["If-Range"].endswith("GMT")
    assert server.log[1].status == 206


def test_starts_over_if_the_server_ignores_range(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF), Answer(ranges=False)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [(request.range, request.status) for request in server.log] == [
        (None, 200),
        (f"bytes={HALF}-", 200),
    ]


def test_requests_no_range_without_a_validator(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF, headers=BARE)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.range for request in server.log] == [None, None]


def test_starts_over_if_the_file_changed_between_two_halves(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(body=OTHER, cut_after=HALF)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.status for request in server.log] == [200, 200]
    assert server.log[1].range == f"bytes={HALF}-"


@pytest.mark.parametrize(
    ("second", "known"),
    [
        (Answer(respects_if_range=False), None),
        (Answer(respects_if_range=False, headers=BARE), checksum(BODY)),
        (
            Answer(
                respects_if_range=False,
                headers={**BARE, "Content-Range": f"bytes 0-299999/{len(BODY)}"},
            ),
            None,
        ),
        (Answer(respects_if_range=False, headers={**BARE, "Content-Range": ""}), None),
        (Answer(respects_if_range=False, headers=BARE, body=BODY + b"more"), None),
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


def test_refuses_a_part_if_the_whole_file_was_requested(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    with pytest.raises(FetchError, match="a part of the file"):
        download(remote(server.serve(NAME, BODY, Answer(status=206))), tmp_path, retry=QUICK)


def test_an_interrupt_before_the_renaming_needs_no_second_transfer(
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


def test_detects_an_announced_length_that_is_too_long(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(announced=len(BODY) + 100)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.status for request in server.log] == [200, 416]  # there was nothing to add


def test_resumes_a_response_without_a_length_that_ends_too_soon(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(body=BODY[:HALF], chunked=True)), size=len(BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


def test_detects_an_announced_length_that_is_too_short(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    url = server.serve(NAME, BODY, *[Answer(announced=HALF)] * 9)
    with pytest.raises(FetchError, match="has the MD5"):
        download(remote(url), tmp_path, retry=QUICK)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    "answer", [Answer(body=BODY[:HALF]), Answer(body=BODY * 2), Answer(body=BODY * 2, chunked=True)]
)
def test_tries_the_next_url_if_the_length_differs_from_the_published_one(
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


def test_reports_wrong_bytes_and_tries_the_next_url(
    server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = remote(server.serve("first", OTHER), server.serve("second", BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert f"{server.url}/first (the file has the MD5 {checksum(OTHER)[4:]}" in caplog.text


HTML = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"


def test_reports_an_html_page_and_keeps_what_has_been_received(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF), Answer(body=HTML)))
    with pytest.raises(FetchError, match="an HTML page came in place of the file"):
        download(file, tmp_path, retry=QUICK)
    download(file, tmp_path, retry=QUICK)
    assert server.log[-1].range == f"bytes={HALF}-"


def test_reports_an_html_page_that_comes_byte_by_byte(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    file = remote(server.serve(NAME, HTML, Answer(trickle=(1, 0.001))))
    with pytest.raises(FetchError, match=r"an HTML page .*in place of the file"):
        download(file, tmp_path, retry=QUICK)
    assert visible(tmp_path) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_does_not_retry_a_url_after_a_client_error(
    server: MisbehavingServer, tmp_path: Path, status: int
) -> None:
    file = remote(server.serve("first", BODY, Answer(status=status)), server.serve("second", BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert [request.path for request in server.log] == ["/first", "/second"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_retries_after_a_temporary_error_of_the_server(
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
def test_backs_off_with_jitter_if_retry_after_is_invalid(
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
    assert [request.range for request in server.requests("target")] == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("location", ["loop", "ftp://127.0.0.1/x", "http://[bad"])
def test_does_not_retry_a_redirect_that_leads_nowhere(
    server: MisbehavingServer, tmp_path: Path, location: str
) -> None:
    loop = server.serve("loop", BODY, *[Answer(status=302, headers={"Location": location})] * 99)
    assert (
        download(remote(loop, server.serve(NAME, BODY)), tmp_path, retry=QUICK).read_bytes() == BODY
    )
    assert len(server.requests("loop")) <= 11


def test_a_slow_trickle_is_cut_and_resumed(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(trickle=(100, 0.02))))
    retry = RetryPolicy(retries=1, timeout=(10.0, 1.0), backoff=0.0, min_rate=1e6)
    assert download(file, tmp_path, retry=retry).read_bytes() == BODY
    first, second = server.log
    assert 0 < first.sent < len(BODY)
    assert second.status == 206


def test_names_a_slow_trickle_as_the_reason(server: MisbehavingServer, tmp_path: Path) -> None:
    file = remote(server.serve(NAME, BODY, Answer(trickle=(100, 0.02))))
    retry = RetryPolicy(retries=0, timeout=(10.0, 1.0), min_rate=1e6)
    with pytest.raises(FetchError, match="slower than 1e\\+06 bytes per second"):
        download(file, tmp_path, retry=retry)


def test_a_silent_connection_is_cut_and_resumed(server: MisbehavingServer, tmp_path: Path) -> None:
    silent = Answer(hold=threading.Event(), hold_after=HALF)
    file = remote(server.serve(NAME, BODY, silent))
    assert (
        download(file, tmp_path, retry=RetryPolicy(timeout=(10.0, 1.0), backoff=0.0)).read_bytes()
        == BODY
    )
    assert server.log[1].range == f"bytes={HALF}-"


def test_accepts_chunks_without_a_length(server: MisbehavingServer, tmp_path: Path) -> None:
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


def test_another_mirror_of_the_same_file_resumes_where_the_first_stopped(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    first = server.serve("first", BODY, Answer(cut_after=HALF), *[Answer(status=503)] * 9)
    file = remote(first, server.serve("second", BODY))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY
    assert server.log[-1].range == f"bytes={HALF}-"


def test_without_a_checksum_another_mirror_starts_over(
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


def test_a_failure_says_everything_needed_to_continue_by_hand(
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


def test_detects_a_full_disk_before_the_first_byte(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)
    )
    with pytest.raises(FetchError, match=r"1,000 bytes free, 300,000 are needed"):
        download(remote(server.serve(NAME, BODY)), tmp_path, retry=QUICK)
    assert visible(tmp_path) == []


def test_bytes_received_before_reduce_the_space_that_is_required(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF)))
    with pytest.raises(FetchError):
        download(file, tmp_path, retry=RetryPolicy(retries=0))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - HALF, HALF)
    )
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


def test_does_not_retry_if_the_disk_fills_up_during_the_download(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(http._Part):
        def save_state(self, state: http.ResumeState) -> None:
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
def test_refuses_a_mirror_that_is_not_a_url_at_once(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(UsageError, match="mirror"):
        download(remote("http://127.0.0.1:1/"), tmp_path, mirrors=[mirror])


ABSURD = ["9" * 16, "9" * 20, "9" * 5_000]


@pytest.mark.parametrize("length", ABSURD, ids=len)
@pytest.mark.parametrize("known", [None, checksum(BODY)])
def test_an_absurd_length_does_not_keep_the_next_url_from_being_tried(
    server: MisbehavingServer, tmp_path: Path, length: str, known: str | None
) -> None:
    absurd = server.serve("first", BODY, *[Answer(headers={"Content-Length": length})] * 9)
    file = RemoteFile(NAME, (absurd, server.serve(NAME, BODY)), known)
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


@pytest.mark.parametrize("length", ABSURD, ids=len)
def test_an_absurd_content_range_does_not_keep_the_next_url_from_being_tried(
    server: MisbehavingServer, tmp_path: Path, length: str
) -> None:
    headers = {"Content-Range": f"bytes {HALF}-{length}/{length}"}
    url = server.serve("first", BODY, Answer(cut_after=HALF), *[Answer(headers=headers)] * 9)
    file = RemoteFile(NAME, (url, server.serve(NAME, BODY)), None)
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


def test_a_length_beyond_the_disk_does_not_keep_the_next_url_from_being_tried(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    free = shutil.disk_usage(tmp_path).free
    greedy = server.serve("first", BODY, Answer(announced=min(free + (1 << 30), 15 << 30)))
    file = RemoteFile(NAME, (greedy, server.serve(NAME, BODY)), None)
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


@pytest.mark.parametrize(
    "value",
    [
        "9" * 400,
        "9" * 5_000,
        f"Fri, 01 Jan 1{'0' * 20} 00:00:00 GMT",
        "Fri, 01 Jan 99999 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Fri, 01 Jan 0001 00:00:00 +9999",
        "Fri, 01 Jan 2020 99:99:99 +99999999999999999999",
        ",",
        "\xb2",
    ],
    ids=range(9),
)
def test_no_retry_after_stops_a_download_or_makes_it_wait_for_long(
    server: MisbehavingServer, tmp_path: Path, waits: list[float], value: str
) -> None:
    file = remote(server.serve(NAME, BODY, Answer(status=503, headers={"Retry-After": value})))
    download(file, tmp_path, retry=RetryPolicy(max_wait=7.0))
    assert 0 <= waits[0] <= 7.0


MALFORMED = [
    "http://",
    "http:///",
    "http://[bad",
    "http://[::1",
    "http://a]b",
    "http://host:port",
    "http://host:99999999999",
    "http://127.0.0.1:-1",
    "https://.example.org",
    f"https://{'a' * 70}.org",
    "https://\u2100.org",
    "https://a b.org",
    "https://exa\x1bmple.org",
    "https://\ud800.org",
    "http://user:[pass@127.0.0.1:1/",
    "http://127.0.0.1:1/%zz%",
]


@pytest.mark.parametrize("mirror", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_mirror_does_not_keep_the_next_url_from_being_tried(
    server: MisbehavingServer, tmp_path: Path, mirror: str, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = RetryPolicy(retries=0, timeout=(5.0, 5.0))
    file = remote(server.serve(NAME, BODY))
    assert download(file, tmp_path, mirrors=[mirror], retry=hasty).read_bytes() == BODY
    with pytest.raises(FetchError) as caught:
        download(remote(), tmp_path / "other", mirrors=[mirror], retry=hasty)
    assert str(caught.value).isprintable()
    assert "\x1b" not in caplog.text


def test_a_half_is_not_declared_whole_by_a_later_answer(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    whole = Answer(status=416, headers={"Content-Range": f"bytes */{HALF}"})
    lies = [whole, Answer(headers={"Content-Range": f"bytes */{HALF}"}, respects_if_range=False)]
    for first in (Answer(cut_after=HALF), Answer(cut_after=HALF, chunked=True)):
        for i, lie in enumerate(lies):
            folder = tmp_path / f"{i} {first.chunked}"
            file = RemoteFile(NAME, (server.serve(NAME, BODY, first, lie),), None)
            assert download(file, folder, retry=QUICK).read_bytes() == BODY


def test_an_end_that_cannot_be_told_from_a_broken_line_is_no_end(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    bare = server.serve("first", BODY[:HALF], Answer(headers={"Content-Length": ""}))
    file = RemoteFile(NAME, (bare, server.serve(NAME, BODY)), None)
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1:1/", "from https to http"),
        ("HTTP://127.0.0.1:1/", "from https to HTTP"),
        ("file:///etc/passwd", "no https URL"),
        ("http://[bad", "no URL"),
    ],
)
def test_an_unsafe_redirect_is_refused(location: str, reason: str) -> None:
    with pytest.raises(http.PermanentError, match=reason):
        http._redirected("https://example.org/a", location)
    assert http._redirected("https://example.org/a/b", "c") == "https://example.org/a/c"
    assert http._redirected("http://example.org/a", "https://b.org") == "https://b.org"


def test_escape_characters_of_a_server_do_not_reach_the_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, server: MisbehavingServer
) -> None:
    answer = b"HTTP/1.1 404 \x1b]0;owned\x07\x9b2J\r\nContent-Length: 0\r\n\r\n"
    with RawServer(always(answer)) as attacker:
        with pytest.raises(FetchError) as caught:
            download(remote(attacker.url), tmp_path, retry=QUICK)
        download(remote(attacker.url, server.serve(NAME, BODY)), tmp_path, retry=QUICK)
    for text in (str(caught.value), caplog.text):
        assert "\\x1b]0;owned" in text
        assert not set("\x1b\x07\x9b") & set(text)


def test_a_long_reason_is_shortened(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 404 %b\r\nContent-Length: 0\r\n\r\n" % (b"x" * 60_000)
    with RawServer(always(answer)) as attacker, pytest.raises(FetchError) as caught:
        download(remote(attacker.url), tmp_path, retry=QUICK)
    assert len(str(caught.value)) < 1_000


def test_a_proxy_that_wants_a_password_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with RawServer(always(refusal)) as proxy:
        for scheme in ("http", "https"):
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            with pytest.raises(FetchError, match="the proxy asks for a name and a password"):
                download(remote(f"{scheme}://example.org/x"), tmp_path, retry=QUICK)
        assert [request.split()[0] for request in proxy.requests] == [b"GET", b"CONNECT"]


def test_a_bad_bundle_of_certificates_is_named(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged.pem").write_text("no certificate")
    url = server.url.replace("http://", "https://")
    for bundle in (tmp_path / "missing.pem", tmp_path / "damaged.pem"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        with pytest.raises(FetchError, match="correct REQUESTS_CA_BUNDLE, or unset it") as caught:
            download(remote(url), tmp_path / "folder", retry=QUICK)
        assert "choose another folder" not in str(caught.value)


@pytest.mark.parametrize(
    "state",
    ["", "{", "[]", "[" * 100_000, '{"url": 1, "validator": "x", "total": 5}', "null", "\0"]
    + [f'{{"url": "{{url}}", "validator": {v}, "total": {t}}}' for v, t in (
        ("1", "5"), ("[]", "5"), ('"a\\r\\nHost: b"', "5"), ('"x"', '"5"'), ('"x"', "true"),
    )],
    ids=range(12),
)  # fmt: skip
def test_a_damaged_state_means_to_start_over(
    server: MisbehavingServer, tmp_path: Path, state: str
) -> None:
    url = server.serve(NAME, BODY)
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:5])
    (tmp_path / f"{NAME}.part.json").write_text(state.replace("{url}", url))
    assert download(RemoteFile(NAME, (url,), None), tmp_path, retry=QUICK).read_bytes() == BODY


@pytest.mark.parametrize(
    "etag", ['"a', '"' + "a" * 5_000 + '"', '"\x1b[2J"', '"a"\r\n continued', '"\xff"']
)
def test_a_strange_etag_does_no_harm(server: MisbehavingServer, tmp_path: Path, etag: str) -> None:
    headers = {"ETag": etag, "Last-Modified": etag}
    file = remote(server.serve(NAME, BODY, Answer(cut_after=HALF, headers=headers)))
    assert download(file, tmp_path, retry=QUICK).read_bytes() == BODY


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"retries": "x"},
        {"timeout": 5},
        {"timeout": (1, 2, 3)},
        {"timeout": (0, 1)},
        {"timeout": (1, float("nan"))},
        {"timeout": (1, None)},
        {"timeout": (1, 1e300)},
        {"backoff": -1},
        {"backoff": float("inf")},
        {"max_wait": float("nan")},
        {"max_wait": "x"},
        {"min_rate": -1},
    ],
)
def test_a_policy_of_impossible_numbers_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="timeout|" + next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize("size", [-1, 1.5, True, "5", float("nan")])
def test_a_size_that_is_no_whole_number_is_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="size"):
        RemoteFile(NAME, (), None, size)


def test_many_retries_do_not_overflow(
    server: MisbehavingServer, tmp_path: Path, waits: list[float]
) -> None:
    file = remote(server.serve(NAME, BODY, *[Answer(status=503)] * 1_100))
    assert download(file, tmp_path, retry=RetryPolicy(retries=1_100)).read_bytes() == BODY
    assert max(waits) <= 120.0


def test_the_home_of_an_unknown_user_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be used as a path"):
        download(remote("http://127.0.0.1:1"), "~no-such-user/x")
    with pytest.raises(UsageError, match="cannot be used as a path"):
        adopt("~no-such-user/x", remote(), tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\x1b[2J", "a\0"])
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


def test_verify_checksum_distinguishes_right_from_wrong(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(BODY)
    assert verify_checksum(path, checksum(BODY))
    assert verify_checksum(path, checksum(BODY, "sha256"))
    assert not verify_checksum(path, checksum(OTHER))


DOWNLOAD = """
import sys
from metaevents.download.http import RemoteFile, download
print("ready", flush=True)
print(download(RemoteFile("data.bin", (sys.argv[1],), sys.argv[2]), sys.argv[3]))
"""


def test_two_processes_at_once_download_once(server: MisbehavingServer, tmp_path: Path) -> None:
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


def test_resumes_the_download_of_a_killed_process(
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


def test_adopt_links_the_file_and_leaves_the_original_in_place(tmp_path: Path) -> None:
    given = tmp_path / "downloads (1).zip"
    given.write_bytes(BODY)
    (tmp_path / "symlink").symlink_to(given)
    path = adopt(tmp_path / "symlink", remote(), tmp_path / "folder")
    assert path == tmp_path / "folder" / NAME
    assert path.samefile(given)
    assert not path.is_symlink()
    assert adopt(path, remote(), tmp_path / "folder") == path
    assert visible(path.parent) == [NAME]


def test_adopt_copies_if_no_link_can_be_made(
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
