"""Alignment: every version is the image shifted, turned and scaled as it says."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from metaevents.benchmark.alignment import Versions, blur, sides_of, warp


def a_blob(height: int, width: int, row: float, column: float) -> torch.Tensor:
    """Return [1, 1, H, W]: a Gaussian around a place."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2.0)[None, None].double()


def center(image: torch.Tensor) -> tuple[float, float]:
    rows, columns = torch.arange(image.shape[-2]), torch.arange(image.shape[-1])
    total = image.sum()
    return (
        float((image.sum((0, 1, 3)) * rows).sum() / total),
        float((image.sum((0, 1, 2)) * columns).sum() / total),
    )


def test_no_turn_and_no_scale_is_the_image_itself() -> None:
    image = torch.rand(2, 2, 6, 8)
    assert torch.equal(warp(image, 0.0, 1.0), image)


@pytest.mark.parametrize(("height", "width"), [(21, 21), (21, 33)])
def test_a_turn_moves_what_is_right_of_the_center_down(height: int, width: int) -> None:
    middle = (height - 1) / 2, (width - 1) / 2
    turned = warp(a_blob(height, width, middle[0], middle[1] + 6), 90.0, 1.0)
    assert center(turned) == pytest.approx((middle[0] + 6, middle[1]), abs=0.05)


def test_a_scale_moves_away_from_the_center_on_both_axes() -> None:
    scaled = warp(a_blob(31, 41, 15 + 4, 20 - 6), 0.0, 1.5)
    assert center(scaled) == pytest.approx((15 + 6, 20 - 9), abs=0.05)


def test_versions_are_all_shifts_of_all_turns_of_all_scales() -> None:
    image = a_blob(16, 16, 7.5, 7.5)
    versions = list(Versions().of(image))
    assert len(versions) == 3 * 3 * 3 * 3
    assert all(version.shape == image.shape for version in versions)
    offsets = {tuple(round(place - 7.5) for place in center(version)) for version in versions}
    assert offsets == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    assert any(torch.equal(version, image) for version in versions)


def test_a_line_of_cells_is_shifted_and_scaled_along_itself_alone() -> None:
    line = torch.rand(2, 1, 1, 16)
    versions = list(Versions().of(line))
    assert len(versions) == 3 * 3
    assert all(bool(version.isfinite().all()) for version in versions)
    # A scale on a line is that of each row of an image that is constant across rows.
    image = line.expand(2, 1, 9, 16)
    torch.testing.assert_close(warp(line, 0.0, 1.18)[:, :, 0], warp(image, 0.0, 1.18)[:, :, 4])


def test_the_blur_is_a_gaussian() -> None:
    image = torch.rand(2, 2, 9, 12, dtype=torch.float64)
    expected = ndimage.gaussian_filter(image.numpy(), (0, 0, 0.7, 0.7), mode="constant")
    torch.testing.assert_close(blur(image, 0.7), torch.from_numpy(expected))


def test_sides_are_cut_from_left_to_right() -> None:
    samples = torch.arange(24).view(1, 1, 2, 12)
    sides = sides_of(samples, 3)
    assert sides.shape == (1, 3, 1, 2, 4)
    assert sides[0, :, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
