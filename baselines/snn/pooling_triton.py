"""Pooling and threshold of spiking layers as one GPU kernel, and with the refractory recursion.

As separate operations of torch, pooling writes and reads the positions of its maxima as 64-bit
numbers, and each operation moves all membranes through the GPU's memory once more. The values agree
with `recurrence.refractory`, `autograd.pool2d` and `autograd.spike`, the maximum's position too.
Supported are float32 and float64, and surrogates with `steepness` set.

A thread has one window of 2 x 2 cells. Only `autograd` imports this module, and only on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from baselines.snn.recurrence import Surrogate
from baselines.snn.recurrence_triton import constants_on

_WINDOWS = 128  # per block: one per thread


def fire(
    v: Tensor, trace: Tensor, bias: Tensor, decay: float, weight: float, pooling: str
) -> tuple[Tensor, Tensor]:
    """Return the pooled spikes of a drive, and the last trace; see `recurrence.refractory`.

    Args:
        v: Drive [T, ..., H, W, D], also in half precision.
        trace: Low-pass of the neurons' spikes before the first step [..., H, W, D].
        bias: Added to the drive, [D], or [tasks, D] where the axis after time counts tasks.
        decay: Decay of the trace per step.
        weight: Size of the refractory term.
        pooling: "max" or "average".

    Returns:
        Spikes [T, ..., H // 2, W // 2, D] and the trace after the last step [..., H, W, D].
    """
    *lead, height, width, channels = trace.shape
    v, trace = v.contiguous(), trace.contiguous()
    last = torch.empty_like(trace)
    out = trace.new_empty((len(v), *lead, height // 2, width // 2, channels))
    # A last row or column of odd sizes has no spikes after pooling, and a trace nevertheless.
    shape = height, width, channels, (height + 1) // 2, (width + 1) // 2
    images, rows = trace[..., 0, 0, 0].numel(), bias.numel() // channels
    constants = constants_on((decay, weight), trace.dtype, trace.device)
    _launch(
        _fire,
        images * shape[3] * shape[4] * channels,
        v,
        (v, trace, bias.contiguous(), constants, out, last),
        len(v),
        images,
        max(1, images // rows),
        *shape,
        MAX=pooling == "max",
    )
    return out, last


def pool_spike(u: Tensor, pooling: str) -> Tensor:
    """Return the spikes [..., H // 2, W // 2, D] of pooled membranes.

    Args:
        u: Membranes [..., H, W, D].
        pooling: "max" or "average".
    """
    *lead, height, width, channels = u.shape
    out = u.new_empty((*lead, height // 2, width // 2, channels))
    shape = height, width, channels, height // 2, width // 2
    _launch(_pool_spike, out.numel(), u, (u.contiguous(), out), *shape, MAX=pooling == "max")
    return out


def pool_spike_adjoint(grad_s: Tensor, u: Tensor, surrogate: Surrogate, pooling: str) -> Tensor:
    """Return the gradient of `pool_spike` by u.

    Args:
        grad_s: Gradient by the spikes [..., H // 2, W // 2, D].
        u: Membranes [..., H, W, D].
        surrogate: The threshold.
        pooling: "max" or "average".
    """
    *_, height, width, channels = u.shape
    out = _all_written(u)
    shape = height, width, channels, height // 2, width // 2
    tensors = u.contiguous(), grad_s.contiguous(), _steepness(surrogate, u), out
    _launch(_pool_spike_adjoint, grad_s.numel(), u, tensors, *shape, MAX=pooling == "max")
    return out


def pool_spike_second(
    grad_grad_u: Tensor, grad_s: Tensor, u: Tensor, surrogate: Surrogate, pooling: str
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `pool_spike_adjoint` by grad_s and u.

    Args:
        grad_grad_u: Gradient by what `pool_spike_adjoint` returned [..., H, W, D].
        grad_s: Its argument [..., H // 2, W // 2, D].
        u: Its argument [..., H, W, D].
        surrogate: As for `pool_spike_adjoint`.
        pooling: As for `pool_spike_adjoint`.
    """
    *_, height, width, channels = u.shape
    grad_grad_s = torch.empty_like(grad_s, memory_format=torch.contiguous_format)
    out = _all_written(u)
    shape = height, width, channels, height // 2, width // 2
    given = grad_grad_u.contiguous(), u.contiguous(), grad_s.contiguous()
    tensors = *given, _steepness(surrogate, u), grad_grad_s, out
    _launch(_pool_spike_second, grad_s.numel(), u, tensors, *shape, MAX=pooling == "max")
    return grad_grad_s, out


def _all_written(u: Tensor) -> Tensor:
    """Return memory in the shape of `u`; zeros if no window has its last row or column."""
    odd = u.shape[-3] % 2 or u.shape[-2] % 2
    new = torch.zeros_like if odd else torch.empty_like
    return new(u, memory_format=torch.contiguous_format)


def _steepness(surrogate: Surrogate, u: Tensor) -> Tensor:
    """Return the steepness of a surrogate, in memory."""
    assert surrogate.steepness is not None, "`autograd` takes torch's operations for it"
    return constants_on((surrogate.steepness,), u.dtype, u.device)


def _launch(kernel: Any, windows: int, on: Tensor, tensors: Any, *sizes: int, MAX: bool) -> None:
    """Launch a kernel with a thread per window."""
    if windows:
        with torch.cuda.device(on.get_device()):
            grid = (triton.cdiv(windows, _WINDOWS),)
            kernel[grid](*tensors, windows, *sizes, MAX=MAX, BLOCK=_WINDOWS)


@triton.jit
def _corner(window, height, width, channels, down, across):  # type: ignore[no-untyped-def]
    """Return where the first cell of each window lies, and its row and column of windows."""
    d = window % channels
    rest = window // channels
    column = rest % across
    rest = rest // across
    row = rest % down
    image = rest // down
    at = ((image * height + 2 * row) * width + 2 * column) * channels + d
    return at, row, column, image, d


@triton.jit  # type: ignore[untyped-decorator]
def _fire_step(  # type: ignore[no-untyped-def]
    r00, r01, r10, r11, v00, v01, v10, v11, shift, take, weight, MAX: tl.constexpr
):
    """Take a step of `fire`; return the new traces and the pooled spikes."""
    u00 = v00.to(r00.dtype) + shift - weight * r00
    u01 = v01.to(r00.dtype) + shift - weight * r01
    u10 = v10.to(r00.dtype) + shift - weight * r10
    u11 = v11.to(r00.dtype) + shift - weight * r11
    if MAX:  # noqa: SIM108 (Triton compiles one of the branches)
        fired = (u00 > 0) | (u01 > 0) | (u10 > 0) | (u11 > 0)
    else:
        fired = u00 + u01 + u10 + u11 > 0
    r00 += take * ((u00 > 0).to(r00.dtype) - r00)
    r01 += take * ((u01 > 0).to(r00.dtype) - r01)
    r10 += take * ((u10 > 0).to(r00.dtype) - r10)
    r11 += take * ((u11 > 0).to(r00.dtype) - r11)
    return r00, r01, r10, r11, fired.to(r00.dtype)


@triton.jit  # type: ignore[untyped-decorator]
def _fire(  # type: ignore[no-untyped-def]
    v, trace, bias, constants, out, last,
    windows, steps, images, per_bias, height, width, channels, down, across,
    MAX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Kernel of `fire`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at, row, column, image, d = _corner(n, height, width, channels, down, across)
    line = width * channels
    m00 = n < windows
    m01 = m00 & (2 * column + 1 < width)
    m10 = m00 & (2 * row + 1 < height)
    m11 = m01 & m10
    decay, weight = tl.load(constants), tl.load(constants + 1)
    r00, r01 = tl.load(trace + at, mask=m00), tl.load(trace + at + channels, mask=m01)
    r10 = tl.load(trace + at + line, mask=m10)
    r11 = tl.load(trace + at + line + channels, mask=m11)
    size = tl.cast(images, tl.int64) * height * width * channels
    kept = tl.cast(images, tl.int64) * (height // 2) * (width // 2) * channels
    to = ((image * (height // 2) + row) * (width // 2) + column) * channels + d
    take = 1 - decay
    shift = tl.load(bias + image // per_bias * channels + d, mask=m00)
    source = v + at
    for _ in range(steps // 2):
        v00, v01 = tl.load(source, mask=m00), tl.load(source + channels, mask=m01)
        v10, v11 = tl.load(source + line, mask=m10), tl.load(source + line + channels, mask=m11)
        ahead = source + size
        w00, w01 = tl.load(ahead, mask=m00), tl.load(ahead + channels, mask=m01)
        w10, w11 = tl.load(ahead + line, mask=m10), tl.load(ahead + line + channels, mask=m11)
        r00, r01, r10, r11, fired = _fire_step(
            r00, r01, r10, r11, v00, v01, v10, v11, shift, take, weight, MAX
        )
        tl.store(out + to, fired, mask=m11)
        r00, r01, r10, r11, fired = _fire_step(
            r00, r01, r10, r11, w00, w01, w10, w11, shift, take, weight, MAX
        )
        tl.store(out + to + kept, fired, mask=m11)
        source += 2 * size
        to += 2 * kept
    for _ in range(steps % 2):
        v00, v01 = tl.load(source, mask=m00), tl.load(source + channels, mask=m01)
        v10, v11 = tl.load(source + line, mask=m10), tl.load(source + line + channels, mask=m11)
        r00, r01, r10, r11, fired = _fire_step(
            r00, r01, r10, r11, v00, v01, v10, v11, shift, take, weight, MAX
        )
        tl.store(out + to, fired, mask=m11)
        source += size
        to += kept
    tl.store(last + at, r00, mask=m00)
    tl.store(last + at + channels, r01, mask=m01)
    tl.store(last + at + line, r10, mask=m10)
    tl.store(last + at + line + channels, r11, mask=m11)


@triton.jit  # type: ignore[untyped-decorator]
def _pooled(u, at, line, channels, mask, MAX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the pooled membrane of each window, and its cell: that of the first maximum."""
    u00, u01 = tl.load(u + at, mask=mask), tl.load(u + at + channels, mask=mask)
    u10 = tl.load(u + at + line, mask=mask)
    u11 = tl.load(u + at + line + channels, mask=mask)
    if MAX:
        top, first = u00, at * 0
        first = tl.where(u01 > top, 1, first)
        top = tl.where(u01 > top, u01, top)
        first = tl.where(u10 > top, 2, first)
        top = tl.where(u10 > top, u10, top)
        first = tl.where(u11 > top, 3, first)
        top = tl.where(u11 > top, u11, top)
    else:
        top, first = (u00 + u01 + u10 + u11) * 0.25, at * 0
    return top, first


@triton.jit  # type: ignore[untyped-decorator]
def _spread(out, at, line, channels, value, first, mask, MAX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Write the gradient by a pooled membrane to the cells of its window."""
    if MAX:
        none = value * 0
        tl.store(out + at, tl.where(first == 0, value, none), mask=mask)
        tl.store(out + at + channels, tl.where(first == 1, value, none), mask=mask)
        tl.store(out + at + line, tl.where(first == 2, value, none), mask=mask)
        tl.store(out + at + line + channels, tl.where(first == 3, value, none), mask=mask)
    else:
        part = value * 0.25
        tl.store(out + at, part, mask=mask)
        tl.store(out + at + channels, part, mask=mask)
        tl.store(out + at + line, part, mask=mask)
        tl.store(out + at + line + channels, part, mask=mask)


@triton.jit  # type: ignore[untyped-decorator]
def _pool_spike(  # type: ignore[no-untyped-def]
    u, out, windows, height, width, channels, down, across,
    MAX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Kernel of `pool_spike`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at, _, _, _, _ = _corner(n, height, width, channels, down, across)
    mask = n < windows
    top, _ = _pooled(u, at, width * channels, channels, mask, MAX)
    tl.store(out + n, (top > 0).to(top.dtype), mask=mask)


@triton.jit  # type: ignore[untyped-decorator]
def _pool_spike_adjoint(  # type: ignore[no-untyped-def]
    u, grad_s, constants, out, windows, height, width, channels, down, across,
    MAX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Kernel of `pool_spike_adjoint`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at, _, _, _, _ = _corner(n, height, width, channels, down, across)
    mask = n < windows
    line = width * channels
    top, first = _pooled(u, at, line, channels, mask, MAX)
    reach = tl.load(constants) * tl.abs(top) + 1
    value = tl.load(grad_s + n, mask=mask) / (reach * reach)
    _spread(out, at, line, channels, value, first, mask, MAX)


@triton.jit  # type: ignore[untyped-decorator]
def _pool_spike_second(  # type: ignore[no-untyped-def]
    grad_grad_u, u, grad_s, constants, grad_grad_s, out,
    windows, height, width, channels, down, across,
    MAX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Kernel of `pool_spike_second`."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at, _, _, _, _ = _corner(n, height, width, channels, down, across)
    mask = n < windows
    line = width * channels
    top, first = _pooled(u, at, line, channels, mask, MAX)
    g00 = tl.load(grad_grad_u + at, mask=mask)
    g01 = tl.load(grad_grad_u + at + channels, mask=mask)
    g10 = tl.load(grad_grad_u + at + line, mask=mask)
    g11 = tl.load(grad_grad_u + at + line + channels, mask=mask)
    if MAX:
        outer = tl.where(first == 0, g00, tl.where(first == 1, g01, tl.where(first == 2, g10, g11)))
    else:
        outer = (g00 + g01 + g10 + g11) * 0.25
    steepness = tl.load(constants)
    reach = steepness * tl.abs(top) + 1
    tl.store(grad_grad_s + n, outer / (reach * reach), mask=mask)
    sign = (top > 0).to(top.dtype) - (top < 0).to(top.dtype)
    curvature = -2 * steepness * sign / (reach * reach * reach)
    value = tl.load(grad_s + n, mask=mask) * curvature * outer
    _spread(out, at, line, channels, value, first, mask, MAX)
