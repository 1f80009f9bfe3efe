"""MAML: its gradients against finite differences and closed forms, its options, its use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.simulated_gpu import simulated_gpu
from support.transcription import SMOOTH
from torch import Tensor
from torch.nn.functional import cross_entropy

import baselines.maml
import metaevents as me
from baselines.init import lsuv_init
from baselines.maml import (
    MAML,
    MAMLConfig,
    Outcome,
    TaskBatch,
    adam_cosine,
    adapt,
    meta_gradient,
    sgd,
)
from baselines.networks import ConvNet, Params, SpikingConfig, SpikingNet, StackConfig
from baselines.parallel import on_streams
from baselines.snn.neurons import Neuron
from metaevents.errors import UsageError

SPIKING = SpikingConfig((12, 2, 8, 8), ways=3, channels=(4, 6), kernel=3, burn_in=5)
SMOOTH_SPIKING = replace(SPIKING, channels=(2, 3), burn_in=0, neuron=Neuron(surrogate=SMOOTH))
CONV = StackConfig((12, 2, 8, 8), ways=3, channels=(4, 6), kernel=3)


def build(config: StackConfig = SPIKING, **options: Any) -> MAML:
    net = SpikingNet(config) if isinstance(config, SpikingConfig) else ConvNet(config)
    others = {name: options.pop(name) for name in ("update", "loss") if name in options}
    x = tasks(count=1)[2][0]
    lsuv_init(net.double(), x, generator=torch.Generator().manual_seed(0))
    return MAML(net, MAMLConfig(**{"inner_lr": 0.5} | options), **others).double()


def tasks(count: int = 2, queries: int = 4, ways: int = 3) -> TaskBatch:
    generator = torch.Generator().manual_seed(2)
    rates = torch.rand(1, ways, 1, 2, 8, 8, generator=generator, dtype=torch.float64)
    support = torch.poisson((2 * rates).repeat(count, 1, 12, 1, 1, 1), generator=generator)
    query = torch.poisson((2 * rates).repeat(count, queries, 12, 1, 1, 1), generator=generator)
    labels = torch.stack([torch.randperm(ways, generator=generator) for _ in range(count)])
    return TaskBatch(support, labels, query, labels.repeat(1, queries))


def gradients(maml: MAML, batch: TaskBatch) -> Params:
    return maml.accumulate(batch).gradients


def assert_same(one: Outcome, other: Outcome) -> None:
    torch.testing.assert_close(
        one._replace(accuracy=0), other._replace(accuracy=0), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(one.accuracy, other.accuracy)  # a float32


@pytest.fixture
def two_threads() -> Iterator[None]:
    yield from threads(2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As on a GPU, where batches of tasks run one after another."""
    yield from threads(1)


def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


# --- gradients ---------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [SMOOTH_SPIKING, replace(SMOOTH_SPIKING, pooling="average"), CONV],
    ids=["max", "average", "conv"],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 3},
        {"learn_inner_lrs": True, "steps": 2},
        {"layers": "head"},
        {"layers": 1, "learn_inner_lrs": True},
        {"steps": 0},
    ],
    ids=str,
)
def test_the_meta_gradient_is_that_of_finite_differences(
    config: StackConfig, options: dict[str, Any]
) -> None:
    maml, batch, step = build(config, **options), tasks(count=1), 1e-6
    grads = gradients(maml, batch)
    generator = torch.Generator().manual_seed(5)
    for name, value in maml.named_parameters():
        direction = torch.randn(value.shape, dtype=value.dtype, generator=generator)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                value.add_(direction, alpha=sign * step)
            losses.append(maml.accumulate(batch).loss)
            with torch.no_grad():
                value.sub_(direction, alpha=sign * step)
        expected = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close((grads[name] * direction).sum(), expected, rtol=1e-5, atol=1e-8)


def test_one_step_on_a_quadratic_is_the_closed_form() -> None:
    # Loss (w - c)' A (w - c) / 2: a step with learning rate r gives w - r A (w - c), whose
    # derivative by w is 1 - r A.
    generator = torch.Generator().manual_seed(0)
    root, c, w = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((3, 3), (3,), (3,))
    )
    a, w = root @ root.T, w.requires_grad_()

    def quadratic(w: Tensor, c: Tensor) -> Tensor:
        return (w - c) @ a @ (w - c) / 2

    for second_order, derivative in ((True, torch.eye(3) - 0.1 * a), (False, torch.eye(3))):
        taken = adapt(
            lambda p, x: p["w"], {"w": w}, c, c, sgd(0.1), second_order=second_order, loss=quadratic
        )["w"]
        torch.testing.assert_close(taken, w - 0.1 * a @ (w - c))
        jacobian = torch.stack(
            [torch.autograd.grad(each, w, retain_graph=True)[0] for each in taken]
        )
        torch.testing.assert_close(jacobian, derivative.double())


