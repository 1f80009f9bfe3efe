"""Process groups, shares of work, and the choice of processors and devices.

The processes that `torchrun` started, or those of an initialized process group, can share the
episodes, tasks or samples of one run. No other module reads torchrun's environment variables. What
is shared is left to `metaevents.benchmark.evaluation` and `baselines.training`.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from metaevents.errors import UsageError
from metaevents.untrusted import describe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Store: TypeAlias = Any  # torch.distributed.Store, which torch does not declare as exported

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that share a run.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.

    Example:
        >>> list(ProcessGroup(rank=1, size=3).share(8))
        [1, 4, 7]
    """

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> range:
        """Return this process's share of the items 0 .. n - 1.

        Args:
            n: Number of items.

        Returns:
            The items rank, rank + size, rank + 2 size, ... below n.
        """
        return range(self.rank, n, self.size)

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Do some work in every process and collect the results.

        All processes must call this. A failure in one process is raised in all of them.

        Args:
            work: Called without arguments. Its result must be picklable.

        Returns:
            The results of all processes in order of rank; the same list in every process.

        Raises:
            UsageError: The work failed in another process. A failure in this process is raised
                unchanged.
        """
        if self.size == 1:
            return [work()]
        import torch.distributed as dist

        result: T | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # sent to the other processes, which would wait forever
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
        """Replace each tensor by its sum over all processes, in place.

        Args:
            tensors: Tensors of any shape, on a device that the group's backend supports. All
                processes must give the same shapes in the same order.
        """
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
        """Return whether the flag is true in at least one process.

        Args:
            flag: This process's flag. All processes must call this.

        Returns:
            The same answer in every process.
        """
        if self.size == 1:
            return flag
        import torch
        import torch.distributed as dist

        votes = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(votes)
        return bool(votes)


@contextmanager
def process_group(device: torch.device | None = None) -> Iterator[ProcessGroup]:
    """Give the processes that share this run.

    An initialized process group is used as it is, whatever its backend, and left initialized. If
    there is none and the environment announces one (see `launched_process`), it is created and
    destroyed at the end. Otherwise the group is this process alone.

    All members must come within a minute, or within the seconds of the environment variable
    `METAEVENTS_JOIN_TIMEOUT`. Without this limit, a member would wait for the others for ever if
    they never come.

    Args:
        device: Device of the tensors to be summed. A GPU makes a new group use nccl; anything
            else makes it use gloo.

    Yields:
        The group.

    Raises:
        UsageError: The environment announces a group that cannot be, or not all members came in
            time.
    """
    import torch.distributed

    dist: Any = torch.distributed
    if _is_initialized():
        group = ProcessGroup(dist.get_rank(), dist.get_world_size())
        if group.size > 1:
            _meet(_default_store(), group, f"metaevents/{next(_meetings)}")
        yield group
        return
    launched = launched_process()
    if launched is None:
        yield ProcessGroup()
        return
    if not dist.is_available():
        raise UsageError(
            f"WORLD_SIZE={launched.size}, but this torch has no torch.distributed; unset "
            "WORLD_SIZE, or install a torch that has it"
        )
    group = ProcessGroup(launched.rank, launched.size)
    prefix = f"metaevents/{next(_meetings)}"
    store = _connect(launched)
    _meet(store, group, prefix)
    store.set_timeout(_COLLECTIVE_TIMEOUT)
    dist.init_process_group(
        "nccl" if device is not None and device.type == "cuda" else "gloo",
        store=dist.PrefixStore(prefix, store),
        rank=group.rank,
        world_size=group.size,
    )
    try:
        yield group
    finally:
        dist.destroy_process_group()


# --- the environment of a launcher ---------------------------------------------------------------


class LaunchedProcess(NamedTuple):
    """The place of this process in the group that its environment announces.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int
    size: int


def launched_process() -> LaunchedProcess | None:
    """Return this process's place in the group that the environment announces, or None.

    `WORLD_SIZE` above 1 announces a group, as `torchrun` sets it. `RANK`, `MASTER_ADDR` and
    `MASTER_PORT` must then be set too. Without `WORLD_SIZE`, or with 1, the process is alone. The
    other variables then mean nothing: another program may have left them.

    Raises:
        UsageError: A variable of the group is missing, empty or out of range.
    """
    if "WORLD_SIZE" not in os.environ:
        return None
    size = _environment_number("WORLD_SIZE", 1, 1_000_000)
    if size == 1:
        return None
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.getenv(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE={size} announces {size} processes, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; start them with torchrun, or unset "
            "WORLD_SIZE"
        )
    _environment_number("MASTER_PORT", 1, 65_535)
    return LaunchedProcess(_environment_number("RANK", 0, size - 1), size)


