"""The operations of spiking layers as autograd functions, on whole sequences.

A sequence has time first and channels last, [T, n, H, W, C]: a time step is one contiguous block,
and its T * n frames go through one convolution. The recursions over time come from `recurrence`, on
a GPU from `recurrence_triton`.

All functions are differentiable twice, work under `torch.func.vmap`, and save no more than their
backward needs. The neuron's
equations are left to `neurons`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from baselines.snn import recurrence
from baselines.snn.recurrence import Recurrence, Surrogate

_FEW_WEIGHTS = 64  # per output channel; see `_weight_by_windows`


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, feedback: Tensor | None = None
) -> Tensor:
    """Convolve frames with a kernel of odd size, with zero padding that keeps the frame's size.

    Under autocast the operands are cast, as those of `torch.nn.functional.conv2d` are.

    Args:
        x: Frames [N, H, W, C].
        weight: Kernel [D, C, k, k].
        bias: [D].
        feedback: Constant of the kernel's shape. If given, the gradient by `x` goes through it
            instead of the kernel (feedback alignment, Lillicrap et al. 2016).

    Returns:
        Frames [N, H, W, D].
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
        bias, feedback = (None if each is None else each.to(dtype) for each in (bias, feedback))
    out: Tensor = apply(_Conv, x, weight, bias, feedback)
    return out


def pool2d(x: Tensor, pooling: str) -> Tensor:
    """Pool frames 2 x 2; an odd last row or column is dropped.

    Args:
        x: Frames [N, H, W, C].
        pooling: "max" or "average".

    Returns:
        Frames [N, H // 2, W // 2, C].
    """
    return _POOLINGS[pooling](x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


_POOLINGS: dict[str, Callable[[Tensor, int], Tensor]] = {"max": max_pool2d, "average": avg_pool2d}


def spike(u: Tensor, surrogate: Surrogate) -> Tensor:
    """Threshold membranes of any shape; gradients follow the surrogate.

    Args:
        u: Membranes.
        surrogate: The threshold and its surrogate derivative.

    Returns:
        Spikes, 0 or 1, in the shape and dtype of `u`.
    """
    out: Tensor = apply(_Spike, u, surrogate)
    return out


def pool_spike(u: Tensor, surrogate: Surrogate, pooling: str) -> Tensor:
    """Pool membranes 2 x 2, and threshold them: `pool2d` and `spike` at once.

    Args:
        u: Membranes [..., H, W, C].
        surrogate: The threshold and its surrogate derivative.
        pooling: "max" or "average".

    Returns:
        Spikes [..., H // 2, W // 2, C].
    """
    if pooling_kernels(u, surrogate) is not None:
        out: Tensor = apply(_PoolSpike, u, surrogate, pooling)
        return out
    frames = pool2d(u.flatten(0, -4), pooling)
    return spike(frames.view(*u.shape[:-3], *frames.shape[1:]), surrogate)


def fire(
    v: Tensor,
    trace: Tensor,
    bias: Tensor,
    decay: float,
    weight: float,
    surrogate: Surrogate,
    pooling: str,
) -> tuple[Tensor, Tensor]:
    """Return the pooled spikes of a drive without a graph: `refractory` and `pool_spike` at once.

    Overwrites `v`; pass a clone to keep it.

    Args:
        v: Drive [T, ..., H, W, C], also in a lower precision than the others.
        trace: As for `refractory`.
        bias: [C], added to the drive.
        decay: As for `refractory`.
        weight: As for `refractory`.
        surrogate: As for `refractory`.
        pooling: "max" or "average".

    Returns:
        Spikes [T, ..., H // 2, W // 2, C], and the trace after the last step.
    """
    if pooling_kernels(trace, surrogate) is not None:
        spikes, last = apply(_Fire, v, trace, bias, decay, weight, surrogate, pooling)
        return spikes, last
    u, last = refractory(v + bias, trace, decay, weight, surrogate)
    return pool_spike(u, surrogate, pooling), last


def refractory(
    v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """Subtract each neuron's own recent spikes from its drive; see `recurrence.refractory`.

    Overwrites `v`; pass a clone to keep it.

    Args:
        v: Drive [T, ...].
        trace: Low-pass of the neuron's spikes before the first step [...].
        decay: Decay of the trace per step.
        weight: Size of the refractory term.
        surrogate: The threshold and its surrogate derivative.

    Returns:
        The membranes U [T, ...], and the trace after the last step [...].
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
    """Filter incoming spikes by synapse and membrane; see `recurrence.synapse`. Linear.

    Args:
        spikes: Incoming spikes [T, ...].
        current: Current before the first step [...].
        potential: Potential of the first step [...].
        synapse_decay: b, the decay of the current per step.
        membrane_decay: a, the decay of the potential per step.
        gain: Gain of the synapses.

    Returns:
        The potentials [T + 1, ...], of which the first is `potential`, and the current after the
        last step [...].
    """
    potentials, last = apply(
        _Synapse, spikes, current, potential, synapse_decay, membrane_decay, gain
    )
    return potentials, last


def resting_steps(spikes: Tensor, bias: Tensor) -> int:
    """Return the number of time steps in which a layer at rest certainly stays at rest.

    Under `torch.func.vmap` it is the smallest number of all tasks.

    Args:
        spikes: Incoming spikes [T, ...].
        bias: Drive of the neurons without incoming spikes, any shape.

    Returns:
        The number of steps before the first incoming spike; 0 if a bias is above 0.
    """
    return int(apply(_RestingSteps, spikes, bias))


def recurrence_for(x: Tensor, surrogate: Surrogate | None = None) -> Recurrence:
    """Return the recursions for sequences like `x`: GPU kernels if they support it, else loops.

    Args:
        x: a sequence; its device and dtype matter.
        surrogate: The surrogate, if the recursion has one.
    """
    supported = x.dtype in (torch.float32, torch.float64) and (
        surrogate is None or surrogate.steepness is not None
    )
    return (supported and x.is_cuda and _gpu_kernels()) or recurrence


@cache
def _gpu_kernels() -> Recurrence | None:
    """Return the GPU kernels; None if this torch came without Triton."""
    try:
        from baselines.snn import recurrence_triton
    except ImportError:
        return None
    return recurrence_triton


def pooling_kernels(x: Tensor, surrogate: Surrogate) -> Any:
    """Return the module of GPU kernels that pool and threshold; None where torch's operations do.

    Args:
        x: A sequence; its device and dtype matter.
        surrogate: The threshold.
    """
    if recurrence_for(x, surrogate) is recurrence:
        return None
    from baselines.snn import pooling_triton

    return pooling_triton


def apply(function: type[Function], *inputs: Any) -> Any:
    """Return `function.apply(*inputs)`, which torch leaves untyped."""
    return function.apply(*inputs)  # type: ignore[no-untyped-call]


class _Conv(Function):
    """Convolution of frames [N, H, W, C].

    <g, x * w> is linear in each of g, x and w. So the gradient by x is again a convolution (with
    the kernel rotated), and convolution and weight gradient are each other's derivatives:
    derivatives of any order need only plain kernels.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor | None) -> Tensor:
        y = torch.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2)
        return y.permute(0, 2, 3, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, feedback = inputs
        ctx.save_for_backward(x, weight if feedback is None else feedback)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, backward_weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            apply(_Conv, grad_y, _rotated(backward_weight), None, None) if needs_x else None,
            apply(_ConvWeight, grad_y, x, backward_weight.shape[-1]) if needs_weight else None,
            grad_y.sum((0, 1, 2)) if needs_bias else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_Conv, info, in_dims, inputs), 0