def test_one_step_of_a_linear_classifier_is_that_of_softmax_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((3, 4), (5, 4))
    )
    y = torch.tensor([0, 1, 2, 1, 0])
    error = (x @ weight.T).softmax(1) - torch.eye(3)[y]
    taken = adapt(lambda p, x: x @ p["w"].T, {"w": weight}, x, y, sgd(0.7))["w"]
    torch.testing.assert_close(taken, weight - 0.7 * error.T @ x / 5)


def test_first_order_is_maml_with_constant_inner_gradients() -> None:
    maml, (sx, sy, qx, qy) = build(second_order=False, steps=2), tasks(count=1)
    grads = gradients(maml, TaskBatch(sx, sy, qx, qy))
    params = {name: value.detach().requires_grad_() for name, value in maml.net.named_parameters()}
    adapted: dict[str, Tensor] = dict(params)
    for _ in range(2):
        inner = torch.autograd.grad(
            cross_entropy(maml.net.apply_params(adapted, sx[0]), sy[0]), list(adapted.values())
        )
        adapted = {
            name: value - 0.5 * g.detach()
            for (name, value), g in zip(adapted.items(), inner, strict=True)
        }
    expected = torch.autograd.grad(
        cross_entropy(maml.net.apply_params(adapted, qx[0]), qy[0]), list(params.values())
    )
    for name, each in zip(params, expected, strict=True):
        torch.testing.assert_close(grads[f"net.{name}"], each)
    second = gradients(build(steps=2), TaskBatch(sx, sy, qx, qy))
    assert not torch.allclose(grads["net.body.0.weight"], second["net.body.0.weight"], rtol=0.01)


def test_a_small_inner_step_lowers_the_support_loss() -> None:
    maml, (sx, sy, *_) = build(inner_lr=1e-2), tasks(count=1)
    before = cross_entropy(maml.net(sx[0]), sy[0])
    after = cross_entropy(maml.adapt(sx[0], sy[0], 3)(sx[0]), sy[0])
    assert after < before


def test_outer_steps_lower_the_query_loss() -> None:
    maml, batch = build(), tasks()
    adam, schedule = adam_cosine(maml.parameters(), 2e-2, 20)
    losses = []
    for _ in range(20):
        adam.zero_grad()
        losses.append(maml.accumulate(batch).loss.item())
        adam.step()
        schedule.step()
    assert losses[-1] < 0.8 * losses[0]


# --- options -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "learning"),
    [
        ("all", {0, 1, "head"}),
        ("body", {0, 1}),
        ("head", {"head"}),
        (0, {0, 1, "head"}),
        (1, {1, "head"}),
        (2, {"head"}),
    ],
)
def test_frozen_layers_do_not_change_and_remain_part_of_the_network(
    layers: Any, learning: set[Any]
) -> None:
    maml, (sx, sy, qx, qy) = build(layers=layers), tasks(count=1)
    params = dict(maml.net.named_parameters())
    names = {
        name
        for name in params
        if name.split(".")[0] in learning or name.split(".")[1] in map(str, learning)
    }
    taken = maml._inner(
        {f"net.{name}": value for name, value in params.items()},
        x=sx[0],
        y=sy[0],
        tasks=None,
        steps=1,
        second_order=False,
    )
    assert {name for name in params if not torch.equal(taken[name], params[name])} == names
    expected = maml.net.apply_params(taken, qx[0])
    torch.testing.assert_close(maml.adapt(sx[0], sy[0], 3)(qx[0]), expected.detach())
    grads = gradients(maml, TaskBatch(sx, sy, qx, qy))
    assert set(grads) == {f"net.{name}" for name in params}
    assert all(gradient.abs().max() > 0 for gradient in grads.values())


@pytest.mark.parametrize("layers", ["neck", -1, 3])
def test_unknown_layers_are_refused(layers: Any) -> None:
    with pytest.raises(UsageError, match=f"{layers!r}"):
        build(layers=layers)


@pytest.mark.parametrize("steps", [0, 1, 10])
def test_the_number_of_steps_at_test_time_may_differ(steps: int) -> None:
    (sx, sy, qx, _) = tasks(count=1)
    maml = build(steps=1, test_steps=steps, inner_lr=0.05)
    params: dict[str, Tensor] = dict(maml.net.named_parameters())
    for _ in range(steps):
        inner = torch.autograd.grad(
            cross_entropy(maml.net.apply_params(params, sx[0]), sy[0]), list(params.values())
        )
        params = {
            name: value - 0.05 * g for (name, value), g in zip(params.items(), inner, strict=True)
        }
    torch.testing.assert_close(
        maml.adapt(sx[0], sy[0], 3)(qx[0]), maml.net.apply_params(params, qx[0]).detach()
    )


