"""Event counts into dense arrays: frame dtypes, and the compiled loops that fill frames and sums.

Which recordings are counted is left to `metaevents.datasets`, their decoded cells to
`metaevents.cache`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.arguments import shown
from metaevents.errors import UsageError

if TYPE_CHECKING:
    import torch


def numpy_dtype(dtype: torch.dtype | None) -> np.dtype[Any]:
    """Return the NumPy dtype of a frame dtype.

    Args:
        dtype: torch.float32, torch.float16, torch.bfloat16 or torch.uint8; None means float32.
            NumPy has no bfloat16: its frames are filled as float32, see `in_dtype`.

    Raises:
        UsageError: Another dtype.
    """
    import torch

    known = {
        None: np.float32,
        torch.float32: np.float32,
        torch.float16: np.float16,
        torch.bfloat16: np.float32,
        torch.uint8: np.uint8,
    }
    if not (dtype is None or isinstance(dtype, torch.dtype)) or dtype not in known:
        raise UsageError(
            f"dtype={shown(dtype)}; choose torch.float32, torch.float16, torch.bfloat16 or "
            "torch.uint8"
        )
    return np.dtype(known[dtype])


def torch_dtype(value: Any) -> torch.dtype | None:
    """Return the torch dtype of a dtype of torch or NumPy or of its name; None for None.

    Args:
        value: Such as torch.float16, numpy.float16, "float16" or "torch.float16".

    Raises:
        UsageError: It is no dtype that torch has.
    """
    import torch

    if value is None or isinstance(value, torch.dtype):
        return value
    try:
        name = value.removeprefix("torch.") if isinstance(value, str) else np.dtype(value).name
        dtype = getattr(torch, name, None)
    except Exception:  # whatever numpy says of something that is no dtype
        dtype = None
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"dtype={shown(value)}; choose float32, float16, bfloat16 or uint8")
    return dtype


def in_dtype(frames: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Return frames that were filled as `numpy_dtype(dtype)` in their dtype.

    Args:
        frames: The frames.
        dtype: As for `numpy_dtype`.
    """
    import torch

    return frames.to(dtype) if dtype == torch.bfloat16 else frames


def largest_value(dtype: np.dtype[Any]) -> int:
    """Return the largest count that a frame dtype holds.

    Larger counts are written as this value and never wrap: 255 for uint8, 65,504 for float16. The
    2^53 for float32 is beyond any recording.
    """
    if dtype.kind == "u":
        return int(np.iinfo(dtype).max)
    return int(np.finfo(dtype).max) if dtype.itemsize == 2 else 1 << 53


@cache
def values_of_counts(largest: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the frame value of every count from 0 to `largest`; [largest + 1] of `dtype`."""
    return np.minimum(np.arange(largest + 1), largest_value(dtype)).astype(dtype)


def scatter(
    out: np.ndarray,
    cell: np.ndarray,
    count: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    step: int,
    table: np.ndarray,
) -> None:
    """Clear every row of `out` and write recordings into it.

    Args:
        out: [n, cells], any contents; overwritten.
        cell: Occupied cells of all recordings, unsigned.
        count: Number of events in each of these cells, unsigned.
        first: [n, sides]; row i gets the entries first[i, s] .. last[i, s] - 1 of `cell` and
            `count` for side s.
        last: [n, sides], see `first`.
        step: The cells of side s are moved by s * step.
        table: The value to write for every count, in the dtype of `out`.
    """
    _compiled(_scatter)(out, cell, count, first, last, step, table)


def accumulate(
    out: np.ndarray,
    cell: np.ndarray,
    count: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    step: int,
) -> None:
    """Add the counts of recordings into the rows of `out`, with the time axis folded away.

    Args:
        out: [n, size] int64; cells are taken modulo `size` after they are moved.
        cell: As for `scatter`.
        count: As for `scatter`.
        first: As for `scatter`.
        last: As for `scatter`.
        step: As for `scatter`.
    """
    _compiled(_accumulate)(out, cell, count, first, last, step)


def merge_bins(
    out: np.ndarray,
    cell: np.ndarray,
    count: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    step: int,
    grid: int,
    merged: int,
) -> None:
    """Add the counts of recordings into the rows of `out`, with neighboring time bins merged.

    Args:
        out: [n, bins * grid] int64.
        cell: As for `scatter`.
        count: As for `scatter`.
        first: As for `scatter`.
        last: As for `scatter`.
        step: As for `scatter`.
        grid: Cells per time bin.
        merged: Number of time bins that become one.
    """
    _compiled(_merge_bins)(out, cell, count, first, last, step, grid, merged)


def _scatter(out: Any, cell: Any, count: Any, first: Any, last: Any, step: int, table: Any) -> None:
    # Unsigned indices: numba then generates no code for indices that count from the end.
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = 0  # per row, so that a sample is still in the cache when its cells are written
        for side in range(first.shape[1]):
            shift = np.uint64(side * step)
            for k in range(np.uint64(first[i, side]), np.uint64(last[i, side])):
                row[cell[k] + shift] = table[count[k]]


def _accumulate(out: Any, cell: Any, count: Any, first: Any, last: Any, step: int) -> None:
    size = np.uint32(out.shape[1])  # to divide 32 bits takes less time than 64
    for i in range(out.shape[0]):
        row = out[i]
        for side in range(first.shape[1]):
            shift = np.uint64(side * step)
            for k in range(np.uint64(first[i, side]), np.uint64(last[i, side])):
                row[np.uint32(cell[k] + shift) % size] += count[k]  # always within the row


def _merge_bins(
    out: Any, cell: Any, count: Any, first: Any, last: Any, step: int, grid: int, merged: int
) -> None:
    cells, bins = np.uint32(grid), np.uint32(merged)
    for i in range(out.shape[0]):
        row = out[i]
        for side in range(first.shape[1]):
            shift = np.uint64(side * step)
            for k in range(np.uint64(first[i, side]), np.uint64(last[i, side])):
                place = np.uint32(cell[k] + shift)
                time_bin = place // cells
                # Within the row wherever `place` is within a frame that is not merged.
                row[place - (time_bin - time_bin // bins) * cells] += count[k]


@cache
def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Return a loop compiled by numba, without the GIL, kept on disk where possible."""
    from numba import njit

    _release_compiler_over_forks()
    try:
        compiled: Callable[..., None] = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder where the compiled code could be kept
        compiled = njit(nogil=True)(function)
    return compiled


@cache
def _release_compiler_over_forks() -> None:
    """Let a fork wait for numba's compiler, or its lock would stay locked in the new process."""
    import os

    from numba.core.compiler_lock import global_compiler_lock

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=global_compiler_lock.acquire,
            after_in_parent=global_compiler_lock.release,
            after_in_child=global_compiler_lock.release,
        )
