"""Configurations and recipes."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from support.training_runs import (
    small,
)

from baselines.config import RECIPES, RunConfig, recipe
from baselines.models import build_maml, build_network
from metaevents.errors import UsageError


def test_the_papers_recipe_is_the_papers() -> None:
    paper = RECIPES["snn-maml"]["paper"]
    assert (paper.ways, paper.shots, paper.queries, paper.inner_steps, paper.inner_lr) == (
        5,
        1,
        10,
        1,
        1.0,
    )
    assert (paper.lr, paper.min_lr_ratio, paper.steps, paper.meta_batch_size, paper.burn_in) == (
        2e-3,
        1 / 50,
        20_000,
        1,
        70,
    )
    net = build_network(paper, (100, 2, 16, 32))
    assert sum(p.numel() for p in net.parameters()) == 262_949
    assert not build_maml(RECIPES["snn-fomaml"]["paper"], net).config.second_order


def test_a_configuration_survives_its_document() -> None:
    config = small("cnn-fomaml", inner_layers="2")
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match="choose one of snn-maml"):
        recipe("rnn-maml")
    with pytest.raises(UsageError, match="paper, best"):
        recipe("snn-maml", "worst")
    with pytest.raises(UsageError, match="no field 'depth'"):
        recipe("snn-maml", depth=3)
    with pytest.raises(UsageError, match="'depth', unknown to this release"):
        RunConfig.from_dict({"depth": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": 4}, {"kernel": 0}, {"channels": (0, 4)}, {"channels": ()}, {"channels": 4},
        {"channels": (4,) * 17}, {"channels": (True, 4)}, {"channels": "345"}, {"lr": math.nan},
        {"lr": math.inf}, {"inner_lr": "0.1"}, {"head_lr": 0}, {"lr": True}, {"min_lr_ratio": -1},
        {"min_lr_ratio": 2}, {"head_weight_decay": math.nan}, {"steps": 3.0}, {"steps": True},
        {"ways": 1}, {"seed": -1}, {"seed": 2**63}, {"shots": "1"}, {"inner_steps": -1},
        {"head_steps": 10**18}, {"inner_layers": "4"}, {"inner_layers": "\u00b2"},
        {"inner_layers": 1}, {"inner_layers": "tail"}, {"learn_inner_lrs": 1}, {"pooling": []},
        {"precision": None}, {"dataset": "../x"}, {"recipe": ""}, {"classes": 3},
        {"model": ["snn-maml"]},
    ],
)  # fmt: skip
def test_wrong_values_are_one_error_that_names_the_field(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=name) as caught:
        RunConfig(**wrong)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=name):
        RunConfig.from_dict({**RunConfig().to_dict(), **wrong})


def test_numbers_of_numpy_become_numbers_of_python() -> None:
    config = RunConfig(
        ways=np.int64(5),
        channels=np.array([4, 8]),
        lr=np.float32(0.5),
        inner_layers="2",
        inner_lr=1,
    )
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert type(config.ways) is int
    assert type(config.inner_lr) is float
