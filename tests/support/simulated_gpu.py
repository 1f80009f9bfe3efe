"""A GPU that is simulated on the CPU, for tests of what goes wrong on a GPU alone.

Within `simulated_gpu()`, torch has one CUDA device. Its tensors hold their values in main memory
and say that they are on "cuda:0". As on a GPU, an operation on tensors of two devices fails, and so
does one that draws from a generator of another device, or `torch.cuda.set_device` without a number.
Reading a value is counted, since on a GPU it waits.

A CUDA graph is simulated too: while it is recorded, the operations are listed and nothing is
changed, and a replay runs the list again in the same memory. So a Python number that should have
been read from memory stays what it was. Triton is not simulated; the loops take its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from baselines.snn import autograd
from metaevents import device_frames

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
NAME = torch.device("meta", 7)  # a number that nothing else uses

_reads: list[str] = []

_recording: list[SimulatedGraph] = []
"""The graph that is being recorded, if there is one."""


class SimulatedGraph:
    """In place of `torch.cuda.CUDAGraph`.

    Attributes:
        calls: Operations with their arguments and results, whose tensors hold the values.
        undo: Tensors that the recording changed, and what they were before.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.undo: list[tuple[Tensor, Tensor]] = []

    def replay(self) -> None:
        """Run all operations again, in the memory of the recording."""
        with torch.no_grad(), _disable_current_modes():
            for func, args, kwargs, outputs in self.calls:
                again, _ = tree_flatten(func(*args, **kwargs))
                before, _ = tree_flatten(outputs)
                for new, old in zip(again, before, strict=True):
                    if isinstance(new, Tensor) and new.data_ptr() != old.data_ptr():
                        old.copy_(new)

    def restore(self) -> None:
        """Undo what the recording changed: on a GPU, recording runs nothing."""
        with torch.no_grad(), _disable_current_modes():
            for tensor, before in reversed(self.undo):
                tensor.copy_(before)
        self.undo.clear()


@contextmanager
def _record(graph: SimulatedGraph, **options: Any) -> Iterator[None]:
    """In place of `torch.cuda.graph`."""
    _recording.append(graph)
    try:
        yield
    finally:
        _recording.pop()
        graph.restore()


class _Stream:
    """In place of `torch.cuda.Stream`."""

    def __init__(self, device: object = None) -> None: ...

    def wait_stream(self, other: _Stream) -> None:
        """Do nothing: all work is in order."""


_STREAM = _Stream()


class GpuTensor(Tensor):
    """A tensor on the simulated GPU.

    torch's own code sees a tensor on its "meta" device, which needs no GPU and holds no values.

    Attributes:
        values: The values, on the CPU.
    """

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> GpuTensor:
        made: GpuTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=NAME,
            requires_grad=False,
        )
        made.values = values
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        _read("tolist")
        return self.values.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{self.values!r} on {GPU}"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Gpu(TorchDispatchMode):
    """Sends operations that name the GPU, or have a tensor there, to `_run`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Renamed(TorchFunctionMode):
    """Renames the GPU to "meta" in the arguments of torch's functions: a CPU build knows no GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))

        def rename(each: Any) -> Any:
            if isinstance(each, torch.device) and each.type == "cuda":
                return NAME
            if isinstance(each, str) and (each == "cuda" or each.startswith("cuda:")):
                return NAME
            return each

        kwargs = {name: rename(value) for name, value in (kwargs or {}).items()}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == NAME:
            del kwargs["device"]  # these make the tensor outside of all modes
            return func(*args, **kwargs).to(NAME)
        return func(*map(rename, args), **kwargs)


