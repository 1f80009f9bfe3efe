"""The operations: derivatives against finite differences, and under `vmap` against a loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.transcription import SMOOTH, smooth_threshold
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap
from torch.nn.functional import avg_pool2d, max_pool2d

from baselines.snn.autograd import conv2d, pool2d, refractory, resting_steps, spike, synapse
from baselines.snn.neurons import FAST_SIGMOID


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).requires_grad_()


def refractory_of(v: Tensor, trace: Tensor) -> tuple[Tensor, Tensor]:
    return refractory(v.clone(), trace, 0.65, 0.8, SMOOTH)


def synapse_of(spikes: Tensor, current: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    return synapse(spikes, current, potential, 0.9, 0.95, 3.0)


OPERATIONS: dict[str, tuple[Callable[..., Tensor | tuple[Tensor, ...]], list[tuple[int, ...]]]] = {
    "spike": (lambda u: spike(u, SMOOTH), [(3, 4)]),
    "conv2d": (conv2d, [(2, 3, 4, 2), (3, 2, 3, 3), (3,)]),
    "conv2d without bias": (conv2d, [(2, 3, 4, 2), (3, 2, 5, 5)]),
    "refractory": (refractory_of, [(4, 2, 2), (2, 2)]),
    "synapse": (synapse_of, [(4, 2, 2), (2, 2), (2, 2)]),
    "synapse of gain 1": (
        lambda *each: synapse(*each, 0.9, 0.95, 1.0),
        [(4, 2, 2), (2, 2), (2, 2)],
    ),
    "max pooling": (lambda u: pool2d(u, "max"), [(2, 4, 6, 2)]),
    "average pooling": (lambda u: pool2d(u, "average"), [(2, 4, 6, 2)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_first_and_second_derivatives_are_those_of_finite_differences(name: str) -> None:
    operation, shapes = OPERATIONS[name]
    inputs = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    assert gradcheck(operation, inputs)
    assert gradgradcheck(operation, inputs)


@pytest.mark.parametrize(
    ("name", "shared"),
    [(name, False) for name in OPERATIONS]
    + [(name, True) for name, (_, shapes) in OPERATIONS.items() if len(shapes) > 1],
)
def test_under_vmap_values_and_gradients_are_those_of_a_loop_over_tasks(
    name: str, shared: bool
) -> None:
    operation, shapes = OPERATIONS[name]
    inputs = [
        draw(*(shape if shared and i == 0 else (3, *shape)), seed=i)
        for i, shape in enumerate(shapes)
    ]

    def looped(*inputs: Tensor) -> tuple[Tensor, ...]:
        tasks = [
            as_tuple(operation(*(x if shared and i == 0 else x[t] for i, x in enumerate(inputs))))
            for t in range(3)
        ]
        return tuple(torch.stack(each) for each in zip(*tasks, strict=True))

    def mapped(*inputs: Tensor) -> tuple[Tensor, ...]:
        return as_tuple(
            vmap(
                operation,
                in_dims=tuple(None if shared and i == 0 else 0 for i in range(len(inputs))),
            )(*inputs)
        )

    def two_gradients(function: Callable[..., tuple[Tensor, ...]]) -> list[Tensor]:
        out = function(*inputs)
        first = torch.autograd.grad(sum((each**3).sum() for each in out), inputs, create_graph=True)  # type: ignore[arg-type]
        second = torch.autograd.grad(sum((each**2).sum() for each in first), inputs)  # type: ignore[arg-type]
        return [*out, *first, *second]

    for result, expected in zip(two_gradients(mapped), two_gradients(looped), strict=True):
        torch.testing.assert_close(result, expected)


def as_tuple(out: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


# --- the surrogate -----------------------------------------------------------


def test_a_spike_is_a_membrane_above_zero() -> None:
    u = torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 2.0])
    assert spike(u, FAST_SIGMOID).tolist() == [0, 0, 0, 1, 1]


def test_the_surrogate_slope_is_one_over_the_square_of_ten_times_the_membrane_and_one() -> None:
    u = torch.tensor([-0.9, -0.1, 0.0, 0.1, 0.4], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(spike(u, FAST_SIGMOID).sum(), u, create_graph=True)
    torch.testing.assert_close(slope.tolist(), [0.01, 0.25, 1.0, 0.25, 0.04])
    (curvature,) = torch.autograd.grad(slope.sum(), u)  # -20 sign(u) / (10 |u| + 1)^3
    torch.testing.assert_close(curvature.tolist(), [0.02, 2.5, 0.0, -2.5, -0.16])
    torch.testing.assert_close(FAST_SIGMOID.curvature(u.detach()), curvature)


# --- convolution and pooling -------------------------------------------------


def test_a_convolution_with_channels_last_is_the_usual_one() -> None:
    x, weight, bias = draw(2, 5, 6, 3), draw(4, 3, 5, 5, seed=1), draw(4, seed=2)
    expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=2).permute(
        0, 2, 3, 1
    )
    torch.testing.assert_close(conv2d(x, weight, bias), expected)


def test_feedback_replaces_the_weight_in_the_gradient_by_the_input_alone() -> None:
    x, weight, bias, feedback = (
        draw(2, 4, 4, 2),
        draw(3, 2, 3, 3, seed=1),
        draw(3, seed=2),
        draw(3, 2, 3, 3, seed=3),
    )
    grad_y = draw(2, 4, 4, 3, seed=4).detach()

    def gradients(weight: Tensor, feedback: Tensor | None) -> tuple[Tensor, ...]:
        return torch.autograd.grad(conv2d(x, weight, bias, feedback), (x, weight, bias), grad_y)

    grad_x, grad_weight, grad_bias = gradients(weight, feedback)
    torch.testing.assert_close(conv2d(x, weight, bias, feedback), conv2d(x, weight, bias))
    torch.testing.assert_close(grad_x, gradients(feedback, None)[0])
    torch.testing.assert_close((grad_weight, grad_bias), gradients(weight, None)[1:])
    assert torch.autograd.grad(
        conv2d(x, weight, bias, feedback).sum(), feedback, allow_unused=True
    ) == (None,)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)], ids=["even", "odd"])
@pytest.mark.parametrize(("pooling", "usual"), [("max", max_pool2d), ("average", avg_pool2d)])
def test_pooling_is_the_usual_one(
    pooling: str, usual: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    x = draw(2, *size, 3)
    torch.testing.assert_close(
        pool2d(x, pooling), usual(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    )


# --- sequences ---------------------------------------------------------------


def test_refractory_membranes_follow_the_recursion() -> None:
    v, trace = draw(5, 3), draw(3, seed=1)
    u, last = refractory_of(v, trace)
    for t in range(5):
        torch.testing.assert_close(u[t], v[t] - 0.8 * trace)
        trace = 0.65 * trace + 0.35 * smooth_threshold(u[t])
    torch.testing.assert_close(last, trace)


def test_resting_ends_with_the_first_spike_of_any_sample_and_needs_silent_neurons() -> None:
    spikes = torch.zeros(6, 2, 3)
    spikes[3, 1, 0] = 1
    silent, active = torch.tensor([-1.0, 0.0]), torch.tensor([-1.0, 0.1])
    assert resting_steps(spikes, silent) == 3
    assert resting_steps(spikes, active) == 0
    assert resting_steps(torch.zeros(6, 2, 3), silent) == 6
    tasks = torch.stack([spikes, spikes.roll(-1, 0)])
    assert vmap(lambda s: spikes.new_full((), resting_steps(s, silent)))(tasks).tolist() == [2, 2]
