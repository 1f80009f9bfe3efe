"""The two networks, against a step-by-step transcription of the equations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support import transcription
from support.transcription import SMOOTH, smooth_threshold
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import cross_entropy, group_norm, max_pool2d

from baselines.init import lsuv_init
from baselines.networks import ConvNet, Params, SpikingConfig, SpikingNet, StackConfig
from baselines.snn.neurons import Neuron
from metaevents.errors import UsageError

SMALL = SpikingConfig(frame_shape=(16, 2, 8, 12), ways=3, channels=(3, 4), kernel=3, burn_in=8)
CONV = StackConfig(frame_shape=(16, 2, 8, 12), ways=3, channels=(3, 4), kernel=3)
DOUBLE_ASL_DVS = (100, 2, 30, 80)


def frames(n: int, config: StackConfig = SMALL, seed: int = 0, rate: float = 0.6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(
        torch.full((n, *config.frame_shape), rate, dtype=torch.float64), generator=generator
    )


def build(config: StackConfig = SMALL, seed: int = 0) -> Any:
    """Return an initialized network in float64, in which all layers are active."""
    net = SpikingNet(config) if isinstance(config, SpikingConfig) else ConvNet(config)
    net = net.double()
    lsuv_init(net, frames(8, config, seed=9), generator=torch.Generator().manual_seed(seed))
    return net


def parameters(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone().requires_grad_() for name, value in net.named_parameters()}


def perturbed(params: Params, by: float = 0.3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    noise = {
        name: torch.randn(value.shape, dtype=value.dtype, generator=generator)
        for name, value in params.items()
    }
    return {
        name: (value + by * value.std().nan_to_num(0.1) * noise[name]).detach()
        for name, value in params.items()
    }


# --- against the equations ---------------------------------------------------


@pytest.mark.parametrize("burn_in", [0, 8])
@pytest.mark.parametrize("surrogate", ["fast sigmoid", "smooth"])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_outputs_and_gradients_of_both_orders_are_those_of_the_equations_step_by_step(
    pooling: Any, surrogate: str, burn_in: int
) -> None:
    neuron = Neuron(surrogate=SMOOTH) if surrogate == "smooth" else Neuron()
    config = replace(SMALL, pooling=pooling, burn_in=burn_in, neuron=neuron)
    net = build(config)
    threshold = smooth_threshold if surrogate == "smooth" else transcription.hard_threshold

    def meta_step(forward: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        params = parameters(net)
        logits = forward(params, frames(3))
        inner = torch.autograd.grad(
            cross_entropy(logits, torch.arange(3)), list(params.values()), create_graph=True
        )
        adapted = {
            name: value - 0.5 * g for (name, value), g in zip(params.items(), inner, strict=True)
        }
        queries = cross_entropy(forward(adapted, frames(4, seed=1)), torch.tensor([0, 1, 2, 0]))
        return logits, list(inner), list(torch.autograd.grad(queries, list(params.values())))

    results = meta_step(net.apply_params)
    expected = meta_step(lambda params, x: transcription.network(config, params, x, threshold)[0])
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result, reference, rtol=1e-9, atol=1e-12)
    assert all(gradient.abs().max() > 1e-6 for gradient in expected[2])


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_frames_whose_sides_are_odd_lose_the_last_row_and_column_to_pooling(pooling: Any) -> None:
    config = replace(SMALL, frame_shape=(16, 2, 10, 13), pooling=pooling)
    net, x = build(config), frames(2, config)
    expected, _ = transcription.network(config, parameters(net), x)
    torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-12)


def test_frames_before_the_first_event_and_positive_biases_are_handled() -> None:
    x = frames(2)
    x[:, :6] = 0
    for bias in (-0.2, 0.3):  # all at rest until the first event, and active from the start
        net = build()
        with torch.no_grad():
            for layer in net.body:
                layer["bias"].fill_(bias)
        torch.testing.assert_close(
            net(x), transcription.network(SMALL, parameters(net), x)[0], rtol=1e-9, atol=1e-12
        )


def test_the_burn_in_runs_under_the_parameters_that_are_passed_in() -> None:
    net, x = build(), frames(3)
    original, adapted = parameters(net), perturbed(parameters(net))
    logits = net.apply_params(adapted, x)
    torch.testing.assert_close(
        logits, transcription.network(SMALL, adapted, x)[0], rtol=1e-9, atol=1e-12
    )
    published, _ = transcription.network(SMALL, adapted, x, burn_in_params=original)
    assert (logits - published).abs().max() > 1e-2 * logits.std()


def test_the_burn_in_carries_no_gradient() -> None:
    x = frames(2).requires_grad_()
    (grad_x,) = torch.autograd.grad(build()(x).abs().sum(), x)
    reached = grad_x.abs().amax((0, 2, 3, 4)) > 0
    # Each of three layers delays by one step, so the last three frames do not reach the output.
    assert reached.tolist() == [8 <= t < 13 for t in range(16)]


def test_a_stride_averages_frames_into_steps_of_the_same_time_constants() -> None:
    config = replace(SMALL, frame_shape=(48, 2, 8, 12), time_stride=4, burn_in=18)
    net, x = build(config), frames(2, config)
    stretched = replace(
        SMALL, frame_shape=(12, 2, 8, 12), neuron=Neuron().stretched(4), burn_in=18 // 4
    )
    twin = SpikingNet(stretched).double()
    twin.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x), twin(x.view(2, 12, 4, 2, 8, 12).mean(2)))
    assert net.neurons[0].membrane_decay == pytest.approx(0.95**4)
    torch.testing.assert_close(net(x.to(torch.uint8)), net(x))


@pytest.mark.parametrize(
    "config",
    [replace(SMALL, neuron=Neuron(refractory_weight=0.0)), CONV],
    ids=["spiking, without refractoriness", "conv"],
)
def test_the_head_is_a_linear_function_of_the_features(config: StackConfig) -> None:
    net, x = build(config), frames(2, config)
    features = net.features(parameters(net), x)
    assert features.shape == (2, 2 * 3 * 4)
    torch.testing.assert_close(features @ net.head["weight"].T + net.head["bias"], net(x))


@pytest.mark.parametrize("norm_groups", [0, 2])
def test_the_non_spiking_network_has_the_same_layers_on_summed_frames(norm_groups: int) -> None:
    config = replace(CONV, channels=(4, 6), norm_groups=norm_groups)
    net, x = build(config), frames(2, config)
    y = x.sum(1)
    for layer in net.body:
        y = torch.conv2d(y, layer["weight"], None if norm_groups else layer["bias"], padding=1)
        y = group_norm(y, 2, layer["scale"], layer["bias"]) if norm_groups else y
        y = max_pool2d(y, 2).relu()
    expected = y.permute(0, 2, 3, 1).flatten(1) @ net.head["weight"].T + net.head["bias"]
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(net(x.sum(1)), expected)


# --- size, shape and precision -----------------------------------------------


@pytest.mark.parametrize(
    ("frame_shape", "ways", "count"),
    [((100, 2, 16, 32), 5, 262_949), ((100, 2, 16, 32), 20, 278_324), (DOUBLE_ASL_DVS, 5, 277_029)],
)
def test_the_default_networks_have_the_papers_number_of_parameters(
    frame_shape: tuple[int, int, int, int], ways: int, count: int
) -> None:
    for net in (
        SpikingNet(SpikingConfig(frame_shape=frame_shape, ways=ways)),
        ConvNet(StackConfig(frame_shape=frame_shape, ways=ways)),
    ):
        assert sum(p.numel() for p in net.parameters()) == count


def test_time_constants_of_the_default_network_are_the_papers() -> None:
    first, *rest = SpikingNet().neurons
    assert (first.gain, {each.gain for each in rest}) == (10.0, {1.0})
    assert {
        (n.membrane_decay, n.synapse_decay, n.refractory_decay, n.step) for n in (first, *rest)
    } == {(0.95, 0.90, 0.65, 1)}


@pytest.mark.parametrize("norm_groups", [0, 1])
@pytest.mark.parametrize("config", [SMALL, CONV], ids=["spiking", "conv"])
def test_a_prediction_does_not_depend_on_the_other_samples(
    config: StackConfig, norm_groups: int
) -> None:
    net = build(replace(config, norm_groups=norm_groups))
    x = frames(4)
    x[0, :5] = 0
    x[1] *= 7
    together = net(x)
    alone = torch.cat([net(each[None]) for each in x])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_normalization_makes_a_layer_blind_to_the_scale_of_its_weights() -> None:
    net, x = build(replace(SMALL, norm_groups=1)), frames(2)
    params = parameters(net)
    large, larger = ({**params, "body.1.weight": by * params["body.1.weight"]} for by in (100, 300))
    torch.testing.assert_close(
        net.apply_params(large, x), net.apply_params(larger, x), rtol=1e-3, atol=1e-3
    )
    assert (
        net.apply_params({**params, "body.1.scale": 3 * params["body.1.scale"]}, x) - net(x)
    ).abs().max() > 0.01


@pytest.mark.parametrize("norm_groups", [0, 1])
@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("kind", ["spiking", "aligned", "conv"])
def test_under_vmap_tasks_are_those_of_a_loop(kind: str, pooling: Any, norm_groups: int) -> None:
    config: StackConfig = replace(SMALL, pooling=pooling, norm_groups=norm_groups)
    if kind == "conv":
        config = replace(CONV, pooling=pooling, norm_groups=norm_groups)
    net = build(config)
    if kind == "aligned":
        net.align(torch.Generator().manual_seed(1))
    constants = dict(net.named_buffers())
    params = {
        name: torch.stack([value, perturbed(parameters(net))[name]]).detach()
        for name, value in net.named_parameters()
    }
    x = torch.stack([frames(2), frames(2, seed=1)])

    def forward(params: Params, x: Tensor) -> Tensor:
        return net.apply_params({**params, **constants}, x)  # type: ignore[no-any-return]

    def run(mapped: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        if mapped:
            logits = vmap(forward)(leaves, x)
        else:
            logits = torch.stack(
                [forward({name: v[t] for name, v in leaves.items()}, x[t]) for t in range(2)]
            )
        return logits, torch.autograd.grad(logits.square().sum(), list(leaves.values()))

    torch.testing.assert_close(run(mapped=True), run(mapped=False), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("config", [SMALL, CONV], ids=["spiking", "conv"])
def test_bfloat16_autocast_is_near_float32(config: StackConfig) -> None:
    net, x = build(replace(config, channels=(8, 16))).float(), frames(6, config).float()

    def run(cast: bool) -> tuple[Tensor, Tensor]:
        params = parameters(net)
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            logits = net.apply_params(params, x)
        loss = cross_entropy(logits.float(), torch.arange(6) % 3)
        gradients = torch.autograd.grad(loss, list(params.values()))
        return logits.float(), torch.cat([g.flatten() for g in gradients])

    (logits, gradient), (expected, expected_gradient) = run(True), run(False)
    assert not torch.equal(logits, expected)
    assert (logits - expected).std() < 0.1 * expected.std()
    assert torch.cosine_similarity(gradient, expected_gradient, 0) > 0.95


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 16, 2, 8, 11), "frame_shape"), ((2, 2, 8, 12), "frame_shape"), ((2, 10, 2, 8, 12), "16")],
    ids=["another dataset", "no time", "too few frames"],
)
def test_frames_that_do_not_fit_are_refused_with_both_shapes(
    shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        SpikingNet(SMALL)(torch.zeros(shape))
    assert str(list(shape)) in str(refused.value)
    with pytest.raises(UsageError, match="8, 12"):
        ConvNet(CONV)(torch.zeros(2, 2, 12, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": 4},
        {"channels": (2,) * 4},
        {"burn_in": 14},
        {"burn_in": -1},
        {"time_stride": 3},
        {"time_stride": 0},
    ],
)
def test_networks_that_do_not_fit_their_frames_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"do(es)? not fit|out of range"):
        SpikingNet(replace(SMALL, **wrong))


# --- feedback ----------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, CONV], ids=["spiking", "conv"])
def test_feedback_changes_only_the_gradients_below_it(config: StackConfig) -> None:
    net, x, y = build(config), frames(3, config), torch.arange(3)

    def gradients(constants: Params) -> tuple[Tensor, dict[str, Tensor]]:
        params = parameters(net)
        logits = net.apply_params({**params, **constants}, x)
        grads = torch.autograd.grad(cross_entropy(logits, y), list(params.values()))
        return logits, dict(zip(params, grads, strict=True))

    logits, plain = gradients({})
    net.align(torch.Generator().manual_seed(1))
    feedback = dict(net.named_buffers())
    assert set(feedback) == {"body.1.feedback", "head.feedback"}
    aligned_logits, aligned = gradients(feedback)
    torch.testing.assert_close(aligned_logits, logits)
    torch.testing.assert_close(aligned["head.weight"], plain["head.weight"])
    for name in ("body.0.weight", "body.1.weight"):
        assert not torch.allclose(aligned[name], plain[name], rtol=0.1)
    # With the weights themselves as feedback it is backpropagation again.
    weights = {name: net.state_dict()[name.replace("feedback", "weight")] for name in feedback}
    torch.testing.assert_close(gradients(weights)[1], plain, rtol=1e-9, atol=1e-12)


def test_feedback_has_the_norm_of_the_weights_follows_the_generator_and_is_saved() -> None:
    net, same, other = build(), build(), build()
    for each, seed in ((net, 1), (same, 1), (other, 2)):
        each.align(torch.Generator().manual_seed(seed))
    feedback = net.state_dict()["head.feedback"]
    torch.testing.assert_close(feedback.norm(), net.head["weight"].norm().detach())
    assert torch.equal(feedback, same.state_dict()["head.feedback"])
    assert not torch.equal(feedback, other.state_dict()["head.feedback"])
    assert "head.feedback" not in dict(net.named_parameters())
