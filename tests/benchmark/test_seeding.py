"""The global random generators: seeded per episode, and restored."""
# ruff: noqa: NPY002  the global generators are what these tests are about

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from support.simple_learners import evaluate, first_cells

import metaevents as me
from metaevents.errors import UsageError


class Draws:
    """Records what the global generators give in each episode."""

    representation = "sum"

    def __init__(self) -> None:
        self.drawn: list[tuple[float, float, float]] = []

    def adapt(self, x: Any, y: Any, ways: int) -> Any:
        self.drawn.append((torch.rand(()).item(), float(np.random.rand()), random.random()))
        return lambda query_x: first_cells(query_x, ways)


def test_generators_are_seeded_for_each_episode_whatever_came_before(
    digits: me.DoubleNMNIST,
) -> None:
    long, short = Draws(), Draws()
    evaluate(long, digits, episodes=6)
    torch.manual_seed(99)
    evaluate(short, digits, episodes=3)
    assert long.drawn[:3] == short.drawn[:3]
    assert len({draw for draws in long.drawn[:6] for draw in draws}) == 18


@pytest.mark.parametrize("fails", [False, True])
def test_generators_are_put_back(digits: me.DoubleNMNIST, fails: bool) -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    def learner(x: Any, y: Any, ways: int) -> Any:
        torch.rand(3), np.random.rand(3), random.random()
        if fails:
            raise RuntimeError
        return lambda query_x: np.zeros((len(query_x), ways))

    before = state()
    if fails:
        with pytest.raises(UsageError):
            evaluate(learner, digits)
    else:
        evaluate(learner, digits)
    assert state() == before
