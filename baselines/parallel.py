"""Model-agnostic meta-learning (Finn et al. 2017) of any network that takes its parameters from outside.

`adapt` is the inner loop as plain function application, parameters in and parameters out; `meta_gradient` differentiates the
query loss through it. `MAML` joins a network with its options: it trains by `accumulate` and any optimizer, and is a
learner for `metaevents.evaluate`. Episodes, epochs and checkpoints are for `training`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

_AT_ONCE = 9  # queries, at most, that a thread of a CPU runs at a time


def query_chunks(x: Tensor, size: int | None, axis: int = 0) -> tuple[Tensor, ...]:
    samples = x.shape[axis]
    if size is None and x.device.type == "cpu":
        # As many for each of two threads, and the same however many there are.
        return torch.tensor_split(x, max(1, min(samples, 2 * -(-samples // (2 * _AT_ONCE)))), axis)
    return torch.split(x, size or samples, axis)


def on_threads(
    function: Callable[..., Result], arguments: list[tuple[Tensor, ...]]
) -> list[Result]:
    """`function` of each tuple of arguments, in order. On a CPU each call has one of torch's threads to itself.

    That beats all threads on one call after another: no waiting for each other in thousands of small operations.
    """
    threads = torch.get_num_threads()
    if arguments[0][0].device.type != "cpu" or threads == 1 or len(arguments) == 1:
        return [function(*each) for each in arguments]
    cast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def run(each: tuple[Tensor, ...]) -> Result:
        with torch.autocast("cpu", dtype=dtype, enabled=cast):  # what a thread does not inherit
            return function(*each)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(run, arguments))
    finally:
        torch.set_num_threads(threads)
