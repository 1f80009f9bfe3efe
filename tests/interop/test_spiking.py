"""snntorch, norse and spikingjelly step over the first axis: `layout="TNPHW"`, `bins=`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.packages import import_or_skip
from torch import Tensor, nn

import metaevents as me

BINS = 10
Network = Callable[[Tensor], Tensor]
"""A network from frames [T, n, P, H, W] to spikes of each step [T, n, features]."""


def snntorch_network() -> tuple[Network, nn.Module]:
    """As in snntorch's tutorials: a loop over time, with the membrane as a variable."""
    snn = import_or_skip("snntorch", "pip install snntorch")
    layers = nn.ModuleDict(
        {"linear": nn.Linear(2 * 16 * 32, 32), "neuron": snn.Leaky(beta=0.9, threshold=0.1)}
    )

    def run(x: Tensor) -> Tensor:
        membrane = layers["neuron"].init_leaky()  # type: ignore[operator]
        record = []
        for step in range(x.size(0)):
            spikes, membrane = layers["neuron"](layers["linear"](x[step].flatten(1)), membrane)
            record.append(spikes)
        return torch.stack(record)

    return run, layers


def norse_network() -> tuple[Network, nn.Module]:
    """As in norse's documentation: modules that take all steps at once."""
    norse = import_or_skip("norse.torch", "pip install --no-deps norse nir nirtorch")
    parameters = norse.LIFParameters(v_th=torch.tensor(0.1))
    layers = norse.SequentialState(
        norse.Lift(nn.Flatten()), nn.Linear(2 * 16 * 32, 32), norse.LIF(parameters)
    )
    return lambda x: layers(x)[0], layers


def spikingjelly_network() -> tuple[Network, nn.Module]:
    """As in spikingjelly's tutorials: multi-step mode, and a reset before each sequence."""
    advice = "pip install --no-deps spikingjelly"
    neuron = import_or_skip("spikingjelly.activation_based.neuron", advice)
    layer = import_or_skip("spikingjelly.activation_based.layer", advice)
    functional = import_or_skip("spikingjelly.activation_based.functional", advice)
    layers = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), neuron.IFNode(v_threshold=0.5), layer.Flatten()
    )
    functional.set_step_mode(layers, "m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(layers)
        return layers(x)  # type: ignore[no-any-return]

    return run, layers


NETWORKS = {
    "snntorch": snntorch_network,
    "norse": norse_network,
    "spikingjelly": spikingjelly_network,
}


@pytest.mark.parametrize("library", NETWORKS)
def test_a_network_trains_on_frames_with_time_first(simulated_root: Path, library: str) -> None:
    torch.manual_seed(0)
    network, layers = NETWORKS[library]()
    train = me.DoubleNMNIST(simulated_root, split="train")
    options = {"ways": 3, "queries": 2, "bins": BINS}
    episode = me.EpisodeLoader(train, layout="TNPHW", **options)[0]  # type: ignore[arg-type]
    support, query = network(episode.support_x), network(episode.query_x)
    assert support.shape[:2] == (BINS, 3)
    assert query.shape[:2] == (BINS, 6)
    assert 0 < query.mean() < 1

    features = query.mean(0)
    means = torch.stack([support.mean(0)[episode.support_y == label].mean(0) for label in range(3)])
    nn.functional.cross_entropy(-torch.cdist(features, means), episode.query_y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layers.parameters())
    assert any(p.grad.any() for p in layers.parameters() if p.grad is not None)

    # The other layout, brought into this one, is the same input.
    samples_first = me.EpisodeLoader(train, **options)[0]  # type: ignore[arg-type]
    assert torch.equal(network(samples_first.query_x.transpose(0, 1)), query)


@pytest.mark.parametrize("library", NETWORKS)
def test_a_network_is_evaluated_as_a_learner(simulated_root: Path, library: str) -> None:
    torch.manual_seed(0)
    network, _ = NETWORKS[library]()

    class SpikeRates:
        layout, bins = "TNPHW", BINS

        @torch.no_grad()
        def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Network:
            assert support_x.shape == (BINS, 5, 2, 16, 32)
            rates = network(support_x).mean(0)
            means = torch.stack([rates[support_y == label].mean(0) for label in range(ways)])
            return torch.no_grad()(lambda x: -torch.cdist(network(x).mean(0), means))

    test = me.DoubleNMNIST(simulated_root, split="test")
    report = me.evaluate(SpikeRates(), test, protocol="sample-5way-1shot", episodes=4)
    assert report.accuracy > 0.25
