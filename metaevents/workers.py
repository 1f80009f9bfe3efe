"""Workers that prepare values ahead of their use, in order: threads, and processes.

`prepare_in_threads` suits compiled code that runs without Python's global lock. Nothing is copied
and nothing has to be started. `WorkerProcesses` suits Python code, such as a user's transform. Its
results travel through memory that the processes share, which lies neither in files nor in
`/dev/shm`, and are copied out when they arrive. So results keep no file open.
"""

from __future__ import annotations

import io
import mmap
import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from metaevents import errors
from metaevents.errors import MetaeventsError
from metaevents.global_state import ordinary_tensors, to_tensor

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Value = TypeVar("Value")

_AHEAD = 2  # values per worker that are prepared ahead


def prepare_in_threads(
    prepare: Callable[[Item], Value], items: Iterable[Item], workers: int
) -> Iterator[Value]:
    """Yield `prepare(item)` for every item, in order, prepared by threads.

    In a process that was forked meanwhile the threads do not exist; the rest is then prepared
    where it is asked for.

    Args:
        prepare: Called by several threads at a time.
        items: Read by the caller's thread, `workers + 1` items ahead.
        workers: Number of threads.
    """
    process = os.getpid()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="metaevents")
    waiting: deque[tuple[Item, Future[Value] | None]] = deque()

    def result(item: Item, future: Future[Value] | None) -> Value:
        if future is None or os.getpid() != process:
            return prepare(item)
        return future.result()

    try:
        for item in items:
            alive = os.getpid() == process
            waiting.append((item, executor.submit(prepare, item) if alive else None))
            if len(waiting) > workers + 1:
                yield result(*waiting.popleft())
        while waiting:
            yield result(*waiting.popleft())
    finally:
        if os.getpid() == process:
            executor.shutdown(wait=False, cancel_futures=True)


class WorkerProcesses:
    """Processes that prepare values, in order, one pass over them at a time.

    The processes go on from one pass to the next. They end when this object is released.

    Args:
        prepare: Function of an item. It must not lead to this object.
        items: The items of a pass.
        workers: Number of processes.
        largest: Bytes that a value rarely exceeds. A larger one travels through a pipe, which is
            slower.

    Raises:
        MetaeventsError: In a pass, as `prepare` raised it. Other errors come as torch passes them
            on, with the traceback of the process in their text.
    """

    def __init__(
        self, prepare: Callable[[Any], Any], items: Sequence[Any], workers: int, largest: int
    ) -> None:
        import torch
        from torch.utils.data import DataLoader

        self._process = os.getpid()
        self._carrier = _Carrier(workers, largest)
        self._loader: Any = DataLoader(
            _Packed(prepare, items, self._carrier),  # type: ignore[arg-type]
            batch_size=None,
            num_workers=workers,
            collate_fn=_identity,
            persistent_workers=True,
            prefetch_factor=_AHEAD,
            generator=torch.Generator(device="cpu"),  # leaves the global generator alone
        )

    def __iter__(self) -> Iterator[Any]:
        with ordinary_tensors():  # torch draws a seed, and the processes inherit the modes
            messages = iter(self._loader)
        for message in messages:
            if isinstance(message, _Failure):
                raise message.kind(message.text)
            yield self._carrier.unpack(message)

    def close(self) -> None:
        """End the processes now.

        Where an error holds on to them, they would be released in a cycle, and torch would wait
        five seconds for each.
        """
        running, self._loader._iterator = self._loader._iterator, None
        if running is not None:
            running._shutdown_workers()

    @property
    def inherited(self) -> bool:
        """Whether this object came by a fork: the processes are those of the parent process."""
        return os.getpid() != self._process


class _Packed:
    """A map-style dataset of packed values."""

    def __init__(
        self, prepare: Callable[[Any], Any], items: Sequence[Any], carrier: _Carrier
    ) -> None:
        self._prepare, self._items, self._carrier = prepare, items, carrier

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> _Message | _Failure:
        try:
            return self._carrier.pack(self._prepare(self._items[place]))
        except MetaeventsError as error:  # torch would put a traceback into its text
            return _Failure.of(error)


