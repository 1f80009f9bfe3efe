"""The learners shown in SUBMITTING.md: each runs, learns, and is what it says it is."""

from __future__ import annotations

import copy
import importlib.util
from types import ModuleType

import pytest
import torch
from torch import nn

import metaevents as me


@pytest.fixture(scope="module")
def examples() -> ModuleType:
    pytest.importorskip("snntorch", reason="snntorch is not installed; it is one of the examples")
    from support import learner_examples

    return learner_examples


class _MAML(nn.Module):
    """The interface of learn2learn's MAML: MAML(model, lr), clone(), adapt(loss), calls."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        super().__init__()
        self.module, self.lr = model, lr

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)

    def clone(self) -> _MAML:
        return _MAML(copy.deepcopy(self.module), self.lr)

    def adapt(self, loss: torch.Tensor) -> None:
        gradients = torch.autograd.grad(loss, list(self.module.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(self.module.parameters(), gradients, strict=True):
                parameter -= self.lr * gradient


def _maml(model: nn.Module, lr: float) -> nn.Module:
    """learn2learn's MAML where it is installed; its last release does not build on Python 3.11."""
    if importlib.util.find_spec("learn2learn"):
        from learn2learn.algorithms import MAML

        return MAML(model, lr=lr)
    return _MAML(model, lr)


def evaluate(learner: object, digits: me.DoubleNMNIST, episodes: int = 20) -> me.Report:
    return me.evaluate(learner, digits, "sample-5way-1shot", episodes=episodes, progress=False)


def test_numpy_learner(examples: ModuleType, digits: me.DoubleNMNIST) -> None:
    report = evaluate(examples.ClassMeans(), digits)
    assert report.accuracy > 0.5
    assert not report.transductive
    assert report.deterministic


def test_torch_learner(examples: ModuleType, digits: me.DoubleNMNIST) -> None:
    torch.manual_seed(0)
    report = evaluate(examples.FineTuned(), digits)
    assert report.accuracy > 0.5
    assert not report.transductive
    assert report.parameters == 2 * 16 * 9 + 16 + 16 * 32 * 9 + 32


def test_snntorch_learner(examples: ModuleType, digits: me.DoubleNMNIST) -> None:
    torch.manual_seed(0)
    report = evaluate(examples.Spiking(), digits, episodes=3)
    assert report.accuracy > 0.3
    assert not report.transductive
    assert report.spikes_per_sample is not None
    assert report.spikes_per_sample > 0


def test_learn2learn_learner(examples: ModuleType, digits: me.DoubleNMNIST) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 32), nn.ReLU(), nn.Linear(32, 5))
    before = copy.deepcopy(model.state_dict())
    report = evaluate(examples.FromLearn2Learn(_maml(model, lr=0.05), steps=5), digits)
    assert report.accuracy > 0.4
    assert not report.transductive
    assert report.parameters == 1024 * 32 + 32 + 32 * 5 + 5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
