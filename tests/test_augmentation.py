"""Shifts of images by whole cells."""

from __future__ import annotations

import pytest
import torch

from metaevents.augmentation import shift_cells


def test_shifts_move_images_by_whole_cells() -> None:
    x = torch.arange(1.0, 17).view(1, 1, 4, 4)
    shifted = shift_cells(x, down=1, right=-2)
    assert shifted.shape == x.shape
    assert torch.equal(shifted[0, 0, 1:, :2], x[0, 0, :3, 2:])
    assert shifted[0, 0, 0].sum() == shifted[0, 0, :, 2:].sum() == 0


@pytest.mark.parametrize("down", [-2, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 3])
def test_every_cell_has_the_value_of_the_cell_that_it_came_from(down: int, right: int) -> None:
    x = torch.rand(2, 3, 4, 5)
    shifted = shift_cells(x, down, right)
    for i in range(4):
        for j in range(5):
            inside = 0 <= i - down < 4 and 0 <= j - right < 5
            expected = x[..., i - down, j - right] if inside else torch.zeros(2, 3)
            assert torch.equal(shifted[..., i, j], expected)


def test_the_result_goes_into_a_given_tensor() -> None:
    x, out = torch.rand(3, 4, 6), torch.zeros(3, 4, 6)
    assert shift_cells(x[..., :3], 1, 1, out=out[..., :3]).shape == (3, 4, 3)
    assert torch.equal(out[..., :3], shift_cells(x[..., :3], 1, 1))
    assert out[..., 3:].sum() == 0


@pytest.mark.parametrize("down", [-5, -4, 4, 7])
def test_a_shift_by_the_whole_image_leaves_zeros(down: int) -> None:
    assert shift_cells(torch.ones(2, 4, 5), down, 0).sum() == 0
    assert shift_cells(torch.ones(2, 5, 4), 0, down).sum() == 0


def test_an_axis_of_one_cell_is_not_shifted() -> None:
    x = torch.rand(3, 1, 5)
    assert torch.equal(shift_cells(x, 2, 1), shift_cells(x, 0, 1))
    assert torch.equal(shift_cells(x.mT, -1, 1), shift_cells(x.mT, -1, 0))