class _ConvWeight(Function):
    """Gradient of `_Conv` by its kernel, [D, C, k, k]."""

    @staticmethod
    def forward(grad_y: Tensor, x: Tensor, kernel: int) -> Tensor:
        weight = grad_y.new_empty((grad_y.shape[-1], x.shape[-1], kernel, kernel))
        if x.is_cuda and weight[0].numel() <= _FEW_WEIGHTS:
            return _weight_by_windows(grad_y, x, kernel)
        edge, nchw = kernel // 2, (0, 3, 1, 2)
        _, out, _ = torch.ops.aten.convolution_backward(
            grad_y.permute(nchw), x.permute(nchw), weight, None,
            [1, 1], [edge, edge], [1, 1], False, [0, 0], 1, [False, True, False],
        )  # fmt: skip
        return out  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad_grad_weight: Tensor) -> tuple[Tensor | None, ...]:
        grad_y, x = ctx.saved_tensors
        needs_grad_y, needs_x, _ = ctx.needs_input_grad
        return (
            apply(_Conv, x, grad_grad_weight, None, None) if needs_grad_y else None,
            apply(_Conv, grad_y, _rotated(grad_grad_weight), None, None) if needs_x else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_ConvWeight, info, in_dims, inputs), 0


def _weight_by_windows(grad_y: Tensor, x: Tensor, kernel: int) -> Tensor:
    """Return the gradient by a kernel with few input channels, as products of matrices.

    For the two polarities cuDNN takes four times as long on a GPU.
    """
    channels, outputs = x.shape[-1], grad_y.shape[-1]
    edge = kernel // 2
    padded = pad(x, (0, 0, edge, edge, edge, edge))
    windows = padded.unfold(1, kernel, 1).unfold(2, kernel, 1)  # [N, H, W, C, k, k]
    windows = windows.permute(0, 1, 2, 4, 5, 3).reshape(len(x), -1, channels * kernel**2)
    products = torch.bmm(windows.mT, grad_y.flatten(1, 2)).sum(0)
    return products.view(kernel, kernel, channels, outputs).permute(3, 2, 0, 1).contiguous()


