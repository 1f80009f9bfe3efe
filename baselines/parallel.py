"""How tasks and queries run side by side: on threads of a CPU, or on streams of a GPU.

Results do not depend on the number of threads: chunk sizes follow from the number of samples alone,
results come in the order of the items, and long sums of products have a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import linear

Item = TypeVar("Item")
Result = TypeVar("Result")

_CPU_CHUNK = 9  # largest number of queries per chunk on a CPU

_ROWS = 8  # largest number of rows whose products a matrix product sums up by itself


def query_chunks(x: Tensor, size: int | None, axis: int = 0) -> tuple[Tensor, ...]:
    """Return `x` in chunks of samples that run one at a time, which saves memory.

    Args:
        x: Samples or labels, with the sample axis at `axis`.
        size: Samples per chunk. None takes an even number of equal chunks of at most 9 samples on a
            CPU, and one chunk on a GPU.
        axis: The sample axis.
    """
    samples = x.shape[axis]
    if size is None and x.device.type == "cpu":
        # An even number of chunks keeps two threads equally busy. It must not follow the number of
        # threads: the sum over chunks would round differently.
        return torch.tensor_split(
            x, max(1, min(samples, 2 * -(-samples // (2 * _CPU_CHUNK)))), axis
        )
    return torch.split(x, size or samples, axis)


def linear_in_order(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.linear`, whose gradients do not depend on the number of threads.

    The gradient by the weights is a sum over rows. A library that multiplies matrices divides a
    long sum of few outputs among its threads, and so rounds it in another order for each number of
    threads. A spiking network answers such a difference with other spikes. Here the rows are
    divided in a fixed way.

    Args:
        x: Rows [n, features].
        weight: [outputs, features].
        bias: [outputs].

    Returns:
        [n, outputs].
    """
    n = len(x)
    if x.device.type != "cpu" or n == 0:
        return linear(x, weight, bias)
    rows = next(rows for rows in range(_ROWS, 0, -1) if n % rows == 0)
    parts = x.reshape(n // rows, rows, -1)
    return torch.baddbmm(bias, parts, weight.T.expand(len(parts), -1, -1)).flatten(0, 1)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> list[Result]:
    """Return `function` of each item, in order; on a CPU the calls run on torch's threads.

    Each call has one of torch's threads to itself. That is faster than giving every thread to one
    call after another: an operation on small tensors spends much of its time on waiting for the
    other threads.

    Args:
        function: Must be safe to call from several threads.
        items: Its arguments.
        device: Where the tensors are; on a GPU the calls run one after another.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(items) == 1:
        return [function(item) for item in items]
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def run(item: Item) -> Result:
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):  # threads do not inherit it
            return function(item)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(run, items))
    finally:
        torch.set_num_threads(threads)


def on_streams(
    function: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> list[Result]:
    """Return `function` of each item, in order; each call has a stream of a GPU to itself.

    One task of a small network leaves much of a GPU idle. Streams fill it, and a CUDA graph keeps
    them. Unlike a batched call, they need no copies that bring the tasks' results together.

    Every call waits for the work of the current stream, and then the current stream waits for all
    calls. So no stream uses memory that another one still reads.

    Args:
        function: Must not change tensors that other calls use.
        items: Its arguments; their tensors must live until this returns.
        device: The GPU.
    """
    if len(items) == 1:
        return [function(items[0])]
    current, results = torch.cuda.current_stream(device), []
    streams = [_stream(device, number) for number in range(len(items))]
    for stream, item in zip(streams, items, strict=True):
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            results.append(function(item))
    for stream in streams:
        current.wait_stream(stream)
    return results


@cache
def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    """Return always the same stream for a number, because torch keeps memory for each of them."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
