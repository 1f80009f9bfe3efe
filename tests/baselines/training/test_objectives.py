"""What is trained: losses fall, and only the train split gives samples."""

from __future__ import annotations

from pathlib import Path

from support.training_runs import (
    small,
)

import metaevents as me
from baselines.training.folder import learning_curve
from baselines.training.loop import train
from baselines.weights_file import read_weights


def test_the_training_loss_falls(archive: Path, tmp_path: Path) -> None:
    train(
        small(
            "cnn-transfer",
            steps=150,
            val_every=50,
            channels=(8, 16, 32),
            norm_groups=4,
            batch_size=32,
        ),
        archive,
        tmp_path,
        progress=False,
    )
    curve = learning_curve(tmp_path)
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    assert curve[-1]["held_out_accuracy"] > 5 / 64


def test_validation_draws_from_the_val_split_and_training_from_the_train_split_alone(
    whole: Path, archive: Path
) -> None:
    record = read_weights(whole / "best.safetensors").record
    splits = {name: me.load("double-nmnist", archive, name) for name in ("train", "val", "test")}
    assert record.trained.classes == splits["train"].classes
    assert record.chosen.classes == splits["val"].classes
    tested = {
        id
        for c in splits["test"].classes
        for side in splits["test"].recording_ids(c)
        for id in side
    }
    assert tested.isdisjoint(record.trained.recordings)
    assert tested.isdisjoint(record.chosen.recordings)
    trained = {
        id
        for c in splits["train"].classes
        for side in splits["train"].recording_ids(c)
        for id in side
    }
    assert trained == set(record.trained.recordings)