class _Failure(NamedTuple):
    """An error that a user can correct, which a worker process met.

    Attributes:
        kind: Its class in `metaevents.errors`, which every process can import.
        text: Its message.
    """

    kind: type[MetaeventsError]
    text: str

    @classmethod
    def of(cls, error: MetaeventsError) -> _Failure:
        ours = (kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        return cls(next(ours), str(error))


class _Message(NamedTuple):
    """A packed value.

    Attributes:
        data: Its pickle, without the buffers.
        sizes: Bytes of each buffer.
        slot: (worker, slot) that holds the buffers one after the other, or None.
        buffers: The buffers, if no slot holds them.
    """

    data: bytes
    sizes: list[int]
    slot: tuple[int, int] | None
    buffers: list[bytes]


class _Carrier:
    """Carries values from worker processes to the process that forked them.

    Every worker has a ring of slots in anonymous shared memory, of which pages are used only where
    something was written. There is one slot more than values can be under way, so a slot is copied
    out before the worker writes into it again. Where processes are not forked there are no slots,
    and everything goes through torch's pipe.
    """

    def __init__(self, workers: int, largest: int) -> None:
        self._slots: list[list[mmap.mmap]] = []
        self._packed = 0
        if multiprocessing.get_start_method() == "fork":
            try:
                self._slots = [
                    [mmap.mmap(-1, max(largest, 1)) for _ in range(_AHEAD + 1)]
                    for _ in range(workers)
                ]
            except (OSError, ValueError, OverflowError):  # more than the machine can address
                self._slots = []

    def pack(self, value: Any) -> _Message:
        """Return a value's message; called in a worker."""
        from torch.utils.data import get_worker_info

        stream = io.BytesIO()
        buffers: list[memoryview] = []

        def keep(buffer: pickle.PickleBuffer) -> None:
            buffers.append(buffer.raw())

        _Pickler(stream, protocol=5, buffer_callback=keep).dump(value)
        sizes = [len(buffer) for buffer in buffers]
        worker = get_worker_info().id  # type: ignore[union-attr]
        if not self._slots or sum(sizes) > len(self._slots[worker][0]):
            return _Message(stream.getvalue(), sizes, None, list(map(bytes, buffers)))
        number = self._packed % (_AHEAD + 1)
        self._packed += 1
        slot = np.frombuffer(self._slots[worker][number], np.uint8)
        start = 0
        for buffer, size in zip(buffers, sizes, strict=True):
            slot[start : start + size] = np.frombuffer(buffer, np.uint8)
            start += size
        return _Message(stream.getvalue(), sizes, (worker, number), [])

    def unpack(self, message: _Message) -> Any:
        """Return the value of a message, in memory of its own."""
        arrays = [np.empty(size, np.uint8) for size in message.sizes]
        if message.slot is None:
            for array, buffer in zip(arrays, message.buffers, strict=True):
                array[:] = np.frombuffer(buffer, np.uint8)
        else:
            worker, number = message.slot
            slot = np.frombuffer(self._slots[worker][number], np.uint8)
            start = 0
            for array in arrays:
                array[:] = slot[start : start + len(array)]
                start += len(array)
        return pickle.loads(message.data, buffers=arrays)

    def __getstate__(self) -> dict[str, Any]:
        return {"_slots": [], "_packed": 0}  # for processes that are not forked


class _Pickler(pickle.Pickler):
    """A pickler that keeps the memory of tensors and arrays out of the pickle."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how a plain CPU tensor is pickled; anything else as usual."""
        import torch

        if (
            type(obj) is not torch.Tensor
            or obj.device.type != "cpu"
            or obj.layout != torch.strided
            or obj.requires_grad
            or obj.is_quantized
            or obj.dtype in (torch.bfloat16, torch.complex32)
        ):
            return NotImplemented
        return _rebuild_tensor, (obj.resolve_conj().resolve_neg().contiguous().numpy(),)


def _rebuild_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return the tensor of an unpickled array."""
    return to_tensor(array)


def _identity(value: Any) -> Any:
    return value
