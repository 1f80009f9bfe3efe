"""Archives of the built-in datasets: their paths, opening, and their rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.archives import NAME

import metaevents as me
from metaevents.archive.reader import Archive
from metaevents.building import verify_rules
from metaevents.datasets import archive_dataset
from metaevents.errors import ArchiveError, MissingError, UsageError


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
    with pytest.raises(UsageError, match="holds 0 archives of double-nmnist and double-asl-dvs"):
        archive_dataset(tmp_path)
    for root in (nmnist_root, asl_root):
        for path in root.glob("*.h5"):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UsageError, match=r"holds 2 archives .* give the archive file"):
        archive_dataset(tmp_path)
    with pytest.raises(MissingError):
        archive_dataset(tmp_path / "nothing.h5")


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
