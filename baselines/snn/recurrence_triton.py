"""The functions of `recurrence` as one GPU kernel each.

A thread runs all time steps of its neurons. As separate operations, each time step would take
several kernel launches, which last longer than the arithmetic. Four steps are read at a time:
a recursion over few neurons mostly waits for memory. Values agree with the loops of
`recurrence` up to rounding. Supported are float32 and float64, and surrogates with `steepness` set;
`autograd.recurrence_for` takes the loops otherwise.

Triton comes with torch's builds for GPUs and not with others, so only `autograd` imports this
module, and only on a GPU.

Constants reach a kernel in memory: a scalar argument would be rounded to float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from baselines.inference_mode import leaves_inference_mode
from baselines.snn.recurrence import Surrogate

_NEURONS = 256  # per block: two per thread, as Triton runs four warps of 32 threads by default


def synapse(
    spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor]:
    """Filter incoming spikes twice; see `recurrence.synapse`."""
    out, last = spikes.new_empty((len(spikes) + 1, *spikes.shape[1:])), _like(current)
    constants = (b, (1 - b) * gain, a, 1 - a)
    _launch(_synapse, len(spikes), last, spikes, current, potential, constants, out)
    return out, last


def synapse_adjoint(
    grad_potentials: Tensor, grad_last: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `synapse`; see `recurrence.synapse_adjoint`."""
    grad_spikes = _like(grad_potentials[1:])
    grad_current, grad_potential = _like(grad_last), _like(grad_last)
    constants = (b, (1 - b) * gain, a, 1 - a)
    _launch(
        _synapse_adjoint,
        len(grad_spikes),
        grad_current,
        grad_potentials,
        grad_last,
        constants,
        grad_spikes,
        grad_potential,
    )
    return grad_spikes, grad_current, grad_potential


