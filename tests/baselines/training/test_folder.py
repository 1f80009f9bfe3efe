"""The folder of a run: its files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from support.training_runs import (
    small,
    start,
    train_words,
    wait_for,
)

from baselines.config import RunConfig
from baselines.training.folder import learning_curve
from baselines.training.loop import TrainingRun
from metaevents.errors import MissingError, UsageError


def test_the_folder_holds_configuration_log_best_weights_and_a_checkpoint(whole: Path) -> None:
    assert RunConfig.from_dict(json.loads((whole / "config.json").read_text("utf-8"))) == small()
    assert [line["step"] for line in learning_curve(whole)] == [2, 4, 6]
    assert {"loss", "accuracy", "val_accuracy", "val_ci95", "lr"} <= set(learning_curve(whole)[0])
    state = torch.load(whole / "last" / "step-0000006.optimizer.pt", weights_only=True)
    assert state["adam"]["state"][0]["step"] == 6
    with safe_open(whole / "best.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["model"] == "snn-maml"
    assert sorted(path.name for path in (whole / "last").iterdir()) == [
        "state.json", "step-0000006.optimizer.pt", "step-0000006.safetensors",
    ]  # fmt: skip


def test_a_folder_with_a_run_is_not_written_over(whole: Path, archive: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*"))
    with pytest.raises(UsageError, match="holds a run; give --resume"):
        TrainingRun(small(), archive, whole, progress=False)
    assert sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*")) == before


def test_a_run_does_not_continue_with_other_options(whole: Path, archive: Path) -> None:
    with pytest.raises(UsageError, match=r"started with steps=6 .* continue with steps=7"):
        TrainingRun(small(steps=7), archive, whole, resume=True, progress=False)


def test_a_run_does_not_continue_with_another_archive(whole: Path, nmnist_root: Path) -> None:
    with pytest.raises(UsageError, match="fingerprint"):
        TrainingRun(small(), nmnist_root / "double-nmnist.h5", whole, resume=True, progress=False)


def test_two_runs_do_not_share_a_folder(archive: Path, tmp_path: Path) -> None:
    process = start(train_words(archive, tmp_path, steps=2000))
    try:
        wait_for(tmp_path / "last" / "state.json", process)
        with pytest.raises(UsageError, match="another process is training"):
            TrainingRun(None, archive, tmp_path, resume=True, progress=False).run()
    finally:
        process.kill()
        process.communicate()


def test_a_folder_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run in"):
        learning_curve(tmp_path)
