"""Zips that are damaged, too large or would write outside their folder."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from support.downloads import visible, zip_of, zip_with
from support.processes import STOP_IN_THE_MIDDLE, kill_in_the_middle, start

from metaevents.download.zips import unpack
from metaevents.errors import FetchError, MissingError


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
    "deep path": (zip_of({"a/" * 30_000 + "x": b""}), "path is too long"),
    "deep path with backslashes": (zip_of({"a\\" * 50 + "x": b""}), "path is too long"),
    "long name": (zip_of({"a" * 60_000: b""}), "path is too long"),
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
    "same place": (zip_of({"a/b": b"1", "a//b": b"2"}), "the same path"),
    "same place but for case": (zip_of({"a.txt": b"1", "A.TXT": b"2"}), "the same path"),
    "same place but for Unicode form": (zip_of({"\u00e9": b"1", "e\u0301": b"2"}), "the same path"),
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


def test_a_zip_that_declares_too_much_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"small": b"1", "large": bytes(200_000)}))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("begun"))
    with pytest.raises(
        FetchError, match="unpacks to 200,001 bytes, more than the limit of 100,000"
    ):
        unpack(tmp_path / "a.zip", tmp_path / "folder", limit=100_000)


def test_the_limit_also_holds_for_what_is_written(
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


def test_unpack_places_members_as_the_mapping_says(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(
        zip_of({"keep/a": b"1", "keep/b": b"2", "drop/c": bytes(10**6)})
    )
    members = {"keep/a": "x/a", "keep/b": "b"}.get
    assert unpack(tmp_path / "a.zip", tmp_path / "folder", limit=2, members=members) == 2
    assert (tmp_path / "folder" / "x" / "a").read_bytes() == b"1"
    assert visible(tmp_path / "folder") == ["b", "x"]


def test_unpack_refuses_a_mapping_that_leads_outside(tmp_path: Path) -> None:
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


def test_unpack_detects_a_full_disk_before_it_writes(
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


UNPACK = """
from metaevents.download.zips import unpack
unpack(sys.argv[2], sys.argv[3], limit=10**6)
"""


def test_a_process_killed_while_it_unpacks_leaves_nothing_incomplete(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "out" / "folder"
    archive.write_bytes(zip_of({f"{i}.txt": b"text" for i in range(9)}))
    with start(STOP_IN_THE_MIDDLE + UNPACK, 5, archive, folder) as process:
        kill_in_the_middle(process)
    assert not folder.exists()
    assert unpack(archive, folder, limit=1000) == 9
    assert visible(folder.parent) == ["folder"]
    assert len(visible(folder)) == 9
