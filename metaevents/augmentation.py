"""Augmentation of frames: shifting images by whole grid cells.

How far an image is shifted, and from which random stream, is left to the callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def shift_cells(x: Tensor, down: int, right: int, out: Tensor | None = None) -> Tensor:
    """Shift images by whole cells. Cells that move out are lost, and zeros move in.

    Args:
        x: [..., H, W], any dtype.
        down: Cells to shift down, less than H in size; negative values shift up.
        right: Cells to shift right, less than W in size; negative values shift left.
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
    out[..., max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = x[
        ..., max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return out
