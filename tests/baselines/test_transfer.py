"""Transfer learning: frozen features, a new last layer, and samples whose draws leave some recordings aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import metaevents as me
from baselines.data import SampleStream, random_shift
from baselines.init import lsuv_init
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig
from baselines.transfer import Transfer, train_head
from metaevents.errors import UsageError
from metaevents.rng import Streams


@pytest.fixture(scope="module")
def train_split(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, "train")


def test_the_new_layer_separates_what_a_line_separates() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(4)
    x = torch.nn.functional.one_hot(y, 3).float() + 0.1 * torch.randn(12, 3, generator=generator)
    layer = train_head(x, y, 3, steps=100, rate=0.1, decay=1e-3)
    assert (layer(x).argmax(1) == y).all()
    assert not layer.weight.requires_grad


def test_one_step_of_the_new_layer_is_the_gradient_at_zero() -> None:
    x, y = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([0, 1])
    layer = train_head(x, y, 2, steps=1, rate=0.5, decay=0.0)
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
    learner = Transfer(net, steps=400, rate=0.2)
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
    # With a bias far below threshold the output neurons never fire, so that nothing but the read-out stands between.
    params["head.bias"] = torch.full_like(params["head.bias"], -1e3)
    linear = net.features(params, x) @ params["head.weight"].T - 1e3
    torch.testing.assert_close(net.apply_params(params, x), linear, rtol=1e-5, atol=1e-3)


# --- samples ---------------------------------------------------------------------------------------------------------------


def recordings(stream: SampleStream, samples: list[tuple[int, ...]]) -> set[int]:
    return {index for sample in samples for index in sample}


def test_batches_are_pure_functions_of_seed_and_number(train_split: me.DoubleNMNIST) -> None:
    first, second = (SampleStream(train_split, "sum", 4, seed=0) for _ in range(2))
    second.batch(0, 4)
    x, y = first.batch(5, 4)
    assert torch.equal(x, second.batch(5, 4)[0])
    assert torch.equal(y, second.batch(5, 4)[1])
    assert not torch.equal(x, first.batch(6, 4)[0])
    assert not torch.equal(x, SampleStream(train_split, "sum", 4, seed=1).batch(5, 4)[0])


def test_recordings_kept_aside_are_in_no_batch(train_split: me.DoubleNMNIST) -> None:
    stream = SampleStream(train_split, "sum", 4, seed=0)
    drawn: list[tuple[int, ...]] = []
    stream._stack = lambda samples: drawn.extend(samples) or torch.zeros(len(samples))  # type: ignore[assignment,func-returns-value]
    for index in range(40):
        stream.batch(index, 32)
    trained = recordings(stream, drawn)
    drawn.clear()
    stream.held_out(200)
    aside = recordings(stream, drawn)
    assert trained.isdisjoint(aside)
    pools = [set(train_split.pool(label).tolist()) for label in train_split.labels]
    assert trained | aside <= set().union(*pools)
    assert all(len(aside & pool) == len(pool) // 4 for pool in pools)


def test_labels_name_the_classes_of_the_samples(train_split: me.DoubleNMNIST) -> None:
    stream = SampleStream(train_split, "sum", 0, seed=0)
    drawn: list[tuple[int, ...]] = []
    stream._stack = lambda samples: drawn.extend(samples) or torch.zeros(len(samples))  # type: ignore[assignment,func-returns-value]
    _, y = stream.batch(0, 200)
    for sample, label in zip(drawn, y.tolist(), strict=True):
        components = train_split.components[train_split.classes[label]]
        assert all(
            index in train_split.pool(part) for index, part in zip(sample, components, strict=True)
        )
        assert len(set(sample)) == 2  # also where both sides are alike, never one recording twice
    assert any(
        len(set(train_split.components[train_split.classes[label]])) == 1 for label in y.tolist()
    )


def test_too_few_recordings_to_pretrain_on(train_split: me.DoubleNMNIST) -> None:
    with pytest.raises(UsageError, match="keep fewer aside"):
        SampleStream(train_split, "sum", 1, seed=0)


def test_moving_shifts_every_side_by_itself_and_loses_only_what_leaves_the_frame() -> None:
    x = torch.zeros(200, 1, 5, 8)
    x[:, 0, 2, 1], x[:, 0, 2, 6] = 1.0, 2.0
    out = random_shift(x, 2, 1, Streams("test")(0))
    left, right = out[..., :4], out[..., 4:]
    assert torch.equal(left.sum((1, 2, 3)), torch.ones(200))
    assert torch.equal(right.sum((1, 2, 3)), torch.full((200,), 2.0))
    places = {tuple(torch.nonzero(side[0])[0].tolist()) for side in left}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}
    moves = {
        (tuple(torch.nonzero(a[0])[0].tolist()), tuple(torch.nonzero(b[0])[0].tolist()))
        for a, b in zip(left, right, strict=True)
    }
    assert len(moves) > 40  # of 81: the sides move independently
    assert torch.equal(out, random_shift(x, 2, 1, Streams("test")(0)))
    assert random_shift(x, 2, 0, Streams("test")(0)) is x
    assert random_shift(x, 2, 4, Streams("test")(0)).sum() < x.sum()
