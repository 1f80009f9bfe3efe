"""Learners under other defaults of torch: dtype, device and inference mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.init import lsuv_init
from baselines.learners import load
from baselines.maml import MAML, MAMLConfig, TaskBatch, adam_cosine, restore_optimizer
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig, fill_orthogonal
from baselines.transfer import Transfer

SPIKING = SpikingConfig(frame_shape=(16, 2, 8, 16), ways=3, channels=(16, 16), burn_in=8)
CONV = StackConfig(frame_shape=(16, 2, 8, 16), ways=3, channels=(16, 16))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[], Any]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
}


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator("cpu").manual_seed(0)
    rates = torch.full((9, 16, 2, 8, 16), 0.4, dtype=torch.float32, device="cpu")
    labels = torch.arange(9, dtype=torch.int64, device="cpu").remainder(3)
    return torch.poisson(rates, generator=generator), labels


def outputs(network: str) -> list[Tensor]:
    """Logits of MAML and of transfer learning, and a meta-gradient, all from fixed weights."""
    x, y = samples()
    net = SpikingNet(SPIKING) if network == "spiking" else ConvNet(CONV)
    x = x if network == "spiking" else x.sum(1)
    lsuv_init(net, x, generator=torch.Generator("cpu").manual_seed(1))
    maml = MAML(net, MAMLConfig(inner_lr=0.1, learn_inner_lrs=True))
    logits = maml.adapt(x[:3], y[:3], 3)(x[3:])
    outcome = maml.accumulate(TaskBatch(x[None, :3], y[None, :3], x[None, 3:], y[None, 3:]))
    transferred = Transfer(net, steps=3).adapt(x[:3], y[:3], 3)(x[3:])
    return [logits, outcome.loss, outcome.accuracy, *outcome.gradients.values(), transferred]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", ["spiking", "conv"])
def test_learners_do_not_depend_on_the_defaults_of_torch(network: str, mode: str) -> None:
    expected = outputs(network)
    with MODES[mode]():
        actual = outputs(network)
    for value, reference in zip(actual, expected, strict=True):
        assert value.dtype == reference.dtype == torch.float32
        assert value.device.type == "cpu"
        assert torch.equal(value, reference)


@pytest.mark.parametrize("mode", MODES)
def test_shipped_weights_load_and_learn_under_any_defaults(mode: str) -> None:
    with MODES[mode]():
        learner = load("cnn-maml")
        x = torch.ones((10, 2, 16, 32), dtype=torch.float32, device="cpu")
        y = torch.arange(5, dtype=torch.int64, device="cpu")
        logits = learner.adapt(x[:5], y, 5)(x[5:])
    assert logits.shape == (5, 5)
    assert all(p.requires_grad and not p.is_inference() for p in learner.parameters())


def test_numbers_are_drawn_on_the_device_of_the_generator() -> None:
    generator = torch.Generator("cpu").manual_seed(0)
    fill_orthogonal(torch.empty(4, 4, device="meta"), generator)
    after = generator.get_state()
    generator.manual_seed(0)
    on_cpu = fill_orthogonal(torch.empty(4, 4), generator)
    assert torch.equal(after, generator.get_state())
    generator.manual_seed(0)
    assert torch.equal(on_cpu, torch.nn.init.orthogonal_(torch.empty(4, 4), generator=generator))
    net = SpikingNet(SPIKING, "meta")
    net.align(generator)  # a generator of another device than the tensors
    assert net.head.feedback.is_meta


def test_a_restored_optimizer_goes_on_bit_for_bit() -> None:
    def steps(parameter: Tensor, adam: Any, schedule: Any, n: int) -> None:
        for _ in range(n):
            adam.zero_grad()
            (parameter**3).sum().backward()
            adam.step()
            schedule.step()

    first = torch.linspace(-1, 1, 5).requires_grad_()
    adam, schedule = adam_cosine([first], 0.1, 10)
    steps(first, adam, schedule, 4)
    second = first.detach().clone().requires_grad_()
    other, other_schedule = adam_cosine([second], 0.1, 10)
    restore_optimizer(other, other_schedule, adam.state_dict(), 4)
    steps(first, adam, schedule, 6)
    steps(second, other, other_schedule, 6)
    assert torch.equal(first, second)
    assert adam.param_groups[0]["lr"] == other.param_groups[0]["lr"]
    saved = adam.state_dict()
    saved["state"][0]["exp_avg"] = torch.full((5,), float("nan"))
    for state, step in ((saved, 10), (other.state_dict(), 3), ({"state": {}}, 10)):
        with pytest.raises(ValueError, match=r"finite|of step|means"):
            restore_optimizer(*adam_cosine([second], 0.1, 10), state, step)
