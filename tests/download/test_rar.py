"""RAR archives: which program unpacks them, limits, and what is left after a failure."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from support.downloads import tree
from support.rar import install_fake_unrar, rar_of

from metaevents.download import rar
from metaevents.download.rar import is_rar, require_program, unpacked
from metaevents.errors import FetchError, MissingError

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the programs of these tests are scripts of POSIX systems"
)

MEMBERS = {"a/b/one.txt": b"one", "a/two.txt": b"two" * 1_000, "empty.txt": b""}
LIMIT = 1 << 20


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "some.rar"
    path.write_bytes(rar_of(MEMBERS))
    return path


@pytest.mark.parametrize("program", [name for name, _ in rar._PROGRAMS if name != "tar"])
def test_an_installed_program_unpacks_an_archive(
    archive: Path, tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    monkeypatch.setattr(rar, "_PROGRAMS", [row for row in rar._PROGRAMS if row[0] == program])
    with unpacked(archive, tmp_path / "out", limit=LIMIT, progress=False) as folder:
        assert tree(folder) == MEMBERS
    assert not (tmp_path / "out").exists()


def test_the_folder_is_there_only_inside_the_block(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_unrar(tmp_path / "bin", monkeypatch)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "left by another call").touch()
    with unpacked(archive, tmp_path / "out", limit=LIMIT, progress=False) as folder:
        assert tree(folder) == MEMBERS
    assert not folder.exists()


def test_without_a_program_the_message_names_some(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setattr(rar, "_PROGRAMS", [row for row in rar._PROGRAMS if row[0] != "tar"])
    with pytest.raises(MissingError, match="install unrar, 7-Zip, unar or bsdtar"):
        require_program()
    with (
        pytest.raises(MissingError, match="--from"),
        unpacked(archive, tmp_path / "out", limit=LIMIT, progress=False),
    ):
        pass


def test_a_program_that_fails_gives_way_to_the_next_one(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_unrar(tmp_path / "bin", monkeypatch)
    install_fake_unrar(
        tmp_path / "bin", monkeypatch, name="7z", extra="sys.exit('no codec for RAR')"
    )
    programs = dict(rar._PROGRAMS)
    monkeypatch.setattr(rar, "_PROGRAMS", [("7z", programs["unrar"]), ("unrar", programs["unrar"])])
    with unpacked(archive, tmp_path / "out", limit=LIMIT, progress=False) as folder:
        assert tree(folder) == MEMBERS
    monkeypatch.setattr(rar, "_PROGRAMS", [("7z", programs["unrar"])])
    with (
        pytest.raises(FetchError, match=r"cannot be unpacked \(7z: no codec for RAR\); install"),
        unpacked(archive, tmp_path / "out", limit=LIMIT, progress=False),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_what_unpacks_to_more_than_the_limit_is_refused_and_removed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_unrar(tmp_path / "bin", monkeypatch)
    with (
        pytest.raises(FetchError, match="more than the limit of 100 bytes; nothing of it was kept"),
        unpacked(archive, tmp_path / "out", limit=100, progress=False),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_a_program_that_goes_on_for_ever_is_stopped_at_the_limit(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "import time\nopen(folder + 'x', 'wb').write(bytes(200))\ntime.sleep(600)"
    install_fake_unrar(tmp_path / "bin", monkeypatch, extra=endless)
    monkeypatch.setattr(rar, "_LOOK_EVERY", 0.05)
    with (
        pytest.raises(FetchError, match="more than the limit"),
        unpacked(archive, tmp_path / "out", limit=100, progress=False),
    ):
        pass


def test_archives_are_told_by_their_first_bytes(archive: Path, tmp_path: Path) -> None:
    assert is_rar(archive)
    other = tmp_path / "other.rar"
    other.write_bytes(b"<html>")
    assert not is_rar(other)
