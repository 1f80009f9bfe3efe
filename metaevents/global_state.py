"""Global state of torch, NumPy and Python that a user may change: generators, modes, defaults.

Learners and transforms draw from the global random generators. `seed_generators` seeds these and
`generators_restored` puts them back, in one thread at a time. `ordinary_tensors` makes tensors as
if the user had changed neither the default device nor the inference mode.

Which seed an episode has is left to the callers. The package itself draws from `metaevents.rng`
only.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python.

    The generators of all GPUs are seeded too if CUDA is in use.

    Args:
        seed: Any whole number >= 0; numpy gets it modulo 2^32.
    """
    import torch

    # torch.manual_seed would record a call stack for each kind of device that is not in use.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the legacy generator is the global one
    random.seed(seed)


def generator_states() -> tuple[Any, ...]:
    """Return the states of the global generators, for `restore_generators`."""
    import torch

    return (
        torch.get_rng_state(),
        np.random.get_state(),  # noqa: NPY002
        random.getstate(),
        torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    )


def restore_generators(states: tuple[Any, ...]) -> None:
    """Restore the states of the global generators.

    Args:
        states: What `generator_states` returned.
    """
    import torch

    torch_state, numpy_state, python_state, cuda_states = states
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)
    if cuda_states:
        torch.cuda.set_rng_state_all(cuda_states)


_lock = threading.RLock()  # held while the global generators are seeded for a block


def _renew_lock() -> None:
    """Release the lock in a forked process: the thread that held it does not exist there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def generators_restored() -> Iterator[None]:
    """Restore the states of the global generators at the end of the block, also if it fails.

    The global generators belong to all threads, and two blocks at a time would seed them for each
    other. So the block of another thread waits. Blocks may lie within each other in one thread. A
    block must not wait for a thread that enters one.
    """
    lock = _lock
    with lock:
        states = generator_states()
        try:
            yield
        finally:
            restore_generators(states)


_NOTHING = nullcontext()


def ordinary_tensors() -> AbstractContextManager[None]:
    """Make tensors on the CPU unless a device is named, and no inference tensors, in the block.

    `torch.set_default_device` and `torch.inference_mode` are undone within the block. Gradients
    stay off where inference mode turned them off.
    """
    import torch

    inference, on_cpu = torch.is_inference_mode_enabled(), torch.empty(0).is_cpu
    return _modes_undone(inference, not on_cpu) if inference or not on_cpu else _NOTHING


@contextmanager
def _modes_undone(inference: bool, device: bool) -> Iterator[None]:
    """Undo inference mode, a default device, or both, in the block."""
    import torch

    with ExitStack() as stack:
        if inference:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        if device:
            stack.enter_context(torch.device("cpu"))
        yield


def to_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return an array as a tensor that shares its memory, and is no inference tensor.

    Args:
        array: A NumPy array of a dtype that torch has.
    """
    import torch

    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return torch.from_numpy(array)
    return torch.from_numpy(array)
