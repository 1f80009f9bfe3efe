"""Plasticity rules of neuromorphic hardware, for the inner loop of MAML.

A rule is an inner loss (`SOEL`), an inner update (`DeviceUpdate`, `ThresholdedUpdate`, or any
function of parameters, gradients and step), or feedback alignment of the network. `RULES` holds the
rules by name. All of them are differentiable, so a network can be meta-trained through the rule by
which it will learn.

The inner loop itself is in `maml`, fixed-point weights are in `quantization`.

Noise comes from a generator on the device of the weights. It is reproducible only if tasks run in a
fixed order: in one batched call (`MAMLConfig.tasks_at_once`) or on one thread.
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
    """SOEL, surrogate online error-triggered learning, as an inner loss for `layers="head"`.

    See Stewart et al. (2020) and Payvand et al. (2020). Its value is the cross-entropy of logits u
    [n, ways] with labels [n]. Its gradient by u is the mean over samples of the error softmax(u) -
    onehot, in which components below `threshold` in magnitude are set to zero: they trigger no
    update. The weights of the last layer thus change by the error times the presynaptic trace P.
    Both are available on a chip. The third factor, the slope of the output neuron, is 1 for a
    membrane that is read directly.

    If output neurons are refractory (`Neuron.refractory_weight`), the gradient includes that path.

    Attributes:
        threshold: Smallest error that triggers an update, between 0 (plain cross-entropy) and 1.

    Raises:
        UsageError: The threshold is not between 0 and 1.
    """

    threshold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(
                f"threshold={self.threshold}; an error is a difference of probabilities, so give a"
                " number between 0 and 1"
            )

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits [n, ways] with labels [n], a scalar."""
        loss: Tensor = _ErrorTriggered.apply(logits, labels, self.threshold)  # type: ignore[no-untyped-call]
        return loss


class _ErrorTriggered(Function):
    """Cross-entropy with the thresholded error as its gradient.

    No function has that gradient (its Jacobian is not symmetric), so it is defined here. It
    consists of differentiable operations: a meta-gradient sees how the errors depend on the logits,
    with a slope of zero below the threshold.
    """

    @staticmethod
    def forward(logits: Tensor, labels: Tensor, threshold: float) -> Tensor:
        return cross_entropy(logits, labels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        logits, labels, ctx.threshold = inputs
        ctx.save_for_backward(logits, labels)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None]:
        logits, labels = ctx.saved_tensors
        error = logits.softmax(-1) - one_hot(labels, logits.shape[-1])
        triggered = torch.where(error.abs() >= ctx.threshold, error, 0)
        return grad_loss * triggered / len(logits), None, None


@dataclass(frozen=True)
class DeviceUpdate:
    """Gradient descent as memory devices write it: soft-bounded, asymmetric and noisy.

    Each pulse moves a weight by a fraction of its distance to the bound (soft bounds: Fusi and
    Abbott 2007; devices: Burr et al. 2017). The wanted change dw = -lr * gradient sets the number
    of small pulses. With h half the range, they change a weight w by

        (high - w) (1 - exp(-potentiation dw / h))       if dw > 0
        (low - w) (1 - exp(-depression |dw| / h))        if dw < 0

    In the middle of the range, with both factors 1, a small step thus equals that of gradient
    descent.

    Attributes:
        lr: Learning rate.
        low: Lower bound of the weights.
        high: Upper bound of the weights. The paper's networks reach magnitudes of 1.3 after
            `lsuv_init`. A weight that starts beyond a bound can move towards it, never further
            away.
        potentiation: Strength of the response to pulses up.
        depression: Strength of the response to pulses down.
        step_noise: Standard deviation of each step, as a share of the step.
        write_noise: Standard deviation of each written weight, in units of weights. A weight with
            zero gradient is not written.
        generator: Draws the noise; it must be on the device of the weights.

    Raises:
        UsageError: `low` is not below `high`, a number is negative, or noise has no generator.
    """

    lr: float
    low: float = -2.0
    high: float = 2.0
    potentiation: float = 1.0
    depression: float = 1.0
    step_noise: float = 0.0
    write_noise: float = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise UsageError(f"low={self.low}, high={self.high}; give low below high")
        if min(self.lr, self.potentiation, self.depression) < 0:
            raise UsageError(
                f"lr={self.lr}, potentiation={self.potentiation}, depression={self.depression}; a"
                " negative one would climb the loss, so give numbers of at least 0"
            )
        if (self.step_noise or self.write_noise) and self.generator is None:
            raise UsageError(
                "a noisy device needs a generator; give a torch.Generator on the weights' device"
            )

    def __call__(self, params: Params, gradients: Params, step: int) -> Params:
        """Return the written parameters; see `maml.InnerUpdate`."""
        return {
            name: self._write(value, -self.lr * gradients[name]) for name, value in params.items()
        }

    def _write(self, weight: Tensor, change: Tensor) -> Tensor:
        """Return the weight after pulses for a wanted change."""
        up = change > 0
        pulses = (
            torch.where(up, self.potentiation * change, -self.depression * change)
            * 2
            / (self.high - self.low)
        )
        distance = torch.where(
            up, (self.high - weight).clamp(min=0), (self.low - weight).clamp(max=0)
        )
        step = distance * -torch.expm1(-pulses)
        if self.step_noise:
            step = step * (1 + self.step_noise * self._normal(weight))
        if self.write_noise:
            step = step + self.write_noise * torch.where(change != 0, self._normal(weight), 0)
        return (weight + step).clamp(weight.clamp(max=self.low), weight.clamp(min=self.high))

    def _normal(self, like: Tensor) -> Tensor:
        """Return standard normal noise in the shape of a tensor."""
        return torch.randn(
            like.shape, generator=self.generator, dtype=like.dtype, device=like.device
        )


