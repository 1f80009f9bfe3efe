"""Side files: made once, shared by processes, made again when damaged."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.archives import NAME, build_in, copy_archive, edit_archive
from support.recordings import write_nmnist

import metaevents as me
from metaevents import cache
from metaevents.archive.reader import Archive
from metaevents.errors import ArchiveError, StorageError, UsageError


def test_decoding_happens_once_and_is_shared(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    code = f"import metaevents as me; me.DoubleNMNIST({str(nmnist_root)!r}).frames(0, 0, 0)"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    ((folder, size),) = cache.side_files()
    made = (folder / "cell").stat().st_mtime_ns
    me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    assert (folder / "cell").stat().st_mtime_ns == made
    assert cache.side_files(me.DoubleNMNIST(nmnist_root).fingerprint) == [(folder, size)]
    assert cache.side_files("0" * 64) == []
    assert cache.clear_cache() == size
    assert cache.side_files() == []


def test_a_damaged_side_file_is_made_again(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    before = me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    ((folder, _),) = cache.side_files()
    os.truncate(folder / "cell", 40)
    assert torch.equal(me.DoubleNMNIST(nmnist_root).frames(0, 0, 0), before)


def test_a_flipped_event_is_found_when_decoding(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    path = copy_archive(nmnist_root, tmp_path)
    edit_archive(path, "file['events/y'][7] ^= 1")
    with pytest.raises(ArchiveError, match="is corrupt"):
        me.DoubleNMNIST(path).frames(0, 0, 0)
    assert cache.side_files() == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_frames_can_be_read_with_a_read_only_cache(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)


@pytest.fixture
def folder(nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the side file of `nmnist_root`, in a cache of its own."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    me.DoubleNMNIST(nmnist_root).prepare()
    ((folder, _),) = cache.side_files()
    return folder


def test_a_forged_archive_does_not_reach_the_cache(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    good = Archive(nmnist_root / f"{NAME}.h5")
    build_in(tmp_path, NAME, write_nmnist(tmp_path / "raw", n=50))
    forged = tmp_path / f"{NAME}.h5"
    edit = f"file.attrs.update(contents={good.contents!r}, fingerprint={good.fingerprint!r})"
    edit_archive(forged, edit)
    with pytest.raises(ArchiveError, match="digest of all recordings"):
        me.DoubleNMNIST(forged).frames(0, 0, 0)
    # With the digests of the good archive too, the events give the forgery away.
    copy = f"file['recordings/digest'][:] = h5py.File({str(good.path)!r})['recordings/digest'][:]"
    edit_archive(forged, copy)
    with pytest.raises(ArchiveError, match="is corrupt"):
        me.DoubleNMNIST(forged).frames(0, 0, 0)
    assert cache.side_files() == []
    fresh = me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    assert torch.equal(fresh, me.DoubleNMNIST(nmnist_root).frames(0, 0, 0))


def test_an_archive_that_is_replaced_before_its_first_use_is_noticed(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    path = copy_archive(nmnist_root, tmp_path)
    dataset = me.DoubleNMNIST(path)
    (tmp_path / "other").mkdir()
    build_in(tmp_path / "other", NAME, write_nmnist(tmp_path / "raw", n=50))
    (tmp_path / "other" / f"{NAME}.h5").replace(path)
    with pytest.raises(ArchiveError, match="was replaced"):
        dataset.frames(0, 0, 0)
    assert cache.side_files() == []


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["cell", "count", "offset"])
def test_a_flipped_bit_in_a_side_file_means_decoding_anew(
    nmnist_root: Path, folder: Path, name: str
) -> None:
    rng = random.Random(name)
    expected = me.DoubleNMNIST(nmnist_root).stack_frames([(0, 1), (5, 9)])
    good = (folder / name).read_bytes()
    for _ in range(10):
        flip(folder / name, rng.randrange(8 * len(good)))
        assert torch.equal(me.DoubleNMNIST(nmnist_root).stack_frames([(0, 1), (5, 9)]), expected)
        assert (folder / name).read_bytes() == good


def test_entries_that_would_leave_the_frame_are_refused_whatever_the_checksums_say(
    nmnist_root: Path, folder: Path
) -> None:
    """A side file of somebody who computes the checksums must not crash the process."""
    expected = me.DoubleNMNIST(nmnist_root).stack_frames([(0, 1)])
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    cells = 100 * 2 * 16 * 32
    edits: list[tuple[str, str, int, int]] = [
        ("cell", "u4", 3, cells - 16),
        ("cell", "u4", -1, 2**32 - 1),
        ("count", "u1", 0, 255),
        ("offset", "i8", 0, 1),
        ("offset", "i8", 5, -1),
        ("offset", "i8", 5, 1 << 40),
        ("offset", "i8", -1, 1 << 40),
    ]
    for name, dtype, place, value in edits:
        values = np.frombuffer(good[name], dtype).copy()
        values[place] = value
        (folder / name).write_bytes(values.tobytes())
        meta = json.loads(good["side-file.json"])
        meta["columns"][name]["checksum"] = cache._checksum(values)
        (folder / "side-file.json").write_text(json.dumps(meta))
        assert torch.equal(me.DoubleNMNIST(nmnist_root).stack_frames([(0, 1)]), expected)
        assert (folder / name).read_bytes() == good[name]


def _zeros(folder: Path) -> None:
    (folder / "cell").write_bytes(bytes((folder / "cell").stat().st_size))


def _replace_folder(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder)
        make(folder)

    return damage


def _replace_file(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def _meta(text: str) -> Callable[[Path], None]:
    return _replace_file("side-file.json", lambda path: path.write_text(text))


ODD: dict[str, Callable[[Path], None]] = {
    "zeros": _zeros,
    "no column": lambda folder: (folder / "count").unlink(),
    "empty meta": _meta(""),
    "meta of another kind": _meta("[1, 2]"),
    "meta without columns": _meta("{}"),
    "meta without a column": _meta('{"columns": {"cell": {}}}'),
    "columns of another kind": _meta('{"columns": 7}'),
    "nested meta": _meta("[" * 60_000),
    "endless meta": _meta('{"columns": "' + "x" * 2_000_000 + '"}'),
    "a pipe for the meta": _replace_file("side-file.json", os.mkfifo),
    "a pipe for a column": _replace_file("cell", os.mkfifo),
    "a folder for a column": _replace_file("cell", Path.mkdir),
    "a dangling link": _replace_file("cell", lambda path: path.symlink_to("nothing")),
    "a link": _replace_file("cell", lambda path: path.symlink_to("/dev/zero")),
    "a file for the folder": _replace_folder(lambda folder: folder.write_text("a file")),
    "a pipe for the folder": _replace_folder(os.mkfifo),
    "a dangling link for the folder": _replace_folder(lambda folder: folder.symlink_to("nothing")),
    "an empty folder": _replace_folder(Path.mkdir),
}


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
@pytest.mark.parametrize("kind", ODD)
def test_whatever_is_odd_about_a_side_file_means_decoding_anew(
    nmnist_root: Path, folder: Path, kind: str
) -> None:
    expected = me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    ODD[kind](folder)
    cache.side_files()
    assert torch.equal(me.DoubleNMNIST(nmnist_root).frames(0, 0, 0), expected)
    ((again, _),) = cache.side_files()
    assert again == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "cell",
        "count",
        "offset",
        "side-file.json",
    ]


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
@pytest.mark.parametrize("place", ["file", "dangling link", "missing"])
def test_a_cache_that_cannot_be_used_gives_way_to_a_private_folder(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir(mode=0o777)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    if place == "file":
        (tmp_path / "cache").write_text("a file")
        monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    elif place == "dangling link":
        (tmp_path / "cache").symlink_to(tmp_path / "nothing" / "below" / "\udcff")
        (tmp_path / "nothing").write_text("a file")
        monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    else:  # no home, and a user id without a name
        monkeypatch.delenv(cache.CACHE_VARIABLE)
        monkeypatch.setattr(cache, "user_cache_path", lambda name: Path("~/.cache") / name)
    me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    (private,) = temporary.iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert [path.suffix for path in private.glob("[!.]*-cells-v*")] == [""]
    assert not (Path.cwd() / "~").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
@pytest.mark.parametrize("kind", ["open to all", "link", "file", "of another user"])
def test_a_folder_that_others_could_write_into_is_not_used(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "file"))
    (tmp_path / "file").write_text("so that the cache cannot be used")
    planted = tmp_path / f"metaevents-{os.getuid()}"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        planted.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        planted.write_text("a file")
    else:
        planted.mkdir()
        planted.chmod(0o777 if kind == "open to all" else 0o700)
        if kind == "of another user":
            if os.geteuid():
                pytest.skip("only root can give a folder away")
            os.chown(planted, 12345, 12345)
    cache._unpredictable_folder.cache_clear()
    me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    used = cache._unpredictable_folder()
    cache._unpredictable_folder.cache_clear()
    assert used != planted
    assert [path.suffix for path in used.glob("[!.]*-cells-v*")] == [""]
    if planted.is_dir():
        assert not list(planted.iterdir())


def test_a_filled_cache_is_used_though_it_cannot_be_written(
    nmnist_root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(cache, "exclusive_lock", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "chmod", refuse)
    me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_a_shared_cache_can_be_read_by_all_whatever_the_umask(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "cache"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(shared))
    before = os.umask(0o077)
    try:
        me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    finally:
        os.umask(before)
    ((folder, _),) = cache.side_files()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}


def test_a_file_system_that_refuses_modes_will_do(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(Path, "chmod", refuse)
    me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    assert len(cache.side_files()) == 1


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_under_the_cache_names_the_variable(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))

    def full(*arguments: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=cache.CACHE_VARIABLE):
        me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)
    assert cache.side_files() == []


def test_a_cache_that_is_no_path_is_refused(
    nmnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, "~nobody-of-that-name/cache")
    with pytest.raises(UsageError, match="cannot be used as a path"):
        me.DoubleNMNIST(nmnist_root).frames(0, 0, 0)


def test_a_composition_with_a_shorter_window_keeps_its_events(nmnist_root: Path) -> None:
    path = nmnist_root / f"{NAME}.h5"
    half = me.compose(path, window_us=50_000, bins=50, name="half", splits="disjoint")
    whole = me.compose(path, name="whole", splits="disjoint")
    assert torch.equal(half.frames(0, 0, 1), whole.frames(0, 0, 1)[:50])
    assert np.array_equal(
        half.events(0, 0, 1), (events := whole.events(0, 0, 1))[events["t"] < 50_000]
    )


def test_a_side_file_of_the_sample_is_mapped_in_less_than_50_ms(sample_root: Path) -> None:
    me.DoubleNMNIST(sample_root).prepare()
    times = []
    for _ in range(7):
        dataset = me.DoubleNMNIST(sample_root)
        start = time.perf_counter()
        cache.cells(dataset.archive, dataset.rules.composition, dataset.fingerprint)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def _age(folder: Path) -> None:
    """Let the side file look as if it had been written some time ago."""
    # The time of the last change of a file cannot be set: the note is moved into the future.
    (note,) = folder.glob("*.checked")
    later = note.stat().st_mtime_ns + 3_000_000_000
    os.utime(note, ns=(later, later))


@pytest.fixture
def checked(
    nmnist_root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[int]]:
    """A side file that was checked a while ago, and the lengths of the columns that are summed."""
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    me.DoubleNMNIST(nmnist_root).stack_frames([(0, 1)])
    monkeypatch.undo()
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(folder.parent))
    _age(folder)
    summed: list[int] = []
    checksum = cache._checksum

    def counted(values: np.ndarray) -> str:
        summed.append(values.nbytes)
        return checksum(values)

    monkeypatch.setattr(cache, "_checksum", counted)
    return folder, summed


def test_a_side_file_that_was_checked_is_mapped_without_reading_it(
    nmnist_root: Path, checked: tuple[Path, list[int]]
) -> None:
    folder, summed = checked
    expected = me.DoubleNMNIST(nmnist_root)
    assert expected.stack_frames([(0, 1)]).sum() > 0
    assert summed == [(folder / "offset").stat().st_size]


@pytest.mark.parametrize("name", ["cell", "count", "offset"])
def test_a_change_after_the_check_is_noticed_whatever_its_time(
    nmnist_root: Path, checked: tuple[Path, list[int]], name: str
) -> None:
    folder, _ = checked
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    status = (folder / name).stat()
    flip(folder / name, 12345)
    os.utime(folder / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    me.DoubleNMNIST(nmnist_root).stack_frames([(0, 1)])
    assert (folder / name).read_bytes() == good[name]


def test_a_note_is_believed_only_of_this_user_and_after_a_while(
    nmnist_root: Path, checked: tuple[Path, list[int]]
) -> None:
    folder, summed = checked
    (note,) = folder.glob("*.checked")
    content = note.read_text()

    def is_read_whole() -> bool:
        summed.clear()
        me.DoubleNMNIST(nmnist_root).stack_frames([(0, 1)])
        return len(summed) == 3

    assert not is_read_whole()
    note.chmod(0o666)
    assert is_read_whole()
    note.chmod(0o600)
    for other in ("", "[]", "{}", "[" * 60_000, content.replace('"offset"', '"x"')):
        note.write_text(other)
        _age(folder)
        assert is_read_whole()
    note.write_text(content)
    newest = max((folder / name).stat().st_ctime_ns for name in ("cell", "count", "offset"))
    os.utime(note, ns=(newest, newest))
    assert is_read_whole()
    if os.geteuid() == 0:
        note.write_text(content)
        _age(folder)
        assert not is_read_whole()
        os.chown(note, 1, -1)
        assert is_read_whole()
