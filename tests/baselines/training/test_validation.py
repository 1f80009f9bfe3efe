"""Validation episodes: fitted to what the val split has."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.training_runs import (
    small,
)

import metaevents as me
from baselines.learners import load
from baselines.training.loop import TrainingRun, train
from metaevents.errors import UsageError


def test_more_ways_than_the_val_split_has_classes(
    archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(
        small("cnn-maml", ways=20, steps=2, val_episodes=1),
        archive,
        tmp_path / "run",
        progress=False,
    )
    assert "validation has 16 ways, not 20" in caplog.text
    test = me.load("double-nmnist", archive, "test")
    report = me.evaluate(
        load(tmp_path / "run"), test, "20way-1shot", episodes=2, queries=1, progress=False
    )
    assert 0 <= report.accuracy <= 1


def test_too_few_recordings_for_an_episode_are_named(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="queries=200 need"):
        TrainingRun(small(queries=200), archive, tmp_path, progress=False)
