"""Convolution by spectra against direct convolution: values, gradients, tasks, whole networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap

from baselines.init import lsuv_init
from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.networks import SpikingConfig, SpikingNet
from baselines.snn import autograd, fft_conv

FRAMES = [(4, 8), (8, 16), (7, 9), (5, 5)]  # with one stage and two; odd sizes too


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).requires_grad_()


def by_spectra(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, feedback: Tensor | None = None
) -> Tensor:
    kernel, back = (
        None if each is None else fft_conv.spectrum(each, tuple(x.shape[1:3]))
        for each in (weight, feedback)
    )
    assert kernel is not None
    return fft_conv.conv2d(x, kernel, weight.shape[-1], bias, back)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("frame", FRAMES)
def test_values_and_gradients_of_both_orders_are_those_of_direct_convolution(
    frame: tuple[int, int], kernel: int
) -> None:
    x, weight, bias = inputs = (
        draw(3, *frame, 6),
        draw(5, 6, kernel, kernel, seed=1),
        draw(5, seed=2),
    )

    def all_of(convolve: Callable[..., Tensor]) -> list[Tensor]:
        out = convolve(x, weight, bias)
        first = torch.autograd.grad((out**3).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum((each**2).sum() for each in first), inputs)  # type: ignore[arg-type]
        return [out, *first, *second]

    for result, expected in zip(all_of(by_spectra), all_of(autograd.conv2d), strict=True):
        torch.testing.assert_close(result, expected)


def test_derivatives_are_those_of_finite_differences() -> None:
    inputs = [draw(2, 3, 4, 2), draw(3, 2, 5, 5, seed=1), draw(3, seed=2)]
    assert gradcheck(by_spectra, inputs)
    assert gradgradcheck(by_spectra, inputs)


def test_a_gradient_without_a_graph_is_the_same() -> None:
    x, weight = inputs = draw(3, 4, 8, 6), draw(5, 6, 5, 5, seed=1)
    loss = (by_spectra(x, weight) ** 2).sum()
    for once, again in zip(
        torch.autograd.grad(loss, inputs, retain_graph=True),
        torch.autograd.grad(loss, inputs, create_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(once, again)


def test_more_frames_than_are_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = inputs = draw(11, 4, 8, 6), draw(5, 6, 5, 5, seed=1)

    def gradients() -> list[Tensor]:
        out = by_spectra(x, weight)
        return [out, *torch.autograd.grad((out**2).sum(), inputs)]

    at_once = gradients()
    monkeypatch.setattr(fft_conv, "_FRAMES_AT_A_TIME", 4)
    for parts, whole in zip(gradients(), at_once, strict=True):
        torch.testing.assert_close(parts, whole)


def test_feedback_replaces_the_weight_in_the_gradient_by_the_input() -> None:
    x, weight, feedback = draw(3, 8, 16, 4), draw(5, 4, 5, 5, seed=1), draw(5, 4, 5, 5, seed=2)
    grad_y = torch.ones(3, 8, 16, 5, dtype=torch.float64)
    result = torch.autograd.grad(by_spectra(x, weight, None, feedback), (x, weight), grad_y)
    expected = torch.autograd.grad(autograd.conv2d(x, weight, None, feedback), (x, weight), grad_y)
    torch.testing.assert_close(result, expected)
    assert not torch.allclose(result[0], torch.autograd.grad(by_spectra(x, weight), x, grad_y)[0])


@pytest.mark.parametrize("shared", [False, True])
def test_under_vmap_it_is_a_loop_over_tasks(shared: bool) -> None:
    x, weight = draw(2, 3, 4, 8, 2), draw(*(() if shared else (2,)), 3, 2, 5, 5, seed=1)

    def gradients(out: Tensor) -> list[Tensor]:
        first = torch.autograd.grad((out**3).sum(), (x, weight), create_graph=True)
        return [out, *first, *torch.autograd.grad(sum((g**2).sum() for g in first), (x, weight))]  # type: ignore[arg-type]

    mapped = vmap(by_spectra, in_dims=(0, None if shared else 0))(x, weight)
    looped = torch.stack(
        [by_spectra(x[task], weight if shared else weight[task]) for task in range(2)]
    )
    for result, expected in zip(gradients(mapped), gradients(looped), strict=True):
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("frame", "shape", "expected"),
    [
        ((4, 8), (128, 64, 5, 5), True),
        ((16, 32), (64, 32, 5, 5), False),
        ((4, 8), (32, 2, 5, 5), False),
        ((4, 8), (128, 64, 3, 3), False),
    ],
)
def test_it_is_for_small_frames_many_channels_and_large_kernels(
    frame: tuple[int, int], shape: tuple[int, ...], expected: bool
) -> None:
    assert fft_conv.worthwhile(frame, torch.empty(shape)) is expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fft_conv.worthwhile(frame, torch.empty(shape))


@pytest.mark.parametrize("tasks_at_once", [1, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_networks_meta_gradient_is_that_of_direct_convolutions(
    monkeypatch: pytest.MonkeyPatch, tasks_at_once: int, aligned: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    net = SpikingNet(
        SpikingConfig(frame_shape=(12, 2, 8, 16), channels=(16, 16), burn_in=4, ways=2)
    )
    x = torch.poisson(torch.full((2, 6, 12, 2, 8, 16), 0.3), generator=generator).double()
    y = torch.arange(2).repeat(2, 3)
    lsuv_init(net, x[0].float(), generator=generator)
    if aligned:
        net.align(generator)
    net.double()
    assert any("spectrum" in name for name in net.prepared(dict(net.named_parameters())))

    def gradients() -> list[Tensor]:
        maml = MAML(net, MAMLConfig(tasks_at_once=tasks_at_once))
        maml.zero_grad()
        maml.accumulate(TaskBatch(x[:, :2], y[:, :2], x[:, 2:], y[:, 2:]))
        return [
            parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None
        ]

    by_spectrum = gradients()
    monkeypatch.setattr(fft_conv, "worthwhile", lambda *_: False)
    direct = gradients()
    assert max(float(each.abs().max()) for each in direct) > 1e-6
    for a, b in zip(by_spectrum, direct, strict=True):
        torch.testing.assert_close(a, b)