def _rotated(weight: Tensor) -> Tensor:
    """Return the kernel [C, D, k, k] of the transposed convolution: rotated by 180 degrees."""
    return weight.transpose(0, 1).flip(2, 3)


def task_by_task(
    function: type[Function], info: Any, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]
) -> Tensor:
    """Return `function` of each task, stacked on a new first axis: a vmap rule for convolutions.

    A task's time steps and samples fill a device; one convolution with a group per task would be
    slower.

    Args:
        function: The autograd function.
        info: As torch passes it to a vmap rule; `info.batch_size` is the number of tasks.
        in_dims: Task axis of each input; None if the tasks share it.
        inputs: Inputs of the function.
    """
    tasks = [
        [each] * info.batch_size if dim is None else each.unbind(dim)
        for each, dim in zip(inputs, in_dims, strict=True)
    ]
    return torch.stack([apply(function, *task) for task in zip(*tasks, strict=True)])


class _RestingSteps(Function):
    """Number of resting steps, an autograd function for its vmap rule alone.

    That rule sees the values of all tasks, which plain code under vmap may not ask for.
    """

    @staticmethod
    def forward(spikes: Tensor, bias: Tensor) -> Tensor:
        arrived = spikes.flatten(1).amax(1).cumsum(0) > 0
        return (~arrived).sum() * (bias.amax() <= 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], spikes: Tensor, bias: Tensor
    ) -> tuple[Tensor, None]:
        return apply(
            _RestingSteps, spikes if in_dims[0] is None else spikes.movedim(in_dims[0], 1), bias
        ), None


class _Spike(Function):
    """Threshold with the surrogate's slope as its derivative."""

    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate) -> Tensor:
        return surrogate.step(u, torch.empty_like(u))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor) -> tuple[Tensor, None]:
        return grad_s * ctx.surrogate.slope(ctx.saved_tensors[0]), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], u: Tensor, surrogate: Surrogate
    ) -> tuple[Tensor, int]:
        return apply(_Spike, u, surrogate), in_dims[0]


class _PoolSpike(Function):
    """`pool_spike` by GPU kernels; its gradient is `_PoolSpikeAdjoint`."""

    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate, pooling: str) -> Tensor:
        out: Tensor = pooling_kernels(u, surrogate).pool_spike(u, pooling)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, *ctx.constants = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return apply(_PoolSpikeAdjoint, grad_s, u, *ctx.constants), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return apply(_PoolSpike, *_merge_tasks(info, in_dims, (0,), inputs)), 0


class _PoolSpikeAdjoint(Function):
    """The gradient of `_PoolSpike`; its own is `_PoolSpikeSecond`."""

    @staticmethod
    def forward(grad_s: Tensor, u: Tensor, surrogate: Surrogate, pooling: str) -> Tensor:
        kernels = pooling_kernels(u, surrogate)
        out: Tensor = kernels.pool_spike_adjoint(grad_s, u, surrogate, pooling)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grad_s, u, *ctx.constants = inputs
        ctx.save_for_backward(grad_s, u)

    @staticmethod
    def backward(ctx: Any, grad_grad_u: Tensor) -> tuple[Tensor | None, ...]:
        grads = apply(_PoolSpikeSecond, grad_grad_u, *ctx.saved_tensors, *ctx.constants)
        return *grads, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return apply(_PoolSpikeAdjoint, *_merge_tasks(info, in_dims, (0, 0), inputs)), 0


class _PoolSpikeSecond(Function):
    """The gradients of `_PoolSpikeAdjoint`; they have none."""

    @staticmethod
    def forward(
        grad_grad_u: Tensor, grad_s: Tensor, u: Tensor, surrogate: Surrogate, pooling: str
    ) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = pooling_kernels(u, surrogate).pool_spike_second(
            grad_grad_u, grad_s, u, surrogate, pooling
        )
        return both

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise NotImplementedError(
            "pooled spikes have no third derivative; differentiate them at most twice"
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_PoolSpikeSecond, *_merge_tasks(info, in_dims, (0, 0, 0), inputs)), (0, 0)


