"""Frames and sums that a GPU fills, from decoded recordings that stay in its memory.

The recordings are copied to a device once per process. After that an episode sends only the places
of its recordings, and the results are bit for bit those of `metaevents.frames`.

Which recordings an episode has is left to `metaevents.sampling`, the GPU kernel to
`metaevents.frames_triton`. Without Triton, operations of torch do the same.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from metaevents.errors import UsageError
from metaevents.frames import largest_value, numpy_dtype, values_of_counts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from metaevents.cache import Columns

_MAX_INDEX = 2**31 - 1  # of a cell in one sample, which int32 holds


class DeviceCounts:
    """The occupied cells of all recordings and their counts, on one device.

    Args:
        columns: The decoded recordings, see `cache.cells`.
        device: Where to keep them.
    """

    def __init__(self, columns: Columns, device: torch.device) -> None:
        import torch

        self.device = device
        self._columns = columns
        # torch computes with few unsigned dtypes.
        small = columns.largest < 256
        counts = columns["count"].astype(np.uint8 if small else np.int32)
        self._cell = torch.from_numpy(columns["cell"].astype(np.int32)).to(device)
        self._count = torch.from_numpy(counts).to(device)
        self._tables: dict[torch.dtype, Tensor] = {}

    def fill(
        self,
        first: np.ndarray,
        last: np.ndarray,
        frame_shape: tuple[int, ...],
        step: int,
        dtype: torch.dtype | None,
        *,
        merged: int = 1,
        summed: bool = False,
        extra: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return samples as event counts.

        Args:
            first: [n, sides]; sample i consists of the entries first[i, s] .. last[i, s] - 1 of the
                columns, for each side s.
            last: [n, sides], see `first`.
            frame_shape: (T, P, H, W).
            step: The cells of side s are moved by s * step.
            dtype: As for `frames.numpy_dtype`, or torch.bfloat16.
            merged: Number of neighboring time bins that become one.
            summed: Whether to sum over time.
            extra: [m] int64 that travels to the device along with the indices.

        Returns:
            The counts [n, T / merged, P, H, W], or [n, P, H, W] if summed, and `extra` on the
            device.
        """
        import torch

        T, *grid = frame_shape
        shape = (len(first), *grid) if summed else (len(first), T // merged, *grid)
        size = prod(shape[1:])
        place = np.arange(len(first))[:, None] * size
        moved = np.arange(first.shape[1])[None] * step
        kernel = _kernel(self.device.type)
        scattered = not summed and merged == 1
        if scattered:
            place = place + moved
        extra = np.zeros(0, np.int64) if extra is None else extra
        job = [first.ravel(), last.ravel(), np.broadcast_to(place, first.shape).ravel(), extra]
        sent = self._send(np.concatenate(job))
        rows = first.size
        starts, ends, places = (sent[i * rows : (i + 1) * rows] for i in range(3))
        target = torch.float32 if dtype is None else dtype
        if scattered:
            out = torch.zeros(shape, dtype=target, device=self.device)
            table = self._table(target)
            if kernel is not None and rows:
                kernel(self._cell, self._count, table, starts, ends, places, out)
            else:
                entries, row = self._entries(starts, ends, int((last - first).sum()))
                values = table[self._count[entries].long()]
                out.view(-1).index_put_((self._cell[entries].long() + places[row],), values)
            return out, sent[3 * rows :]
        entries, row = self._entries(starts, ends, int((last - first).sum()))
        cell = self._cell[entries].long() + row % first.shape[1] * step
        if summed:
            cell = cell % size
        else:
            time_bin = cell // prod(grid)
            cell = cell - (time_bin - time_bin // merged) * prod(grid)
        total = torch.zeros(prod(shape), dtype=torch.int32, device=self.device)
        total.index_add_(0, cell + places[row], self._count[entries].int())
        return _saturated(total.view(shape), target), sent[3 * rows :]

    def _send(self, job: np.ndarray) -> Tensor:
        """Return numbers on the device; the copy of a few kilobytes is not waited for."""
        import torch

        return torch.from_numpy(job).to(self.device, non_blocking=True)

    def _entries(self, starts: Tensor, ends: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return the entries of recordings, and which of the recordings each belongs to.

        Args:
            starts: [rows] first entry.
            ends: [rows] one after the last.
            total: Number of entries, which saves asking the device.
        """
        import torch

        lengths = ends - starts
        row = torch.repeat_interleave(lengths, output_size=total)
        shift = starts - (lengths.cumsum(0) - lengths)
        return torch.arange(total, device=self.device) + shift[row], row

    def _table(self, dtype: torch.dtype) -> Tensor:
        """Return the frame value of every count, [largest + 1]."""
        table = self._tables.get(dtype)
        if table is None:
            import torch

            exact = torch.float32 if dtype == torch.bfloat16 else dtype
            values = values_of_counts(self._columns.largest, numpy_dtype(exact))
            table = self._tables[dtype] = torch.from_numpy(values).to(dtype).to(self.device)
        return table


def _saturated(total: Tensor, dtype: torch.dtype) -> Tensor:
    """Return int32 counts in a frame dtype; larger counts become its largest value."""
    import torch

    if dtype != torch.bfloat16 and (limit := largest_value(numpy_dtype(dtype))) <= _MAX_INDEX:
        total = total.clamp(max=limit)
    return total.to(dtype)


_uploaded: WeakValueDictionary[tuple[str, str, torch.device], DeviceCounts] = WeakValueDictionary()


def device_counts(fingerprint: str, columns: Columns, device: torch.device) -> DeviceCounts:
    """Return the recordings of a dataset on a device; all splits share them.

    Args:
        fingerprint: Fingerprint of the dataset.
        columns: Its decoded recordings.
        device: The device, with an index if it is a GPU.

    Raises:
        UsageError: The device's memory is too small.
    """
    import torch

    key = (fingerprint, str(columns["cell"].dtype), device)
    counts = _uploaded.get(key)
    if counts is None:
        try:
            counts = _uploaded[key] = DeviceCounts(columns, device)
        except torch.cuda.OutOfMemoryError:
            raise UsageError(
                f"{device} has no memory left for the {len(columns['cell']):,} cells of the "
                "recordings; leave out `device` and move each episode by `.to(device)`"
            ) from None
    return counts


@cache
def _kernel(device: str) -> Any:
    """Return the GPU kernel that scatters counts; None without a GPU or without Triton."""
    if device != "cuda":
        return None
    try:
        from metaevents.frames_triton import scatter
    except ImportError:
        return None
    return scatter
