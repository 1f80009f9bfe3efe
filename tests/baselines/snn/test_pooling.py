"""Pooling and threshold: the GPU kernels against torch's operations, on a GPU or interpreted."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.networks import SpikingConfig, SpikingNet
from baselines.snn import autograd, recurrence
from baselines.snn.neurons import FAST_SIGMOID

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
POOLINGS = ["max", "average"]
SHAPES = [(3, 4, 6, 5), (2, 5, 7, 3), (1, 2, 2, 1), (2, 3, 3, 2), (150, 4, 4, 8)]


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE.type == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        pytest.importorskip("triton", reason="Triton is not installed: it comes with GPU builds")
        yield importlib.import_module("baselines.snn.pooling_triton")


@pytest.fixture
def by_kernels(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autograd, "pooling_kernels", lambda *_: kernels)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values[values.abs() < 0.2] = 0.0  # equal maxima, and membranes at the threshold
    return values.to(DEVICE, dtype)


def plain(u: Tensor, pooling: str) -> Tensor:
    # On a GPU, max_pool2d of torch 2.11 fails for float64 and an odd number of channels.
    frames = autograd.pool2d(u.flatten(0, -4), pooling)
    return autograd.spike(frames.reshape(*u.shape[:-3], *frames.shape[1:]), FAST_SIGMOID)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_spikes_and_both_gradients_are_those_of_separate_operations(
    kernels: ModuleType, by_kernels: None, pooling: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    results = []
    for function, place in (
        (plain, torch.device("cpu")),
        (lambda u, p: autograd.pool_spike(u, FAST_SIGMOID, p), DEVICE),
    ):
        u = draw(*shape, dtype=dtype).to(place).requires_grad_()
        s = function(u, pooling)
        g = draw(*s.shape, seed=1, dtype=dtype).to(place).requires_grad_()
        (first,) = torch.autograd.grad(s, u, g, create_graph=True)
        second = torch.autograd.grad(first, (u, g), draw(*shape, seed=2, dtype=dtype).to(place))
        results.append((s, first, *second))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found.cpu(), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_firing_is_the_recursion_and_then_pooling(
    kernels: ModuleType, pooling: str, shape: tuple[int, ...]
) -> None:
    v, trace, bias = draw(6, *shape), draw(*shape, seed=1).abs(), draw(shape[-1], seed=2)
    found, last = kernels.fire(v.clone(), trace, bias, 0.65, 0.8, pooling)
    u, expected_last = recurrence.refractory(v + bias, trace, 0.65, 0.8, FAST_SIGMOID)
    torch.testing.assert_close(found.cpu(), plain(u.cpu(), pooling))
    torch.testing.assert_close(last, expected_last)


def test_each_task_has_its_bias(kernels: ModuleType) -> None:
    v, trace, bias = draw(5, 2, 3, 4, 4, 6), draw(2, 3, 4, 4, 6, seed=1), draw(2, 6, seed=2)
    found, last = kernels.fire(v.clone(), trace, bias, 0.65, 0.8, "max")
    for task in range(2):
        expected = kernels.fire(v[:, task].clone(), trace[task], bias[task], 0.65, 0.8, "max")
        torch.testing.assert_close(found[:, task], expected[0])
        torch.testing.assert_close(last[task], expected[1])


def test_tasks_run_as_one_batch(kernels: ModuleType, by_kernels: None) -> None:
    u = draw(2, 3, 4, 6, 5)
    found = vmap(lambda each: autograd.pool_spike(each, FAST_SIGMOID, "max"))(u)
    torch.testing.assert_close(found.cpu(), plain(u.cpu(), "max"))


@pytest.mark.parametrize("tasks_at_once", [1, 2])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_meta_gradients_through_the_kernels_are_those_without(
    kernels: ModuleType, pooling: str, tasks_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SpikingConfig(
        frame_shape=(20, 2, 10, 8), ways=3, channels=(4, 6), kernel=3, burn_in=10, pooling=pooling
    )  # type: ignore[arg-type]
    torch.manual_seed(0)
    net = SpikingNet(config).double()
    x = torch.poisson(torch.full((2, 9, *config.frame_shape), 0.4)).double()
    y = torch.arange(9).remainder(3).expand(2, 9)
    results = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # Triton's interpreter allows no more
    try:
        for chosen in (None, kernels):
            monkeypatch.setattr(autograd, "pooling_kernels", lambda *_, chosen=chosen: chosen)
            maml = MAML(net, MAMLConfig(inner_lr=0.5, tasks_at_once=tasks_at_once)).to(DEVICE)
            batch = TaskBatch(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:])
            outcome = maml.accumulate(TaskBatch(*(each.to(DEVICE) for each in batch)))
            results.append([outcome.loss, *outcome.gradients.values()])
    finally:
        torch.set_num_threads(before)
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_weight_gradient_by_windows_is_that_of_the_convolution(kernel: int) -> None:
    x, grad_y = draw(3, 6, 8, 2), draw(3, 6, 8, 4, seed=1)
    weight = torch.zeros(4, 2, kernel, kernel, dtype=torch.float64, device=DEVICE)
    weight.requires_grad_()
    y = torch.conv2d(x.permute(0, 3, 1, 2), weight, padding=kernel // 2).permute(0, 2, 3, 1)
    (expected,) = torch.autograd.grad(y, weight, grad_y)
    torch.testing.assert_close(autograd._weight_by_windows(grad_y, x, kernel), expected)