def refractory(
    v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """Subtract each neuron's own recent spikes from its drive; see `recurrence.refractory`."""
    u, last = v.contiguous(), _like(trace)
    _launch(_refractory, len(u), last, u, trace, (decay, weight))
    return u, last


def refractory_adjoint(
    grad_u: Tensor, grad_last: Tensor, u: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `refractory`; see `recurrence.refractory_adjoint`."""
    grad_v, grad_trace = _like(grad_u), _like(grad_last)
    _launch(
        _refractory_adjoint,
        len(u),
        grad_trace,
        grad_u,
        grad_last,
        u,
        (decay, weight, _steepness(surrogate)),
        grad_v,
    )
    return grad_v, grad_trace


def refractory_second(
    grad_grad_v: Tensor,
    grad_grad_trace: Tensor,
    grad_last: Tensor,
    u: Tensor,
    grad_v: Tensor,
    decay: float,
    weight: float,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `refractory_adjoint`; see `recurrence.refractory_second`."""
    grad_grad_u, grad_grad_last, grad_u = _like(grad_grad_v), _like(grad_last), _like(u)
    constants = (decay, weight, _steepness(surrogate))
    _launch(
        _refractory_second,
        len(u),
        grad_grad_last,
        grad_grad_v,
        grad_grad_trace,
        grad_last,
        u,
        grad_v,
        constants,
        grad_grad_u,
        grad_u,
    )
    return grad_grad_u, grad_grad_last, grad_u


def _steepness(surrogate: Surrogate) -> float:
    """Return the steepness of a surrogate."""
    assert surrogate.steepness is not None, "`autograd.recurrence_for` takes the loops for it"
    return surrogate.steepness


def _like(x: Tensor) -> Tensor:
    """Return an uninitialized contiguous tensor with the shape, dtype and device of `x`."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _launch(kernel: Any, steps: int, state: Tensor, *arguments: Tensor | tuple[float, ...]) -> None:
    """Launch a kernel with a neuron per element of `state`.

    Args:
        kernel: The Triton kernel.
        steps: Number of time steps.
        state: Output state [...], which the kernel writes; its argument follows the others.
        arguments: The other arguments: inputs, outputs, and constants as a tuple.
    """
    tensors = [
        constants_on(argument, state.dtype, state.device)
        if isinstance(argument, tuple)
        else argument.contiguous()
        for argument in arguments
    ]
    neurons = state.numel()
    if neurons:
        with torch.cuda.device(state.get_device()):
            kernel[(triton.cdiv(neurons, _NEURONS),)](
                *tensors, state, steps, neurons, BLOCK=_NEURONS, enable_fp_fusion=True
            )


@cache
@leaves_inference_mode
def constants_on(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return constants as a tensor on the device."""
    return torch.tensor(values, dtype=dtype, device=device)


@triton.jit
def _synapse_step(q, p, spikes, out, keep_q, take_q, keep_p, take_p, mask):  # type: ignore[no-untyped-def]
    """Take a step of `synapse` and write its potential; return the new current and potential."""
    q = keep_q * q + take_q * spikes
    p = keep_p * p + take_p * q
    tl.store(out, p, mask=mask)
    return q, p


@triton.jit  # type: ignore[untyped-decorator]
def _synapse(  # type: ignore[no-untyped-def]
    spikes, current, potential, constants, out, last, steps, neurons, BLOCK: tl.constexpr
):
    """Kernel of `synapse`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = n < neurons
    keep_q, take_q = tl.load(constants), tl.load(constants + 1)
    keep_p, take_p = tl.load(constants + 2), tl.load(constants + 3)
    q, p = tl.load(current + n, mask=mask), tl.load(potential + n, mask=mask)
    tl.store(out + n, p, mask=mask)
    here, there = spikes + n, out + n + neurons
    for _ in range(steps // 4):
        s0 = tl.load(here, mask=mask)
        s1 = tl.load(here + neurons, mask=mask)
        s2 = tl.load(here + 2 * neurons, mask=mask)
        s3 = tl.load(here + 3 * neurons, mask=mask)
        q, p = _synapse_step(q, p, s0, there, keep_q, take_q, keep_p, take_p, mask)
        q, p = _synapse_step(q, p, s1, there + neurons, keep_q, take_q, keep_p, take_p, mask)
        q, p = _synapse_step(q, p, s2, there + 2 * neurons, keep_q, take_q, keep_p, take_p, mask)
        q, p = _synapse_step(q, p, s3, there + 3 * neurons, keep_q, take_q, keep_p, take_p, mask)
        here += 4 * neurons
        there += 4 * neurons
    for _ in range(steps % 4):
        s0 = tl.load(here, mask=mask)
        q, p = _synapse_step(q, p, s0, there, keep_q, take_q, keep_p, take_p, mask)
        here += neurons
        there += neurons
    tl.store(last + n, q, mask=mask)


@triton.jit
def _synapse_adjoint_step(q, p, grad, out, keep_q, take_q, keep_p, take_p, mask):  # type: ignore[no-untyped-def]
    """Take a step of `synapse_adjoint` and write its gradient; return the new state."""
    p = keep_p * p + grad
    q += take_p * p
    tl.store(out, take_q * q, mask=mask)
    return q * keep_q, p


@triton.jit  # type: ignore[untyped-decorator]
def _synapse_adjoint(  # type: ignore[no-untyped-def]
    grad_potentials,
    grad_last,
    constants,
    grad_spikes,
    grad_potential,
    grad_current,
    steps,
    neurons,
    BLOCK: tl.constexpr,
):
    """Kernel of `synapse_adjoint`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = n < neurons
    keep_q, take_q = tl.load(constants), tl.load(constants + 1)
    keep_p, take_p = tl.load(constants + 2), tl.load(constants + 3)
    q = tl.load(grad_last + n, mask=mask)
    p = q * 0
    at = n + tl.cast(steps, tl.int64) * neurons
    here, there = grad_potentials + at, grad_spikes + at - neurons
    for _ in range(steps // 4):
        g0 = tl.load(here, mask=mask)
        g1 = tl.load(here - neurons, mask=mask)
        g2 = tl.load(here - 2 * neurons, mask=mask)
        g3 = tl.load(here - 3 * neurons, mask=mask)
        q, p = _synapse_adjoint_step(q, p, g0, there, keep_q, take_q, keep_p, take_p, mask)
        there -= neurons
        q, p = _synapse_adjoint_step(q, p, g1, there, keep_q, take_q, keep_p, take_p, mask)
        there -= neurons
        q, p = _synapse_adjoint_step(q, p, g2, there, keep_q, take_q, keep_p, take_p, mask)
        there -= neurons
        q, p = _synapse_adjoint_step(q, p, g3, there, keep_q, take_q, keep_p, take_p, mask)
        there -= neurons
        here -= 4 * neurons
    for _ in range(steps % 4):
        g0 = tl.load(here, mask=mask)
        q, p = _synapse_adjoint_step(q, p, g0, there, keep_q, take_q, keep_p, take_p, mask)
        there -= neurons
        here -= neurons
    tl.store(grad_current + n, q, mask=mask)
    tl.store(grad_potential + n, keep_p * p + tl.load(grad_potentials + n, mask=mask), mask=mask)


@triton.jit
def _refractory_step(r, drive, out, decay, weight, mask):  # type: ignore[no-untyped-def]
    """Take a step of `refractory` and write its membrane; return the new trace."""
    membrane = drive - weight * r
    tl.store(out, membrane, mask=mask)
    return r + (1 - decay) * ((membrane > 0).to(r.dtype) - r)


@triton.jit  # type: ignore[untyped-decorator]
def _refractory(  # type: ignore[no-untyped-def]
    u, trace, constants, last, steps, neurons, BLOCK: tl.constexpr
):
    """Kernel of `refractory`; `u` holds the drive and is overwritten with the membranes."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = n < neurons
    decay, weight = tl.load(constants), tl.load(constants + 1)
    r = tl.load(trace + n, mask=mask)
    here = u + n
    for _ in range(steps // 4):
        v0 = tl.load(here, mask=mask)
        v1 = tl.load(here + neurons, mask=mask)
        v2 = tl.load(here + 2 * neurons, mask=mask)
        v3 = tl.load(here + 3 * neurons, mask=mask)
        r = _refractory_step(r, v0, here, decay, weight, mask)
        r = _refractory_step(r, v1, here + neurons, decay, weight, mask)
        r = _refractory_step(r, v2, here + 2 * neurons, decay, weight, mask)
        r = _refractory_step(r, v3, here + 3 * neurons, decay, weight, mask)
        here += 4 * neurons
    for _ in range(steps % 4):
        r = _refractory_step(r, tl.load(here, mask=mask), here, decay, weight, mask)
        here += neurons
    tl.store(last + n, r, mask=mask)


@triton.jit
def _refractory_adjoint_step(r, membrane, grad, out, decay, weight, steepness, mask):  # type: ignore[no-untyped-def]
    """Take a step of `refractory_adjoint` and write its gradient; return the new trace."""
    reach = steepness * tl.abs(membrane) + 1
    total = grad + (1 - decay) * r / (reach * reach)
    tl.store(out, total, mask=mask)
    return decay * r - weight * total


@triton.jit  # type: ignore[untyped-decorator]
def _refractory_adjoint(  # type: ignore[no-untyped-def]
    grad_u, grad_last, u, constants, grad_v, grad_trace, steps, neurons, BLOCK: tl.constexpr
):
    """Kernel of `refractory_adjoint`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = n < neurons
    decay, weight, steepness = tl.load(constants), tl.load(constants + 1), tl.load(constants + 2)
    r = tl.load(grad_last + n, mask=mask)
    at = n + tl.cast(steps - 1, tl.int64) * neurons
    for _ in range(steps // 4):
        second, third, fourth = at - neurons, at - 2 * neurons, at - 3 * neurons
        u0, g0 = tl.load(u + at, mask=mask), tl.load(grad_u + at, mask=mask)
        u1, g1 = tl.load(u + second, mask=mask), tl.load(grad_u + second, mask=mask)
        u2, g2 = tl.load(u + third, mask=mask), tl.load(grad_u + third, mask=mask)
        u3, g3 = tl.load(u + fourth, mask=mask), tl.load(grad_u + fourth, mask=mask)
        r = _refractory_adjoint_step(r, u0, g0, grad_v + at, decay, weight, steepness, mask)
        r = _refractory_adjoint_step(r, u1, g1, grad_v + second, decay, weight, steepness, mask)
        r = _refractory_adjoint_step(r, u2, g2, grad_v + third, decay, weight, steepness, mask)
        r = _refractory_adjoint_step(r, u3, g3, grad_v + fourth, decay, weight, steepness, mask)
        at -= 4 * neurons
    for _ in range(steps % 4):
        u0, g0 = tl.load(u + at, mask=mask), tl.load(grad_u + at, mask=mask)
        r = _refractory_adjoint_step(r, u0, g0, grad_v + at, decay, weight, steepness, mask)
        at -= neurons
    tl.store(grad_trace + n, r, mask=mask)


@triton.jit
def _refractory_second_step(  # type: ignore[no-untyped-def]
    tangent, membrane, grad, trace, out_grad, out_u, decay, weight, steepness, mask
):
    """Take a step of `refractory_second` and write its gradients; return the new tangent."""
    reach = steepness * tl.abs(membrane) + 1
    total = grad - weight * tangent
    tl.store(out_grad, total, mask=mask)
    sign = (membrane > 0).to(total.dtype) - (membrane < 0).to(total.dtype)
    curvature = -2 * steepness * sign / (reach * reach * reach)
    tl.store(out_u, trace * total * curvature * (1 - decay), mask=mask)
    return decay * tangent + (1 - decay) * total / (reach * reach)


@triton.jit  # type: ignore[untyped-decorator]
def _refractory_second(  # type: ignore[no-untyped-def]
    grad_grad_v,
    grad_grad_trace,
    grad_last,
    u,
    grad_v,
    constants,
    grad_grad_u,
    grad_u,
    grad_grad_last,
    steps,
    neurons,
    BLOCK: tl.constexpr,
):
    """Kernel of `refractory_second`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = n < neurons
    decay, weight, steepness = tl.load(constants), tl.load(constants + 1), tl.load(constants + 2)
    # Backwards once more: until its turn comes, each step of grad_u holds the adjoint's trace of
    # that step.
    r = tl.load(grad_last + n, mask=mask)
    at = n + tl.cast(steps - 1, tl.int64) * neurons
    for _ in range(steps // 4):
        second, third, fourth = at - neurons, at - 2 * neurons, at - 3 * neurons
        v0, v1 = tl.load(grad_v + at, mask=mask), tl.load(grad_v + second, mask=mask)
        v2, v3 = tl.load(grad_v + third, mask=mask), tl.load(grad_v + fourth, mask=mask)
        tl.store(grad_u + at, r, mask=mask)
        r = decay * r - weight * v0
        tl.store(grad_u + second, r, mask=mask)
        r = decay * r - weight * v1
        tl.store(grad_u + third, r, mask=mask)
        r = decay * r - weight * v2
        tl.store(grad_u + fourth, r, mask=mask)
        r = decay * r - weight * v3
        at -= 4 * neurons
    for _ in range(steps % 4):
        tl.store(grad_u + at, r, mask=mask)
        r = decay * r - weight * tl.load(grad_v + at, mask=mask)
        at -= neurons
    tl.debug_barrier()
    tangent = tl.load(grad_grad_trace + n, mask=mask)
    at = n
    for _ in range(steps // 2):
        second = at + neurons
        u0, g0 = tl.load(u + at, mask=mask), tl.load(grad_grad_v + at, mask=mask)
        u1, g1 = tl.load(u + second, mask=mask), tl.load(grad_grad_v + second, mask=mask)
        r0, r1 = tl.load(grad_u + at, mask=mask), tl.load(grad_u + second, mask=mask)
        tangent = _refractory_second_step(
            tangent, u0, g0, r0, grad_grad_u + at, grad_u + at, decay, weight, steepness, mask
        )
        tangent = _refractory_second_step(
            tangent, u1, g1, r1, grad_grad_u + second, grad_u + second,
            decay, weight, steepness, mask,
        )  # fmt: skip
        at += 2 * neurons
    for _ in range(steps % 2):
        u0, g0 = tl.load(u + at, mask=mask), tl.load(grad_grad_v + at, mask=mask)
        r0 = tl.load(grad_u + at, mask=mask)
        tangent = _refractory_second_step(
            tangent, u0, g0, r0, grad_grad_u + at, grad_u + at, decay, weight, steepness, mask
        )
        at += neurons
    tl.store(grad_grad_last + n, tangent, mask=mask)
