"""Transfer learning: frozen features and a new last layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import metaevents as me
from baselines.data import SampleStream
from baselines.init import lsuv_init
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig
from baselines.transfer import Transfer, train_head


@pytest.fixture(scope="module")
def train_split(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, "train")


def test_the_new_layer_separates_what_a_line_separates() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(4)
    x = torch.nn.functional.one_hot(y, 3).float() + 0.1 * torch.randn(12, 3, generator=generator)
    layer = train_head(x, y, 3, steps=100, lr=0.1, weight_decay=1e-3)
    assert (layer(x).argmax(1) == y).all()
    assert not layer.weight.requires_grad


def test_one_step_of_the_new_layer_is_the_gradient_at_zero() -> None:
    x, y = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([0, 1])
    layer = train_head(x, y, 2, steps=1, lr=0.5, weight_decay=0.0)
    error = torch.full((2, 2), 0.5) - torch.eye(2)  # softmax of zeros less one-hot labels
    torch.testing.assert_close(layer.weight, -0.5 * error.T @ x / 2)
    torch.testing.assert_close(layer.bias, -0.5 * error.mean(0))


@pytest.mark.parametrize("spiking", [False, True])
def test_features_are_frozen_and_the_learner_learns_its_support(
    spiking: bool, train_split: me.DoubleNMNIST
) -> None:
    net = (
        SpikingNet(SpikingConfig(channels=(4, 4, 8), time_stride=10, burn_in=50))
        if spiking
        else ConvNet(StackConfig(channels=(4, 4, 8)))
    )
    x, _ = SampleStream(train_split, net.representation, 0, 0).batch(0, 8)
    lsuv_init(net, x, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    labels = torch.arange(4).repeat(2)
    learner = Transfer(net, steps=400, lr=0.2)
    classifier = learner.adapt(x, labels, 4)
    assert (classifier(x).argmax(1) == labels).float().mean() >= 0.75
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    torch.testing.assert_close(classifier(x)[3:4], classifier(x[3:4]), atol=1e-4, rtol=1e-4)


def test_spiking_features_are_what_the_last_layer_reads() -> None:
    config = SpikingConfig(channels=(4, 4, 8), time_stride=10, burn_in=50)
    net = SpikingNet(config)
    x = torch.poisson(
        torch.full((3, 100, 2, 16, 32), 0.2), generator=torch.Generator().manual_seed(0)
    )
    lsuv_init(net, x, generator=torch.Generator().manual_seed(1))
    params = {name: value.detach() for name, value in net.named_parameters()}
    # With a bias far below threshold the output neurons never fire, so only the read-out remains.
    params["head.bias"] = torch.full_like(params["head.bias"], -1e3)
    linear = net.features(params, x) @ params["head.weight"].T - 1e3
    torch.testing.assert_close(net.apply_params(params, x), linear, rtol=1e-5, atol=1e-3)
