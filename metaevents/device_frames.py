"""Frames and sums that a GPU fills, from decoded recordings that stay in its memory.

The recordings are copied to a device once per process. After that an episode sends only the places
of its recordings, and the results are bit for bit those of `metaevents.frames`. To send the places
of many episodes takes as long as to send those of one.

Which recordings an episode has is left to `metaevents.sampling`, the GPU kernels to
`metaevents.frames_triton`. Without Triton, operations of torch do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Form:
    """How recordings become samples.

    Attributes:
        frame_shape: (T, P, H, W) of the recordings' cells.
        step: The cells of side s are moved by s * step.
        merged: Number of neighboring time bins that become one.
        summed: Whether to sum over time.
    """

    frame_shape: tuple[int, ...]
    step: int
    merged: int = 1
    summed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample."""
        bins, *grid = self.frame_shape
        return tuple(grid) if self.summed else (bins // self.merged, *grid)


@dataclass(frozen=True)
class Job:
    """The places of the recordings of a stack of samples, on a device.

    Attributes:
        numbers: [3 rows + m] int64: the first entry of each recording, its last entry plus one, the
            place of its cell 0 in the stack, and the numbers that were sent with them.
        samples: Number of samples.
        rows: Number of recordings.
        entries: Number of entries of all recordings.
    """

    numbers: Tensor
    samples: int
    rows: int
    entries: int


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

    def send(
        self,
        first: np.ndarray,
        last: np.ndarray,
        form: Form,
        extra: np.ndarray | None = None,
    ) -> list[Job]:
        """Send the places of the recordings of some stacks of samples, in one copy.

        Args:
            first: [stacks, n, sides]; sample i of a stack consists of the entries
                first[i, s] .. last[i, s] - 1 of the columns, for each side s.
            last: [stacks, n, sides], see `first`.
            form: How recordings become samples.
            extra: [stacks, m] int64 to send with them.

        Returns:
            What `fill` takes, for each stack.
        """
        import torch

        stacks, samples, sides = first.shape
        place = np.arange(samples)[:, None] * prod(form.shape) + np.arange(sides) * form.step
        more = 0 if extra is None else extra.shape[1]
        rows = samples * sides
        numbers = np.empty((stacks, 3 * rows + more), np.int64)
        numbers[:, :rows] = first.reshape(stacks, rows)
        numbers[:, rows : 2 * rows] = last.reshape(stacks, rows)
        numbers[:, 2 * rows : 3 * rows] = place.ravel()
        if extra is not None:
            numbers[:, 3 * rows :] = extra
        # The copy of a few kilobytes is not waited for.
        sent = torch.from_numpy(numbers).to(self.device, non_blocking=True)
        entries = (last - first).sum((1, 2)).tolist()
        return [Job(each, samples, rows, total) for each, total in zip(sent, entries, strict=True)]

    def fill(self, job: Job, form: Form, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Return a stack of samples as event counts.

        Args:
            job: From `send`.
            form: As for `send`.
            dtype: As for `frames.numpy_dtype`, or torch.bfloat16.

        Returns:
            The counts [n, T / merged, P, H, W], or [n, P, H, W] if summed, and the numbers [m] that
            were sent with them.
        """
        import torch

        numbers, rows = job.numbers, job.rows
        shape, grid = (job.samples, *form.shape), prod(form.frame_shape[1:])
        target = torch.float32 if dtype is None else dtype
        merged = form.frame_shape[0] if form.summed else form.merged
        kernels = _kernels(self.device.type)
        extra = numbers[3 * rows :].clone()  # the caller may change it
        if merged == 1 and not form.summed:
            out = torch.zeros(shape, dtype=target, device=self.device)
            table = self._table(target)
            if kernels is not None and rows:
                kernels.scatter(self._cell, self._count, table, numbers, rows, out)
            else:
                entry, row = self._entries(numbers, rows, job.entries)
                place = self._cell[entry].long() + numbers[2 * rows + row]
                out.view(-1).index_put_((place,), table[self._count[entry].long()])
            return out, extra
        total = torch.zeros(shape, dtype=torch.int32, device=self.device)
        if kernels is not None and rows:
            kernels.accumulate(self._cell, self._count, numbers, rows, grid, merged, total)
        else:
            entry, row = self._entries(numbers, rows, job.entries)
            cell = self._cell[entry].long()
            cell = cell % grid + cell // grid // merged * grid
            place = cell + numbers[2 * rows + row]
            total.view(-1).index_add_(0, place, self._count[entry].int())
        return _saturated(total, target), extra

    def _entries(self, numbers: Tensor, rows: int, total: int) -> tuple[Tensor, Tensor]:
        """Return the entries of recordings, and which of the recordings each belongs to.

        Args:
            numbers: See `Job`.
            rows: Number of recordings.
            total: Number of entries, which saves asking the device.
        """
        import torch

        starts = numbers[:rows]
        lengths = numbers[rows : 2 * rows] - starts
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
def _kernels(device: str) -> Any:
    """Return the module of GPU kernels; None without a GPU or without Triton."""
    if device != "cuda":
        return None
    try:
        from metaevents import frames_triton
    except ImportError:
        return None
    return frames_triton
