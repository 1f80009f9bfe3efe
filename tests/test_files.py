"""Atomic writes, locks, disk space and progress bars."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.downloads import visible
from support.processes import start, until
from support.recordings import LITTER

from metaevents.errors import UsageError
from metaevents.files import (
    atomic_file,
    atomic_folder,
    exclusive_lock,
    is_litter,
    link_or_copy,
    progress_bar,
    rename_into_place,
    require_lockable,
    require_space,
    require_writable,
    require_writable_folder,
    user_path,
    visible_entries,
    write_atomic,
)


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


# --- write_atomic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\x00\r\n", b"\x00\r\n"), ("\u00fc\nb\n", b"\xc3\xbc\nb\n"), (b"", b""), ("", b"")],
)
def test_write_atomic_writes_bytes_and_text(
    tmp_path: Path, content: bytes | str, expected: bytes, sync: bool
) -> None:
    path = tmp_path / "file"
    for before in (None, b"longer than what comes after"):
        if before is not None:
            path.write_bytes(before)
        write_atomic(path, content, sync=sync)
        assert path.read_bytes() == expected
        assert visible(tmp_path) == ["file"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_write_atomic_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(*((os, "fsync") if where == "fsync" else (Path, "replace")), refuse)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert visible(tmp_path) == ["file"]


def test_write_atomic_without_sync_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refuse)
    write_atomic(tmp_path / "file", b"new", sync=False)
    assert (tmp_path / "file").read_bytes() == b"new"


def test_readers_never_see_a_part_of_a_file_that_several_threads_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 100_000 for number in range(4)]
    write_atomic(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(20):
            write_atomic(path, content, sync=False)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in contents
    assert visible(tmp_path) == ["file"]


def test_write_atomic_gives_the_permissions_of_a_new_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"new")
    (tmp_path / "other").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "other")]
    assert modes[0] == modes[1]


def test_write_atomic_keeps_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    assert visible(tmp_path) == ["link", "target"]


def test_write_atomic_names_the_file_that_a_full_disk_has_no_place_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(OSError, match="No space left") as error:
        write_atomic(path, b"new")
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert visible(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_write_atomic_writes_to_a_pipe_and_leaves_it_in_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_atomic(pipe, b"content")
    reader.join(60)
    assert received == [b"content"]
    assert pipe.is_fifo()


def test_write_atomic_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "file", b"")


# --- atomic_file and atomic_folder ----------------------------------------------------------------


def test_atomic_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / ".file.part").write_bytes(b"of a killed process")
    with atomic_file(path) as temporary:
        assert not temporary.exists()
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert visible(tmp_path) == ["file"]


def test_atomic_file_keeps_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/target")  # does not exist yet
    for content in (b"first", b"second"):
        with atomic_file(tmp_path / "link") as temporary:
            temporary.write_bytes(content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "target").read_bytes() == content
    assert visible(tmp_path / "folder") == ["target"]


@pytest.mark.parametrize("kind", ["folder", "no folder", "file as folder", "loop"])
def test_files_that_cannot_be_written_are_found_out_before_the_work(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("text")
    (tmp_path / "loop").symlink_to("loop")
    path = {"folder": "folder", "no folder": "none/x", "file as folder": "text/x", "loop": "loop/x"}
    with pytest.raises(OSError) as error:  # noqa: PT011, the kinds differ
        require_writable(tmp_path / path[kind])
    assert error.value.errno is not None
    assert visible(tmp_path) == ["folder", "loop", "text"]
    if kind == "file as folder":
        with pytest.raises(NotADirectoryError):
            require_writable_folder(tmp_path / "text" / "deeper")


def test_files_that_can_be_written_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("new")
    for name in ("file", "new", "link"):
        require_writable(tmp_path / name)
    require_writable(Path(os.devnull))
    require_writable_folder(tmp_path / "several" / "new" / "folders")
    assert (tmp_path / "file").read_text() == "text"
    assert visible(tmp_path) == ["file", "link"]


def test_atomic_file_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert visible(tmp_path) == ["file"]


@pytest.mark.parametrize("empty_before", [False, True])
def test_atomic_folder_appears_when_it_is_complete(tmp_path: Path, empty_before: bool) -> None:
    folder = tmp_path / "new" / "folder"
    leftover = folder.with_name(".folder.part")
    leftover.mkdir(parents=True)
    (leftover / "of a killed process").touch()
    if empty_before:
        folder.mkdir()
    with atomic_folder(folder) as temporary:
        assert visible(temporary) == []
        (temporary / "file").touch()
        assert not (folder / "file").exists()
    assert visible(folder) == ["file"]
    assert visible(folder.parent) == ["folder"]


def test_atomic_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert visible(tmp_path) == []


def test_atomic_folder_does_not_replace_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "folder"):
        pass
    assert visible(tmp_path) == ["folder"]
    assert visible(tmp_path / "folder") == ["mine"]


def test_rename_into_place_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"new")
    (tmp_path / "final").write_bytes(b"old")
    rename_into_place(tmp_path / "temporary", tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"new"
    assert visible(tmp_path) == ["final"]


# --- links and space ------------------------------------------------------------------------------


def test_link_or_copy_links_what_a_symbolic_link_visible(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    (tmp_path / "link").symlink_to("source")
    link_or_copy(tmp_path / "link", tmp_path / "target")
    assert not (tmp_path / "target").is_symlink()
    assert (tmp_path / "target").samefile(tmp_path / "source")


def test_link_or_copy_copies_if_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"content"
    assert not (tmp_path / "target").samefile(tmp_path / "source")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 3, 6))
    with pytest.raises(OSError, match="6 bytes free, 7 are needed"):
        link_or_copy(tmp_path / "source", tmp_path / "other")
    assert visible(tmp_path) == ["source", "target"]


def test_require_space_accepts_exactly_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9000, 0, 9000))
    require_space(tmp_path, 9000)
    with pytest.raises(OSError, match=r"9,000 bytes free, 9,001 are needed"):
        require_space(tmp_path, 9001)


# --- exclusive_lock -------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from metaevents.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("holding", flush=True)
    sys.stdin.readline()
    Path(sys.argv[1]).write_text("made by the other process")
"""


