"""Spikes and operations are counted exactly, and as NeuroBench counts them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import baselines
import metaevents as me
from baselines.maml import MAML, MAMLConfig
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig
from baselines.operations import (
    Operations,
    costs,
    error_operations,
    forward_operations,
    gradient_operations,
    inference,
    module_bytes,
)
from baselines.snn.neurons import Neuron
from baselines.transfer import Transfer
from metaevents.benchmark.learner_metrics import check_costs

FRAMES = (12, 2, 4, 8)
WAYS = 3


def parameters(net: nn.Module) -> dict[str, Tensor]:
    """The parameters and constants of a network, without gradients."""
    named = itertools.chain(net.named_parameters(), net.named_buffers())
    return {name: value.detach() for name, value in named}


def spiking(**changes: Any) -> SpikingNet:
    """A small spiking network with some weights of zero, so that they are seen to be left out."""
    torch.manual_seed(0)
    net = SpikingNet(SpikingConfig(FRAMES, WAYS, channels=(4, 6), kernel=3, burn_in=4, **changes))
    return with_zeros(net)


def with_zeros(net: Any) -> Any:
    """Give a network larger weights, of which a fifth is zero."""
    with torch.no_grad():
        for layer in (*net.body, net.head):
            layer["weight"].mul_(4).mul_(torch.rand_like(layer["weight"]) > 0.2)
    return net


def counts(samples: int, rate: float = 0.5, seed: int = 1) -> Tensor:
    """Random event counts [n, T, P, H, W]."""
    return torch.poisson(torch.full((samples, *FRAMES), rate), torch.Generator().manual_seed(seed))


def support() -> tuple[Tensor, Tensor]:
    """Two samples of each class, with their labels."""
    return counts(2 * WAYS), torch.arange(2 * WAYS) % WAYS


# --- single layers, against loops ----------------------------------------------------------------


def connections(d: int, c: int, side: int, frame: tuple[int, int]) -> Any:
    """Yield (output cell, output channel, input cell, input channel, tap) of a convolution."""
    height, width = frame
    pad = side // 2
    for y, x, dy, dx in itertools.product(range(height), range(width), range(side), range(side)):
        source = (y + dy - pad, x + dx - pad)
        if 0 <= source[0] < height and 0 <= source[1] < width:
            for i, j in itertools.product(range(d), range(c)):
                yield (y, x), i, source, j, (dy, dx)


@pytest.fixture(scope="module")
def layer() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [T, n, H, W, C], weights [D, C, k, k] and errors [T, n, H, W, D], all with zeros."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 3, (2, 2, 3, 4, 2)).astype(np.float32)
    inputs[1] = inputs[1] > 1  # a step of spikes
    weight = rng.integers(-1, 2, (3, 2, 3, 3)).astype(np.float32)
    errors = rng.integers(-1, 2, (2, 2, 3, 4, 3)).astype(np.float32)
    return torch.as_tensor(inputs), torch.as_tensor(weight), torch.as_tensor(errors)


def test_operations_of_a_layer_are_those_of_a_loop(layer: tuple[Tensor, Tensor, Tensor]) -> None:
    inputs, weight, errors = layer
    expected = {"forward": [0, 0, 0], "error": [0, 0, 0], "gradient": [0, 0, 0]}
    for t, n in itertools.product(range(2), range(2)):
        kind = int(set(inputs[t, n].unique().tolist()) <= {0.0, 1.0})
        for (y, x), d, (v, u), c, (dy, dx) in connections(3, 2, 3, (3, 4)):
            operand, error = bool(inputs[t, n, v, u, c]), bool(errors[t, n, y, x, d])
            connected = bool(weight[d, c, dy, dx])
            for name, place, effective in (
                ("forward", kind, operand and connected),
                ("error", 0, error and connected),
                ("gradient", 0, operand and error),
            ):
                expected[name][place] += effective
                expected[name][2] += 1
    assert min(expected["forward"]) > 0
    assert forward_operations(inputs, weight) == Operations(*expected["forward"])
    assert error_operations(errors, weight) == Operations(*expected["error"])
    assert gradient_operations(errors, inputs, 3) == Operations(*expected["gradient"])


# --- whole networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize(("burn_in", "time_stride"), [(4, 1), (0, 1), (4, 2)])
def test_a_trace_is_the_forward_pass(pooling: str, burn_in: int, time_stride: int) -> None:
    config = SpikingConfig(
        FRAMES,
        WAYS,
        (4, 6),
        3,
        pooling,
        burn_in=burn_in,
        time_stride=time_stride,  # type: ignore[arg-type]
    )
    net, x = with_zeros(SpikingNet(config)), counts(3)
    trace = net.trace(parameters(net), x)
    assert torch.allclose(trace.logits, net(x).detach(), atol=1e-6)
    steps = FRAMES[0] // time_stride
    assert [len(layer.inputs) for layer in trace.layers] == [steps - 3, steps - 2, steps - 1]
    for below, layer in itertools.pairwise(trace.layers):
        assert below.sent is not None
        assert torch.equal(below.sent.flatten(2), layer.inputs.flatten(2))


def test_a_trace_of_counts_is_the_forward_pass() -> None:
    net, x = with_zeros(ConvNet(StackConfig(FRAMES, WAYS, (4, 6), 3, norm_groups=2))), counts(3)
    assert torch.allclose(net.trace(parameters(net), x).logits, net(x), atol=1e-6)


def test_a_silent_network_has_no_operations_but_dense_ones() -> None:
    net = spiking()
    count = inference(net, parameters(net), torch.zeros(2, *FRAMES))
    assert (count.operations.macs, count.operations.acs) == (0, 0)
    assert count.operations.dense > 0
    assert sum(count.spikes.values()) == 0


def test_spikes_are_accumulations_and_event_counts_are_not() -> None:
    net, x = spiking(), counts(2, rate=2.0)
    of_counts = inference(net, parameters(net), x).operations
    of_binary = inference(net, parameters(net), (x > 0).float()).operations
    assert of_counts.macs > 0
    assert of_counts.acs > 0
    assert of_binary.macs == 0
    assert of_binary.acs > 0
    assert of_counts.dense == of_binary.dense


def test_samples_do_not_depend_on_each_other() -> None:
    net, x = spiking(), counts(7)
    params = parameters(net)
    together = inference(net, params, x)
    apart = [inference(net, params, x[i : i + 1]) for i in range(7)]
    assert together.operations == sum((each.operations for each in apart), Operations())
    assert together.spikes == {
        name: sum(each.spikes[name] for each in apart) for name in together.spikes
    }


# --- NeuroBench ----------------------------------------------------------------------------------


class EventDriven(nn.Module):
    """The spiking network with weights on spikes and filters behind them: one plain step a call.

    By linearity this is the network of `baselines.networks`.
    """

    def __init__(self, net: SpikingNet) -> None:
        super().__init__()
        self.net, self.states = [net], {}
        self.body = nn.ModuleList(
            nn.Conv2d(layer["weight"].shape[1], len(layer["weight"]), 3, padding=1)
            for layer in net.body
        )
        self.head = nn.Linear(net.head["weight"].shape[1], WAYS)
        self.fire = nn.ModuleList(nn.ReLU() for _ in net.body)
        for mine, theirs in zip((*self.body, self.head), (*net.body, net.head), strict=True):
            mine.load_state_dict(dict(theirs))

    def __call__(self, samples: Tensor) -> Tensor:
        """Return the logits of one sample [1, T, P, H, W]."""
        net, steps = self.net[0], samples[0]
        n_layers = len(net.neurons)
        arriving = list(steps[: len(steps) - n_layers])
        for number, neuron in enumerate(net.neurons):
            is_head = number == n_layers - 1
            layer = self.head if is_head else self.body[number]
            bias = layer.bias if is_head else layer.bias[:, None, None]
            q = p = trace = 0.0
            sent, membrane = [], None
            for spikes in [*arriving, None]:
                u = p + bias - neuron.refractory_weight * trace
                u = u if isinstance(u, Tensor) else torch.as_tensor(u)
                if spikes is not None:
                    x = spikes.permute(1, 2, 0).flatten()[None] if is_head else spikes[None]
                    drive = layer(x)[0] - bias
                    q = neuron.synapse_decay * q
                    q = q + (1 - neuron.synapse_decay) * neuron.gain * drive
                    p = neuron.membrane_decay * p + (1 - neuron.membrane_decay) * q
                if not is_head:
                    u = u.expand(len(bias), *arriving[0].shape[1:])
                    pooled = nn.functional.max_pool2d(u[None], 2)[0]
                    sent.append(self.fire[number]((pooled > 0).float()))
                fired = (u > 0).float()
                trace = neuron.refractory_decay * trace + (1 - neuron.refractory_decay) * fired
                membrane = u
            arriving = sent
        return membrane[None]  # type: ignore[index, no-any-return]


@pytest.fixture
def neurobench() -> Any:
    """The package NeuroBench."""
    return pytest.importorskip(
        "neurobench.metrics.workload", reason="the package neurobench is not installed"
    )


def neurobench_counts(net: nn.Module, x: Tensor) -> tuple[dict[str, float], float, float]:
    """NeuroBench's synaptic operations, activation sparsity and footprint, sample by sample."""
    from neurobench.hooks.layer import LayerHook
    from neurobench.hooks.neuron import NeuronHook
    from neurobench.metrics.static import Footprint
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel

    model = TorchModel(net)
    model.connection_hooks += [LayerHook(layer) for layer in model.connection_layers()]
    model.activation_hooks += [
        NeuronHook(each["layer"], each["layer_name"]) for each in model.activation_layers()
    ]
    operations, zeros = SynapticOperations(), []
    with torch.no_grad():
        for sample in x:
            batch = (sample[None], torch.zeros(1))
            predictions = model(batch[0])
            # Their count calls each layer once more, with ones.
            sparsity = ActivationSparsity()(model, predictions, batch)
            result = operations(model, predictions, batch)
            zeros.append(sparsity)
            for hook in (*model.connection_hooks, *model.activation_hooks):
                hook.reset()
    for hook in (*model.connection_hooks, *model.activation_hooks):
        hook.close()
    return result, float(np.mean(zeros)), Footprint()(model)


