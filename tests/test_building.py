"""Archives of the built-in datasets: their paths, opening, and their rules."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.archives import NAME, copy_archive, edit_archive
from support.composed import busy_archive

import metaevents as me
from metaevents.archive.reader import Archive
from metaevents.building import build_archive, verify_rules
from metaevents.datasets import archive_dataset
from metaevents.errors import ArchiveError, MissingError, UsageError
from metaevents.sources import NMNIST


def test_the_sample_passes_every_check(sample_root: Path) -> None:
    archive = Archive(sample_root / f"{NAME}.h5")
    assert len(archive) == 1000
    assert len([*archive.verify(progress=False), *verify_rules(archive)]) == 5


def test_root_is_a_folder_or_a_file(nmnist_root: Path) -> None:
    by_folder, by_file = (
        me.DoubleNMNIST(nmnist_root),
        me.DoubleNMNIST(nmnist_root / "double-nmnist.h5"),
    )
    assert by_folder.fingerprint == by_file.fingerprint == by_folder.archive.fingerprint


def test_a_missing_archive_names_the_two_commands(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        me.DoubleNMNIST(tmp_path / "data", split="test")
    message = str(caught.value)
    assert f"metaevents download nmnist --root {tmp_path / 'data'}" in message
    assert f"metaevents build double-nmnist --root {tmp_path / 'data'}" in message
    assert isinstance(caught.value, FileNotFoundError)


def test_the_wrong_archive_is_refused(asl_root: Path) -> None:
    with pytest.raises(
        ArchiveError, match="is an archive of double-asl-dvs, expected double-nmnist"
    ):
        me.DoubleNMNIST(asl_root / "double-asl-dvs.h5")


def test_the_dataset_of_an_archive_or_of_the_only_archive_in_a_folder(
    nmnist_root: Path, asl_root: Path, tmp_path: Path
) -> None:
    assert archive_dataset(nmnist_root) == "double-nmnist"
    assert archive_dataset(asl_root / "double-asl-dvs.h5") == "double-asl-dvs"
    with pytest.raises(UsageError, match=r"holds no archive, expected one file <name>.h5; give"):
        archive_dataset(tmp_path)
    for root in (nmnist_root, asl_root):
        for path in root.glob("*.h5"):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UsageError, match=r"2 archives \(double-nmnist.h5, double-asl-dvs.h5\)"):
        archive_dataset(tmp_path)
    with pytest.raises(MissingError):
        archive_dataset(tmp_path / "nothing.h5")


def test_archives_of_ones_own_are_listed_by_their_names(tmp_path: Path) -> None:
    path = busy_archive(tmp_path, events=1)
    (tmp_path / "other.h5").symlink_to(path)
    with pytest.raises(UsageError, match=r"holds 2 archives \(busy.h5, other.h5\), expected one"):
        archive_dataset(tmp_path)


def test_an_archive_under_another_name_is_named(tmp_path: Path, nmnist_root: Path) -> None:
    path = busy_archive(tmp_path, events=1).rename(tmp_path / "renamed.h5")
    (tmp_path / "another.h5").write_bytes(b"of another program")
    with pytest.raises(
        MissingError, match=r"no archive .*busy.h5, but .*renamed.h5 is an archive "
    ):
        me.load("busy", tmp_path)
    assert me.load("busy", path).name == "busy"
    (tmp_path / "mine.h5").symlink_to(nmnist_root / "double-nmnist.h5")
    with pytest.raises(MissingError, match=r"but .*mine.h5 is an archive of double-nmnist; give"):
        me.DoubleNMNIST(tmp_path)


@pytest.mark.parametrize("name", [Path("double-nmnist"), ["double-nmnist"], {}, None, 3])
def test_a_name_is_text(nmnist_root: Path, name: Any) -> None:
    with pytest.raises(UsageError, match=r"name=.* is no text; give the name of a dataset, such"):
        me.load(name, nmnist_root)


def test_download_true_fetches_and_builds_what_is_missing_once(
    nmnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots: list[Path] = []

    def fetch(recordings: Any, root: Path) -> Path:
        roots.append(root)
        return nmnist_folder

    monkeypatch.setattr("metaevents.building.fetch_recordings", fetch)
    for split in ("train", "test"):
        dataset = me.DoubleNMNIST(tmp_path / "data", split=split, download=True)
        assert dataset.archive.source == "n-mnist-subset"
    assert roots == [tmp_path / "data"]


def test_a_root_that_is_no_path_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be used as a path"):
        me.DoubleNMNIST("~nobody-of-that-name/data")


def test_an_archive_that_another_process_built_meanwhile_is_opened(
    nmnist_folder: Path, nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(recordings: Any, root: Path) -> Path:
        shutil.copy(nmnist_root / f"{NAME}.h5", root)
        return nmnist_folder

    monkeypatch.setattr("metaevents.building.fetch_recordings", fetch)
    before = (nmnist_root / f"{NAME}.h5").read_bytes()
    assert me.DoubleNMNIST(tmp_path, download=True).archive.path == tmp_path / f"{NAME}.h5"
    assert (tmp_path / f"{NAME}.h5").read_bytes() == before
    build_archive(NAME, tmp_path / f"{NAME}.h5", NMNIST(nmnist_folder), exist_ok=True)
    with pytest.raises(UsageError, match="--force"):
        build_archive(NAME, tmp_path / f"{NAME}.h5", NMNIST(nmnist_folder))


@pytest.mark.parametrize(
    "edit",
    [
        "file.attrs['window_us'] = 100_001",
        "file.attrs['sensor_size'] = [35, 34]",
    ],
)
def test_sensor_and_window_follow_the_rules(nmnist_root: Path, tmp_path: Path, edit: str) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    edit_archive(path, edit)
    with pytest.raises(ArchiveError, match=r"attribute .* is .*, double-nmnist has"):
        verify_rules(Archive(path))
