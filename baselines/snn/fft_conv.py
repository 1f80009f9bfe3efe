"""Convolutions of small frames as matrix products: a discrete Fourier transform, a product for each frequency, and back.

A 5 x 5 kernel on a frame of 4 x 8 cells takes 800 multiplications for a pair of channels; on its spectrum of 30 complex numbers
it takes 120. All of it is matrix products, the transforms too, as frames this small let them be. Their matrices are orthogonal
up to padding, so that rounding is that of the direct way.

Frames are padded by half a kernel, so that what wraps round meets zeros. Along the height the frequencies are odd halves, of
which none is its own conjugate: a real frame's spectrum is then `M / 2` x `M'` complex numbers, without special cases.

A spectrum of frames is [N, F, 2, C], of F frequencies their real and imaginary parts; that of a kernel is [F, 2 D, 2 C], the real
matrices by which they are multiplied. `functional.conv2d` is the direct way.
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

from baselines.snn.autograd import apply, task_by_task

_MOST_CELLS = 128  # of a frame: the transforms grow with their square

_ONE_STAGE = 32  # cells up to which both axes are transformed by one matrix

_FEWEST_CHANNELS = 16

_AT_ONCE = (
    160  # frames whose spectra are made at a time: an efficient product, yet not far from the cache
)

Stages = tuple[tuple[Tensor, int], ...]
"""Matrices to apply one after the other, and how many cells beside the channels each carries along."""


def worthwhile(frame: tuple[int, int], weight: Tensor) -> bool:
    """Whether frames of a size are convolved faster in this way, by a weight [D, C, k, k] as it is on its device."""
    height, width = frame
    fits = (
        height * width <= _MOST_CELLS
        and weight.shape[-1] >= 5
        and min(weight.shape[:2]) >= _FEWEST_CHANNELS
    )
    return fits and weight.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def spectrum(weight: Tensor, frame: tuple[int, int]) -> Tensor:
    """A kernel [D, C, k, k] of odd size k as what multiplies the spectra of frames of a size: [F, 2 D, 2 C]."""
    outputs, inputs, kernel, _ = weight.shape
    turn = _plan(*frame, kernel, weight.dtype).kernel
    parts = (turn @ weight.reshape(outputs * inputs, -1).T).view(-1, 2, 2, outputs, inputs)
    return parts.transpose(2, 3).reshape(-1, 2 * outputs, 2 * inputs)


def conv2d(
    x: Tensor,
    spectrum: Tensor,
    kernel: int,
    bias: Tensor | None = None,
    feedback: Tensor | None = None,
) -> Tensor:
    """`functional.conv2d` of frames [N, H, W, C] by a kernel of size `kernel`, given by its `spectrum`, as `feedback` is."""
    plan = _plan(*x.shape[1:3], kernel, x.dtype)
    out: Tensor = apply(
        _Conv, x, spectrum.mT, bias, None if feedback is None else feedback.mT, plan
    )
    return out


@dataclass(frozen=True)
class _Plan:
    # From frames to spectra, from spectra to frames, and from kernels [k k] to their matrices [F 2 2].
    forward: Stages
    inverse: Stages
    kernel: Tensor

    @property
    def transposed(self) -> _Plan:
        return _Plan(_transposed(self.inverse), _transposed(self.forward), self.kernel)


def _transposed(stages: Stages) -> Stages:
    return tuple((matrix.mT, width) for matrix, width in reversed(stages))


@cache
def _plan(height: int, width: int, kernel: int, dtype: torch.dtype) -> _Plan:
    pad = kernel // 2
    rows, columns = 2 * ((height + pad + 1) // 2), width + pad
    down = 2 * math.pi / rows * (torch.arange(rows // 2, dtype=torch.float64) + 0.5)
    across = 2 * math.pi / columns * torch.arange(columns, dtype=torch.float64)

    def angles(frequencies: Tensor, size: int, first: int = 0) -> Tensor:
        return frequencies[:, None] * torch.arange(first, first + size)

    # Real frame -> for each frequency down, (real, imaginary) of every column; then those -> the same of every frequency across.
    theta = angles(down, height)
    first = torch.stack([theta.cos(), -theta.sin()], 1).flatten(0, 1)
    theta = angles(across, width)
    second = (
        torch.stack(
            [
                torch.stack([theta.cos(), theta.sin()], 1),
                torch.stack([-theta.sin(), theta.cos()], 1),
            ],
            1,
        )
        .flatten(2)
        .flatten(0, 1)
    )
    # What a transpose leaves out: a pair of conjugate frequencies counts twice, over the number of cells.
    scale = 2 / (rows * columns)
    stages: Stages = ((first, width), (second, 1))
    if height * width <= _ONE_STAGE:
        each = torch.eye(height * width, dtype=torch.float64).view(height * width, height, width, 1)
        stages = ((_staged(each, stages).view(height * width, -1).T.contiguous(), 1),)
    inverse = [(matrix.T.contiguous(), width) for matrix, width in reversed(stages)]
    inverse[0] = inverse[0][0] * scale, inverse[0][1]
    theta = (
        angles(down, kernel, -pad)[:, None, :, None]
        + angles(across, kernel, -pad)[None, :, None, :]
    )
    cos, sin = theta.cos(), theta.sin()
    turn = (
        torch.stack([torch.stack([cos, -sin], 2), torch.stack([sin, cos], 2)], 2)
        .flatten(-2)
        .flatten(0, -2)
    )

    def cast(stages: Iterable[tuple[Tensor, int]]) -> Stages:
        return tuple((matrix.to(dtype), width) for matrix, width in stages)

    return _Plan(cast(stages), cast(inverse), turn.to(dtype))


def _staged(x: Tensor, stages: Stages, out: Tensor | None = None) -> Tensor:
    channels = x.shape[-1]
    for number, (matrix, width) in enumerate(stages, 1):
        x = x.reshape(-1, matrix.shape[1], width * channels)
        into = (
            None if out is None or number < len(stages) else out.view(len(x), -1, width * channels)
        )
        x = torch.bmm(matrix.expand(len(x), -1, -1), x, out=into)
    return x


class _Conv(Function):
    # As `functional._Conv`: convolution and the gradient of its matrices are each other's derivatives. Spectra are larger than
    # frames; they are made for a few frames at a time and never kept.
    @staticmethod
    def forward(
        x: Tensor, matrices: Tensor, bias: Tensor | None, feedback: Tensor | None, plan: _Plan
    ) -> Tensor:
        out = x.new_empty((*x.shape[:3], matrices.shape[-1] // 2))
        for part, result in _parts(x, out):
            _multiplied(_spectra(part, plan.forward), matrices, plan, result)
            if bias is not None:
                result.add_(bias)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, matrices, _, feedback, ctx.plan = inputs
        ctx.save_for_backward(x, matrices if feedback is None else feedback)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, way_back = ctx.saved_tensors
        by_x, by_matrices, by_bias, *_ = ctx.needs_input_grad
        of_bias = gradient.sum((0, 1, 2)) if by_bias else None
        if by_x and by_matrices and not torch.is_grad_enabled():  # both from the same spectra
            return *_both_gradients(x, gradient, way_back.mT, ctx.plan), of_bias, None, None
        of_x = (
            apply(_Conv, gradient, way_back.mT, None, None, ctx.plan.transposed) if by_x else None
        )
        return (
            of_x,
            apply(_ConvMatrices, x, gradient, ctx.plan) if by_matrices else None,
            of_bias,
            None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_Conv, info, in_dims, inputs), 0


class _ConvMatrices(Function):
    @staticmethod
    def forward(x: Tensor, gradient: Tensor, plan: _Plan) -> Tensor:
        back = plan.transposed.forward
        matrices = [
            _spectra(part, plan.forward).mT @ _spectra(coming, back)
            for part, coming in _parts(x, gradient)
        ]
        return torch.stack(matrices).sum(0) if len(matrices) > 1 else matrices[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, gradient, ctx.plan = inputs
        ctx.save_for_backward(x, gradient)

    @staticmethod
    def backward(ctx: Any, matrices: Tensor) -> tuple[Tensor | None, ...]:
        x, gradient = ctx.saved_tensors
        by_x, by_gradient, _ = ctx.needs_input_grad
        return (
            apply(_Conv, gradient, matrices.mT, None, None, ctx.plan.transposed) if by_x else None,
            apply(_Conv, x, matrices, None, None, ctx.plan) if by_gradient else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return task_by_task(_ConvMatrices, info, in_dims, inputs), 0


def _both_gradients(
    x: Tensor, gradient: Tensor, back: Tensor, plan: _Plan
) -> tuple[Tensor, Tensor]:
    out, matrices, way = torch.empty_like(x), back.new_zeros(back.mT.shape), plan.transposed
    for part, coming, result in _parts(x, gradient, out):
        spectra = _spectra(coming, way.forward)
        matrices.baddbmm_(_spectra(part, plan.forward).mT, spectra)
        _multiplied(spectra, back, way, result)
    return out, matrices


def _parts(*frames: Tensor) -> Iterator[tuple[Tensor, ...]]:
    # A few frames at a time, all parts about as large.
    number = -(-len(frames[0]) // _AT_ONCE)
    return zip(*(each.contiguous().tensor_split(max(1, number)) for each in frames), strict=True)


def _spectra(frames: Tensor, stages: Stages) -> Tensor:
    # [N, H, W, C] -> [F, N, 2 C]
    return _staged(frames, stages).view(len(frames), -1, 2 * frames.shape[-1]).transpose(0, 1)


def _multiplied(spectra: Tensor, matrices: Tensor, plan: _Plan, out: Tensor) -> None:
    # [F, N, 2 C] times [F, 2 C, 2 D], as frames [N, H, W, D] into `out`.
    products = out.new_empty((len(out), len(matrices), matrices.shape[-1]))
    torch.bmm(spectra, matrices, out=products.transpose(0, 1))
    _staged(products.view(len(out), -1, out.shape[-1]), plan.inverse, out)
