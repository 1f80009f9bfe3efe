"""The GPU kernels that write the counts of recordings into frames.

Triton comes with torch's builds for GPUs and not with others, so only `metaevents.device_frames`
imports this module, and only on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_ENTRIES = 1024  # per iteration of a block: some recordings need only one


def scatter(
    cell: Tensor, count: Tensor, table: Tensor, numbers: Tensor, rows: int, out: Tensor
) -> None:
    """Write the counts of recordings into frames; one block per recording.

    Args:
        cell: Occupied cells of all recordings, int32.
        count: Number of events in each of them.
        table: The value to write for every count, in the dtype of `out`.
        numbers: [3 rows or more] int64; see `device_frames.Job`.
        rows: Number of recordings.
        out: Frames, contiguous.
    """
    import torch

    with torch.cuda.device(out.get_device()):
        _scatter[(rows,)](cell, count, table, numbers, rows, out, BLOCK=_ENTRIES)


def accumulate(
    cell: Tensor, count: Tensor, numbers: Tensor, rows: int, grid: int, merged: int, out: Tensor
) -> None:
    """Add the counts of recordings to frames with merged time bins; one block per recording.

    Args:
        cell: As for `scatter`.
        count: As for `scatter`.
        numbers: As for `scatter`.
        rows: As for `scatter`.
        grid: Number of cells in one time bin.
        merged: Number of neighboring time bins that become one.
        out: Frames, int32, contiguous.
    """
    import torch

    with torch.cuda.device(out.get_device()):
        _accumulate[(rows,)](cell, count, numbers, rows, grid, merged, out, BLOCK=_ENTRIES)


@triton.jit  # type: ignore[untyped-decorator]
def _scatter(  # type: ignore[no-untyped-def]
    cell, count, table, numbers, rows, out, BLOCK: tl.constexpr
):
    """Kernel of `scatter`."""
    row = tl.program_id(0)
    at, end = tl.load(numbers + row), tl.load(numbers + rows + row)
    place = tl.load(numbers + 2 * rows + row)
    while at < end:
        entry = at + tl.arange(0, BLOCK)
        inside = entry < end
        value = tl.load(table + tl.load(count + entry, mask=inside, other=0), mask=inside)
        tl.store(out + place + tl.load(cell + entry, mask=inside, other=0), value, mask=inside)
        at += BLOCK


@triton.jit  # type: ignore[untyped-decorator]
def _accumulate(  # type: ignore[no-untyped-def]
    cell, count, numbers, rows, grid, merged, out, BLOCK: tl.constexpr
):
    """Kernel of `accumulate`. Sums of integers do not depend on their order."""
    row = tl.program_id(0)
    at, end = tl.load(numbers + row), tl.load(numbers + rows + row)
    place = tl.load(numbers + 2 * rows + row)
    while at < end:
        entry = at + tl.arange(0, BLOCK)
        inside = entry < end
        here = tl.load(cell + entry, mask=inside, other=0)
        here = here % grid + here // grid // merged * grid
        number = tl.load(count + entry, mask=inside, other=0).to(tl.int32)
        tl.atomic_add(out + place + here, number, mask=inside, sem="relaxed")
        at += BLOCK
