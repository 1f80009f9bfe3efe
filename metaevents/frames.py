"""Composed datasets: recordings side by side, their classes, partitions and pairings, as dense frames or events.

`DoubleNMNIST` and `DoubleASLDVS` are the benchmark; `compose` makes the like of any labeled source, at any arity. Drawing
episodes is left to `metaevents.episodes`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from metaevents.errors import UsageError

if TYPE_CHECKING:
    import torch


def numpy_dtype(dtype: torch.dtype | None) -> np.dtype[Any]:
    """The numpy dtype of a frame dtype, float32 by default."""
    import torch

    known = {
        None: np.float32,
        torch.float32: np.float32,
        torch.float16: np.float16,
        torch.uint8: np.uint8,
    }
    if dtype not in known:
        raise UsageError(f"dtype={dtype}; choose torch.float32, torch.float16 or torch.uint8")
    return np.dtype(known[dtype])


def largest_value(dtype: np.dtype[Any]) -> int:
    """The largest count that a frame dtype holds; larger ones are written as this, and never wrap."""
    return int(
        np.iinfo(dtype).max
        if dtype.kind == "u"
        else np.finfo(dtype).max
        if dtype.itemsize == 2
        else 1 << 53
    )


@cache
def values_of_counts(largest: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The value that a frame cell gets for every count from 0 to `largest`."""
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
        out: [n, cells], any contents.
        cell, count: occupied cells and their counts, of all recordings; unsigned.
        first, last: [n, sides]; row i gets entries first[i, s] .. last[i, s] of cell and count, cells moved by s * step.
        table: the value to write for every count, in the dtype of `out`.
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
    """Add counts into rows [n, size] of int64, cells folded modulo `size`; the other parameters are those of `scatter`."""
    _compiled(_accumulate)(out, cell, count, first, last, step)


def _scatter(out: Any, cell: Any, count: Any, first: Any, last: Any, step: int, table: Any) -> None:
    # Indices are unsigned, which spares numba the question whether they count from the end.
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = (
            0  # row by row, so that a sample is still in the processor's cache when its cells are written
        )
        for side in range(first.shape[1]):
            shift = np.uint64(side * step)
            for k in range(np.uint64(first[i, side]), np.uint64(last[i, side])):
                row[cell[k] + shift] = table[count[k]]


def _accumulate(out: Any, cell: Any, count: Any, first: Any, last: Any, step: int) -> None:
    size = out.shape[1]
    for i in range(out.shape[0]):
        row = out[i]
        for side in range(first.shape[1]):
            shift = side * step
            for k in range(first[i, side], last[i, side]):
                row[cell[k] % size + shift] += count[k]


@cache
def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    from numba import njit

    try:
        compiled: Callable[..., None] = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder where the compiled code could be kept
        compiled = njit(nogil=True)(function)
    return compiled
