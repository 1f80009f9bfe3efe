"""REPTILE: its outer step is initial minus adapted parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from baselines.config import MODELS, RECIPES, recipe
from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.models import build_maml, build_network
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig
from baselines.reptile import Reptile
from metaevents.errors import UsageError

SHAPE: dict[str, Any] = {"frame_shape": (14, 2, 4, 4), "ways": 3, "channels": (4, 6), "kernel": 3}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[False, True], ids=["ConvNet", "SpikingNet"])
def net(request: pytest.FixtureRequest) -> SpikingNet | ConvNet:
    if request.param:
        return SpikingNet(SpikingConfig(**SHAPE, burn_in=4)).double()
    return ConvNet(StackConfig(**SHAPE)).double()


@pytest.fixture
def batch() -> TaskBatch:
    """Two tasks of 3 support samples and 9 queries."""
    x = torch.poisson(torch.full((2, 12, 14, 2, 4, 4), 0.3, dtype=torch.float64), generator())
    y = torch.arange(12).expand(2, 12) % 3
    return TaskBatch(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:])


def test_the_outer_gradient_is_initial_minus_adapted_parameters(
    net: SpikingNet | ConvNet, batch: TaskBatch
) -> None:
    rate, steps = 0.05, 4
    found = Reptile(net, MAMLConfig(inner_lr=rate, steps=steps)).accumulate(batch)
    expected: dict[str, Tensor] = {}
    losses = []
    for task in range(2):
        params = {name: value.detach().clone() for name, value in net.named_parameters()}
        x = torch.cat([batch.support_x[task], batch.query_x[task]])
        y = torch.cat([batch.support_y[task], batch.query_y[task]])
        for step in range(steps):  # plain gradient descent by hand
            leaves = {name: value.requires_grad_() for name, value in params.items()}
            loss = cross_entropy(net.apply_params(leaves, x[step::steps]), y[step::steps])
            losses.append(float(loss.detach()))
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            params = {
                name: (value - rate * gradient).detach()
                for (name, value), gradient in zip(leaves.items(), gradients, strict=True)
            }
        for name, value in net.named_parameters():
            expected[name] = expected.get(name, 0) + (value.detach() - params[name]) / 2
    for name, value in net.named_parameters():
        torch.testing.assert_close(value.grad, expected[name])
        assert value.grad is not None
        assert value.grad.any()
        torch.testing.assert_close(found.gradients[f"net.{name}"], expected[name])
    assert float(found.loss) == pytest.approx(sum(losses) / len(losses))
    assert 0 <= float(found.accuracy) <= 1


def test_tasks_in_one_call_give_what_single_tasks_give(
    net: SpikingNet | ConvNet, batch: TaskBatch
) -> None:
    single, both = (
        Reptile(net, MAMLConfig(inner_lr=0.05, steps=3, tasks_at_once=tasks)).accumulate(batch)
        for tasks in (1, 2)
    )
    torch.testing.assert_close(single.loss, both.loss)
    torch.testing.assert_close(single.accuracy, both.accuracy)
    for name, value in single.gradients.items():
        torch.testing.assert_close(both.gradients[name], value)


def test_frozen_layers_do_not_move(net: SpikingNet | ConvNet, batch: TaskBatch) -> None:
    Reptile(net, MAMLConfig(steps=2, layers="head")).accumulate(batch)
    for name, value in net.named_parameters():
        assert value.grad is not None
        assert bool(value.grad.any()) == name.startswith("head")


def test_descending_it_lowers_the_loss_after_adaptation(batch: TaskBatch) -> None:
    net = ConvNet(StackConfig(**SHAPE)).double()
    learner = Reptile(net, MAMLConfig(inner_lr=0.02, steps=3))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(float(learner.accumulate(batch).loss))
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("model", [name for name, kind in MODELS.items() if kind.reptile])
def test_its_models_are_built_from_their_recipes(model: str) -> None:
    for name, config in RECIPES[model].items():
        learner = build_maml(config, build_network(config, (100, 2, 16, 32)))
        assert isinstance(learner, Reptile)
        assert (learner.config.steps, learner.config.learn_inner_lrs) == (5, False)
        assert config.recipe == name
    other = recipe(model.replace("reptile", "maml"))
    assert type(build_maml(other, build_network(other, (100, 2, 16, 32)))) is MAML


@pytest.mark.parametrize(
    "wrong", [{"learn_inner_lrs": True}, {"inner_steps": 0}, {"inner_steps": 51}]
)
def test_what_its_inner_loop_cannot_do_is_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=name) as caught:
        recipe("cnn-reptile", **wrong)
    assert "\n" not in str(caught.value)
