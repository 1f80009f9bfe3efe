"""The plasticity experiment, with rules of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.experiment_runs import OPTIONS, document

import baselines
import metaevents as me
from baselines.experiments import compare_rules, reproduce, variant
from baselines.experiments.variants import run_update
from baselines.networks import Params
from baselines.plasticity import RULES, Rule


def test_a_fourth_inner_update_takes_ten_lines(archive: Path, runs: Path, tmp_path: Path) -> None:
    run, dataset, out = runs / "snn-maml", me.load("double-nmnist", archive, "test"), tmp_path

    def sign_descent(params: Params, gradients: Params, step: int) -> Params:
        return {name: value - 0.01 * gradients[name].sign() for name, value in params.items()}

    learner = variant(baselines.load(run).model, update=sign_descent)
    report = me.evaluate(learner, dataset, "sample-5way-1shot", episodes=2, progress=False)
    rules = {
        "gradient": RULES["gradient"],
        "sign": Rule(update=lambda lr, generator: sign_descent),
    }
    reproduce(compare_rules(rules), archive, out, runs=[run], **OPTIONS)

    assert report.deterministic
    rows = document(out, "plasticity")["rows"]
    assert [(row["rule"], row["meta-trained with the rule"]) for row in rows] == [
        ("gradient", "no"),
        ("gradient", "yes"),
        ("sign", "no"),
        ("sign", "yes"),
    ]


def test_a_rule_with_one_rate_gets_the_mean_of_the_learned_ones(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    given = []

    def update(lr: float, generator: torch.Generator) -> Any:
        given.append(lr)
        return run_update(baselines.load(runs / "snn-maml").model)

    reproduce(
        compare_rules({"own": Rule(update=update)}),
        archive,
        tmp_path,
        runs=[runs / "snn-maml"],
        **OPTIONS,
    )
    rates = baselines.load(runs / "snn-maml").model.inner_lrs
    assert given[0] == pytest.approx(float(rates.detach().mean()))