def scaled_by_sign(params: Params, gradients: Params, step: int) -> Params:
    return {name: params[name] - 0.01 / (step + 1) * gradients[name].tanh() for name in params}


def dead_zone(logits: Tensor, y: Tensor) -> Tensor:
    # A loss whose gradient is the error without its small values, as in an error-triggered rule.
    error = logits.softmax(-1) - torch.nn.functional.one_hot(y, 3)
    return (logits * (error * (error.abs() > 0.4)).detach()).sum(-1).mean()


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (SPIKING, {}),
        (SMOOTH_SPIKING, {}),
        (SPIKING, {"second_order": False, "steps": 2}),
        (SPIKING, {"learn_inner_lrs": True, "layers": 1, "steps": 2}),
        (SPIKING, {"loss": dead_zone}),
        (SPIKING, {"update": scaled_by_sign, "steps": 2}),
        (replace(SPIKING, norm_groups=1), {}),
        (CONV, {"steps": 2}),
    ],
    ids=lambda value: (
        " ".join(f"{name}={getattr(option, '__name__', option)}" for name, option in value.items())
        if isinstance(value, dict)
        else type(value).__name__
    ),
)
def test_batched_tasks_give_the_gradients_of_one_task_after_another(
    config: StackConfig, options: dict[str, Any]
) -> None:
    batch, outcomes = tasks(count=3), []
    for at_once in (1, 2, 3):
        outcomes.append(build(config, tasks_at_once=at_once, **options).accumulate(batch))
    for outcome in outcomes[1:]:
        assert_same(outcome, outcomes[0])


@pytest.mark.usefixtures("one_thread")
def test_fewer_tasks_run_at_once_until_they_fit_a_gpus_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def small_gpu(function: Any, parts: Any, device: torch.device) -> Any:
        tried.append(len(parts))
        if len(parts) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return on_streams(function, parts, device)

    batch = tasks(count=5)
    expected = build().accumulate(batch)
    monkeypatch.setattr(baselines.maml, "on_streams", small_gpu)
    with simulated_gpu():
        maml = build().to("cuda")
        on_gpu = TaskBatch(*(each.to("cuda") for each in batch))
        assert_same(_on_cpu(maml.accumulate(on_gpu)), expected)
        assert tried == [5, 3, 2, 2, 1]
        tried.clear()
        maml.accumulate(on_gpu)  # the number that fits is remembered
        assert tried == [2, 2, 1]
        tried.clear()
        assert_same(_on_cpu(build(tasks_at_once=1).to("cuda").accumulate(on_gpu)), expected)
        assert not tried  # an explicit number runs without streams


def _on_cpu(outcome: Outcome) -> Outcome:
    return Outcome(
        outcome.loss.cpu(),
        outcome.accuracy.cpu(),
        {name: each.cpu() for name, each in outcome.gradients.items()},
    )


def test_one_task_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny_gpu(maml: MAML, params: Params, batch: TaskBatch) -> Outcome:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(MAML, "_outcome", tiny_gpu)
    batch = tasks(count=2)
    with simulated_gpu(), pytest.raises(torch.cuda.OutOfMemoryError):
        build().to("cuda").accumulate(TaskBatch(*(each.to("cuda") for each in batch)))


def test_the_outcome_is_the_mean_over_tasks_and_adds_to_grad() -> None:
    maml, batch = build(), tasks(count=2)
    both = maml.accumulate(batch)
    for name, value in maml.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(value.grad, both.gradients[name])
    one, two = (maml.accumulate(TaskBatch(*(each[i : i + 1] for each in batch))) for i in (0, 1))
    torch.testing.assert_close(both.loss, (one.loss + two.loss) / 2)
    torch.testing.assert_close(both.accuracy, (one.accuracy + two.accuracy) / 2)
    for name, value in maml.named_parameters():
        torch.testing.assert_close(
            both.gradients[name], (one.gradients[name] + two.gradients[name]) / 2
        )
        torch.testing.assert_close(value.grad, 3 * both.gradients[name])


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("config", "size", "at_once"), [(SPIKING, 1, 1), (SPIKING, None, 1), (CONV, 5, 2)]
)
def test_chunks_on_threads_give_the_gradients_of_one_chunk(
    config: StackConfig, size: int | None, at_once: int
) -> None:
    batch = tasks(count=2, queries=3)
    whole, chunked, again = (
        build(config, queries_per_chunk=each, tasks_at_once=at_once).accumulate(batch)
        for each in (100, size, size)
    )
    assert_same(chunked, whole)
    assert all(torch.equal(again.gradients[name], each) for name, each in chunked.gradients.items())
    assert torch.get_num_threads() == 2