def test_the_spiking_network_agrees_with_neurobench(neurobench: Any) -> None:
    """Also in time steps whose counts happen to be binary: those are accumulations."""
    net, x = spiking(), counts(3, rate=0.02)
    x[:, ::2] = counts(3, rate=1.0)[:, ::2]
    event_driven = EventDriven(net)
    with torch.no_grad():
        logits = torch.cat([event_driven(sample[None]) for sample in x])
        assert torch.allclose(logits, net(x), atol=1e-5)  # it is the same network
    theirs, sparsity, footprint = neurobench_counts(event_driven, x)
    ours = inference(net, parameters(net), x)
    assert theirs["Effective_MACs"] == ours.operations.macs / 3
    assert theirs["Effective_ACs"] == ours.operations.acs / 3
    assert theirs["Dense"] == ours.operations.dense / 3
    assert sparsity == pytest.approx(1 - ours.active / ours.activations)
    assert footprint == module_bytes(net)
    first = forward_operations(
        net.trace(parameters(net), x).layers[0].inputs, net.body[0]["weight"]
    )
    assert first.acs > 0
    assert first.macs > 0


def test_the_network_without_spikes_agrees_with_neurobench(neurobench: Any) -> None:
    net = with_zeros(ConvNet(StackConfig(FRAMES, WAYS, (4, 6), 3)))
    plain = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(12, WAYS),
    )  # fmt: skip
    for mine, theirs in ((plain[0], net.body[0]), (plain[3], net.body[1]), (plain[7], net.head)):
        mine.load_state_dict(dict(theirs))
    weight = net.head["weight"].detach()  # features are in the order H, W, C, of torch C, H, W
    moved = weight.view(WAYS, 1, 2, 6).permute(0, 3, 1, 2).flatten(1)
    plain[7].weight.data = moved
    x = counts(3)
    theirs, sparsity, footprint = neurobench_counts(plain, x.sum(1))
    ours = inference(net, parameters(net), x)
    assert theirs["Effective_MACs"] == ours.operations.macs / 3
    assert theirs["Effective_ACs"] == ours.operations.acs / 3 == 0
    assert theirs["Dense"] == ours.operations.dense / 3
    assert sparsity == pytest.approx(1 - ours.active / ours.activations)
    assert footprint == module_bytes(net)


