"""One training step: gradients, their sum over processes, a check, and the optimizer's step.

Used by training runs and by the experiments that continue to train a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaevents.distributed import ProcessGroup


class NonFiniteGradient(ArithmeticError):
    """The loss or a gradient of a step is infinite or not a number; no parameter was changed."""


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
        NonFiniteGradient: The loss or a gradient is infinite or not a number.
    """
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
    metrics = StepMetrics(*(sums / samples).tolist())
    if not math.isfinite(metrics.loss) or not all(
        bool(gradient.isfinite().all()) for gradient in gradients
    ):
        raise NonFiniteGradient
    optimizer.step()
    return metrics
