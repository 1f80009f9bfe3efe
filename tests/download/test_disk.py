"""The lock of a download's target."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from support.processes import until

from metaevents.download.disk import lock_target
from metaevents.errors import FetchError, MissingError


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), FetchError, "cannot make .*No space left.*room"),
        (PermissionError(errno.EACCES, "Permission denied"), FetchError, "Permission denied"),
        (MissingError("no such zip"), MissingError, "^no such zip$"),
        (FetchError("wrong checksum"), FetchError, "^wrong checksum$"),
        (ZeroDivisionError("a defect"), ZeroDivisionError, "^a defect$"),
    ],
)
def test_disk_errors_become_fetch_errors_and_all_others_stay(
    tmp_path: Path, error: Exception, expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message) as caught, lock_target(tmp_path / "file"):
        raise error
    assert "\n" not in str(caught.value)


def test_a_second_process_is_told_that_it_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"

    def make() -> None:
        with lock_target(path):
            path.touch()

    second = threading.Thread(target=make)
    with lock_target(path):
        second.start()
        until(lambda: f"another process is making {path}; waiting for it" in caplog.text)
        assert not path.exists()
    second.join(60)
    assert path.exists()
