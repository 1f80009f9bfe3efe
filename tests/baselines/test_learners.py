"""Trained weights as learners: they know their past, and refuse a test that they have seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import baselines
import metaevents as me
from baselines.config import recipe
from baselines.learners import Baseline, from_weights
from baselines.provenance import Record, Seen
from baselines.weights_file import Weights, fill, read_weights
from metaevents.errors import MissingError, UsageError

CONFIG = recipe("cnn-maml", "paper", channels=(4, 4, 8))


def weights(archive: Path, classes: str = "published", **changes: Any) -> Weights:
    train, val = (
        me.load("double-nmnist", archive, split, classes=classes) for split in ("train", "val")
    )
    record = replace(Record.of(train, val), **changes)
    return Weights(
        CONFIG.meta_learner(CONFIG.network(record.frame_shape)).state_dict(), CONFIG, record
    )


def learner(archive: Path, force: bool = False, **changes: Any) -> Baseline:
    return from_weights(weights(archive, **changes), "weights", force=force)


def score(learner: Baseline, dataset: me.DoubleNMNIST | Any) -> Any:
    return me.evaluate(learner, dataset, "sample-5way-1shot", episodes=2, queries=2, progress=False)


@pytest.fixture(scope="module")
def archive(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


def test_weights_survive_their_file(archive: Path, tmp_path: Path) -> None:
    written = weights(archive, step=7, measured={"val_accuracy": 0.5})
    written.save(tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors")
    assert (read.config, read.record) == (written.config, written.record)
    assert all(torch.equal(read.tensors[name], value) for name, value in written.tensors.items())
    assert list(tmp_path.iterdir()) == [tmp_path / "w.safetensors"]


def test_the_record_names_every_recording(archive: Path) -> None:
    train = me.load("double-nmnist", archive, "train")
    seen = weights(archive).record.trained
    assert set(seen.recordings) == {
        id for c in train.classes for side in train.recording_ids(c) for id in side
    }
    assert seen.classes == train.classes
    assert Seen.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen


def test_an_honest_test_is_scored_without_a_mark(archive: Path) -> None:
    report = score(learner(archive), me.load("double-nmnist", archive, "test"))
    assert report.overlap is None
    assert report.seen["trained"]["recordings"] == len(weights(archive).record.trained.recordings)


def test_a_test_of_trained_classes_is_refused_or_marked(archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test", classes="novel-components")
    with pytest.raises(UsageError, match=r"the weights have seen .* classes were trained on"):
        score(learner(archive), test)
    report = score(learner(archive, force=True), test)
    assert "classes were trained on" in report.overlap
    assert "SEEN BEFORE" in str(report)


@pytest.mark.parametrize("split", ["trained", "chosen"])
def test_a_test_of_seen_recordings_is_refused_or_marked(split: str, archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test")
    one = test.recording_ids(0)[0][0]
    seen = {split: Seen(("02",) if split == "chosen" else (), (one,))}
    with pytest.raises(UsageError, match=r"1 of its \d+ recordings were"):
        score(learner(archive, **seen), test)
    assert "1 of its" in score(learner(archive, force=True, **seen), test).overlap


def test_published_pairing_is_marked_for_its_own_leak_and_refused_for_any_other(
    archive: Path,
) -> None:
    test = me.load("double-nmnist", archive, "test", pairing="published")
    assert "used to choose" in score(learner(archive), test).overlap
    with pytest.raises(UsageError, match="trained on"):
        score(learner(archive, trained=Seen((), (test.recording_ids(0)[0][0],))), test)


def test_simulated_recordings_of_the_same_name_are_others(archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test")
    record = replace(weights(archive).record, trained=Seen.of(test), simulated=True)
    assert record.overlap(test) == ()
    assert replace(record, simulated=False).overlap(test) != ()


def test_evaluate_asks_before_the_first_episode(archive: Path) -> None:
    class Refusing:
        def overlap(self, dataset: object) -> str:
            raise UsageError("seen all of it")

        def adapt(self, *_: object) -> object:
            raise AssertionError("an episode was run")

    with pytest.raises(UsageError, match="seen all of it"):
        me.evaluate(
            Refusing(),
            me.load("double-nmnist", archive, "test"),
            "sample-5way-1shot",
            episodes=2,
            queries=2,
        )


# --- files that are not what they should be -------------------------------------------------------------------------------


def test_files_that_are_no_weights_are_one_sentence(archive: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "w.safetensors"
    with pytest.raises(MissingError, match="no weights"):
        read_weights(file)
    weights(archive).save(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="no whole safetensors file"):
        read_weights(file)
    save_file({"w": torch.zeros(1)}, file)
    with pytest.raises(UsageError, match="no record of its training"):
        read_weights(file)


def test_weights_of_another_architecture_name_what_does_not_fit(archive: Path) -> None:
    found = weights(archive)
    other = recipe("cnn-maml", "paper", channels=(4, 8, 8))
    with pytest.raises(
        UsageError,
        match=r"another architecture: net.body.1.weight is \(4, 4, 5, 5\) there and \(8, 4, 5, 5\)",
    ):
        fill(other.meta_learner(other.network(found.record.frame_shape)), found, "w")


def test_ways_that_the_head_does_not_have(archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test")
    with pytest.raises(UsageError, match="5 classes apart and was given a task of 20"):
        me.evaluate(learner(archive), test, "20way-1shot", episodes=1, queries=2, progress=False)


def test_an_unknown_baseline_lists_what_ships() -> None:
    with pytest.raises(
        MissingError, match=r"no weights of snn-maml \(best\) for double-asl-dvs.*it has "
    ):
        baselines.load("snn-maml", dataset="double-asl-dvs")
