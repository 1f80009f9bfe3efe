"""Augmentation of frames: shifting images by whole grid cells.

How far an image is shifted, and from which random stream, is left to the callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def shift_cells(x: Tensor, down: int, right: int, out: Tensor | None = None) -> Tensor:
    """Shift images by whole cells. Cells that move out are lost, and zeros move in.

    An axis of a single cell, such as the height of a one-dimensional sensor, is never shifted.

    Args:
        x: [..., H, W], any dtype.
        down: Cells to shift down; negative values shift up.
        right: Cells to shift right; negative values shift left.
        out: Tensor of zeros in the shape of `x` that gets the result; None makes one.

    Returns:
        `out`.

    Example:
        >>> import torch
        >>> shift_cells(torch.tensor([[1, 2], [3, 4]]), down=1, right=0)
        tensor([[0, 0],
                [1, 2]])
    """
    import torch

    if out is None:
        out = torch.zeros_like(x)
    height, width = x.shape[-2:]
    down, right = (_bounded(shift, size) for shift, size in ((down, height), (right, width)))
    out[..., max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = x[
        ..., max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return out


def _bounded(shift: int, size: int) -> int:
    """Return a shift of at most `size` cells; 0 along an axis of one cell."""
    return 0 if size == 1 else max(-size, min(shift, size))
