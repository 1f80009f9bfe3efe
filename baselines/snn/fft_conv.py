"""Convolutions of small frames by discrete Fourier transforms that are matrix products.

A 5 x 5 kernel on a frame of 4 x 8 cells takes 800 multiplications per pair of channels. A product
of spectra, 30 complex numbers each, takes 120. The transforms are matrix products too, which is
fast for frames this small. Their matrices are orthogonal up to padding, so rounding errors are as
small as those of a direct convolution (`autograd.conv2d`).

Frames are padded by half a kernel, so that the circular convolution wraps around into zeros. The
frequencies along the height are odd multiples of half the lowest one, none of which is its own
conjugate: the spectrum of a real frame of M x M' cells is M / 2 x M' complex numbers, without
special cases.

The spectrum of frames is [N, F, 2, C]: F frequencies, their real and imaginary parts. The spectrum
of a kernel is [F, 2 D, 2 C]: the real matrices that multiply the spectra of frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from baselines.inference_mode import leaves_inference_mode
from baselines.precision import rounds_convolutions, rounds_matrices
from baselines.snn.autograd import apply, task_by_task

# Beyond these limits a direct convolution is faster. The cost of a transform grows with the square
# of the cells.
_MAX_CELLS = 128
_MIN_KERNEL = 5
_MIN_CHANNELS = 16

_ONE_STAGE_CELLS = 32  # up to which one matrix transforms both axes

# Frames whose spectra are computed at a time: enough for an efficient product, few enough to stay
# near the cache.
_FRAMES_AT_A_TIME = 160
_FRAMES_ON_A_GPU = 16_384  # which bounds memory

Stages = tuple[tuple[Tensor, int], ...]
"""Matrices to apply one after another, each with the number of untransformed cells per channel."""


def worthwhile(frame: tuple[int, int], weight: Tensor) -> bool:
    """Whether this module is faster than a direct convolution.

    Args:
        frame: (H, W) of the frames.
        weight: Kernel [D, C, k, k]; its shape and device matter.
    """
    height, width = frame
    fits = (
        height * width <= _MAX_CELLS
        and weight.shape[-1] >= _MIN_KERNEL
        and min(weight.shape[:2]) >= _MIN_CHANNELS
    )
    device = weight.device.type
    if not fits or device not in ("cpu", "cuda") or torch.is_autocast_enabled(device):
        return False
    if device == "cpu" or weight.dtype == torch.float64 or not rounds_convolutions():
        return True
    # A GPU that may round the operands convolves all but the smallest frames directly in less time.
    return rounds_matrices() and height * width <= _ONE_STAGE_CELLS


def spectrum(weight: Tensor, frame: tuple[int, int]) -> Tensor:
    """Return the spectrum [F, 2 D, 2 C] of a kernel; differentiable.

    Args:
        weight: Kernel [D, C, k, k] of odd size k.
        frame: (H, W) of the frames that it will convolve.
    """
    outputs, inputs, kernel, _ = weight.shape
    transform = _plan(*frame, kernel, weight.dtype, weight.device).kernel
    parts = (transform @ weight.reshape(outputs * inputs, -1).T).view(-1, 2, 2, outputs, inputs)
    return parts.transpose(2, 3).reshape(-1, 2 * outputs, 2 * inputs)


def conv2d(
    x: Tensor,
    spectrum: Tensor,
    kernel: int,
    bias: Tensor | None = None,
    feedback: Tensor | None = None,
) -> Tensor:
    """Convolve frames as `autograd.conv2d` does, with the kernel given by its spectrum.

    Args:
        x: Frames [N, H, W, C].
        spectrum: Spectrum of the kernel, from `spectrum`.
        kernel: Size k of the kernel.
        bias: [D].
        feedback: Spectrum of the feedback, see `autograd.conv2d`.

    Returns:
        Frames [N, H, W, D].
    """
    plan = _plan(*x.shape[1:3], kernel, x.dtype, x.device)
    out: Tensor = apply(
        _Conv, x, spectrum.mT, bias, None if feedback is None else feedback.mT, plan
    )
    return out


@dataclass(frozen=True)
class _Plan:
    """The transforms for frames and kernels of one size.

    Attributes:
        forward: From frames to spectra.
        inverse: From spectra to frames.
        kernel: From kernels [k k] to matrices [F 2 2].
    """

    forward: Stages
    inverse: Stages
    kernel: Tensor

    @property
    def transposed(self) -> _Plan:
        """The plan of the gradient by the frames."""
        return _Plan(_transposed(self.inverse), _transposed(self.forward), self.kernel)


def _transposed(stages: Stages) -> Stages:
    """Return the transpose of a product of stages."""
    return tuple((matrix.mT, width) for matrix, width in reversed(stages))


@cache
@leaves_inference_mode
def _plan(height: int, width: int, kernel: int, dtype: torch.dtype, device: torch.device) -> _Plan:
    """Return the transforms for frames [H, W] and kernels of size k, computed in float64."""
    pad = kernel // 2
    rows, columns = 2 * ((height + pad + 1) // 2), width + pad
    down = 2 * math.pi / rows * (_arange(0, rows // 2) + 0.5)
    across = 2 * math.pi / columns * _arange(0, columns)
    stages: Stages = (
        (_column_transform(_angles(down, height)), width),
        (_row_transform(_angles(across, width)), 1),
    )
    cells = height * width
    if cells <= _ONE_STAGE_CELLS:
        each = torch.eye(cells, dtype=torch.float64, device="cpu").view(cells, height, width, 1)
        stages = ((_staged(each, stages).view(cells, -1).T.contiguous(), 1),)
    inverse = [(matrix.T.contiguous(), width) for matrix, width in reversed(stages)]
    # The inverse is the transpose, with a factor: each frequency stands for a conjugate pair, over
    # the number of cells.
    inverse[0] = inverse[0][0] * (2 / (rows * columns)), inverse[0][1]
    theta = (
        _angles(down, kernel, -pad)[:, None, :, None]
        + _angles(across, kernel, -pad)[None, :, None, :]
    )

    def cast(stages: Iterable[tuple[Tensor, int]]) -> Stages:
        return tuple((matrix.to(device, dtype), width) for matrix, width in stages)

    return _Plan(cast(stages), cast(inverse), _kernel_transform(theta).to(device, dtype))


def _angles(frequencies: Tensor, size: int, first: int = 0) -> Tensor:
    """Return the angle [F, size] of each frequency at each cell, counted from `first`."""
    return frequencies[:, None] * _arange(first, first + size)


def _arange(first: int, end: int) -> Tensor:
    """Return the numbers from `first` to `end` - 1, in float64 on the CPU."""
    return torch.arange(first, end, dtype=torch.float64, device="cpu")


def _column_transform(theta: Tensor) -> Tensor:
    """Return the matrix [2 F, H] from a real column to (real, imaginary) of each frequency."""
    return torch.stack([theta.cos(), -theta.sin()], 1).flatten(0, 1)


def _row_transform(theta: Tensor) -> Tensor:
    """Return the matrix [2 F, 2 W] from a complex row to (real, imaginary) of each frequency."""
    real = torch.stack([theta.cos(), theta.sin()], 1)
    imaginary = torch.stack([-theta.sin(), theta.cos()], 1)
    return torch.stack([real, imaginary], 1).flatten(2).flatten(0, 1)


def _kernel_transform(theta: Tensor) -> Tensor:
    """Return the matrix [F 2 2, k k] from a kernel to its spectrum, as real 2 x 2 matrices."""
    cos, sin = theta.cos(), theta.sin()
    return (
        torch.stack([torch.stack([cos, -sin], 2), torch.stack([sin, cos], 2)], 2)
        .flatten(-2)
        .flatten(0, -2)
    )


def _staged(x: Tensor, stages: Stages, out: Tensor | None = None) -> Tensor:
    """Return `x` [N, ..., C] after all stages; the last one writes to `out`, if given."""
    channels = x.shape[-1]
    for number, (matrix, width) in enumerate(stages, 1):
        x = x.reshape(-1, matrix.shape[1], width * channels)
        into = (
            None if out is None or number < len(stages) else out.view(len(x), -1, width * channels)
        )
        x = torch.bmm(matrix.expand(len(x), -1, -1), x, out=into)
    return x


class _Conv(Function):
    """Convolution of frames by matrices [F, 2 C, 2 D].

    As for `autograd._Conv`, convolution and the gradient by its matrices are each other's
    derivatives. Spectra are larger than frames; they are computed for a few frames at a time and
    never saved.
    """

    @staticmethod
    def forward(
        x: Tensor, matrices: Tensor, bias: Tensor | None, feedback: Tensor | None, plan: _Plan
    ) -> Tensor:
        out = x.new_empty((*x.shape[:3], matrices.shape[-1] // 2))
        for part, result in _parts(x, out):
            _multiply(_spectra(part, plan.forward), matrices, plan, result)
            if bias is not None:
                result.add_(bias)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, matrices, _, feedback, ctx.plan = inputs
        ctx.save_for_backward(x, matrices if feedback is None else feedback)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, backward_matrices = ctx.saved_tensors
        needs_x, needs_matrices, needs_bias, *_ = ctx.needs_input_grad
        grad_bias = grad_y.sum((0, 1, 2)) if needs_bias else None
        if needs_x and needs_matrices and not torch.is_grad_enabled():
            both = _both_gradients(x, grad_y, backward_matrices.mT, ctx.plan)
            return *both, grad_bias, None, None
        grad_x = (
            apply(_Conv, grad_y, backward_matrices.mT, None, None, ctx.plan.transposed)
            if needs_x
            else None
        )
        grad_matrices = apply(_ConvMatrices, x, grad_y, ctx.plan) if needs_matrices else None
        return grad_x, grad_matrices, grad_bias, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_Conv, info, in_dims, inputs), 0


class _ConvMatrices(Function):
    """Gradient of `_Conv` by its matrices."""

    @staticmethod
    def forward(x: Tensor, grad_y: Tensor, plan: _Plan) -> Tensor:
        backward_stages = plan.transposed.forward
        matrices = [
            _spectra(part, plan.forward).mT @ _spectra(grad_part, backward_stages)
            for part, grad_part in _parts(x, grad_y)
        ]
        return torch.stack(matrices).sum(0) if len(matrices) > 1 else matrices[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, grad_y, ctx.plan = inputs
        ctx.save_for_backward(x, grad_y)

    @staticmethod
    def backward(ctx: Any, grad_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, grad_y = ctx.saved_tensors
        needs_x, needs_grad_y, _ = ctx.needs_input_grad
        return (
            apply(_Conv, grad_y, grad_grad.mT, None, None, ctx.plan.transposed)
            if needs_x
            else None,
            apply(_Conv, x, grad_grad, None, None, ctx.plan) if needs_grad_y else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_ConvMatrices, info, in_dims, inputs), 0


def _both_gradients(
    x: Tensor, grad_y: Tensor, backward_matrices: Tensor, plan: _Plan
) -> tuple[Tensor, Tensor]:
    """Return the gradients by frames and matrices from the same spectra, without a graph."""
    transposed = plan.transposed
    grad_x = torch.empty_like(x)
    grad_matrices = backward_matrices.new_zeros(backward_matrices.mT.shape)
    for part, grad_part, result in _parts(x, grad_y, grad_x):
        spectra = _spectra(grad_part, transposed.forward)
        grad_matrices.baddbmm_(_spectra(part, plan.forward).mT, spectra)
        _multiply(spectra, backward_matrices, transposed, result)
    return grad_x, grad_matrices


def _parts(*frames: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield parts of a few frames each, of about equal size, side by side."""
    size = _FRAMES_AT_A_TIME if frames[0].device.type == "cpu" else _FRAMES_ON_A_GPU
    number = -(-len(frames[0]) // size)
    return zip(*(each.contiguous().tensor_split(max(1, number)) for each in frames), strict=True)


def _spectra(frames: Tensor, stages: Stages) -> Tensor:
    """Return the spectra [F, N, 2 C] of frames [N, H, W, C]."""
    return _staged(frames, stages).view(len(frames), -1, 2 * frames.shape[-1]).transpose(0, 1)


def _multiply(spectra: Tensor, matrices: Tensor, plan: _Plan, out: Tensor) -> None:
    """Write spectra [F, N, 2 C] times matrices [F, 2 C, 2 D], as frames, to `out` [N, H, W, D]."""
    products = out.new_empty((len(out), len(matrices), matrices.shape[-1]))
    torch.bmm(spectra, matrices, out=products.transpose(0, 1))
    _staged(products.view(len(out), -1, out.shape[-1]), plan.inverse, out)
