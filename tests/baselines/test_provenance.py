"""What weights were trained on: the record and its overlap with a test."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.archives import build_in
from support.untrained import untrained_weights as weights

import metaevents as me
from baselines.provenance import Record, Seen
from metaevents.building import open_source


@pytest.fixture(scope="module")
def archive(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


def test_the_record_names_every_recording(archive: Path) -> None:
    train = me.load("double-nmnist", archive, "train")
    seen = weights(archive).record.trained
    assert set(seen.recordings) == {
        id for c in train.classes for side in train.recording_ids(c) for id in side
    }
    assert seen.classes == train.classes
    assert len(seen.contents) == len(seen.recordings)
    assert Seen.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen


def test_classes_of_simulated_recordings_are_others(archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test")
    record = replace(weights(archive).record, trained=Seen(test.classes), simulated=True)
    assert record.overlap(test) == ()
    assert replace(record, simulated=False).overlap(test) == (
        "20 of its 20 classes were trained on",
    )


def test_trained_classes_are_known_in_a_dataset_of_another_name(
    archive: Path, nmnist_folder: Path, tmp_path: Path
) -> None:
    record = weights(archive).record
    seen = next(name for name in record.trained.classes if name[0] != name[1])
    new = seen[::-1]
    test = me.compose(
        open_source("double-nmnist", nmnist_folder),
        split="test",
        root=tmp_path,
        partition="official-folders",
        splits={"test": [seen, new]},
    )
    known = {seen, new} & set(record.trained.classes)
    phrases = Record.of(test, test).overlap(test), record.overlap(test)
    assert f"{len(known)} of its 2 classes were trained on" in phrases[1]
    assert "2 of its 2 classes were trained on" in phrases[0]


@pytest.fixture(scope="module")
def dealt_anew(nmnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive whose test recordings are the training recordings of `archive`, renamed.

    As in the 1,000-recording subset, ids of both archives are alike and name other recordings.
    """
    folder = tmp_path_factory.mktemp("dealt-anew")
    for path in sorted((nmnist_folder / "Train").glob("*/*.bin")):
        for part, number in (("Train", 0), ("Test", 0), ("Test", 1)):
            # Positions 0, 2, 4 ... of a digit go to val, 1, 3, 5 ... to test.
            target = folder / part / path.parent.name / f"{2 * int(path.stem) + number:05d}.bin"
            target.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            if (part, number) != ("Test", 1):
                data = data[: len(data) // 2]  # another recording
            target.write_bytes(data)
    return build_in(tmp_path_factory.mktemp("other"), "double-nmnist", folder)


def test_recordings_are_known_under_another_name(archive: Path, dealt_anew: Path) -> None:
    record = weights(archive).record
    test = me.load("double-nmnist", dealt_anew, "test")
    n = len(record.trained.recordings)
    assert record.overlap(test) == (f"{n} of its {n} recordings were trained on",)
    assert not set(record.trained.recordings) & set(Seen.of(test).recordings)


def test_other_recordings_of_the_same_name_are_not_refused(archive: Path, dealt_anew: Path) -> None:
    val = me.load("double-nmnist", dealt_anew, "val")
    seen = Seen.of(me.load("double-nmnist", archive, "test"))
    ids = Seen.of(val).recordings
    record = replace(weights(archive).record, trained=replace(seen, classes=(), recordings=ids))
    assert record.overlap(val) == ()


def test_recordings_are_known_in_another_composition(
    archive: Path, nmnist_folder: Path, tmp_path: Path
) -> None:
    record = weights(archive).record
    train = me.compose(
        open_source("double-nmnist", nmnist_folder),
        arity=1,
        root=tmp_path,
        crop=(32, 32),
        splits={"train": ["0", "1"], "val": ["2"], "test": ["3"]},
    )
    assert any("recordings were trained on" in phrase for phrase in record.overlap(train))


@pytest.mark.parametrize(
    ("digests", "reason"),
    [
        (b"1234567", "cut off"),
        (b"12345678" * 2, "not all different"),
        (bytes(range(16)), "2 digests of 1 recordings"),
    ],
)
def test_damaged_digests_are_refused(digests: bytes, reason: str) -> None:
    values = Seen(("02",), ("Train/0/00001",), ("0" * 16,)).to_dict()
    values["contents_base64"] = base64.b64encode(digests).decode()
    with pytest.raises(ValueError, match=reason):
        Seen.from_dict(values)