def test_an_inner_loss_replaces_cross_entropy_in_the_inner_loop_alone() -> None:
    maml, (sx, sy, qx, qy) = build(loss=dead_zone), tasks(count=1)
    params = {name: value.detach().requires_grad_() for name, value in maml.net.named_parameters()}
    inner = torch.autograd.grad(
        dead_zone(maml.net.apply_params(params, sx[0]), sy[0]), list(params.values())
    )
    adapted = {
        name: value - 0.5 * g for (name, value), g in zip(params.items(), inner, strict=True)
    }
    expected = cross_entropy(maml.net.apply_params(adapted, qx[0]), qy[0])
    torch.testing.assert_close(maml.accumulate(TaskBatch(sx, sy, qx, qy)).loss, expected.detach())
    assert not torch.isclose(
        build().accumulate(TaskBatch(sx, sy, qx, qy)).loss, expected, rtol=1e-3
    )


def test_feedback_is_used_by_the_inner_loop_and_not_by_the_queries() -> None:
    (sx, sy, qx, qy), maml = tasks(count=1), build(second_order=False)
    plain = gradients(maml, TaskBatch(sx, sy, qx, qy))
    maml.net.align(torch.Generator().manual_seed(1))
    feedback = dict(maml.net.named_buffers())
    params = {name: value.detach().requires_grad_() for name, value in maml.net.named_parameters()}
    inner = torch.autograd.grad(
        cross_entropy(maml.net.apply_params({**params, **feedback}, sx[0]), sy[0]),
        list(params.values()),
    )
    adapted = {
        name: (value - 0.5 * g).detach()
        for (name, value), g in zip(params.items(), inner, strict=True)
    }
    expected = meta_gradient(maml.net.apply_params, dict, adapted, qx[0], qy[0]).gradients
    grads = gradients(maml, TaskBatch(sx, sy, qx, qy))
    for name, each in expected.items():
        torch.testing.assert_close(grads[f"net.{name}"], each)
    assert not torch.allclose(grads["net.body.0.weight"], plain["net.body.0.weight"], rtol=0.01)
    assert set(grads) == set(plain)
    torch.testing.assert_close(
        maml.adapt(sx[0], sy[0], 3)(qx[0]), maml.net.apply_params(adapted, qx[0])
    )


def test_learned_learning_rates_and_another_update_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="learn_inner_lrs"):
        build(learn_inner_lrs=True, update=scaled_by_sign)


def test_the_schedule_is_half_a_cosine_sized_in_steps() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    adam, schedule = adam_cosine([parameter], 2e-3, 100)
    rates = []
    for _ in range(120):
        rates.append(adam.param_groups[0]["lr"])
        adam.step()
        schedule.step()
    assert rates[0] == pytest.approx(2e-3)
    assert rates[50] == pytest.approx(2e-3 * (1 + 1 / 50) / 2)
    assert rates[25] == pytest.approx(2e-3 * (1 / 50 + 49 / 50 * (1 + math.cos(math.pi / 4)) / 2))
    assert rates[100:] == pytest.approx([2e-3 / 50] * 20)


# --- as a learner ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spiking", "conv"])
def test_it_is_a_learner_for_evaluate_and_predicts_each_query_alone(
    simulated_root: Path, kind: str
) -> None:
    dataset = me.DoubleNMNIST(simulated_root, split="test")
    shared: dict[str, Any] = {"channels": (4, 4), "norm_groups": 1}
    net = (
        SpikingNet(SpikingConfig(**shared, time_stride=5))
        if kind == "spiking"
        else ConvNet(StackConfig(**shared))
    )
    episode = me.EpisodeLoader(dataset, 5, 1, 2, episodes=1, representation=net.representation)[0]
    lsuv_init(net, episode.query_x, generator=torch.Generator().manual_seed(0))
    report = me.evaluate(MAML(net), dataset, "5way-1shot", episodes=3, queries=3)
    assert len(report.per_episode) == 3
    assert 0 <= report.accuracy <= 1
    assert report.transductive is False
    again = me.evaluate(MAML(net), dataset, "5way-1shot", episodes=3, queries=3)
    assert again.per_episode == report.per_episode
    with pytest.raises(UsageError, match="ways=20"):
        me.evaluate(MAML(net), dataset, "20way-1shot", episodes=1, queries=1)


def test_a_task_with_another_number_of_classes_is_refused() -> None:
    sx, *_ = tasks(count=1, ways=4)
    with pytest.raises(UsageError, match=r"3 outputs .* 4 classes"):
        build().adapt(sx[0], torch.arange(4), 4)


def test_frames_of_another_dataset_are_refused_with_both_shapes() -> None:
    with pytest.raises(UsageError, match=r"\[3, 12, 2, 8, 9\].*\[2, 8, 8\]"):
        build().adapt(torch.zeros(3, 12, 2, 8, 9), torch.arange(3), 3)
