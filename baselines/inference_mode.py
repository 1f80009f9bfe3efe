"""Learning inside `torch.inference_mode()`.

Learners compute gradients, also when they are only evaluated. Inference mode records none, and
tensors that were made in it cannot take part in a gradient later. So every entry to a learner
leaves the mode, and copies such tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def leaves_inference_mode(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that runs outside of inference mode, whatever the caller's mode is.

    Args:
        function: The function. Under `torch.no_grad()` it runs as it is.
    """

    @wraps(function)
    def call(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        if not torch.is_inference_mode_enabled():
            return function(*args, **options)
        with torch.inference_mode(False):
            return function(*args, **options)

    return call


def ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor that can take part in gradients: a copy if it was made in inference mode.

    Args:
        tensor: Any tensor.
    """
    return tensor.clone() if tensor.is_inference() else tensor