# Operations whose operands may be on two devices.
_CROSSING = ("copy_", "_to_copy", "to")


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the values, and place its results."""
    name = func.overloadpacket.__name__
    flat, _ = tree_flatten((args, kwargs))
    tensors = [each for each in flat if isinstance(each, Tensor)]
    on_gpu = [each for each in tensors if isinstance(each, GpuTensor)]
    wanted = kwargs.get("device")
    wanted = None if wanted is None else torch.device(wanted)
    if not on_gpu and (wanted is None or wanted != NAME):
        return func(*args, **kwargs)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu" and on_gpu:
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if on_gpu and name not in _CROSSING:
        foreign = [each for each in tensors if not isinstance(each, GpuTensor) and each.dim()]
        if foreign:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, "
                f"cuda:0 and {foreign[0].device}! (when checking {name})"
            )
    if name in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero"):
        _read(name)
    if name == "is_pinned":
        return False
    plain_args, plain_kwargs = tree_map(
        lambda each: each.values if isinstance(each, GpuTensor) else each, (args, kwargs)
    )
    if wanted is not None:
        plain_kwargs["device"] = CPU if wanted == NAME else wanted
    if plain_kwargs.get("pin_memory"):
        plain_kwargs["pin_memory"] = False
    graph = _recording[-1] if _recording else None
    if graph is not None:
        graph.undo += _changed(func, plain_args, plain_kwargs)
    outputs = func(*plain_args, **plain_kwargs)
    if graph is not None:
        graph.calls.append((func, plain_args, plain_kwargs, outputs))
    target_is_gpu = wanted == NAME if wanted is not None else bool(on_gpu)
    if name in ("copy_",):
        target_is_gpu = isinstance(args[0], GpuTensor)
        if not target_is_gpu:
            _read(name)
    if wanted is not None and not target_is_gpu:
        _read(name)
    if not target_is_gpu:
        return outputs if name != "copy_" else args[0]
    # In-place and out= operations return their own argument.
    own = {id(each.values): each for each in on_gpu}

    def place(each: Any) -> Any:
        if not isinstance(each, Tensor):
            return each
        found = own.get(id(each))
        return GpuTensor(each) if found is None else found

    return tree_map(place, outputs)


def _read(name: str) -> None:
    """Count an operation that waits for the GPU; a recording refuses it."""
    if _recording:
        raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
    _reads.append(name)


def _changed(func: Any, args: Any, kwargs: Any) -> list[tuple[Tensor, Tensor]]:
    """Return the tensors that an operation will change, and copies of them."""
    given = [
        *zip(func._schema.arguments, args, strict=False),
        *((each, kwargs[each.name]) for each in func._schema.arguments if each.name in kwargs),
    ]
    changed = [
        tensor
        for argument, value in given
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in tree_flatten(value)[0]
        if isinstance(tensor, Tensor)
    ]
    return [(tensor, tensor.clone()) for tensor in changed]


@contextmanager
def simulated_gpu() -> Iterator[list[str]]:
    """Give torch a simulated GPU within the block.

    Yields:
        The names of the operations that read values from the GPU, which grows.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "_lazy_init": lambda: None,
            "is_current_stream_capturing": lambda: bool(_recording),
            "CUDAGraph": SimulatedGraph,
            "graph": _record,
            "Stream": _Stream,
            "current_stream": lambda *_: _STREAM,
            "stream": nullcontext,
            "device": nullcontext,
            "reset_peak_memory_stats": lambda *_: None,
            "max_memory_allocated": lambda *_: 0,
            "memory_allocated": lambda *_: 0,
            "get_device_capability": lambda *_: (9, 0),
            "empty_cache": lambda: None,
            "synchronize": lambda *_: None,
            "set_device": _set_device,
        }.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(Tensor, "pin_memory", lambda self, *_: self)
        # Under vmap a tensor names its device as torch's own code sees it.
        autocast = torch.is_autocast_enabled
        patch.setattr(
            torch, "is_autocast_enabled", lambda device: device != "meta" and autocast(device)
        )
        patch.setattr(autograd, "_gpu_kernels", lambda: None)
        patch.setattr(device_frames, "_kernels", lambda _: None)
        _reads.clear()
        with _Gpu(), _Renamed():
            yield _reads


def _set_device(device: Any) -> None:
    """Refuse a device without a number, as torch does."""
    if not isinstance(device, int) and torch.device(device).index is None:
        raise ValueError(
            f"Expected a torch.device with a specified index or an integer, got {device}"
        )
