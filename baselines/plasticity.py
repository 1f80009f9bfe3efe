"""Approximate plasticity: what takes the place of exact gradient descent in the inner loop on neuromorphic hardware.

A rule is an inner loss (`SOEL`), an inner update (`DeviceUpdate`, `ThresholdedUpdate`, any function of parameters,
gradients and step) or feedback alignment of the network; `RULES` names how each goes into `MAML`. All of them can be
differentiated, so a network can be meta-trained through the rule that it will learn by. The inner loop itself is for
`maml`, fixed-point weights are for `quantize`.

Noise is drawn from the generator given, which lives on the device of the weights. It comes again in the same order only
where tasks run in one order: as one (`MAMLConfig.tasks_at_once`) or on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import cross_entropy, one_hot

from baselines.maml import MAML, InnerUpdate, Loss, MAMLConfig, sgd
from baselines.networks import ConvNet, Params, SpikingNet
from metaevents.errors import UsageError


@dataclass(frozen=True)
class SOEL:
    """Error-triggered learning (Stewart et al. 2020; Payvand et al. 2020) as an inner loss, for `layers="head"`.

    Its value is the cross-entropy of logits u [n, ways] with labels [n]. Its gradient by u is the mean over samples of the
    error softmax(u) - onehot, without the components below `threshold` in magnitude (between 0, plain cross-entropy, and 1): they
    trigger no update. The weights of the last layer thus change by error times presynaptic trace P, two factors that a
    chip has at hand; the third, a slope of the output neuron, is 1 for a membrane that is read directly.

    An output neuron that pulls itself back after a spike (`Neuron.refractory_weight`) adds that path to the gradient.
    """

    threshold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(
                f"SOEL was given a threshold of {self.threshold}; errors of a probability lie between 0 and 1: give one there."
            )

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = _ErrorTriggered.apply(logits, labels, self.threshold)  # type: ignore[no-untyped-call]
        return loss


class _ErrorTriggered(Function):
    # No function has the thresholded error as its gradient (the Jacobian is not symmetric), so the rule is given as one. It
    # is made of differentiable steps: a meta-gradient sees how errors depend on logits, with the silent ones silent.
    @staticmethod
    def forward(logits: Tensor, labels: Tensor, threshold: float) -> Tensor:
        return cross_entropy(logits, labels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        logits, labels, ctx.threshold = inputs
        ctx.save_for_backward(logits, labels)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, labels = ctx.saved_tensors
        error = logits.softmax(-1) - one_hot(labels, logits.shape[-1])
        triggered = torch.where(error.abs() >= ctx.threshold, error, 0)
        return gradient * triggered / len(logits), None, None


@dataclass(frozen=True)
class DeviceUpdate:
    """Gradient descent as memory devices write it: soft-bounded, asymmetric and noisy.

    Each pulse moves a weight by a share of the way left to its bound (soft bounds: Fusi and Abbott 2007; devices: Burr et
    al. 2017). As many small pulses as the wanted change dw = -rate * gradient asks for move it, with h half the range, by

        (high - w) (1 - exp(-potentiation dw / h))       where dw > 0
        (low - w) (1 - exp(-depression |dw| / h))        where dw < 0

    so in the middle of the range, with both factors 1, a small step is that of gradient descent.

    low, high: the bounds, in units of weights; those of the paper's networks after `initialize` reach 1.3. A weight that
        starts beyond a bound can be pulled in, never further out.
    potentiation, depression: how strongly a device answers to pulses up and down.
    step_noise: deviation of each step, as a share of the step.
    write_noise: deviation of each written weight, in units of weights. A weight with no gradient is not written.
    """

    rate: float
    low: float = -2.0
    high: float = 2.0
    potentiation: float = 1.0
    depression: float = 1.0
    step_noise: float = 0.0
    write_noise: float = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise UsageError(
                f"A device was given bounds {self.low} .. {self.high}; give low below high."
            )
        if min(self.rate, self.potentiation, self.depression) < 0:
            raise UsageError(
                "A device with a negative rate, potentiation or depression would climb the loss; give positive ones."
            )
        if (self.step_noise or self.write_noise) and self.generator is None:
            raise UsageError(
                "A noisy device was given no generator; give a torch.Generator on the weights' device."
            )

    def __call__(self, params: Params, gradients: Params, step: int) -> Params:
        return {
            name: self._written(value, -self.rate * gradients[name])
            for name, value in params.items()
        }

    def _written(self, weight: Tensor, change: Tensor) -> Tensor:
        up = change > 0
        pulses = (
            torch.where(up, self.potentiation * change, -self.depression * change)
            * 2
            / (self.high - self.low)
        )
        room = torch.where(up, (self.high - weight).clamp(min=0), (self.low - weight).clamp(max=0))
        step = room * -torch.expm1(-pulses)
        if self.step_noise:
            step = step * (1 + self.step_noise * self._normal(weight))
        if self.write_noise:
            step = step + self.write_noise * torch.where(change != 0, self._normal(weight), 0)
        return (weight + step).clamp(weight.clamp(max=self.low), weight.clamp(min=self.high))

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(
            like.shape, generator=self.generator, dtype=like.dtype, device=like.device
        )


@dataclass(frozen=True)
class ThresholdedUpdate:
    """The inner update `update`, written only where it changes a weight enough (Stewart and Neftci 2022, Eq. 6).

    Enough is more than `share` of the range of the magnitudes of change, largest less smallest, of the parameter tensor.
    """

    update: InnerUpdate
    share: float = 0.05

    def __call__(self, params: Params, gradients: Params, step: int) -> Params:
        after = self.update(params, gradients, step)
        return {name: self._large(value, after[name]) for name, value in params.items()}

    def _large(self, before: Tensor, after: Tensor) -> Tensor:
        magnitude = (after - before).detach().abs()
        return torch.where(
            magnitude > self.share * (magnitude.amax() - magnitude.amin()), after, before
        )


@dataclass(frozen=True)
class Rule:
    """How a plasticity rule goes into `MAML`; what is left out is plain gradient descent's.

    update: the inner update, made from the inner rate and a generator.
    loss: the inner loss.
    layers: what learns, in place of the configuration's.
    align: whether errors go down through fixed random feedback (feedback alignment, Lillicrap et al. 2016).
    """

    update: Callable[[float, torch.Generator], InnerUpdate] | None = None
    loss: Loss | None = None
    layers: Literal["all", "head", "body"] | int | None = None
    align: bool = False

    def maml(
        self, net: SpikingNet | ConvNet, config: MAMLConfig, generator: torch.Generator
    ) -> MAML:
        """`net` learning by this rule under `config`; `generator` draws feedback and noise. Aligning changes `net`."""
        if self.align:
            net.align(generator)
        if self.layers is not None:
            config = replace(config, layers=self.layers)
        update = None if self.update is None else self.update(config.inner_lr, generator)
        return MAML(net, config, update, self.loss)


def _device(rate: float, generator: torch.Generator) -> DeviceUpdate:
    # Round numbers, not one device's data sheet: half the answer to pulses down, a third of a step's size as noise.
    return DeviceUpdate(rate, depression=0.5, step_noise=0.3, generator=generator)


def _thresholded(rate: float, generator: torch.Generator) -> ThresholdedUpdate:
    return ThresholdedUpdate(sgd(rate))


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "gradient": Rule(),
        "soel": Rule(loss=SOEL(), layers="head"),
        "device": Rule(update=_device),
        "thresholded": Rule(update=_thresholded),
        "feedback-alignment": Rule(align=True),
    }
)
"""The rules by name."""
