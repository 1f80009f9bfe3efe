"""Kernels of the spiking layers: what the neuron equations need on whole sequences, fast and differentiable twice.

A sequence has time first and channels last, [T, n, H, W, C]: a time step is one contiguous slab, and its T * n frames
go through one convolution. This module knows no network, no time constant and no training; `neurons` gives it meaning.

The autograd functions work under `torch.func.vmap` and keep no more than their own backward needs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import avg_pool2d, max_pool2d

from baselines.snn import recurrence
from baselines.snn.recurrence import Recurrence, Surrogate


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, feedback: Tensor | None = None
) -> Tensor:
    """Convolve with a kernel of odd size k so that the frame keeps its size.

    `x` [N, H, W, C], `weight` [D, C, k, k], `bias` [D] -> [N, H, W, D]. Where `feedback`, a constant of the weight's shape, is
    given, the gradient by x goes through it and not through the weight (feedback alignment, Lillicrap et al. 2016).
    Under autocast the operands are cast, as those of `torch.nn.functional.conv2d` are.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
        bias, feedback = (None if each is None else each.to(dtype) for each in (bias, feedback))
    out: Tensor = apply(_Conv, x, weight, bias, feedback)
    return out


def pool2d(x: Tensor, pooling: str) -> Tensor:
    """Pool 2 x 2 by "max" or "average": [N, H, W, C] -> [N, H // 2, W // 2, C]."""
    return _POOLINGS[pooling](x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


_POOLINGS: dict[str, Callable[[Tensor, int], Tensor]] = {"max": max_pool2d, "average": avg_pool2d}


def spike(u: Tensor, surrogate: Surrogate) -> Tensor:
    """Threshold the membrane `u` of any shape; gradients follow the surrogate."""
    out: Tensor = apply(_Spike, u, surrogate)
    return out


def refractory(
    v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """Subtract each neuron's own recent spikes from what drives it.

    For every step, U[t] = v[t] - weight * trace and then trace = decay * trace + (1 - decay) * step(U[t]).
    `v` [T, ...], `trace` [...] -> the membranes U [T, ...] and the trace after the last step. U takes v's memory: a caller that
    still needs v gives a clone.
    """
    u, last = apply(_Refractory, v, trace, decay, weight, surrogate)
    return u, last


def synapse(
    spikes: Tensor,
    current: Tensor,
    potential: Tensor,
    synapse_decay: float,
    membrane_decay: float,
    gain: float,
) -> tuple[Tensor, Tensor]:
    """Filter incoming spikes twice: current = b current + (1 - b) gain spikes[t], potential = a potential + (1 - a) current.

    `spikes` [T, ...], `current` and `potential` [...] -> the potentials, from the one given on, [T + 1, ...], and the current
    after the last step. Linear.
    """
    potentials, last = apply(
        _Synapse, spikes, current, potential, synapse_decay, membrane_decay, gain
    )
    return potentials, last


def resting_steps(spikes: Tensor, rest: Tensor) -> int:
    """The number of time steps before the first of `spikes` [T, ...], or 0 where one of the drives `rest` [...] is above 0."""
    return int(apply(_RestingSteps, spikes, rest))


def _recurrence(x: Tensor, surrogate: Surrogate | None = None) -> Recurrence:
    # For sequences like x: kernels on a GPU, where there are any for them; else loops.
    known = x.dtype in (torch.float32, torch.float64) and (
        surrogate is None or surrogate.steepness is not None
    )
    return (known and x.is_cuda and _gpu_kernels()) or recurrence


@cache
def _gpu_kernels() -> Recurrence | None:
    try:
        from baselines.snn import recurrence_triton
    except ImportError:  # a torch without Triton
        return None
    return recurrence_triton


def apply(function: type[Function], *inputs: Any) -> Any:
    return function.apply(*inputs)  # type: ignore[no-untyped-call]


class _Conv(Function):
    # <g, x * w> is linear in each of g, x and w. So the gradient by x is again a convolution (with the kernel turned
    # round), and convolution and weight gradient are each other's derivatives: any order costs plain kernels only.
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor | None) -> Tensor:
        y = torch.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2)
        return y.permute(0, 2, 3, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, feedback = inputs
        ctx.save_for_backward(x, weight if feedback is None else feedback)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, way_back = ctx.saved_tensors
        by_x, by_weight, by_bias, _ = ctx.needs_input_grad
        return (
            apply(_Conv, gradient, _turned(way_back), None, None) if by_x else None,
            apply(_ConvWeight, gradient, x, way_back.shape[-1]) if by_weight else None,
            gradient.sum((0, 1, 2)) if by_bias else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_Conv, info, in_dims, inputs), 0


class _ConvWeight(Function):
    @staticmethod
    def forward(gradient: Tensor, x: Tensor, kernel: int) -> Tensor:
        weight = gradient.new_empty((gradient.shape[-1], x.shape[-1], kernel, kernel))
        pad, nchw = kernel // 2, (0, 3, 1, 2)
        _, out, _ = torch.ops.aten.convolution_backward(
            gradient.permute(nchw), x.permute(nchw), weight, None,
            [1, 1], [pad, pad], [1, 1], False, [0, 0], 1, [False, True, False],
        )  # fmt: skip
        return out  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        by_gradient, by_x, _ = ctx.needs_input_grad
        return (
            apply(_Conv, x, weight, None, None) if by_gradient else None,
            apply(_Conv, gradient, _turned(weight), None, None) if by_x else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_ConvWeight, info, in_dims, inputs), 0


def _turned(weight: Tensor) -> Tensor:
    return weight.transpose(0, 1).flip(2, 3)


def task_by_task(
    function: type[Function], info: Any, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]
) -> Tensor:
    # A task's time steps and samples fill a device; one convolution in groups of tasks would be slower.
    tasks = [
        [each] * info.batch_size if dim is None else each.unbind(dim)
        for each, dim in zip(inputs, in_dims, strict=True)
    ]
    return torch.stack([apply(function, *task) for task in zip(*tasks, strict=True)])


