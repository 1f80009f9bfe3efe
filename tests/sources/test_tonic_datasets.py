"""Datasets of tonic, read from made-up files in the official layouts; nothing is downloaded."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import random_events
from support.tonic_folders import write_cifar10dvs, write_dvs_gesture, write_ncaltech101

from metaevents.custom_rules import read_rules
from metaevents.errors import MissingError, RecordingError, UsageError
from metaevents.events import as_events
from metaevents.sources.kinds import open_recordings
from metaevents.sources.tonic_datasets import TonicDataset

pytest.importorskip("tonic", reason="tonic is not installed")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_n_caltech101_is_read_in_order_of_its_files(tmp_path: Path) -> None:
    write_ncaltech101(tmp_path, ["yin_yang", "ant", "BACKGROUND_Google"], files=11)
    dataset = TonicDataset("NCALTECH101", tmp_path)
    assert dataset.targets == ["BACKGROUND_Google"] * 11 + ["ant"] * 11 + ["yin_yang"] * 11
    assert dataset.names is not None
    assert dataset.names[:11] == [f"image_{i:04d}" for i in range(1, 12)]
    assert not dataset.complete
    assert dataset.sensor_size is None
    expected = random_events(1001, 30, 200, 150)
    expected["x"] -= expected["x"].min()  # as tonic does
    expected["y"] -= expected["y"].min()
    for each in (dataset, pickle.loads(pickle.dumps(dataset))):
        events, label = each[11]
        assert label == "ant"
        np.testing.assert_array_equal(as_events(events), expected)


def test_both_official_parts_are_read(tmp_path: Path) -> None:
    dataset = TonicDataset("DVSGesture", write_dvs_gesture(tmp_path))
    assert len(dataset) == 44
    assert dataset.folders == ["Train"] * 22 + ["Test"] * 22
    assert set(dataset.targets) == {str(i) for i in range(11)} or len(set(dataset.targets)) == 11


def test_rules_of_n_caltech101_read_the_official_layout(tmp_path: Path) -> None:
    rules = read_rules("n-caltech101")
    assert rules.source is not None
    labels = rules.source.labels or ()
    write_ncaltech101(tmp_path, [*labels, "BACKGROUND_Google"], files=1)
    source = open_recordings(rules, tmp_path)
    assert source.labels == labels
    assert source.sensor_size == (240, 180)
    assert source.name == "n-caltech101-subset"
    refs = source.recordings()
    assert len(refs) == 100
    assert {ref.id for ref in refs} == {f"{label}/image_0001" for label in labels}
    assert len(source.read(refs[0])[0]) == 30


def test_rules_of_cifar10_dvs_read_the_official_layout(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed")
    rules = read_rules("cifar10-dvs")
    assert rules.source is not None
    labels = rules.source.labels or ()
    source = open_recordings(rules, write_cifar10dvs(tmp_path, labels))
    assert source.labels == labels
    assert source.sensor_size == (128, 128)
    refs = source.recordings()
    assert refs[2].id == "automobile/cifar10_automobile_0"
    np.testing.assert_array_equal(
        source.read(refs[2])[0], random_events(1000, 30, 128, 128, 1_200_000)
    )


def test_a_folder_without_files_names_the_download(tmp_path: Path) -> None:
    for kind in ("NCALTECH101", "CIFAR10DVS", "DVSGesture", "SHD"):
        with pytest.raises((MissingError, RecordingError), match=f"tonic.*{kind}") as caught:
            TonicDataset(kind, tmp_path)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["os", "Dataset", "nmnist", "__builtins__", "NoSuch"])
def test_what_is_no_dataset_of_tonic_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=f"tonic has no dataset '{kind}'; choose one of ASLDVS"):
        TonicDataset(kind, tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_ncaltech101(tmp_path, ["ant"])
    path = tmp_path / "NCALTECH101" / "Caltech101" / "ant" / "image_0001.bin"
    path.write_bytes(b"123")
    with pytest.raises(RecordingError, match=r"tonic cannot read .*ant/image_0001.bin"):
        TonicDataset("NCALTECH101", tmp_path)[0]
