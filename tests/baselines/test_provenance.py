"""What weights were trained on: the record and its overlap with a test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.untrained import untrained_weights as weights

import metaevents as me
from baselines.provenance import Seen


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
    assert Seen.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen


def test_simulated_recordings_of_the_same_name_are_others(archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test")
    record = replace(weights(archive).record, trained=Seen.of(test), simulated=True)
    assert record.overlap(test) == ()
    assert replace(record, simulated=False).overlap(test) != ()
