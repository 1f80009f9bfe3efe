"""The plasticity rules: their updates, that they lower the loss, and meta-training through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from baselines.init import lsuv_init
from baselines.maml import MAML, MAMLConfig, TaskBatch, adapt, sgd
from baselines.networks import ConvNet, Params, SpikingConfig, SpikingNet, StackConfig
from baselines.plasticity import RULES, SOEL, DeviceUpdate, ThresholdedUpdate
from baselines.snn.neurons import Neuron
from metaevents.errors import UsageError

Task = tuple[Tensor, Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_net(spiking: bool, task: Task, neuron: Neuron | None = None) -> SpikingNet | ConvNet:
    shape: dict[str, Any] = {
        "frame_shape": (14, 2, 4, 4),
        "ways": 3,
        "channels": (4, 6),
        "kernel": 3,
    }
    config = SpikingConfig(**shape, burn_in=4, neuron=neuron or Neuron())
    net = SpikingNet(config) if spiking else ConvNet(StackConfig(**shape))
    net.double()
    lsuv_init(net, task[0], generator=generator())
    return net


@pytest.fixture
def task() -> Task:
    """Six samples [6, 14, 2, 4, 4] and labels [6] of three classes with different event rates."""
    labels = torch.arange(6) % 3
    rates = 0.4 * torch.rand(3, 1, 2, 4, 4, generator=generator())
    return torch.poisson(
        rates[labels].expand(-1, 14, -1, -1, -1), generator=generator()
    ).double(), labels


@pytest.fixture(params=[False, True], ids=["ConvNet", "SpikingNet"])
def net(request: pytest.FixtureRequest, task: Task) -> SpikingNet | ConvNet:
    return make_net(request.param, task)


def parameters(net: SpikingNet | ConvNet) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def learn(maml: MAML, task: Task) -> tuple[Params, Params]:
    """The parameters before and after the inner loop of `maml`."""
    net, before = maml.net, parameters(maml.net)
    constants = dict(net.named_buffers())
    update = maml.update or sgd(maml.config.inner_lr)
    after = adapt(
        lambda params, x: net.apply_params({**params, **constants}, x),
        before, *task, update, learning=maml.learning, steps=maml.config.steps, loss=maml.loss,
    )  # fmt: skip
    return before, after


def loss_of(net: SpikingNet | ConvNet, params: Params, task: Task) -> Tensor:
    return cross_entropy(net.apply_params(params, task[0]), task[1])


# --- every rule --------------------------------------------------------------


def along_descent(net: SpikingNet | ConvNet, before: Params, after: Params, task: Task) -> float:
    """Return the product of a change of the parameters with minus the gradient of the loss."""
    leaves = {name: value.clone().requires_grad_() for name, value in before.items()}
    gradients = torch.autograd.grad(loss_of(net, leaves, task), list(leaves.values()))
    return sum(
        ((after[name] - before[name]) * -gradient).sum().item()
        for name, gradient in zip(leaves, gradients, strict=True)
    )


@pytest.mark.parametrize(
    "rule", [name for name, rule in RULES.items() if not (rule.align or rule.direct)]
)
def test_a_small_step_goes_down_the_loss(net: SpikingNet | ConvNet, task: Task, rule: str) -> None:
    before, after = learn(RULES[rule].maml(net, MAMLConfig(inner_lr=0.001), generator()), task)
    assert along_descent(net, before, after, task) > 0
    with torch.no_grad():
        assert loss_of(net, after, task) < loss_of(net, before, task)


def test_feedback_alignment_is_exact_at_the_last_layer_and_where_feedback_equals_the_weights(
    net: SpikingNet | ConvNet, task: Task
) -> None:
    _, exact = learn(RULES["gradient"].maml(net, MAMLConfig(inner_lr=0.001), generator()), task)
    aligned = RULES["feedback-alignment"].maml(net, MAMLConfig(inner_lr=0.001), generator())
    before, random = learn(aligned, task)
    for name, feedback in net.named_buffers():
        feedback.copy_(before[name.replace("feedback", "weight")])
    _, symmetric = learn(aligned, task)
    for name, value in exact.items():
        torch.testing.assert_close(symmetric[name], value)
        assert torch.allclose(random[name], value, rtol=1e-9) == name.startswith("head")
    # Random feedback is orthogonal to the gradient on average, so only the last layer must descend.
    last = {
        name: random[name] if name.startswith("head") else value for name, value in before.items()
    }
    assert along_descent(net, before, last, task) > 0


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if not rule.direct])
def test_learning_by_every_rule_lowers_the_support_loss(
    net: SpikingNet | ConvNet, task: Task, rule: str
) -> None:
    before = parameters(net)
    classifier = (
        RULES[rule].maml(net, MAMLConfig(inner_lr=0.001, steps=3), generator()).adapt(*task, 3)
    )
    with torch.no_grad():
        assert cross_entropy(classifier(task[0]), task[1]) < loss_of(net, before, task)
    assert all(value.equal(before[name]) for name, value in net.named_parameters())


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_meta_training_goes_through_every_rule(
    net: SpikingNet | ConvNet, task: Task, rule: str, second_order: bool
) -> None:
    x, y = (torch.stack([each, each.flip(0)]) for each in task)
    one, both = (
        RULES[rule].maml(
            net,
            MAMLConfig(inner_lr=0.003, second_order=second_order, tasks_at_once=tasks),
            generator(),
        )
        for tasks in (1, 2)
    )
    found = both.accumulate(TaskBatch(x, y, x, y))
    for name, gradient in found.gradients.items():
        assert gradient.isfinite().all()
        # Only the second order sees how the feedback changes the updates.
        assert gradient.any() or (name.endswith(".direct") and not second_order)
    if rule not in ("device", "feedback-alignment"):  # these two are random
        expected = one.accumulate(TaskBatch(x, y, x, y))
        for name, gradient in expected.gradients.items():
            torch.testing.assert_close(found.gradients[name], gradient)


def test_a_new_rule_takes_a_few_lines(net: SpikingNet | ConvNet, task: Task) -> None:
    class SignDescent:
        """Manhattan rule: one pulse per weight, up or down."""

        def __call__(self, params: Params, gradients: Params, step: int) -> Params:
            return {name: value - 0.001 * gradients[name].sign() for name, value in params.items()}

    maml = MAML(net, MAMLConfig(steps=2), SignDescent())
    before, after = learn(maml, task)
    assert loss_of(net, after, task) < loss_of(net, before, task)
    x, y = (each[None] for each in task)
    assert maml.accumulate(TaskBatch(x, y, x, y)).loss.isfinite()


# --- direct feedback alignment -----------------------------------------------


def inner_update(maml: MAML, task: Task) -> Params:
    """The change of the parameters by one inner step of rate 1."""
    before, after = maml.inner_path(*task, 3)
    return {name: after[name] - before[name] for name in maml.learning}


def test_direct_feedback_is_the_projected_error_times_activities_and_slope(task: Task) -> None:
    net, (x, labels) = make_net(False, task), task
    maml = RULES["direct-feedback"].maml(net, MAMLConfig(), generator())
    found = inner_update(maml, task)
    # By hand: the first layer's output is changed by minus its feedback times the error.
    params = {name: value.requires_grad_() for name, value in parameters(net).items()}
    counts = net._counts(x)
    sent = torch.relu(net._pooled(params, 0, counts)).flatten(1)
    error = (net(x).softmax(1) - one_hot(labels)) / len(x)
    projected = error.detach() @ net.body[0].direct
    first = {name: params[f"body.0.{name}"] for name in ("weight", "bias")}
    expected = torch.autograd.grad(sent, list(first.values()), projected)
    for name, gradient in zip(first, expected, strict=True):
        torch.testing.assert_close(found[f"body.0.{name}"], -gradient)


@pytest.mark.parametrize("spiking", [False, True])
def test_feedback_equal_to_the_last_weights_gives_the_gradient_of_the_last_two_layers(
    task: Task, spiking: bool
) -> None:
    # Direct feedback leaves out the refractory term of the output neurons.
    net = make_net(spiking, task, Neuron(refractory_weight=0.0))
    exact = inner_update(RULES["gradient"].maml(net, MAMLConfig(), generator()), task)
    direct = RULES["direct-feedback"].maml(net, MAMLConfig(), generator())
    random = inner_update(direct, task)
    net.body[1].direct.copy_(net.head["weight"].detach())
    found = inner_update(direct, task)
    for name in exact:
        last_two = not name.startswith("body.0")
        assert torch.allclose(found[name], exact[name], rtol=1e-9, atol=1e-12) == last_two
        assert torch.allclose(random[name], exact[name], rtol=1e-9) == name.startswith("head")


def test_updates_reach_the_first_layer_through_dead_layers_above(
    net: SpikingNet | ConvNet, task: Task
) -> None:
    with torch.no_grad():
        net.body[1]["bias"].fill_(-1e3)
    exact = inner_update(RULES["gradient"].maml(net, MAMLConfig(), generator()), task)
    direct = inner_update(RULES["direct-feedback"].maml(net, MAMLConfig(), generator()), task)
    assert exact["body.0.weight"].abs().max() < 1e-3 * direct["body.0.weight"].abs().max()


@pytest.mark.parametrize("steps", [1, 2])
def test_the_meta_gradient_through_direct_feedback_is_that_of_finite_differences(
    task: Task, steps: int
) -> None:
    net, (x, labels) = make_net(False, task), task
    maml = RULES["learned-direct-feedback"].maml(
        net, MAMLConfig(inner_lr=0.05, steps=steps), generator()
    )
    query_x, query_y = x.flip(1) + 1, labels.flip(0)
    found = maml.accumulate(TaskBatch(x[None], labels[None], query_x[None], query_y[None]))

    def query_loss() -> float:
        return float(cross_entropy(maml.adapt(x, labels, 3)(query_x), query_y))

    assert "net.body.0.direct" in found.gradients
    for name, value in net.named_parameters():
        direction = torch.randn(value.shape, dtype=value.dtype, generator=generator(1))
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                value += sign * 1e-6 * direction
            losses.append(query_loss())
            with torch.no_grad():
                value -= sign * 1e-6 * direction
        slope = (losses[0] - losses[1]) / 2e-6
        assert float((found.gradients[f"net.{name}"] * direction).sum()) == pytest.approx(
            slope, rel=1e-4, abs=1e-8
        )


def test_the_inner_loop_leaves_learned_feedback_as_it_is(
    net: SpikingNet | ConvNet, task: Task
) -> None:
    maml = RULES["learned-direct-feedback"].maml(net, MAMLConfig(), generator())
    assert {name for name in dict(net.named_parameters()) if name.endswith("direct")} == {
        "body.0.direct", "body.1.direct",
    }  # fmt: skip
    assert not any(name.endswith("direct") for name in maml.learning)
    before, after = maml.inner_path(*task, 3)
    assert after["body.0.direct"].equal(before["body.0.direct"])


# --- SOEL --------------------------------------------------------------------


def presynaptic(net: SpikingNet | ConvNet, x: Tensor) -> Tensor:
    """Return the input of the last layer, read through an identity as the last layer."""
    params = parameters(net)
    features = params["head.weight"].shape[1]
    eye, zeros = torch.eye(features, dtype=x.dtype), torch.zeros(features, dtype=x.dtype)
    return net.apply_params({**params, "head.weight": eye, "head.bias": zeros}, x)


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.4])
@pytest.mark.parametrize("spiking", [False, True])
def test_soel_changes_weights_by_thresholded_error_times_presynaptic_trace(
    task: Task, spiking: bool, threshold: float
) -> None:
    x, labels = task
    net = make_net(spiking, task, Neuron(refractory_weight=0.0))
    with torch.no_grad():
        before, after = learn(
            MAML(net, MAMLConfig(inner_lr=0.3, layers="head"), loss=SOEL(threshold)), task
        )
        error = net(x).softmax(1) - one_hot(labels)
        error[error.abs() < threshold] = 0
        trace = presynaptic(net, x)
    if threshold:
        assert 0 < (error == 0).sum() < error.numel()
    change = -0.3 * sum(torch.outer(e, p) for e, p in zip(error, trace, strict=True)) / len(x)
    torch.testing.assert_close(after["head.weight"] - before["head.weight"], change)
    torch.testing.assert_close(after["head.bias"] - before["head.bias"], -0.3 * error.mean(0))
    assert all(after[name].equal(before[name]) for name in before if name.startswith("body"))


def test_without_a_dead_zone_soel_is_the_cross_entropy_to_second_order(task: Task) -> None:
    labels = task[1]
    u = torch.randn(6, 3, dtype=torch.float64, generator=generator(), requires_grad=True)
    for rule in (SOEL(0.0), SOEL(0.2)):
        torch.testing.assert_close(rule(u, labels), cross_entropy(u, labels))

    def gradients(loss: Tensor) -> tuple[Tensor, Tensor]:
        (first,) = torch.autograd.grad(loss, u, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), u)
        return first, second

    torch.testing.assert_close(gradients(SOEL(0.0)(u, labels)), gradients(cross_entropy(u, labels)))


def test_soel_leaves_the_weights_unchanged_where_answers_are_right(task: Task) -> None:
    u = (20 * one_hot(task[1])).double().requires_grad_()
    (gradient,) = torch.autograd.grad(SOEL(0.01)(u, task[1]), u)
    assert not gradient.any()


def test_the_meta_gradient_through_soel_is_that_of_the_rule_by_hand(task: Task) -> None:
    net, (x, labels), threshold = make_net(False, task), task, 0.25
    query_x, query_y = x.flip(1) + 1, labels.flip(0)
    maml = MAML(net, MAMLConfig(inner_lr=0.3, layers="head"), loss=SOEL(threshold))
    found = maml.accumulate(TaskBatch(x[None], labels[None], query_x[None], query_y[None]))

    def query_loss(values: Mapping[str, Tensor]) -> Tensor:
        # The rule by hand: activities of the body in, error times activity out.
        eye, zeros = torch.eye(6, dtype=x.dtype), torch.zeros(6, dtype=x.dtype)
        trace = net.apply_params({**values, "head.weight": eye, "head.bias": zeros}, x)
        error = (trace @ values["head.weight"].T + values["head.bias"]).softmax(1) - one_hot(labels)
        error = error * (error.detach().abs() >= threshold)
        weight = values["head.weight"] - 0.3 * error.T @ trace / len(x)
        bias = values["head.bias"] - 0.3 * error.mean(0)
        return cross_entropy(
            net.apply_params({**values, "head.weight": weight, "head.bias": bias}, query_x), query_y
        )

    leaves = {name: value.requires_grad_() for name, value in parameters(net).items()}
    loss = query_loss(leaves)
    torch.testing.assert_close(found.loss, loss.detach())
    for name, gradient in zip(
        leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True
    ):
        torch.testing.assert_close(found.gradients[f"net.{name}"], gradient)
        torch.testing.assert_close(maml.get_parameter(f"net.{name}").grad, gradient)


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_a_threshold_that_no_error_can_meet_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        SOEL(threshold)


# --- the device --------------------------------------------------------------


def write(update: DeviceUpdate, weight: Tensor, wanted: Tensor | float) -> Tensor:
    """Return the weight after an update for a wanted change."""
    gradient = torch.as_tensor(wanted, dtype=weight.dtype).expand_as(weight) / -update.lr
    return update({"w": weight}, {"w": gradient}, 0)["w"]


def test_a_small_step_shrinks_linearly_towards_the_bound_it_goes_to() -> None:
    weight = torch.linspace(-0.5, 1.5, 21, dtype=torch.float64)
    device = DeviceUpdate(0.1, low=-0.5, high=1.5)  # a range of two: half of it is one
    torch.testing.assert_close(
        write(device, weight, 1e-7) - weight, 1e-7 * (1.5 - weight), rtol=1e-5, atol=1e-13
    )
    torch.testing.assert_close(
        write(device, weight, -1e-7) - weight, -1e-7 * (weight + 0.5), rtol=1e-5, atol=1e-13
    )


def test_in_the_middle_of_its_range_a_symmetric_device_descends_the_gradient() -> None:
    params = {"w": torch.full((5,), 0.5, dtype=torch.float64)}
    gradients = {"w": torch.linspace(-1e-6, 1e-6, 5, dtype=torch.float64)}
    found = DeviceUpdate(0.3, low=-1, high=2)(params, gradients, 0)["w"]
    torch.testing.assert_close(
        found - 0.5, sgd(0.3)(params, gradients, 0)["w"] - 0.5, rtol=1e-5, atol=0
    )


def test_steps_up_and_down_differ_by_the_ratio_of_potentiation_and_depression() -> None:
    weight, device = (
        torch.zeros(1, dtype=torch.float64),
        DeviceUpdate(1.0, potentiation=0.8, depression=0.2),
    )
    up, down = write(device, weight, 1e-7), write(device, weight, -1e-7)
    assert up.item() == pytest.approx(0.8e-7)
    assert (up / -down).item() == pytest.approx(4.0)


def test_one_large_step_equals_many_small_ones() -> None:
    device = DeviceUpdate(1.0, depression=0.5)
    weight = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for wanted in (0.8, -0.8):
        many = weight
        for _ in range(10):
            many = write(device, many, wanted / 10)
        torch.testing.assert_close(write(device, weight, wanted), many)


@pytest.mark.parametrize(
    "noise", [{}, {"step_noise": 0.5, "write_noise": 0.5, "generator": generator()}]
)
def test_no_step_however_large_leaves_the_bounds(noise: dict[str, Any]) -> None:
    device = DeviceUpdate(1.0, low=-0.3, high=0.7, potentiation=3.0, **noise)
    weight = torch.empty(1000).uniform_(-0.3, 0.7, generator=generator())
    for scale in (0.1, 10.0, 1e6):
        weight = write(device, weight, scale * torch.randn(1000, generator=generator(1)))
        assert weight.min() >= -0.3
        assert weight.max() <= 0.7


def test_a_weight_beyond_a_bound_can_move_towards_it_but_not_away() -> None:
    weight = torch.tensor([3.0, 3.0, 3.0, -3.0, -3.0])
    after = write(DeviceUpdate(1.0), weight, torch.tensor([1.0, 0.0, -1.0, -1.0, 1.0]))
    assert after[[0, 1, 3]].equal(weight[[0, 1, 3]])
    assert after[2] < 3
    assert after[4] > -3


def test_without_noise_every_written_weight_moves_in_the_wanted_direction() -> None:
    weight = torch.empty(1000).uniform_(-1.9, 1.9, generator=generator())
    wanted = torch.randn(1000, generator=generator(1))
    change = write(DeviceUpdate(0.5, depression=0.3), weight, wanted) - weight
    assert change.sign().equal(wanted.sign())


def test_step_noise_grows_with_the_step_and_write_noise_does_not() -> None:
    weight = torch.zeros(20_000, dtype=torch.float64)
    for wanted in (0.01, 0.04):
        steps = write(DeviceUpdate(1.0, step_noise=0.3, generator=generator()), weight, wanted)
        writes = write(DeviceUpdate(1.0, write_noise=0.02, generator=generator()), weight, wanted)
        exact = write(DeviceUpdate(1.0), weight, wanted)[0].item()
        # A deviation from n draws has a relative error of 1 / sqrt(2 n), here 0.5 %; a mean has an
        # error of deviation / sqrt(n).
        assert steps.std().item() == pytest.approx(0.3 * exact, rel=0.025)
        assert writes.std().item() == pytest.approx(0.02, rel=0.025)
        assert steps.mean().item() == pytest.approx(exact, rel=0.02)
        assert writes.mean().item() == pytest.approx(exact, abs=0.001)


def test_noise_follows_its_generator_and_not_the_global_one() -> None:
    before, weight = torch.get_rng_state(), torch.zeros(100)
    once, again, other = (
        write(
            DeviceUpdate(1.0, step_noise=0.3, write_noise=0.1, generator=generator(seed)),
            weight,
            0.1,
        )
        for seed in (1, 1, 2)
    )
    assert once.equal(again)
    assert not once.equal(other)
    assert before.equal(torch.get_rng_state())


def test_a_weight_with_no_gradient_is_not_written() -> None:
    weight = torch.empty(100).uniform_(-1, 1, generator=generator())
    wanted = torch.arange(100) % 2
    noisy = DeviceUpdate(1.0, step_noise=0.3, write_noise=0.1, generator=generator())
    assert (write(noisy, weight, wanted) == weight).equal(wanted == 0)


def test_the_derivatives_of_a_device_are_right_up_to_the_second() -> None:
    device = DeviceUpdate(0.7, depression=0.5)
    weight = torch.linspace(-1.8, 1.8, 6, dtype=torch.float64, requires_grad=True)
    gradient = torch.tensor(
        [-3.0, 1.0, -0.5, 0.5, 2.0, -0.1], dtype=torch.float64, requires_grad=True
    )

    def written(weight: Tensor, gradient: Tensor) -> Tensor:
        return device({"w": weight}, {"w": gradient}, 0)["w"]

    assert torch.autograd.gradcheck(written, (weight, gradient))
    assert torch.autograd.gradgradcheck(written, (weight, gradient))


def test_very_large_gradients_have_finite_derivatives() -> None:
    gradient = torch.tensor([1e8, -1e8, 0.0], requires_grad=True)
    after = DeviceUpdate(1.0)({"w": torch.zeros(3)}, {"w": gradient}, 0)["w"]
    (found,) = torch.autograd.grad(after.sum(), gradient)
    assert found.tolist() == [0, 0, -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "climb"),
        ({"lr": 1.0, "depression": -0.5}, "climb"),
        ({"lr": 1.0, "low": 1.0, "high": 1.0}, "low below high"),
        ({"lr": 1.0, "write_noise": 0.1}, "generator"),
    ],
)
def test_an_impossible_device_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DeviceUpdate(**options)


# --- thresholded updates -----------------------------------------------------


@pytest.mark.parametrize(("share", "written"), [(0.0, 100), (0.05, 96), (0.5, 51), (1.0, 1)])
def test_only_changes_above_a_share_of_the_range_are_written(share: float, written: int) -> None:
    # Magnitudes 1 .. 100 of either sign: a range of 99, and changes of more than 0, 4.95, 49.5 and
    # 99.
    magnitudes = torch.arange(1.0, 101.0)
    start, gradients = {"w": torch.ones(100)}, {"w": magnitudes * (-1) ** magnitudes}
    after = ThresholdedUpdate(sgd(1.0), share)(start, gradients, 0)["w"]
    changed = after != start["w"]
    assert changed.sum() == written
    assert changed.nonzero().min() == 100 - written  # the largest ones
    assert after[changed].equal((start["w"] - gradients["w"])[changed])


def test_the_range_is_that_of_each_tensor() -> None:
    start = {"large": torch.zeros(2), "small": torch.zeros(2)}
    gradients = {"large": torch.tensor([100.0, 1.0]), "small": torch.tensor([0.1, 0.02])}
    after = ThresholdedUpdate(sgd(1.0))(start, gradients, 0)
    assert (after["large"] != 0).tolist() == [True, False]
    assert (after["small"] != 0).tolist() == [True, True]


def test_meta_gradients_pass_only_where_an_update_is_written() -> None:
    gradient = torch.tensor([100.0, 1.0], requires_grad=True)
    after = ThresholdedUpdate(sgd(0.5))({"w": torch.zeros(2)}, {"w": gradient}, 0)["w"]
    (found,) = torch.autograd.grad(after.sum(), gradient)
    assert found.tolist() == [-0.5, 0.0]


def test_a_noisy_device_can_be_thresholded() -> None:
    weight = torch.zeros(1000)
    gradients = torch.where(torch.arange(1000) < 10, 1.0, 1e-4)
    noisy = DeviceUpdate(0.1, step_noise=0.1, generator=generator())
    after = ThresholdedUpdate(noisy)({"w": weight}, {"w": gradients}, 0)["w"]
    assert (after != 0).equal(torch.arange(1000) < 10)


# --- the table ---------------------------------------------------------------


def test_rules_change_only_the_options_that_they_name(net: SpikingNet | ConvNet) -> None:
    config = MAMLConfig(inner_lr=0.5, steps=2, layers=1)
    learners = {
        name: rule.maml(net, config, generator())
        for name, rule in RULES.items()
        if not (rule.align or rule.direct)
    }
    assert not dict(net.named_buffers())
    assert learners["soel"].config == MAMLConfig(inner_lr=0.5, steps=2, layers="head")
    assert all(maml.config == config for name, maml in learners.items() if name != "soel")
    RULES["feedback-alignment"].maml(net, config, generator())
    assert set(dict(net.named_buffers())) == {"body.1.feedback", "head.feedback"}


def test_a_rule_uses_the_learning_rate_and_the_generator_of_an_experiment() -> None:
    draws = generator()
    assert RULES["device"].update is not None
    device = RULES["device"].update(0.25, draws)
    assert isinstance(device, DeviceUpdate)
    assert device.lr == 0.25
    assert device.generator is draws
    assert device.depression < device.potentiation
