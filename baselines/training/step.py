"""One training step: gradients, their sum over processes, a check, and the optimizer's step.

`training_step` is one step, for experiments that continue to train a run. `EagerSteps` and
`GraphedSteps` take the steps of a run. On a GPU a whole step is one CUDA graph, and losses are read
many steps at a time, since to wait for the GPU in every step would leave it idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from baselines.cuda_graphs import GraphedFunction
from metaevents.distributed import ProcessGroup

_READ_EVERY = 50  # steps whose losses a GPU keeps


class NonFiniteGradient(ArithmeticError):
    """The loss or a gradient of a step is infinite or not a number.

    Attributes:
        step: How many steps of those that are read at once came before it.
    """

    def __init__(self, step: int = 0) -> None:
        super().__init__()
        self.step = step


class StepMetrics(NamedTuple):
    """Mean loss and accuracy over the samples of a step."""

    loss: float
    accuracy: float


def training_step(
    accumulate: Callable[[], tuple[Tensor, Tensor]],
    samples: int,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    group: ProcessGroup | None = None,
) -> StepMetrics:
    """Take one step of the optimizer.

    The schedule of the learning rate is left to the caller.

    Args:
        accumulate: Adds to every parameter's `grad` the gradients summed over this process's share
            of the samples; returns their summed loss [] and the summed accuracy [].
        samples: Number of samples (or tasks) of the step in all processes.
        parameters: What is trained.
        optimizer: The optimizer of the parameters.
        group: The processes that share the step; by default this process alone.

    Returns:
        Mean loss and accuracy over all samples.

    Raises:
        NonFiniteGradient: The loss or a gradient is infinite or not a number; no parameter was
            changed.
    """
    metrics = _read(_gradients(accumulate, samples, parameters, optimizer, group))
    optimizer.step()
    return metrics


def _gradients(
    accumulate: Callable[[], tuple[Tensor, Tensor]],
    samples: int,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Set the gradient of every parameter, and return what `_read` reads."""
    optimizer.zero_grad()
    loss, accuracy = accumulate()
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    sums = torch.stack([loss.float(), accuracy.float()])
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if group is not None:
        group.sum([*gradients, sums])
    for gradient in gradients:
        gradient.div_(samples)
    finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
    return torch.cat([sums / samples, finite.float()[None]])


def _read(numbers: Tensor) -> StepMetrics:
    """Return the metrics of a step, and raise NonFiniteGradient if they say so.

    Args:
        numbers: [3] loss, accuracy, and 1 if all gradients are finite.
    """
    loss, accuracy, finite = numbers.tolist()
    if not finite or not math.isfinite(loss):
        raise NonFiniteGradient
    return StepMetrics(loss, accuracy)


class Steps(Protocol):
    """Takes the steps of a run."""

    def take(self, step: int) -> list[StepMetrics]:
        """Take a step.

        Args:
            step: Its number, from 0.

        Returns:
            The metrics of the steps since those that were returned before; they may come later.

        Raises:
            NonFiniteGradient: The loss or a gradient of one of these steps is not a number.
        """
        ...

    def read(self) -> list[StepMetrics]:
        """Return the metrics that were not returned yet; raises as `take` does."""
        ...


class EagerSteps:
    """Takes steps one operation after another, and reads the metrics of each.

    Args:
        accumulate: Adds the gradients of the step with a number, as for `training_step`.
        samples: As for `training_step`.
        parameters: As for `training_step`.
        optimizer: As for `training_step`.
        group: As for `training_step`.
    """

    def __init__(
        self,
        accumulate: Callable[[int], tuple[Tensor, Tensor]],
        samples: int,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        group: ProcessGroup,
    ) -> None:
        self._accumulate, self._samples, self._group = accumulate, samples, group
        self._parameters, self._optimizer = parameters, optimizer

    def take(self, step: int) -> list[StepMetrics]:
        """See `Steps.take`."""
        metrics = training_step(
            lambda: self._accumulate(step),
            self._samples,
            self._parameters,
            self._optimizer,
            self._group,
        )
        return [metrics]

    def read(self) -> list[StepMetrics]:
        """See `Steps.read`."""
        return []


class GraphedSteps:
    """Takes steps on one GPU, each as one CUDA graph.

    After a gradient that is not a number, the steps until the next reading are lost too, so weights
    may be saved only after `read`.

    Args:
        load: Returns the samples of the step with a number, always in the same shapes.
        accumulate: Adds the gradients of such samples, as for `training_step`.
        samples: As for `training_step`.
        parameters: As for `training_step`.
        optimizer: As for `training_step`; its learning rate may change between steps.
    """

    def __init__(
        self,
        load: Callable[[int], Sequence[Tensor]],
        accumulate: Callable[..., tuple[Tensor, Tensor]],
        samples: int,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._load, self._accumulate, self._samples = load, accumulate, samples
        self._parameters, self._optimizer = parameters, optimizer
        device = parameters[0].device
        self._lr = torch.zeros((), dtype=torch.float32, device=device)
        self._metrics = torch.zeros((_READ_EVERY, 3), dtype=torch.float32, device=device)
        self._unread = 0
        self._run = GraphedFunction(self._step, "a training step")

    def take(self, step: int) -> list[StepMetrics]:
        """See `Steps.take`."""
        batch = self._load(step)
        self._lr.fill_(self._optimizer.param_groups[0]["lr"])
        (numbers,) = self._run(*batch)
        self._metrics[self._unread].copy_(numbers)
        self._unread += 1
        return self.read() if self._unread == _READ_EVERY else []

    def read(self) -> list[StepMetrics]:
        """See `Steps.read`."""
        rows = self._metrics[: self._unread].tolist() if self._unread else []
        self._unread = 0
        for step, (loss, _, finite) in enumerate(rows):
            if not finite or not math.isfinite(loss):
                raise NonFiniteGradient(step)
        return [StepMetrics(loss, accuracy) for loss, accuracy, _ in rows]

    def _step(self, *batch: Tensor) -> list[Tensor]:
        """Take a step on the GPU; this is what the graph records."""
        numbers = _gradients(
            lambda: self._accumulate(*batch), self._samples, self._parameters, self._optimizer
        )
        # In a graph, the optimizer reads the learning rate from memory.
        groups, recording = self._optimizer.param_groups, torch.cuda.is_current_stream_capturing()
        before = [(group["lr"], group.get("capturable", False)) for group in groups]
        try:
            for group in groups:
                group["lr"], group["capturable"] = self._lr, recording
            self._optimizer.step()
        finally:
            for group, (lr, capturable) in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = lr, capturable
        return [numbers]
