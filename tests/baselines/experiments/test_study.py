"""A study: its budget, and weights that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.experiments import EXPERIMENTS, Study
from metaevents.errors import UsageError


def test_the_budgets_are_ten_minutes_and_the_papers_setting(
    archive: Path, asl_root: Path, runs: Path, tmp_path: Path
) -> None:
    def budget(root: Path, name: str) -> Any:
        return Study(EXPERIMENTS["table2"], root, tmp_path, budget=name).budget

    full = budget(archive, "full")
    assert (full.episodes, full.trials, full.recipe) == (600, 10, "paper")
    assert budget(asl_root, "full") == full
    quick, larger = budget(archive, "quick"), budget(asl_root, "quick")
    assert 4 < quick.episodes / larger.episodes < 6  # frames are 4.7 times as large
    assert larger.training["steps"] < quick.training["steps"]


def test_weights_that_have_seen_the_test_are_refused(
    archive: Path, runs: Path, study: Study
) -> None:
    run = study.runs.get("cnn-maml")
    record = run.learner.record
    seen = replace(record, trained=replace(record.trained, classes=study.test.classes))
    run = replace(run, learner=type(run.learner)(run.maml, run.config, seen))
    with pytest.raises(UsageError, match="the weights have seen the test split"):
        study.measure("test", lambda episode: (), [run])