class _Fire(Function):
    """`fire` by GPU kernels, an autograd function for its vmap rule alone."""

    @staticmethod
    def forward(
        v: Tensor,
        trace: Tensor,
        bias: Tensor,
        decay: float,
        weight: float,
        surrogate: Surrogate,
        pooling: str,
    ) -> tuple[Tensor, Tensor]:
        kernels = pooling_kernels(trace, surrogate)
        both: tuple[Tensor, Tensor] = kernels.fire(v, trace, bias, decay, weight, pooling)
        return both

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_Fire, *_merge_tasks(info, in_dims, (1, 0, 0), inputs)), (1, 0)


class _Synapse(Function):
    """`recurrence.synapse`; its gradient is `_SynapseAdjoint`."""

    @staticmethod
    def forward(
        spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor]:
        return recurrence_for(spikes).synapse(spikes, current, potential, b, a, gain)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.constants = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad_potentials: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        grads = apply(_SynapseAdjoint, grad_potentials, grad_last, *ctx.constants)
        return *grads, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_Synapse, *_merge_tasks(info, in_dims, (1, 0, 0), inputs)), (1, 0)


class _SynapseAdjoint(Function):
    """`recurrence.synapse_adjoint`; both are linear, so its gradient is `_Synapse` again."""

    @staticmethod
    def forward(
        grad_potentials: Tensor, grad_last: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        recursions = recurrence_for(grad_potentials)
        return recursions.synapse_adjoint(grad_potentials, grad_last, b, a, gain)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.constants = inputs[2:]

    @staticmethod
    def backward(
        ctx: Any, grad_grad_spikes: Tensor, grad_grad_current: Tensor, grad_grad_potential: Tensor
    ) -> tuple[Tensor | None, ...]:
        grads = apply(
            _Synapse, grad_grad_spikes, grad_grad_current, grad_grad_potential, *ctx.constants
        )
        return *grads, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_SynapseAdjoint, *_merge_tasks(info, in_dims, (1, 0), inputs)), (1, 0, 0)


class _Refractory(Function):
    """`recurrence.refractory`; its gradient is `_RefractoryAdjoint`."""

    @staticmethod
    def forward(
        v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        return recurrence_for(v, surrogate).refractory(v.detach(), trace, decay, weight, surrogate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.constants = inputs[2:]
        ctx.save_for_backward(output[0])

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        grad_v, grad_trace = apply(
            _RefractoryAdjoint, grad_u, grad_last, *ctx.saved_tensors, *ctx.constants
        )
        return grad_v, grad_trace, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_Refractory, *_merge_tasks(info, in_dims, (1, 0), inputs)), (1, 0)


class _RefractoryAdjoint(Function):
    """`recurrence.refractory_adjoint`; its gradient is `_RefractorySecond`."""

    @staticmethod
    def forward(
        grad_u: Tensor,
        grad_last: Tensor,
        u: Tensor,
        decay: float,
        weight: float,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor]:
        return recurrence_for(u, surrogate).refractory_adjoint(
            grad_u, grad_last, u, decay, weight, surrogate
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, grad_last, u, *ctx.constants = inputs
        ctx.save_for_backward(grad_last, u, output[0])

    @staticmethod
    def backward(
        ctx: Any, grad_grad_v: Tensor, grad_grad_trace: Tensor
    ) -> tuple[Tensor | None, ...]:
        grads = apply(
            _RefractorySecond, grad_grad_v, grad_grad_trace, *ctx.saved_tensors, *ctx.constants
        )
        return *grads, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return apply(_RefractoryAdjoint, *_merge_tasks(info, in_dims, (1, 0, 1), inputs)), (1, 0)


class _RefractorySecond(Function):
    """`recurrence.refractory_second`; it has no derivative."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        *_, u, _, _, _, surrogate = inputs
        return recurrence_for(u, surrogate).refractory_second(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise NotImplementedError(
            "the refractory recursion has no third derivative; differentiate it at most twice"
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        merged = _merge_tasks(info, in_dims, (1, 0, 0, 1, 1), inputs)
        return apply(_RefractorySecond, *merged), (1, 0, 1)


def _merge_tasks(
    info: Any, in_dims: tuple[Any, ...], axes: tuple[int, ...], inputs: tuple[Any, ...]
) -> list[Any]:
    """Return the inputs of a recursion with their task axis at `axes`, behind time.

    Recursions are elementwise but for time, so a task axis is one more axis of neurons.

    What the tasks share is copied for each of them, because some inputs are overwritten. Inputs
    beyond `axes` are constants.
    """
    tensors = [
        torch.stack([x] * info.batch_size, axis) if dim is None else x.movedim(dim, axis)
        for x, dim, axis in zip(inputs, in_dims, axes, strict=False)
    ]
    return [*tensors, *inputs[len(axes) :]]
