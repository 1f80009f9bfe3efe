"""LSUV initialization: variance and mean of the membranes, randomness, and failures."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import pytest
import torch
from support import transcription
from torch import Tensor

from baselines.init import lsuv_init
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig
from metaevents.errors import UsageError

SMALL = SpikingConfig(frame_shape=(16, 2, 8, 12), ways=3, channels=(3, 4), kernel=3, burn_in=8)
CONV = StackConfig(frame_shape=(16, 2, 8, 12), ways=3, channels=(3, 4), kernel=3)


def frames(n: int, config: StackConfig = SMALL, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(
        torch.full((n, *config.frame_shape), 0.6, dtype=torch.float64), generator=generator
    )


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_membranes_have_unit_variance_and_28_8_percent_of_the_neurons_are_active(
    pooling: Any,
) -> None:
    config = SpikingConfig((100, 2, 16, 16), 5, (16, 16), 5, pooling)
    rates = torch.rand(8, 1, 2, 16, 16, generator=torch.Generator().manual_seed(1)) ** 4
    net, x = SpikingNet(config).double(), frames(8, config) * rates
    lsuv_init(net, x, generator=torch.Generator().manual_seed(0))
    _, layers = transcription.network(config, dict(net.named_parameters()), x)
    for membranes in layers:
        assert membranes.var().item() == pytest.approx(1, abs=0.1)
        assert membranes.mean().item() == pytest.approx(-0.559, abs=0.1)
    for membranes in layers[:-1]:
        assert (membranes > 0).double().mean().item() == pytest.approx(0.288, abs=0.05)


def test_the_non_spiking_network_is_initialized_alike() -> None:
    net, x = ConvNet(CONV).double(), frames(8, CONV)
    lsuv_init(net, x, generator=torch.Generator().manual_seed(0))
    logits = net(x)
    assert logits.var().item() == pytest.approx(1, abs=0.1)
    assert logits.mean().item() == pytest.approx(-0.56, abs=0.1)


def test_initial_weights_follow_the_generator_alone() -> None:
    nets = [SpikingNet(SMALL).double() for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        lsuv_init(net, frames(8, seed=9), generator=torch.Generator().manual_seed(seed))
    for one, other in pairwise(nets):
        assert torch.equal(one.head["weight"], other.head["weight"]) == (other is nets[1])


def test_a_layer_that_does_not_converge_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        lsuv_init(
            SpikingNet(SMALL).double(),
            frames(4),
            max_iterations=1,
            generator=torch.Generator().manual_seed(0),
        )
    assert [message.split(":")[0] for message in caplog.messages] == [
        f"layer {i} has not converged in 1 iterations" for i in range(3)
    ]


def test_a_batch_without_events_cannot_initialize() -> None:
    with pytest.raises(UsageError, match=r"layer 0 .* no signal"):
        lsuv_init(SpikingNet(SMALL), torch.zeros(4, *SMALL.frame_shape))