@dataclass(frozen=True)
class ThresholdedUpdate:
    """An inner update that is applied only where it changes a weight enough.

    This is Eq. 6 of Stewart and Neftci (2022). A change is applied if its magnitude exceeds `share`
    of the range of magnitudes (largest minus smallest) in the parameter tensor.

    Attributes:
        update: The inner update.
        share: Threshold as a share of the range; 0.05 in the paper.
    """

    update: InnerUpdate
    share: float = 0.05

    def __call__(self, params: Params, gradients: Params, step: int) -> Params:
        """Return the parameters with the large changes applied; see `maml.InnerUpdate`."""
        after = self.update(params, gradients, step)
        return {name: self._threshold(value, after[name]) for name, value in params.items()}

    def _threshold(self, before: Tensor, after: Tensor) -> Tensor:
        """Return `after` where the change is large enough, else `before`."""
        magnitude = (after - before).detach().abs()
        return torch.where(
            magnitude > self.share * (magnitude.amax() - magnitude.amin()), after, before
        )


@dataclass(frozen=True)
class Rule:
    """A plasticity rule as options of `MAML`; the defaults are plain gradient descent.

    Attributes:
        update: Makes the inner update from the inner learning rate and a generator.
        loss: The inner loss.
        layers: Replaces `MAMLConfig.layers`.
        align: Propagate errors through fixed random feedback (feedback alignment, Lillicrap et al.
            2016).
        direct: Bring the output error to every layer through random feedback (direct feedback
            alignment, Nokland 2016), which is "fixed" or "learned" by meta-training.
    """

    update: Callable[[float, torch.Generator], InnerUpdate] | None = None
    loss: Loss | None = None
    layers: Literal["all", "head", "body"] | int | None = None
    align: bool = False
    direct: Literal["fixed", "learned"] | None = None

    def maml(
        self, net: SpikingNet | ConvNet, config: MAMLConfig, generator: torch.Generator
    ) -> MAML:
        """Return a meta-learner that learns by this rule.

        Args:
            net: The network. If `align` or `direct` is set, it gains feedback.
            config: The other options of the inner loop.
            generator: Draws feedback and noise.

        Raises:
            UsageError: The rule has an inner update and `config.learn_inner_lrs` is set.
        """
        if self.align:
            net.align(generator)
        if self.direct is not None:
            net.align_directly(generator, learned=self.direct == "learned")
        if self.layers is not None:
            config = replace(config, layers=self.layers)
        update = None if self.update is None else self.update(config.inner_lr, generator)
        return MAML(net, config, update, self.loss)


def _device(lr: float, generator: torch.Generator) -> DeviceUpdate:
    """Return a noisy, asymmetric device; its constants are round numbers, not those of a device."""
    return DeviceUpdate(lr, depression=0.5, step_noise=0.3, generator=generator)


def _thresholded(lr: float, generator: torch.Generator) -> ThresholdedUpdate:
    """Return thresholded gradient descent."""
    return ThresholdedUpdate(sgd(lr))


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "gradient": Rule(),
        "soel": Rule(loss=SOEL(), layers="head"),
        "device": Rule(update=_device),
        "thresholded": Rule(update=_thresholded),
        "feedback-alignment": Rule(align=True),
        "direct-feedback": Rule(direct="fixed"),
        "learned-direct-feedback": Rule(direct="learned"),
    }
)
"""The rules by name."""