# --- adaptation ----------------------------------------------------------------------------------


def test_the_inner_path_is_that_of_adapt() -> None:
    net = spiking()
    maml = MAML(net, MAMLConfig(steps=2, inner_lr=0.5))
    x, y = support()
    path = maml.inner_path(x, y, WAYS)
    queries = counts(4, seed=2)
    assert len(path) == 3
    assert torch.equal(path[0]["head.weight"], net.head["weight"])
    assert torch.allclose(
        net.apply_params(path[-1], queries), maml.adapt(x, y, WAYS)(queries), atol=1e-5
    )


def test_an_adaptation_is_forward_errors_gradients_and_updates() -> None:
    """The counts of a plain network are those of the tensors of torch's own backward pass."""
    net = with_zeros(ConvNet(StackConfig(FRAMES, WAYS, (4, 6), 3)))
    x, y = support()
    layers, products = [], []
    activity = x.sum(1)
    for layer in (*net.body, net.head):
        if layer is net.head:
            activity = activity.permute(0, 2, 3, 1).flatten(1)
            product = nn.functional.linear(activity, layer["weight"], layer["bias"])
        else:
            product = nn.functional.conv2d(activity, layer["weight"], layer["bias"], padding=1)
        layers.append((activity.detach(), layer["weight"].detach()))
        products.append(product)
        activity = product
        if layer is not net.head:
            activity = torch.relu(nn.functional.max_pool2d(product, 2))
    errors = torch.autograd.grad(cross_entropy(products[-1], y), products)
    expected = 0
    for number, ((inputs, weight), error) in enumerate(zip(layers, errors, strict=True)):
        if weight.dim() == 2:
            weight = weight[..., None, None]
            inputs, error = inputs[..., None, None], error[..., None, None]
        ones = {
            "x": (inputs != 0).double(),
            "w": (weight != 0).double(),
            "e": (error != 0).double(),
        }
        pad = weight.shape[-1] // 2
        forward = nn.functional.conv2d(ones["x"], ones["w"], padding=pad)
        expected += int(forward.sum())
        if number:
            back = nn.functional.conv_transpose2d(ones["e"], ones["w"], padding=pad)
            expected += int(back.sum())
        both = nn.functional.conv2d(
            ones["x"], torch.ones_like(weight, dtype=torch.float64), padding=pad
        )
        expected += int((both * ones["e"]).sum())
        expected += weight.numel() + weight.shape[0]
    maml = MAML(net, MAMLConfig(steps=1))
    adaptation = costs(maml, x, y, counts(1), WAYS)["adaptation"]
    assert adaptation["effective_macs"] == expected
    assert adaptation["effective_acs"] == 0


