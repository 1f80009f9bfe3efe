"""Figures 3 and 4: inner steps and frozen layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.experiment_runs import document
from torch import Tensor

from baselines.experiments import Study, variant
from baselines.experiments.accuracy import learner_accuracies, variant_accuracies
from baselines.experiments.fig3_fig4 import after_each_step
from metaevents.episodes import EpisodeLoader


def test_the_inner_step_curve_is_that_of_so_many_steps(study: Study) -> None:
    run = study.runs.get("snn-maml")
    loader = EpisodeLoader(study.test, 5, 1, 5, episodes=3)
    curve = variant_accuracies(loader, after_each_step(run, 3), progress=False)
    for steps in range(4):
        learner = variant(run.maml, steps=steps)
        assert curve[str(steps)] == learner_accuracies(learner, study.test, 5, 1, 5, 3, 0)

    def without_adaptation(support_x: Tensor, support_y: Tensor, ways: int) -> Any:
        return run.maml.net

    class Unadapted:
        adapt = staticmethod(without_adaptation)

    assert curve["0"] == learner_accuracies(Unadapted(), study.test, 5, 1, 5, 3, 0)


def test_nothing_frozen_nothing_dropped_and_no_rounding_are_all_the_same(outputs: Path) -> None:
    fig4 = [row for row in document(outputs, "fig4")["rows"] if row["model"] == "snn-maml"]
    fig5 = [row for row in document(outputs, "fig5")["rows"] if row["panel"] == "accuracy"]
    steps = [row for row in document(outputs, "fig3")["rows"] if row.get("model") == "snn-maml"]
    reference = steps[1]["accuracy"]
    assert [row["frozen layers"] for row in fig4] == [0, 1, 2, 3]
    assert [row["threshold"] for row in fig5] == [0.0, 0.01, 0.05, 0.1, 0.2, 0.5]
    assert fig4[0]["accuracy"] == fig5[0]["accuracy"] == reference
    for name in ("quantization", "plasticity"):
        assert document(outputs, name)["rows"][0]["accuracy"] == reference


def test_first_order_is_judged_after_the_last_inner_step(outputs: Path) -> None:
    *steps, verdict = document(outputs, "fig3")["rows"]
    last = {row["model"]: row["accuracy"] for row in steps if row["inner steps at test"] == 10}
    assert verdict["panel"] == "claims"
    assert verdict["network"] == "snn"
    assert verdict["trainings"] == 1
    assert verdict["verdict"] == "not resolved"
    assert verdict["difference"] == pytest.approx(last["snn-maml"] - last["snn-fomaml"], abs=1e-3)
