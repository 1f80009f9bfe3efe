"""Fixed-point weights: rounding of the weights before and after the inner loop of MAML.

`quantized` rounds the weights that a task starts from (outer). `QuantizedUpdate` rounds the weights
after each inner step (inner). Meta-weights stay in float; gradients pass straight through the
rounding to them.

The inner loop is left to `maml`; which weights are rounded, to the experiment.

Stochastic rounding draws from a generator on the device of the weights. It is reproducible only if
tasks run in a fixed order: in one batched call (`MAMLConfig.tasks_at_once`) or on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baselines.maml import InnerUpdate
from baselines.networks import Params
from metaevents.errors import UsageError

Rounding = Literal["nearest", "stochastic"]
"""The name of a rounding; see `FixedPoint.quantize`."""

Scale = float | Literal["tensor"]
"""A factor of the format's numbers, or "tensor" for one per tensor; see `FixedPoint.quantize`."""


@dataclass(frozen=True)
class FixedPoint:
    """A fixed-point format: the multiples of 2^-fraction that fit into `word` bits.

    The numbers are those of two's complement, -2^(word-1-fraction) .. 2^(word-1-fraction) -
    2^-fraction. With at most 4 bits the most negative code is left out: among so few codes, one
    more on the negative side would bias every weight.

    Attributes:
        word: Number of bits, 2 to 24.
        fraction: Number of bits behind the binary point.

    Raises:
        UsageError: `word` or `fraction` is out of range.
    """

    word: int
    fraction: int

    def __post_init__(self) -> None:
        if not (2 <= self.word <= 24 and 0 <= self.fraction < self.word):
            raise UsageError(
                f"a fixed-point format of {self.word} bits with {self.fraction} behind the point;"
                " give 2 to 24 bits, and a fraction from 0 to one less than the bits"
            )

    @property
    def symmetric(self) -> bool:
        """Whether the lowest number is minus the highest."""
        return self.word <= 4

    @property
    def step(self) -> float:
        """The distance between neighboring numbers."""
        return 1 / (1 << self.fraction)

    @property
    def highest(self) -> float:
        """The highest number."""
        return ((1 << (self.word - 1)) - 1) * self.step

    @property
    def lowest(self) -> float:
        """The lowest number."""
        return -self.highest if self.symmetric else -self.highest - self.step

    def quantize(
        self,
        x: Tensor,
        rounding: Rounding = "nearest",
        generator: torch.Generator | None = None,
        scale: Scale = 1.0,
    ) -> Tensor:
        """Return each number of a tensor rounded to this format; numbers beyond the range saturate.

        The gradient is straight-through (Bengio et al. 2013): that of the identity, to any order.
        It also passes where a number saturates, because otherwise a meta-weight beyond the range
        could never learn again. Changes of such a weight have no effect until it is back in range;
        to keep meta-weights in range, clamp them to lowest .. highest after each outer step.

        Args:
            x: Numbers of any shape.
            rounding: "nearest", with ties to the even code, or "stochastic", up or down with
                probabilities such that the mean is `x` (Gupta et al. 2015).
            generator: Draws stochastic rounding.
            scale: Factor of the format's numbers. With 1, the default and the paper's choice,
                weights beyond the range saturate: the paper's formats of 16, 8 and 4 bits end at 1
                and its 2-bit format at 0.5, and trained weights may be larger. "tensor" takes the
                smallest power of two with which no number of `x` saturates, which costs hardware a
                shift of each layer's sums. With 2 bits it rounds nearly every weight to zero; give
                a smaller factor there.

        Raises:
            UsageError: The rounding is unknown, or stochastic without a generator.
        """
        rounded = _rounding(rounding, generator)
        with torch.no_grad():
            factor = self._tensor_scale(x) if scale == "tensor" else scale
            number = (rounded(x / factor / self.step) * self.step).clamp(
                self.lowest, self.highest
            ) * factor
        return number.detach() + (x - x.detach())  # adds exactly 0

    def _tensor_scale(self, x: Tensor) -> Tensor:
        """Return the smallest power of two with which no number of `x` saturates; 1 for zeros."""
        largest = x.abs().amax()
        return torch.where(
            largest > 0, torch.exp2(torch.ceil(torch.log2(largest / self.highest))), 1.0
        )


FORMATS = (
    FixedPoint(16, 15),
    FixedPoint(8, 7),
    FixedPoint(4, 3),
    FixedPoint(3, 1),
    FixedPoint(2, 1),
)
"""The formats of Stewart and Neftci (2022), published version."""


def quantized(
    params: Params,
    format: FixedPoint,
    rounding: Rounding = "nearest",
    generator: torch.Generator | None = None,
    scale: Scale = 1.0,
) -> Params:
    """Return parameters rounded to a format, with a straight-through gradient.

    Args:
        params: Parameters by name.
        format: The format.
        rounding: See `FixedPoint.quantize`.
        generator: See `FixedPoint.quantize`.
        scale: See `FixedPoint.quantize`.

    Raises:
        UsageError: The rounding is unknown, or stochastic without a generator.
    """
    return {
        name: format.quantize(value, rounding, generator, scale) for name, value in params.items()
    }


@dataclass(frozen=True)
class QuantizedUpdate:
    """An inner update whose result is rounded to a format.

    Changes below half a step of the format vanish with "nearest"; with "stochastic" they remain in
    the mean. Parameters that do not learn in the inner loop are not rounded.

    Attributes:
        update: The inner update.
        format: The format.
        rounding: See `FixedPoint.quantize`.
        generator: See `FixedPoint.quantize`.
        scale: See `FixedPoint.quantize`.

    Raises:
        UsageError: The rounding is unknown, or stochastic without a generator.
    """

    update: InnerUpdate
    format: FixedPoint
    rounding: Rounding = "nearest"
    generator: torch.Generator | None = None
    scale: Scale = 1.0

    def __post_init__(self) -> None:
        _rounding(self.rounding, self.generator)

    def __call__(self, params: Params, gradients: Params, step: int) -> Params:
        """Return the updated, rounded parameters; see `maml.InnerUpdate`."""
        return quantized(
            self.update(params, gradients, step),
            self.format,
            self.rounding,
            self.generator,
            self.scale,
        )


def _nearest(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return `x` rounded to the nearest integers, ties to the even one."""
    return x.round()


def _stochastic(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return `x` rounded up or down at random to integers whose mean is `x`."""
    # The noise is compared with the exact remainder and not added to x: in float, the sum would
    # sometimes round up a number that is an integer already.
    down = x.floor()
    return down + (
        torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) < x - down
    )


_ROUNDINGS: Mapping[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {
    "nearest": _nearest,
    "stochastic": _stochastic,
}


def _rounding(name: str, generator: torch.Generator | None) -> Callable[[Tensor], Tensor]:
    """Return the rounding to integers; UsageError if it is unknown or lacks its generator."""
    if name not in _ROUNDINGS:
        raise UsageError(f"rounding={name!r}; choose one of {', '.join(_ROUNDINGS)}")
    if name == "stochastic" and generator is None:
        raise UsageError(
            "stochastic rounding needs a generator; give a torch.Generator on the weights' device"
        )
    return lambda x: _ROUNDINGS[name](x, generator)
