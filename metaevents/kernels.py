"""The two inner loops of episode loading, compiled with numba on first use.

Everything around them is numpy. They are compiled because the work is one memory access an event, which numpy's fancy assignment
makes several times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np


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

    Parameters:
        out: [n, cells], any contents.
        cell, count: occupied cells and their counts, of all recordings; unsigned.
        first, last: [n, sides]; row i gets entries first[i, s] .. last[i, s] of cell and count, cells moved by s * step.
        table: the value to write for every count, in the dtype of `out`.
    """
    _compiled(_scatter)(out, cell, count, first, last, step, table)


def accumulate(
    out: np.ndarray, cell: np.ndarray, count: np.ndarray, first: np.ndarray, last: np.ndarray, step: int
) -> None:
    """Add counts into rows [n, size] of int64, cells folded modulo `size`; the other parameters are those of `scatter`."""
    _compiled(_accumulate)(out, cell, count, first, last, step)


def _scatter(out: Any, cell: Any, count: Any, first: Any, last: Any, step: int, table: Any) -> None:
    # Indices are unsigned, which spares numba the question whether they count from the end.
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = 0  # row by row, so that a sample is still in the processor's cache when its cells are written
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