def test_what_does_not_learn_costs_no_gradient() -> None:
    x, y = support()
    adaptation = {
        layers: costs(MAML(spiking(), MAMLConfig(layers=layers)), x, y, counts(2), WAYS)[
            "adaptation"
        ]
        for layers in ("all", 1, "head")
    }
    macs = [each["effective_macs"] for each in adaptation.values()]
    assert macs == sorted(macs, reverse=True)
    assert len(set(macs)) == 3
    assert len({each["effective_acs"] for each in adaptation.values()}) == 1  # the forward pass


def test_inner_steps_and_shots_multiply_the_costs() -> None:
    x, y = support()
    once, twice = (
        costs(MAML(spiking(), MAMLConfig(steps=n, inner_lr=0.0)), x, y, counts(2), WAYS)
        for n in (1, 2)
    )
    for name in ("effective_macs", "effective_acs", "dense_operations", "spikes"):
        assert twice["adaptation"][name] == 2 * once["adaptation"][name] > 0
    for name in ("effective_macs", "effective_acs", "spikes_per_sample"):
        assert twice[name] == once[name]


def test_feedback_carries_the_errors_where_it_is_aligned() -> None:
    x, y = support()
    net = spiking()
    before = costs(MAML(net), x, y, counts(2), WAYS)["adaptation"]["effective_macs"]
    net.align()
    assert costs(MAML(net), x, y, counts(2), WAYS)["adaptation"]["effective_macs"] > before