def _environment_number(name: str, minimum: int, maximum: int) -> int:
    """Return an environment variable as a number, or raise UsageError."""
    text = os.environ[name]
    if not re.fullmatch("[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
        raise UsageError(
            f"the environment variable {name}={text!r} should be a whole number from {minimum} to "
            f"{maximum}; correct or unset it"
        )
    return int(text)


def started_by_torchrun() -> bool:
    """Return whether this process was started as one of several; see `launched_process`.

    Raises:
        UsageError: For the reasons of `launched_process`.
    """
    return launched_process() is not None


def is_first_process() -> bool:
    """Return whether this is rank 0 or the only process, which writes files and output.

    Only another member of a group of processes is not: one of an initialized process group, or one
    that was launched as such.

    Raises:
        UsageError: For the reasons of `launched_process`.
    """
    if _is_initialized():
        import torch.distributed as dist

        return dist.get_rank() == 0
    launched = launched_process()
    return launched is None or launched.rank == 0


def _is_initialized() -> bool:
    """Return whether there is an initialized process group. Imports no torch for the answer."""
    dist: Any = sys.modules.get("torch.distributed")
    return dist is not None and bool(dist.is_available() and dist.is_initialized())


# --- joining a group -----------------------------------------------------------------------------

_JOIN_VARIABLE = "METAEVENTS_JOIN_TIMEOUT"
_JOIN_SECONDS = 60
_COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # torch's default, for all that follows the meeting
_meetings = itertools.count()  # equal in all members, because all call `process_group` as often


def _join_seconds() -> float:
    """Return for how long a member waits for the others."""
    text = os.getenv(_JOIN_VARIABLE)
    if text is None:
        return _JOIN_SECONDS
    return _environment_number(_JOIN_VARIABLE, 1, 1_000_000)


def _connect(launched: LaunchedProcess) -> Store:
    """Return the store of the group that the environment announces.

    Raises:
        UsageError: It cannot be reached, or the other members do not come.
    """
    import torch.distributed

    rendezvous: Any = torch.distributed.rendezvous  # type: ignore[attr-defined]
    seconds = _join_seconds()
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if launched.rank:  # the first process, or torchrun, may still have to open the address
        _wait_for_server(address, seconds)
    try:
        store, _, _ = next(
            rendezvous("env://", launched.rank, launched.size, timeout=timedelta(seconds=seconds))
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"no group of {launched.size} processes at {address[0]}:{address[1]} after "
            f"{seconds:g} s ({reason}); {_ADVICE}"
        ) from error
    return store


_ADVICE = (
    "start all of them with torchrun, call this in each of them, or unset WORLD_SIZE; "
    f"{_JOIN_VARIABLE} sets how many seconds to wait"
)


def _wait_for_server(address: tuple[str, int], seconds: float) -> None:
    """Wait until something listens at an address; raise UsageError after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(address, timeout=seconds).close()
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            raise UsageError(
                f"the first process of the group does not answer at {address[0]}:{address[1]} "
                f"after {seconds:g} s ({error.strerror or error}); {_ADVICE}"
            ) from error
        return


def _default_store() -> Store | None:
    """Return the store of the initialized process group; None if its backend has none."""
    from torch.distributed import distributed_c10d

    get: Any = getattr(distributed_c10d, "_get_default_store", None)  # torch has no public function
    return None if get is None else get()


def _meet(store: Store | None, group: ProcessGroup, key: str) -> None:
    """Wait until all members of a group have called this.

    Raises:
        UsageError: Not all have called it in time.
    """
    if store is None:
        return
    seconds = _join_seconds()
    deadline = time.monotonic() + seconds
    try:
        present = store.add(key, 1)
        while present < group.size and time.monotonic() < deadline:
            time.sleep(0.02)
            present = store.add(key, 0)
        if present >= group.size:
            return
        store.add(key, -1)
    except RuntimeError as error:  # the process that keeps the store has ended
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"the group of {group.size} processes has ended ({reason})") from error
    raise UsageError(
        f"only {present} of {group.size} processes came within {seconds:g} s; {_ADVICE}"
    )


# --- processors and devices ----------------------------------------------------------------------

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_processors() -> int:
    """Return the number of processors that this process may use, at least 1.

    It is smaller than that of the machine under `taskset`, in a batch job or in a container.
    """
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, min([processors, *map(math.ceil, _processor_quotas())]))


def _processor_quotas() -> Iterator[float]:
    """Yield the limits that control groups set on this process, in processors."""
    try:
        match = re.search(r"^0::/(.*)$", _OWN_CGROUP.read_text("utf-8"), re.MULTILINE)
    except OSError:
        match = None
    own = match[1] if match else ""
    folders = [_CGROUPS / own, *(_CGROUPS / own).parents]
    for folder in folders[: folders.index(_CGROUPS) + 1] if _CGROUPS in folders else [_CGROUPS]:
        for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
            try:
                words = " ".join((folder / name).read_text("utf-8") for name in files).split()
                quota, period = map(int, words)
            except (OSError, ValueError):  # there is no such file, or no limit: "max 100000"
                continue
            if quota > 0 and period > 0:
                yield quota / period


def pick_device(name: str) -> torch.device:
    """Return a device by name. A GPU given by number becomes torch's current GPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", ... "auto" is a GPU if there is one that can be used,
            else the CPU; the log says why. Under `torchrun`, "auto" and "cuda" are this process's
            own GPU.

    Returns:
        The device.

    Raises:
        UsageError: There is no such device, it cannot be used, or for the reasons of
            `launched_process`.
    """
    import torch

    if name == "auto":
        problem = _gpu_problem(torch.device("cuda"))
        if problem and torch.version.cuda:  # a build for CPUs was chosen by the user
            logger.info("computing on the CPU: %s", problem)
        name = "cpu" if problem else "cuda"
    if name == "cuda" and torch.cuda.is_available() and (gpu := _local_gpu()) is not None:
        name = f"cuda:{gpu}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(
            f"no device {name!r} here{_why_no_gpu(name)}; give auto, cpu or a GPU that exists"
        ) from None
    if device.type == "cuda":
        if problem := _gpu_problem(device):
            raise UsageError(f"device {name!r} cannot be used: {problem}; give cpu")
        if device.index is not None:
            torch.cuda.set_device(device)
    return device


_CAPABILITY = (7, 0)  # the lowest that Triton, which compiles our kernels, supports


def _gpu_problem(device: torch.device) -> str | None:
    """Return why a GPU cannot be used, or None if it can."""
    import torch

    if not torch.cuda.is_available():
        return _why_no_gpu("cuda").strip(" ()")
    try:
        capability = torch.cuda.get_device_capability(device)
        if capability < _CAPABILITY:
            need, has = (".".join(map(str, each)) for each in (_CAPABILITY, capability))
            return (
                f"{torch.cuda.get_device_name(device)} has the compute capability {has}, and "
                f"Triton needs {need}"
            )
        torch.ones(1, device=device).add_(1)
    except (RuntimeError, AssertionError) as error:
        return f"the GPU does not run torch's code ({describe(error)})"
    return None


def _why_no_gpu(name: str) -> str:
    """Return in brackets why there is no GPU; nothing if there is one or the name is no GPU's."""
    import torch

    if not name.startswith("cuda") or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return " (torch is a build for CPUs)"
    return f" (no GPU, or none whose driver supports CUDA {torch.version.cuda})"


def use_own_gpu() -> None:
    """Make "cuda" mean this process's own GPU if `torchrun` started it.

    Raises:
        UsageError: For the reasons of `launched_process`.
    """
    import torch

    if torch.cuda.is_available() and (gpu := _local_gpu()) is not None:
        torch.cuda.set_device(gpu)


def _local_gpu() -> int | None:
    """Return the index of the GPU of a member of a group; None for a process alone."""
    import torch

    if "LOCAL_RANK" not in os.environ or not (_is_initialized() or launched_process()):
        return None
    return _environment_number("LOCAL_RANK", 0, 1_000_000) % torch.cuda.device_count()
