"""Weights in fixed point: what few-shot learning keeps when they have 16, 8, 4, 3 or 2 bits.

`quantized` rounds the weights that a task starts from (outer), `QuantizedUpdate` those that an inner step leaves (inner).
Meta-weights stay in float: both are functions of them, with a straight-through gradient. How the weights learn is for `maml`,
which of the two an experiment wants is for the experiment.

A stochastic rounding draws from the generator it is given, which lives on the device of the weights. Its draws come again in
the same order only where tasks run in one order: as one (`MAMLConfig.tasks_at_once`) or on one thread.
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


@dataclass(frozen=True)
class FixedPoint:
    """Numbers of `word` bits, `fraction` of them behind the binary point: the multiples of 2^-fraction that fit.

    Two's complement, -2^(word-1-fraction) .. 2^(word-1-fraction) - 2^-fraction. From 4 bits down the most negative code is
    left out: among so few, one more on the negative side would bias every weight.
    """

    word: int
    fraction: int

    def __post_init__(self) -> None:
        if not (2 <= self.word <= 24 and 0 <= self.fraction < self.word):
            raise UsageError(
                f"A fixed-point format of {self.word} bits with {self.fraction} behind the point was asked for; give 2 to 24"
                " bits and a fraction from 0 to one less."
            )

    @property
    def symmetric(self) -> bool:
        return self.word <= 4

    @property
    def step(self) -> float:
        """The distance of two neighbors."""
        return 1 / (1 << self.fraction)

    @property
    def highest(self) -> float:
        return ((1 << (self.word - 1)) - 1) * self.step

    @property
    def lowest(self) -> float:
        return -self.highest if self.symmetric else -self.highest - self.step

    def quantize(
        self,
        x: Tensor,
        rounding: Rounding = "nearest",
        generator: torch.Generator | None = None,
        scale: Scale = 1.0,
    ) -> Tensor:
        """The number of this format for each number of `x`, any shape; what lies beyond the range saturates.

        rounding: "nearest", ties to the even code, or "stochastic", up or down with the odds at which the mean is x
            (Gupta et al. 2015); that needs a `generator`.
        scale: what the format's numbers are multiplied by. The paper's formats of 16, 8 and 4 bits end at 1, the 2-bit one at
            0.5, and trained weights need not: with scale 1, the default and the paper's way, larger ones saturate.
            "tensor" takes the smallest power of two that lets the largest magnitude of x in, so that none does; hardware
            pays a shift of a layer's sums. With 2 bits that leaves nearly every weight at zero; give a smaller one there.

        The gradient is straight-through (Bengio et al. 2013): that of the identity, to any order. It passes where x saturates
        too, for a meta-weight beyond the range would otherwise never learn again. What it then learns shows only once it is
        back in: to keep meta-weights near, clamp them to lowest .. highest after each outer step.
        """
        rounded = _rounding(rounding, generator)
        with torch.no_grad():
            factor = self._fit(x) if scale == "tensor" else scale
            number = (rounded(x / factor / self.step) * self.step).clamp(
                self.lowest, self.highest
            ) * factor
        return number.detach() + (x - x.detach())  # adds exactly 0

    def _fit(self, x: Tensor) -> Tensor:
        largest = x.abs().amax()
        return torch.where(
            largest > 0, torch.exp2(torch.ceil(torch.log2(largest / self.highest))), 1.0
        )


def quantized(
    params: Params,
    format: FixedPoint,
    rounding: Rounding = "nearest",
    generator: torch.Generator | None = None,
    scale: Scale = 1.0,
) -> Params:
    """`params`, each in `format` (see `FixedPoint.quantize`): the weights that a task starts from.

    Differentiable by `params`: meta-training through it moves the float weights behind.
    """
    return {
        name: format.quantize(value, rounding, generator, scale) for name, value in params.items()
    }


@dataclass(frozen=True)
class QuantizedUpdate:
    """The inner update `update`, with its result in `format` (see `FixedPoint.quantize`).

    Changes below half a step of the format vanish under "nearest"; under "stochastic" they survive in the mean. Parameters that
    do not learn in the inner loop are left as they are.
    """

    update: InnerUpdate
    format: FixedPoint
    rounding: Rounding = "nearest"
    generator: torch.Generator | None = None
    scale: Scale = 1.0

    def __post_init__(self) -> None:
        _rounding(self.rounding, self.generator)

    def __call__(self, params: Params, gradients: Params, step: int) -> Params:
        return quantized(
            self.update(params, gradients, step),
            self.format,
            self.rounding,
            self.generator,
            self.scale,
        )


Rounding = Literal["nearest", "stochastic"]

Scale = float | Literal["tensor"]

FORMATS = (
    FixedPoint(16, 15),
    FixedPoint(8, 7),
    FixedPoint(4, 3),
    FixedPoint(3, 1),
    FixedPoint(2, 1),
)
"""The formats of the paper's published version."""


def _nearest(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return x.round()


def _stochastic(x: Tensor, generator: torch.Generator | None) -> Tensor:
    # Compared with the exact rest, not added to x: in float the sum would now and then round a code up that needs no rounding.
    down = x.floor()
    return down + (
        torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) < x - down
    )


_ROUNDINGS: Mapping[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {
    "nearest": _nearest,
    "stochastic": _stochastic,
}


def _rounding(name: str, generator: torch.Generator | None) -> Callable[[Tensor], Tensor]:
    if name not in _ROUNDINGS:
        raise UsageError(f"Rounding {name!r} is unknown; give one of {', '.join(_ROUNDINGS)}.")
    if name == "stochastic" and generator is None:
        raise UsageError(
            "Stochastic rounding was given no generator; give a torch.Generator on the weights' device."
        )
    return lambda x: _ROUNDINGS[name](x, generator)
