"""The recursions over time that spiking layers are made of: their values, and the gradients that `functional` hands to autograd.

Each neuron's time is its own: sequences are [T, ...], states [...]. Here they are loops over time, for any device and surrogate;
`recurrence_gpu` has the same five as a GPU kernel each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Elementwise = Callable[[Tensor], Tensor]


class Surrogate(NamedTuple):
    """A threshold function, the slope that stands in for its derivative, and the derivative of that slope.

    Each maps membranes to values of the same shape and dtype. `step(u, out)` writes them to `out` and returns it.
    `steepness` is that of a threshold at 0 with the slope 1 / (steepness |u| + 1)^2, and None for any other: it is what GPU
    kernels know.
    """

    step: Callable[[Tensor, Tensor], Tensor]
    slope: Elementwise
    curvature: Elementwise
    steepness: float | None = None


class Recurrence(Protocol):
    """The functions below; `recurrence_gpu` has them too."""

    def synapse(
        self, spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor]: ...

    def synapse_adjoint(
        self, by_potentials: Tensor, by_last: Tensor, b: float, a: float, gain: float
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def refractory(
        self, v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]: ...

    def refractory_adjoint(
        self,
        by_u: Tensor,
        by_last: Tensor,
        u: Tensor,
        decay: float,
        weight: float,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor]: ...

    def refractory_second(
        self,
        by_by_v: Tensor,
        by_by_trace: Tensor,
        by_last: Tensor,
        u: Tensor,
        by_v: Tensor,
        decay: float,
        weight: float,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor, Tensor]: ...


def synapse(
    spikes: Tensor, current: Tensor, potential: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor]:
    """Current = b current + (1 - b) gain spikes[t], potential = a potential + (1 - a) current.

    `spikes` [T, ...] -> the potentials, from the one given on, [T + 1, ...], and the last current.
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
    by_potentials: Tensor, by_last: Tensor, b: float, a: float, gain: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `synapse` by spikes, current and potential: its transpose, the same filters backwards in time."""
    out = torch.empty_like(by_potentials[1:])
    # `current` is kept without its factor of 1 - a
    current, potential = by_last / (1 - a), torch.zeros_like(by_last)
    for after, total in _steps(by_potentials[1:], out, backwards=True):
        torch.add(after, potential, alpha=a, out=potential)
        current.add_(potential)
        torch.mul(current, (1 - a) * (1 - b) * gain, out=total)
        current.mul_(b)
    current.mul_(1 - a)
    return out, current, by_potentials[0] + a * potential


def refractory(
    v: Tensor, trace: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """U[t] = v[t] - weight trace, and then trace = decay trace + (1 - decay) step(U[t]).

    `v` [T, ...] -> the membranes U [T, ...], in v's memory if that may be, and the last trace.
    """
    trace = trace.clone()
    s = torch.empty_like(trace)
    for u in v.unbind():
        u.sub_(trace, alpha=weight)
        trace.lerp_(surrogate.step(u, s), 1 - decay)
    return v, trace


def refractory_adjoint(
    by_u: Tensor, by_last: Tensor, u: Tensor, decay: float, weight: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """The gradients of `refractory` by v and trace, at membranes u: the recursion linearized and run backwards in time."""
    by_v, by_trace = torch.empty_like(by_u), by_last.clone()
    for outer, membrane, total in _steps(by_u, u, by_v, backwards=True):
        torch.addcmul(outer, surrogate.slope(membrane), by_trace, value=1 - decay, out=total)
        by_trace.mul_(decay).sub_(total, alpha=weight)
    return by_v, by_trace


def refractory_second(
    by_by_v: Tensor,
    by_by_trace: Tensor,
    by_last: Tensor,
    u: Tensor,
    by_v: Tensor,
    decay: float,
    weight: float,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `refractory_adjoint` by by_u, by_last and u, where it gave by_v: its linearized recursion."""
    by_by_u, by_u = torch.empty_like(by_by_v), torch.empty_like(u)
    by_trace = by_last.clone()
    for total, second in _steps(by_v, by_u, backwards=True):
        second.copy_(by_trace)
        by_trace.mul_(decay).sub_(total, alpha=weight)
    tangent = by_by_trace.clone()
    for outer, membrane, total, second in _steps(by_by_v, u, by_by_u, by_u):
        torch.sub(outer, tangent, alpha=weight, out=total)
        tangent.mul_(decay).addcmul_(surrogate.slope(membrane), total, value=1 - decay)
        second.mul_(total).mul_(surrogate.curvature(membrane)).mul_(1 - decay)
    return by_by_u, tangent, by_u


def _steps(*sequences: Tensor, backwards: bool = False) -> Iterator[tuple[Tensor, ...]]:
    steps = [each.unbind() for each in sequences]
    return (
        zip(*(reversed(each) for each in steps), strict=True)
        if backwards
        else zip(*steps, strict=True)
    )
