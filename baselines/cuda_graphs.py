"""Functions of tensors that a GPU repeats as one CUDA graph.

A training step of a small network is hundreds of short kernels, and to launch them takes longer
than to run them. A CUDA graph is recorded once and launched as a whole. So a function is recorded
with fixed memory for its inputs and outputs, and every later call copies its inputs there.

A graph repeats what the GPU did when it was recorded. A function whose Python code does something
else in later calls must not be recorded. Where recording is not possible, the function runs as it
is, and one line of the log says why.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from metaevents.untrusted import describe

logger = logging.getLogger(__name__)

Function = Callable[..., Sequence[Tensor]]
"""Tensors -> tensors. It may change tensors that outlive the call, such as parameters."""

WARM_UP = 3
"""Calls before the recording. torch's documentation asks for them: libraries choose kernels and
take memory in the first ones."""

_MAX_GRAPHS = 8  # that one `GraphCache` keeps; each has memory of its own


class GraphedFunction:
    """A function of tensors on one GPU, whose calls after the first three replay a CUDA graph.

    All calls must have inputs of the same shapes and dtypes. The outputs of a call are valid until
    the next call. On any other device the function just runs.

    Args:
        function: Must not wait for the GPU, and must do the same in every call.
        name: What it does, for the log.

    Attributes:
        graphed: Whether a graph was recorded.
    """

    def __init__(self, function: Function, name: str) -> None:
        self._function, self._name = function, name
        self._calls = 0
        self._possible = True
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None
        self._inputs: list[Tensor] = []
        self._outputs: Sequence[Tensor] = ()

    @property
    def graphed(self) -> bool:
        """Whether a graph was recorded."""
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Return what the function returns for some tensors."""
        device = inputs[0].device
        if device.type != "cuda" or not self._possible:
            return self._function(*inputs)
        with torch.cuda.device(device):
            if self._stream is None:
                self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            if self._calls < WARM_UP:
                self._calls += 1
                return self._run_aside(self._stream, inputs)
            if self._graph is None and not self._record(self._stream, inputs):
                return self._function(*inputs)
            for place, value in zip(self._inputs, inputs, strict=True):
                place.copy_(value)
            assert self._graph is not None
            self._graph.replay()
            return self._outputs

    def _run_aside(self, stream: torch.cuda.Stream, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run the function on the stream that will record it."""
        current = torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            outputs = self._function(*inputs)
        current.wait_stream(stream)
        return outputs

    def _record(self, stream: torch.cuda.Stream, inputs: Sequence[Tensor]) -> bool:
        """Record a graph; return False where that is not possible."""
        graph = torch.cuda.CUDAGraph()
        self._inputs = [value.clone() for value in inputs]
        try:
            # Other threads may use the GPU meanwhile, such as one that pins memory.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._outputs = self._function(*self._inputs)
        except RuntimeError as error:
            torch.cuda.synchronize()
            self._possible, self._inputs, self._outputs = False, [], ()
            logger.info(
                "%s runs without a CUDA graph, and so slower: %s", self._name, describe(error)
            )
            return False
        self._graph = graph
        return True


class GraphCache:
    """The graphed functions of one object, by key; the least recently used ones are dropped.

    Copies of the object start with none: a graph belongs to the memory that it was recorded with.
    """

    def __init__(self) -> None:
        self._functions: OrderedDict[Hashable, GraphedFunction] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Function], name: str) -> GraphedFunction:
        """Return the graphed function of a key.

        Args:
            key: Whatever the function depends on beside the values of its inputs.
            make: Returns the function, for a new key.
            name: What it does, for the log.
        """
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = GraphedFunction(make(), name)
            while len(self._functions) > _MAX_GRAPHS:
                self._functions.popitem(last=False)
        self._functions.move_to_end(key)
        return function

    def __deepcopy__(self, memo: object) -> GraphCache:
        return GraphCache()

    def __reduce__(self) -> tuple[type[GraphCache], tuple[()]]:
        return GraphCache, ()


def graphs_possible(device: torch.device) -> bool:
    """Whether functions on a device can be recorded, as far as can be known before.

    Casts that autocast keeps must not be in a graph, because it releases them later.
    """
    if device.type != "cuda":
        return False
    return not (torch.is_autocast_enabled("cuda") and torch.is_autocast_cache_enabled())


def form(*tensors: Tensor) -> Hashable:
    """Return what a graph fixes of its inputs: shapes, dtypes and devices."""
    return tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)


def places(module: torch.nn.Module) -> Hashable:
    """Return where the parameters and constants of a module lie in memory, which a graph fixes."""
    tensors = (*module.parameters(), *module.buffers())
    return tuple((tensor.data_ptr(), tensor.shape) for tensor in tensors)
