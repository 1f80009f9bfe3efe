"""Frame dtypes, and the loops that fill frames and sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from support.composed import PAIRS, busy_archive

import metaevents as me
from metaevents.frames import accumulate, merge_bins, scatter, values_of_counts


def test_counts_saturate_and_never_wrap(tmp_path: Path) -> None:
    dataset = me.compose(busy_archive(tmp_path), splits=PAIRS)
    for dtype, expected in ((torch.float32, 300), (torch.float16, 300), (torch.uint8, 255)):
        frames = dataset.frames("aa", 0, 0, dtype=dtype)
        assert frames.dtype == dtype
        assert frames[0, 1, 0].tolist() == [expected, 0, 0, 0, expected, 0, 0, 0]
        assert dataset.stack_sums([(0, 0)], dtype=dtype)[0, 1, 0, 0] == expected


def test_dtypes_agree(nmnist_root: Path) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, split="test")
    exact = dataset.frames("47", 0, 0)
    for dtype in (torch.uint8, torch.float16):
        assert torch.equal(dataset.frames("47", 0, 0, dtype).to(torch.float32), exact)


def test_the_loops_place_the_cells_of_every_side() -> None:
    # Two recordings on a grid of 2 time bins with 6 cells each; a side is 3 cells wide.
    cell = np.array([0, 8, 1], np.uint32)
    count = np.array([2, 300, 4], np.uint16)
    first, last = np.array([[0, 2]]), np.array([[2, 3]])  # left: cells 0 and 8, right: cell 1
    frames = np.full((1, 12), 7, np.uint8)
    table = values_of_counts(300, frames.dtype)
    scatter(frames, cell, count, first, last, 3, table)
    assert frames.tolist() == [[2, 0, 0, 0, 4, 0, 0, 0, 255, 0, 0, 0]]
    sums = np.zeros((1, 6), np.int64)
    accumulate(sums, cell, count, first, last, 3)
    assert sums.tolist() == [[2, 0, 300, 0, 4, 0]]


def test_sums_stay_within_their_row_whatever_the_cells() -> None:
    """Side files may come from others, and the compiled loop does not check its indices."""
    cell = np.array([5, 11, 2**32 - 1], np.uint32)
    count = np.ones(3, np.uint8)
    sums = np.zeros((3, 6), np.int64)
    accumulate(sums[1:2], cell, count, np.array([[0, 0]]), np.array([[3, 3]]), 3)
    assert sums[1].sum() == 6
    assert not sums[[0, 2]].any()


def test_merged_bins_hold_the_sums_of_their_bins() -> None:
    # Four time bins with 6 cells each become two; a side is 3 cells wide.
    cell = np.array([0, 8, 19, 1], np.uint32)
    count = np.array([2, 300, 5, 4], np.uint16)
    first, last = np.array([[0, 3]]), np.array([[3, 4]])
    merged = np.zeros((1, 12), np.int64)
    merge_bins(merged, cell, count, first, last, 3, 6, 2)
    assert merged.tolist() == [[2, 0, 300, 0, 4, 0, 0, 5, 0, 0, 0, 0]]
