"""The GPU kernel that writes the counts of recordings into frames.

Triton comes with torch's builds for GPUs and not with others, so only `metaevents.device_frames`
imports this module, and only on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_ENTRIES = 1024  # per iteration of a block: some recordings need only one


def scatter(
    cell: Tensor,
    count: Tensor,
    table: Tensor,
    starts: Tensor,
    ends: Tensor,
    places: Tensor,
    out: Tensor,
) -> None:
    """Write the counts of recordings into frames; one block per recording.

    Args:
        cell: Occupied cells of all recordings, int32.
        count: Number of events in each of them.
        table: The value to write for every count, in the dtype of `out`.
        starts: [rows] int64; row i writes the entries starts[i] .. ends[i] - 1.
        ends: [rows] int64.
        places: [rows] int64, where the cell 0 of each row lies in `out`.
        out: Frames, contiguous.
    """
    import torch

    with torch.cuda.device(out.get_device()):
        _scatter[(len(starts),)](cell, count, table, starts, ends, places, out, BLOCK=_ENTRIES)


@triton.jit  # type: ignore[untyped-decorator]
def _scatter(  # type: ignore[no-untyped-def]
    cell, count, table, starts, ends, places, out, BLOCK: tl.constexpr
):
    """Kernel of `scatter`."""
    row = tl.program_id(0)
    at, end, place = tl.load(starts + row), tl.load(ends + row), tl.load(places + row)
    while at < end:
        entry = at + tl.arange(0, BLOCK)
        inside = entry < end
        value = tl.load(table + tl.load(count + entry, mask=inside, other=0), mask=inside)
        tl.store(out + place + tl.load(cell + entry, mask=inside, other=0), value, mask=inside)
        at += BLOCK