def test_exclusive_lock_waits_for_another_process_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new" / "file"
    with start(HOLD, path) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "holding\n"
        contents: list[str] = []

        def wait() -> None:
            with exclusive_lock(path, waiting="please wait 100%"):
                contents.append(path.read_text())

        with caplog.at_level(logging.WARNING):
            thread = threading.Thread(target=wait)
            thread.start()
            until(lambda: "please wait 100%" in caplog.text)
            assert contents == []
            process.stdin.write("\n")
            process.stdin.flush()
            thread.join(60)
    assert contents == ["made by the other process"]
    assert visible(path.parent) == ["file"]


def test_exclusive_lock_without_waiting_is_refused_while_another_process_holds_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    with start(HOLD, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        with pytest.raises(UsageError, match=r"another process is using .*file"):
            exclusive_lock(path, wait=False).__enter__()
        with pytest.raises(UsageError, match="come back later"):
            exclusive_lock(path, wait=False, waiting="come back later").__enter__()
        process.kill()
    with exclusive_lock(path, wait=False):  # a killed process holds no lock
        assert not path.exists()
    assert caplog.text == ""


def test_exclusive_lock_is_released_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), exclusive_lock(tmp_path / "file", wait=False):
            raise ZeroDivisionError


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_takes_no_lock_file_is_an_error_and_no_endless_wait() -> None:
    for check in (require_lockable, lambda path: exclusive_lock(path).__enter__()):
        with pytest.raises(OSError, match=r"/proc/\.file\.lock") as error:
            check(Path("/proc/file"))
        assert error.value.errno in (errno.ENOENT, errno.EACCES)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_an_error_and_no_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse_lock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse_lock)
    with pytest.raises(OSError) as error:  # noqa: PT011, whoever sees it first
        exclusive_lock(tmp_path / "file").__enter__()
    assert error.value.errno == code
    with pytest.raises(OSError, match="has no locks"):
        require_lockable(tmp_path / "file")


def test_the_lock_of_a_link_is_that_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with exclusive_lock(tmp_path / "link"):
        assert (tmp_path / ".target.lock").exists()
        require_lockable(tmp_path / "target")  # held, so it can be locked


# --- progress_bar ---------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [
        (True, False, True),
        (False, True, False),
        (None, True, True),
        (None, False, False),
    ],
)
def test_progress_bar_is_shown_as_requested_or_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, progress: bool | None, terminal: bool, shown: bool
) -> None:
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    items = progress_bar("count", 3, "item", progress, iterable=[1, 2, 3], delay=0)
    assert list(items) == [1, 2, 3]
    assert ("count: 100%" in stderr.getvalue()) == shown


def test_a_notebook_shows_bars_unless_the_logger_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tqdm.autonotebook

    class OfNotebook(tqdm.std.tqdm):
        pass

    monkeypatch.setattr(sys, "stderr", io.StringIO())  # no terminal
    monkeypatch.setattr(tqdm.autonotebook, "tqdm", OfNotebook)
    logger = logging.getLogger("metaevents")
    assert not progress_bar("count", 3, "item", None).disable
    assert progress_bar("count", 3, "item", False).disable
    logger.setLevel(logging.ERROR)
    try:
        assert progress_bar("count", 3, "item", None).disable
        assert not progress_bar("count", 3, "item", True).disable
    finally:
        logger.setLevel(logging.NOTSET)


def test_progress_bar_of_fast_work_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress_bar("count", 3, "item", True) as bar:
        bar.update(3)
    assert stderr.getvalue() == ""


# --- names and paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LITTER, "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN"])
def test_what_systems_leave_in_folders_is_litter(name: str) -> None:
    assert is_litter(name)


@pytest.mark.parametrize("name", ["00001.bin", "a_0001.MAT", "Train", "a", "thumbs.db.bin", "@"])
def test_what_users_have_is_no_litter(name: str) -> None:
    assert not is_litter(name)


def test_visible_entries_are_in_order_and_without_litter(tmp_path: Path) -> None:
    for name in ("b", *LITTER, "a"):
        (tmp_path / name).touch()
    assert [entry.name for entry in visible_entries(tmp_path)] == ["a", "b"]


def test_a_users_path_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/x") == Path("/home/me/x")
    assert user_path(Path("x")) == Path("x")
    assert user_path(os.fsencode("x\udcff")) == Path("x\udcff")


@pytest.mark.parametrize("path", ["~no-such-user/x", "a\0b", None, 3, ["x"], "a" * 5000])
def test_what_is_no_path_is_a_usage_error(path: Any) -> None:
    with pytest.raises(UsageError, match="cannot be used as a path"):
        user_path(path)


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_that_name_each_other_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    def hold_lock() -> None:
        with exclusive_lock(tmp_path / "a"):
            pass

    for write in (
        lambda: write_atomic(tmp_path / "a", "x"),
        lambda: require_writable(tmp_path / "a"),
        lambda: require_lockable(tmp_path / "a"),
        hold_lock,
    ):
        with pytest.raises(OSError, match="symbolic links") as refused:
            write()
        assert refused.value.errno == errno.ELOOP
        assert refused.value.filename == str(tmp_path / "a")
    assert visible(tmp_path) == ["a", "b"]
