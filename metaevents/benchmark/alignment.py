"""Alignment of images: small shifts, turns and scales, so that two drawings can be laid on another.

Aligned matching compares an image with all versions of another one and takes the least distance.
What is compared (counts, or features of a network) is left to the callers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaevents.augmentation import shift_cells

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Versions:
    """The versions of an image that aligned matching tries.

    Along an axis of a single cell, as on a one-dimensional sensor, nothing is shifted or scaled,
    and nothing is turned then.

    Attributes:
        shifts: Cells to shift on each axis.
        turns: Degrees to turn around the center.
        scales: Factors to scale by, around the center.
    """

    shifts: tuple[int, ...] = (-1, 0, 1)
    turns: tuple[float, ...] = (-15.0, 0.0, 15.0)
    scales: tuple[float, ...] = (0.85, 1.0, 1.18)

    def of(self, images: Tensor) -> Iterator[Tensor]:
        """Yield all versions of images, one after the other.

        Args:
            images: [n, C, H, W] float.

        Yields:
            Images of the same shape.
        """
        height, width = images.shape[-2:]
        turns = self.turns if height > 1 and width > 1 else (0.0,)
        down = self.shifts if height > 1 else (0,)
        right = self.shifts if width > 1 else (0,)
        for turn in turns:
            for scale in self.scales:
                warped = warp(images, turn, scale)
                for dy in down:
                    for dx in right:
                        yield shift_cells(warped, dy, dx)


def warp(images: Tensor, turn: float, scale: float) -> Tensor:
    """Turn and scale images around their center, with bilinear interpolation; zeros move in.

    Args:
        images: [n, C, H, W] float.
        turn: Degrees, clockwise as the image is shown (rows from top to bottom).
        scale: Factor.

    Returns:
        Images of the same shape; `images` itself if nothing changes.
    """
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    if turn == 0 and scale == 1:
        return images
    height, width = images.shape[-2:]
    cosine, sine = (f(math.radians(turn)) / scale for f in (math.cos, math.sin))
    # From a cell of the result to the cell of the image that it shows. Coordinates run from -1 to 1
    # along both axes, whatever their length. An axis of one cell has the coordinate 0 alone.
    matrix = [
        [cosine, sine * height / width if height > 1 else 0.0, 0.0],
        [-sine * width / height if width > 1 else 0.0, cosine, 0.0],
    ]
    inverse = torch.tensor(matrix, dtype=images.dtype, device=images.device)
    grid = affine_grid(inverse.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def blur(images: Tensor, deviation: float) -> Tensor:
    """Blur images with a Gaussian; beyond their edges lie zeros.

    The Gaussian is cut at four deviations. Along an axis of a single cell nothing is blurred.

    Args:
        images: [n, C, H, W] float.
        deviation: Standard deviation in cells.
    """
    import torch
    from torch.nn.functional import conv2d

    radius = max(1, round(4 * deviation))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = kernel / kernel.sum()
    cells = images.flatten(0, 1)[:, None]
    if images.shape[-2] > 1:
        cells = conv2d(cells, kernel[None, None, :, None], padding=(radius, 0))
    if images.shape[-1] > 1:
        cells = conv2d(cells, kernel[None, None, None, :], padding=(0, radius))
    return cells[:, 0].view(images.shape)


def sides_of(samples: Tensor, sides: int) -> Tensor:
    """Return the sides of composed samples as images of their own.

    Args:
        samples: [n, ..., H, W], with the sides next to each other along W.
        sides: Number of sides.

    Returns:
        [n, sides, ..., H, W / sides].
    """
    import torch

    return torch.stack(samples.chunk(sides, dim=-1), dim=1)
