"""Sources by the name of their kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.gestures import write_gestures, write_rules

from metaevents.custom_rules import read_rules
from metaevents.errors import UsageError
from metaevents.sources.base import SIMULATED_MARK, Source
from metaevents.sources.kinds import open_recordings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gestures(tmp_path_factory.mktemp("gestures"), takes=2)


def opened(tmp_path: Path, folder: Path, **source: Any) -> Source:
    return open_recordings(read_rules(write_rules(tmp_path / "r.json", source=source)), folder)


def test_official_recordings_are_read_by_their_readers(
    tmp_path: Path, nmnist_folder: Path, asl_folder: Path
) -> None:
    digits = opened(tmp_path, nmnist_folder, kind="n-mnist", labels=["7", "3"])
    assert digits.labels == ("7", "3")
    assert digits.sensor_size == (34, 34)
    refs = digits.recordings()
    assert {ref.label for ref in refs} == {"7", "3"}
    assert len(refs) == 72
    assert len(digits.read(refs[0])[0]) > 0
    assert opened(tmp_path, asl_folder, kind="asl-dvs").name == "asl-dvs-subset"
    with pytest.raises(UsageError, match="give a sensor_size, but n-mnist has its own"):
        opened(tmp_path, nmnist_folder, kind="n-mnist", sensor_size=[34, 34])


def test_folders_give_labels_names_and_size(tmp_path: Path, root: Path) -> None:
    source = opened(tmp_path, root / "raw", kind="folders")
    assert source.labels == tuple(f"g{i}" for i in range(10))
    assert source.name == "gestures"
    assert source.recordings()[3].id == "g1/take_1"
    assert max(source.sensor_size) <= 16  # from the events
    assert opened(tmp_path, root / "raw", kind="folders", sensor_size=[20, 30]).sensor_size == (
        20,
        30,
    )


def test_simulated_recordings_stay_marked(tmp_path: Path) -> None:
    root = write_gestures(tmp_path, takes=1)
    (root / "raw" / SIMULATED_MARK).write_text("made up")
    assert opened(tmp_path, root / "raw", kind="folders").name == "simulated"


def test_unknown_labels_and_missing_sources_are_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UsageError, match="no recordings of 'wave', which the rules name; its lab"):
        opened(tmp_path, root / "raw", kind="folders", labels=["g1", "wave"])
    with pytest.raises(UsageError, match="have no field source"):
        open_recordings(read_rules(write_rules(tmp_path / "r.json", source=None)), root / "raw")
