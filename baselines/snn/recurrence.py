"""The recursions over time of spiking layers, and their gradients, as loops over time.

Each neuron's recursion is independent of the others. Sequences are [T, ...], states [...]. The
loops run on any device and with any surrogate; `recurrence_triton` has the same five functions as
GPU kernels. `autograd` makes them differentiable.
"""

# Not postponed by `from __future__`: pdoc cannot resolve string annotations of a NamedTuple.

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Elementwise = Callable[[Tensor], Tensor]
"""A function of each element by itself: the result has the shape and dtype of the argument."""


class Surrogate(NamedTuple):
    """A threshold and its surrogate derivative.

    Attributes:
        step: The threshold; `step(u, out)` writes its values to `out` and returns `out`.
        slope: Stands in for the derivative of `step`.
        curvature: The derivative of `slope`.
        steepness: s of a threshold at 0 with the slope 1 / (s |u| + 1)^2, the only ones that GPU
            kernels support; None for any other.
    """

    step: Callable[[Tensor, Tensor], Tensor]
    slope: Elementwise
    curvature: Elementwise
    steepness: float | None = None


class Recurrence(Protocol):
    """The interface of this module and of `recurrence_triton`; the functions below describe it."""

    def synapse(
        self, spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor]:
        """See `synapse` of this module."""

    def synapse_adjoint(
        self, grad_potentials: Tensor, grad_last: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `synapse_adjoint` of this module."""

    def refractory(
        self, v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        """See `refractory` of this module."""

    def refractory_adjoint(
        self,
        grad_u: Tensor,
        grad_last: Tensor,
        u: Tensor,
        decay: float,
        weight: float,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor]:
        """See `refractory_adjoint` of this module."""

    def refractory_second(
        self,
        grad_grad_v: Tensor,
        grad_grad_trace: Tensor,
        grad_last: Tensor,
        u: Tensor,
        grad_v: Tensor,
        decay: float,
        weight: float,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `refractory_second` of this module."""


def synapse(
    spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor]:
    """Filter incoming spikes twice.

    At each step, current = b current + (1 - b) gain spikes[t], then potential = a potential + (1 -
    a) current.

    Args:
        spikes: Incoming spikes [T, ...].
        current: Current before the first step [...].
        potential: Potential of the first step [...].
        b: Decay of the current per step.
        a: Decay of the potential per step.
        gain: Gain of the synapses.

    Returns:
        The potentials [T + 1, ...], of which the first is `potential`, and the current after the
        last step [...].
    """
    out, current = spikes.new_empty(len(spikes) + 1, *spikes.shape[1:]), current.clone()
    out[0] = potential
    steps = out.unbind()
    for s, before, after in zip(spikes.unbind(), steps, steps[1:], strict=False):
        if gain == 1:
            current.lerp_(s, 1 - b)
        else:
            current.mul_(b).add_(s, alpha=(1 - b) * gain)
        torch.lerp(before, current, 1 - a, out=after)
    return out, current


def synapse_adjoint(
    grad_potentials: Tensor, grad_last: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `synapse` by spikes, current and potential.

    `synapse` is linear; this is its transpose, the same filters backwards in time.

    Args:
        grad_potentials: Gradient by the potentials [T + 1, ...].
        grad_last: Gradient by the last current [...].
        b: As for `synapse`.
        a: As for `synapse`.
        gain: As for `synapse`.
    """
    grad_spikes = torch.empty_like(grad_potentials[1:])
    # The gradient by the current is kept without its factor of 1 - a until the end.
    grad_current, grad_potential = grad_last / (1 - a), torch.zeros_like(grad_last)
    for grad_after, grad_s in _steps(grad_potentials[1:], grad_spikes, backwards=True):
        torch.add(grad_after, grad_potential, alpha=a, out=grad_potential)
        grad_current.add_(grad_potential)
        torch.mul(grad_current, (1 - a) * (1 - b) * gain, out=grad_s)
        grad_current.mul_(b)
    grad_current.mul_(1 - a)
    return grad_spikes, grad_current, grad_potentials[0] + a * grad_potential


def refractory(
    v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """Subtract each neuron's own recent spikes from its drive.

    At each step, U[t] = v[t] - weight trace, then trace = decay trace + (1 - decay) step(U[t]).

    Args:
        v: Drive [T, ...]; may be overwritten.
        trace: Low-pass of the neuron's spikes before the first step [...].
        decay: Decay of the trace per step.
        weight: Size of the refractory term.
        surrogate: The threshold.

    Returns:
        The membranes U [T, ...], in v's memory where possible, and the trace after the last step
        [...].
    """
    trace = trace.clone()
    s = torch.empty_like(trace)
    for u in v.unbind():
        u.sub_(trace, alpha=weight)
        trace.lerp_(surrogate.step(u, s), 1 - decay)
    return v, trace


def refractory_adjoint(
    grad_u: Tensor, grad_last: Tensor, u: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `refractory` by v and trace.

    This is the transpose of its linearization, backwards in time.

    Args:
        grad_u: Gradient by the membranes [T, ...].
        grad_last: Gradient by the last trace [...].
        u: Membranes that `refractory` returned [T, ...].
        decay: As for `refractory`.
        weight: As for `refractory`.
        surrogate: As for `refractory`.
    """
    grad_v, grad_trace = torch.empty_like(grad_u), grad_last.clone()
    for grad, membrane, total in _steps(grad_u, u, grad_v, backwards=True):
        torch.addcmul(grad, surrogate.slope(membrane), grad_trace, value=1 - decay, out=total)
        grad_trace.mul_(decay).sub_(total, alpha=weight)
    return grad_v, grad_trace


def refractory_second(
    grad_grad_v: Tensor,
    grad_grad_trace: Tensor,
    grad_last: Tensor,
    u: Tensor,
    grad_v: Tensor,
    decay: float,
    weight: float,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `refractory_adjoint` by grad_u, grad_last and u.

    Args:
        grad_grad_v: Gradient by grad_v, which `refractory_adjoint` returned [T, ...].
        grad_grad_trace: Gradient by grad_trace, which `refractory_adjoint` returned [...].
        grad_last: Argument of `refractory_adjoint` [...].
        u: Argument of `refractory_adjoint` [T, ...].
        grad_v: What `refractory_adjoint` returned [T, ...].
        decay: As for `refractory`.
        weight: As for `refractory`.
        surrogate: As for `refractory`.
    """
    grad_grad_u, grad_u = torch.empty_like(grad_grad_v), torch.empty_like(u)
    # Backwards once more: until its turn comes, each step of grad_u holds the adjoint's trace of
    # that step.
    grad_trace = grad_last.clone()
    for grad, stored in _steps(grad_v, grad_u, backwards=True):
        stored.copy_(grad_trace)
        grad_trace.mul_(decay).sub_(grad, alpha=weight)
    tangent = grad_grad_trace.clone()
    for outer, membrane, total, second in _steps(grad_grad_v, u, grad_grad_u, grad_u):
        torch.sub(outer, tangent, alpha=weight, out=total)
        tangent.mul_(decay).addcmul_(surrogate.slope(membrane), total, value=1 - decay)
        second.mul_(total).mul_(surrogate.curvature(membrane)).mul_(1 - decay)
    return grad_grad_u, tangent, grad_u


def _steps(*sequences: Tensor, backwards: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """Yield the time steps of several sequences side by side."""
    steps = [sequence.unbind() for sequence in sequences]
    return (
        zip(*(reversed(each) for each in steps), strict=True)
        if backwards
        else zip(*steps, strict=True)
    )
