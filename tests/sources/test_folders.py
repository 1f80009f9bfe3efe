"""Recordings in a folder per label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.gestures import recording
from support.recordings import nmnist_bytes, random_events

from metaevents.errors import MissingError, RecordingError
from metaevents.events import as_events
from metaevents.sources.folders import FolderDataset, natural_key


def test_recordings_of_every_form_are_read(tmp_path: Path) -> None:
    for label in ("b2", "b10", "a"):
        (tmp_path / label).mkdir()
    events = recording(0, 0)
    np.save(tmp_path / "b2" / "take_10.npy", events)
    np.savez(tmp_path / "b2" / "take_9.npz", **{name: events[name] for name in events.dtype.names})
    np.savez_compressed(tmp_path / "b10" / "x.npz", ts=events["t"], x=events["x"], y=events["y"],
                        pol=events["on"])  # fmt: skip
    (tmp_path / "a" / "one.BIN").write_bytes(nmnist_bytes(random_events(0)))
    (tmp_path / "a" / "notes.txt").write_text("no recording")
    (tmp_path / "README.md").write_text("no label")
    dataset = FolderDataset(tmp_path)
    assert dataset.targets == ["a", "b2", "b2", "b10"]
    assert dataset.names == ["one", "take_9", "take_10", "x"]
    expected = as_events(events)
    for index in (1, 2, 3):
        np.testing.assert_array_equal(as_events(dataset[index][0]), expected)
    np.testing.assert_array_equal(as_events(dataset[0][0]), random_events(0))


def test_names_are_in_natural_order() -> None:
    names = ["t10", "t9", "t09", "a", "10", "9", "t9b", ""]
    assert sorted(names, key=natural_key) == ["", "9", "10", "a", "t09", "t9", "t9b", "t10"]


def test_folders_without_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        FolderDataset(tmp_path / "none")
    with pytest.raises(MissingError, match="no recording below"):
        FolderDataset(tmp_path)
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "x.npy", recording(0, 0))
    (tmp_path / "a" / "x.bin").write_bytes(b"")
    with pytest.raises(RecordingError, match="both recording 'x'"):
        FolderDataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.npy", b""),
        ("x.npy", b"\x93NUMPY\x01\x00"),
        ("x.npy", np.lib.format.magic(1, 0) + b"\x76\x00" + b"{'descr': '|u1', 'fortran_order': "
         b"False, 'shape': (99999999999,), }".ljust(117) + b"\n"),
        ("x.npz", b"PK"),
        ("x.bin", b"1234"),
        ("x.aedat4", b"#!AER-DAT"),
    ],
)  # fmt: skip
def test_damaged_files_are_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / name
    path.write_bytes(content)
    with pytest.raises((RecordingError, MissingError)) as caught:
        FolderDataset(tmp_path)[0]
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value) or "aedat" in str(caught.value)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "x.npy", np.array([{"x": 1}], object), allow_pickle=True)
    with pytest.raises(RecordingError, match="cannot be read"):
        FolderDataset(tmp_path)[0]