def test_transfer_counts_the_frozen_layers_and_the_training_of_the_new_one() -> None:
    x, y = support()
    net, queries = spiking(), counts(3, seed=2)
    steps = {n: costs(Transfer(net, steps=n), x, y, queries, WAYS) for n in (10, 20)}
    added = steps[20]["adaptation"]["effective_macs"] - steps[10]["adaptation"]["effective_macs"]
    features = int(Transfer(net).features(x).count_nonzero())
    n_features = net.head["weight"].shape[1]
    assert added == 10 * (2 * features * WAYS + 3 * WAYS * (n_features + 1))
    body = inference(net, parameters(net), queries, head=False).operations
    assert steps[10]["effective_acs"] == body.acs / 3
    assert 0 < steps[10]["effective_macs"] - body.macs / 3 <= n_features * WAYS


# --- learners ------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["snn", "cnn"])
def test_costs_are_as_an_evaluation_expects_them(network: str) -> None:
    net = spiking() if network == "snn" else ConvNet(StackConfig(FRAMES, WAYS, (4, 6), 3))
    x, y = support()
    for learner in (MAML(net), Transfer(net, steps=3)):
        reported = check_costs(costs(learner, x, y, counts(2), WAYS))
        assert reported["footprint_bytes"] >= 4 * sum(
            each.numel() for each in net.body.parameters()
        )
        assert reported["adaptation"]["footprint_bytes"] > reported["footprint_bytes"]
        assert (reported["spikes_per_layer"] is None) == (network == "cnn")
        if network == "snn":
            assert set(reported["spikes_per_layer"]) == {"body.0", "body.1"}


def test_an_evaluation_reports_what_a_baseline_costs(simulated_root: Any) -> None:
    learner = baselines.load("cnn-maml", classes="novel-components")
    dataset = me.load("double-nmnist", simulated_root, "test", classes="novel-components")
    report = me.evaluate(
        learner, dataset, "sample-5way-1shot", episodes=2, queries=2, probe=False, progress=False
    )
    assert report.costs is not None
    assert report.costs["episodes"] == 1
    assert report.synaptic_operations_per_sample == report.costs["effective_macs"] > 0
    assert "to adapt" in str(report)


def test_measuring_changes_no_prediction(simulated_root: Any) -> None:
    dataset = me.load("double-nmnist", simulated_root, "test", classes="novel-components")
    learner = baselines.load("cnn-maml", classes="novel-components")
    options: dict[str, Any] = {"episodes": 2, "queries": 2, "probe": False, "progress": False}
    scores = []
    for subject in (learner, learner.model):  # the model alone offers no costs
        report = me.evaluate(subject, dataset, "sample-5way-1shot", **options)
        scores.append(report.predictions.scores)
    assert np.array_equal(*scores)


def test_the_neuron_of_the_tests_is_the_default_one() -> None:
    assert spiking().neurons[1] == Neuron()