class _RestingSteps(Function):
    # A function of its own so that under vmap it can look at all tasks at once, where plain code may not ask for values.
    @staticmethod
    def forward(spikes: Tensor, rest: Tensor) -> Tensor:
        arrived = spikes.flatten(1).amax(1).cumsum(0) > 0
        return (~arrived).sum() * (rest.amax() <= 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], spikes: Tensor, rest: Tensor
    ) -> tuple[Tensor, None]:
        return apply(
            _RestingSteps, spikes if in_dims[0] is None else spikes.movedim(in_dims[0], 1), rest
        ), None


class _Spike(Function):
    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate) -> Tensor:
        return surrogate.step(u, torch.empty_like(u))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.surrogate.slope(ctx.saved_tensors[0]), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], u: Tensor, surrogate: Surrogate
    ) -> tuple[Tensor, int]:
        return apply(_Spike, u, surrogate), in_dims[0]


class _Synapse(Function):
    @staticmethod
    def forward(
        spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor]:
        return _recurrence(spikes).synapse(spikes, current, potential, b, a, gain)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.constants = inputs[3:]

    @staticmethod
    def backward(ctx: Any, by_potentials: Tensor, by_last: Tensor) -> tuple[Tensor | None, ...]:
        return *apply(_SynapseAdjoint, by_potentials, by_last, *ctx.constants), None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_Synapse, *_merge_tasks(info, in_dims, (1, 0, 0), inputs)), (1, 0)


class _SynapseAdjoint(Function):
    @staticmethod
    def forward(
        by_potentials: Tensor, by_last: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _recurrence(by_potentials).synapse_adjoint(by_potentials, by_last, b, a, gain)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.constants = inputs[2:]

    @staticmethod
    def backward(
        ctx: Any, spikes: Tensor, current: Tensor, potential: Tensor
    ) -> tuple[Tensor | None, ...]:
        return *apply(_Synapse, spikes, current, potential, *ctx.constants), None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_SynapseAdjoint, *_merge_tasks(info, in_dims, (1, 0), inputs)), (1, 0, 0)


class _Refractory(Function):
    @staticmethod
    def forward(
        v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        return _recurrence(v, surrogate).refractory(v.detach(), trace, decay, weight, surrogate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.constants = inputs[2:]
        ctx.save_for_backward(output[0])

    @staticmethod
    def backward(ctx: Any, by_u: Tensor, by_last: Tensor) -> tuple[Tensor | None, ...]:
        by_v, by_trace = apply(
            _RefractoryAdjoint, by_u, by_last, *ctx.saved_tensors, *ctx.constants
        )
        return by_v, by_trace, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_Refractory, *_merge_tasks(info, in_dims, (1, 0), inputs)), (1, 0)


class _RefractoryAdjoint(Function):
    @staticmethod
    def forward(
        by_u: Tensor, by_last: Tensor, u: Tensor, decay: float, weight: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        return _recurrence(u, surrogate).refractory_adjoint(
            by_u, by_last, u, decay, weight, surrogate
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, by_last, u, *ctx.constants = inputs
        ctx.save_for_backward(by_last, u, output[0])

    @staticmethod
    def backward(ctx: Any, by_by_v: Tensor, by_by_trace: Tensor) -> tuple[Tensor | None, ...]:
        gradients = apply(
            _RefractorySecond, by_by_v, by_by_trace, *ctx.saved_tensors, *ctx.constants
        )
        return *gradients, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_RefractoryAdjoint, *_merge_tasks(info, in_dims, (1, 0, 1), inputs)), (1, 0)


class _RefractorySecond(Function):
    # The end of the chain.
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        *_, u, _, _, _, surrogate = inputs
        return _recurrence(u, surrogate).refractory_second(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise NotImplementedError(
            "The refractory recursion has no third derivative; differentiate it twice at most."
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_RefractorySecond, *_merge_tasks(info, in_dims, (1, 0, 0, 1, 1), inputs)), (
            1,
            0,
            1,
        )


def _merge_tasks(
    info: Any, in_dims: tuple[Any, ...], axes: tuple[int, ...], inputs: tuple[Any, ...]
) -> list[Any]:
    # The recursions are elementwise but for time, so a task axis is one more axis behind it.
    # What tasks share is copied for each of them, as some is written to.
    tensors = [
        torch.stack([x] * info.batch_size, axis) if dim is None else x.movedim(dim, axis)
        for x, dim, axis in zip(inputs, in_dims, axes, strict=False)
    ]
    return [*tensors, *inputs[len(axes) :]]
