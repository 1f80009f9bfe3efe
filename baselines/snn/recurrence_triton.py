"""The functions of `recurrence` as one GPU kernel each, which runs all steps of a neuron in a thread.

Operation by operation, every time step would be several launches, which take a GPU longer than the arithmetic. Values agree
with the loops up to rounding. The threshold is the surrogate's that says its `steepness`. Written in Triton, which comes with
torch's builds for GPUs and not with others; only `functional` imports this, for float32 and float64 on a GPU.

Constants reach a kernel in memory, as a scalar argument would be cut to float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from baselines.snn.recurrence import Surrogate

_NEURONS = 256  # of a block: two for each thread of the four warps that Triton gives it


def synapse(
    spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor]:
    out, last = spikes.new_empty((len(spikes) + 1, *spikes.shape[1:])), _like(current)
    constants = (b, (1 - b) * gain, a, 1 - a)
    _launch(_synapse, len(spikes), last, spikes, current, potential, constants, out)
    return out, last


def synapse_adjoint(
    by_potentials: Tensor, by_last: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor, Tensor]:
    by_spikes, by_current, by_potential = _like(by_potentials[1:]), _like(by_last), _like(by_last)
    constants = (b, (1 - b) * gain, a, 1 - a)
    _launch(
        _synapse_adjoint, len(by_spikes), by_current, by_potentials, by_last, constants, by_spikes, by_potential
    )  # fmt: skip
    return by_spikes, by_current, by_potential


def refractory(
    v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    u, last = v.contiguous(), _like(trace)
    _launch(_refractory, len(u), last, u, trace, (decay, weight))
    return u, last


def refractory_adjoint(
    by_u: Tensor, by_last: Tensor, u: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    by_v, by_trace = _like(by_u), _like(by_last)
    _launch(
        _refractory_adjoint,
        len(u),
        by_trace,
        by_u,
        by_last,
        u,
        (decay, weight, _steepness(surrogate)),
        by_v,
    )
    return by_v, by_trace


def refractory_second(
    by_by_v: Tensor,
    by_by_trace: Tensor,
    by_last: Tensor,
    u: Tensor,
    by_v: Tensor,
    decay: float,
    weight: float,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor, Tensor]:
    by_by_u, by_by_last, by_u = _like(by_by_v), _like(by_last), _like(u)
    constants = (decay, weight, _steepness(surrogate))
    _launch(
        _refractory_second, len(u), by_by_last, by_by_v, by_by_trace, by_last, u, by_v, constants, by_by_u, by_u
    )  # fmt: skip
    return by_by_u, by_by_last, by_u


def _steepness(surrogate: Surrogate) -> float:
    assert surrogate.steepness is not None, "`functional` keeps others away"
    return surrogate.steepness


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _launch(kernel: Any, steps: int, state: Tensor, *arguments: Tensor | tuple[float, ...]) -> None:
    # Every kernel writes a state [...] beside what else it is given; a neuron for each of the state's cells.
    tensors = [
        _constants(each, state.dtype, state.device)
        if isinstance(each, tuple)
        else each.contiguous()
        for each in arguments
    ]
    neurons = state.numel()
    if neurons:
        with torch.cuda.device(state.get_device()):
            kernel[(triton.cdiv(neurons, _NEURONS),)](
                *tensors, state, steps, neurons, BLOCK=_NEURONS, enable_fp_fusion=True
            )


@cache
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


@triton.jit  # type: ignore[untyped-decorator]
def _synapse(  # type: ignore[no-untyped-def]
    spikes, current, potential, constants, out, last, steps, neurons, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = n < neurons
    keep_q, take_q = tl.load(constants), tl.load(constants + 1)
    keep_p, take_p = tl.load(constants + 2), tl.load(constants + 3)
    q, p = tl.load(current + n, mask=there), tl.load(potential + n, mask=there)
    tl.store(out + n, p, mask=there)
    at = n
    for _ in range(steps):
        q = keep_q * q + take_q * tl.load(spikes + at, mask=there)
        p = keep_p * p + take_p * q
        at += neurons
        tl.store(out + at, p, mask=there)
    tl.store(last + n, q, mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _synapse_adjoint(  # type: ignore[no-untyped-def]
    by_potentials,
    by_last,
    constants,
    by_spikes,
    by_potential,
    by_current,
    steps,
    neurons,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = n < neurons
    keep_q, take_q = tl.load(constants), tl.load(constants + 1)
    keep_p, take_p = tl.load(constants + 2), tl.load(constants + 3)
    q = tl.load(by_last + n, mask=there)
    p = q * 0
    at = n + tl.cast(steps, tl.int64) * neurons
    for _ in range(steps):
        p = keep_p * p + tl.load(by_potentials + at, mask=there)
        q += take_p * p
        at -= neurons
        tl.store(by_spikes + at, take_q * q, mask=there)
        q *= keep_q
    tl.store(by_current + n, q, mask=there)
    tl.store(by_potential + n, keep_p * p + tl.load(by_potentials + n, mask=there), mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _refractory(  # type: ignore[no-untyped-def]
    u, trace, constants, last, steps, neurons, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = n < neurons
    decay, weight = tl.load(constants), tl.load(constants + 1)
    r = tl.load(trace + n, mask=there)
    at = n
    for _ in range(steps):
        membrane = tl.load(u + at, mask=there) - weight * r
        tl.store(u + at, membrane, mask=there)
        r += (1 - decay) * ((membrane > 0).to(r.dtype) - r)
        at += neurons
    tl.store(last + n, r, mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _refractory_adjoint(  # type: ignore[no-untyped-def]
    by_u, by_last, u, constants, by_v, by_trace, steps, neurons, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = n < neurons
    decay, weight, steepness = tl.load(constants), tl.load(constants + 1), tl.load(constants + 2)
    r = tl.load(by_last + n, mask=there)
    at = n + tl.cast(steps, tl.int64) * neurons
    for _ in range(steps):
        at -= neurons
        reach = steepness * tl.abs(tl.load(u + at, mask=there)) + 1
        total = tl.load(by_u + at, mask=there) + (1 - decay) * r / (reach * reach)
        tl.store(by_v + at, total, mask=there)
        r = decay * r - weight * total
    tl.store(by_trace + n, r, mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _refractory_second(  # type: ignore[no-untyped-def]
    by_by_v,
    by_by_trace,
    by_last,
    u,
    by_v,
    constants,
    by_by_u,
    by_u,
    by_by_last,
    steps,
    neurons,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = n < neurons
    decay, weight, steepness = tl.load(constants), tl.load(constants + 1), tl.load(constants + 2)
    # Backwards once more: what the adjoint's trace was at each step waits where by_u will be.
    r = tl.load(by_last + n, mask=there)
    at = n + tl.cast(steps, tl.int64) * neurons
    for _ in range(steps):
        at -= neurons
        tl.store(by_u + at, r, mask=there)
        r = decay * r - weight * tl.load(by_v + at, mask=there)
    tl.debug_barrier()
    tangent = tl.load(by_by_trace + n, mask=there)
    for _ in range(steps):
        membrane = tl.load(u + at, mask=there)
        reach = steepness * tl.abs(membrane) + 1
        total = tl.load(by_by_v + at, mask=there) - weight * tangent
        tl.store(by_by_u + at, total, mask=there)
        tangent = decay * tangent + (1 - decay) * total / (reach * reach)
        sign = (membrane > 0).to(total.dtype) - (membrane < 0).to(total.dtype)
        curvature = -2 * steepness * sign / (reach * reach * reach)
        tl.store(
            by_u + at, tl.load(by_u + at, mask=there) * total * curvature * (1 - decay), mask=there
        )
        at += neurons
    tl.store(by_by_last + n, tangent, mask=there)
