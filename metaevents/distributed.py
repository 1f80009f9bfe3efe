"""Processes that share work, and the device that each computes on.

A run started by `torchrun`, or inside an initialized process group, shares its episodes, tasks or
samples among the processes. This module is the only one that reads torchrun's environment
variables. What is shared is decided by `metaevents.benchmark.evaluation` and `baselines.training`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from metaevents.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that share a run. Process `rank` takes items rank, rank + size, rank + 2 size, ...

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> range:
        """The items among 0 .. n - 1 that this process takes."""
        return range(self.rank, n, self.size)

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Do the work in every process.

        Args:
            work: Called without arguments; its result must be picklable.

        Returns:
            The results of all processes, in order of rank; the same list in every process.

        Raises:
            UsageError: The work failed in another process. A failure in this process is raised
                as it is.
        """
        if self.size == 1:
            return [work()]
        import torch.distributed as dist

        result: T | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # report it, or the other processes would wait for ever
            failure = error
        message = None if failure is None else f"{type(failure).__name__}: {failure}"
        outcomes: list[Any] = [None] * self.size
        dist.all_gather_object(outcomes, (result, message))
        if failure is not None:
            raise failure
        for rank, (_, problem) in enumerate(outcomes):
            if problem is not None:
                raise UsageError(f"process {rank} failed: {problem}")
        return [outcome for outcome, _ in outcomes]

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace every tensor by its sum over all processes, in place."""
        if self.size > 1:
            import torch.distributed as dist

            for tensor in tensors:
                dist.all_reduce(tensor)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in at least one process."""
        if self.size == 1:
            return flag
        import torch
        import torch.distributed as dist

        votes = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(votes)
        return bool(votes)


@contextmanager
def process_group(device: torch.device | None = None) -> Iterator[ProcessGroup]:
    """The processes that share this run.

    The initialized process group is used where there is one (any backend). Where `torchrun` started
    this process, a group is made and destroyed at the end. Otherwise the group is this process
    alone.

    Args:
        device: Where the tensors to be summed are. A GPU makes the group use nccl, anything else
            gloo.

    Yields:
        The group.
    """
    import torch.distributed as dist

    if not dist.is_available():
        yield ProcessGroup()
        return
    existing = dist.is_initialized()
    if not existing and not started_by_torchrun():
        yield ProcessGroup()
        return
    if not existing:
        dist.init_process_group("nccl" if device is not None and device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    finally:
        if not existing:
            dist.destroy_process_group()


def started_by_torchrun() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Whether this process writes files and output: rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def pick_device(name: str) -> torch.device:
    """The device of a name, made the current one if it is a GPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", ... "auto" is a GPU where there is one, else the CPU.
            "auto" and "cuda" under `torchrun` are this process's own GPU.

    Returns:
        The device.

    Raises:
        UsageError: There is no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        name = f"cuda:{_local_gpu()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(f"no device {name!r} here; give auto, cpu or a GPU that exists") from None
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    return device


def use_own_gpu() -> None:
    """Under `torchrun`, make "cuda" mean this process's own GPU."""
    if "LOCAL_RANK" in os.environ:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(_local_gpu())


def _local_gpu() -> int:
    """The index of this process's GPU under `torchrun`."""
    import torch

    return int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count()
