"""The spiking neuron of Stewart and Neftci (2022, Eq. 4): pure functions with explicit state.

One time step, for incoming spikes S_in[t] and a connection (weights and bias) W:

    Q[t] = b Q[t-1] + (1-b) g S_in[t]        synaptic current
    P[t] = a P[t-1] + (1-a) Q[t-1]           potential: the current, filtered by the membrane
    R[t] = c R[t-1] - (1-c) w S[t-1]         refractory term
    U[t] = W(P[t]) + R[t],  S[t] = [U[t] > 0]

The equations are those of the paper's released code. The paper delays Q by one step more, and has
no gain g.

`neuron_step` is these lines. `neuron_sequence` returns the same for many steps at once, and is what
networks use: P is a linear filter of the incoming spikes, so all steps go through the connection as
one batch, and only R is sequential. Both are causal with a delay of one step: U[t] depends on
spikes before t, never on S_in[t].

Sequences are [T, ...], states [...]. Connections, pooling and read-out are left to `networks`.
"""

# Not postponed by `from __future__`: pdoc cannot resolve string annotations of a NamedTuple.

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from baselines.snn.autograd import fire, refractory, spike, synapse
from baselines.snn.recurrence import Surrogate

Connection = Callable[[Tensor], Tensor]
"""Potentials P [T, ...] -> the drive W(P) [T, ...] of the neurons."""


def _heaviside(u: Tensor, out: Tensor) -> Tensor:
    """Write [u > 0] to `out` and return it."""
    return torch.gt(u, 0, out=out)


def _fast_slope(u: Tensor) -> Tensor:
    """Return 1 / (10 |u| + 1)^2."""
    return u.abs().mul_(10).add_(1).pow_(-2)


def _fast_curvature(u: Tensor) -> Tensor:
    """Return -20 sign(u) / (10 |u| + 1)^3, the derivative of `_fast_slope`."""
    return u.abs().mul_(10).add_(1).pow_(-3).mul_(u.sign()).mul_(-20)


FAST_SIGMOID = Surrogate(_heaviside, _fast_slope, _fast_curvature, steepness=10.0)
"""The threshold at zero with the slope 1 / (10 |u| + 1)^2 (SuperSpike, Zenke and Ganguli 2018)."""


@dataclass(frozen=True)
class Neuron:
    """The constants of a population of neurons; decays are per time step.

    Attributes:
        membrane_decay: a, the decay of the potential P.
        synapse_decay: b, the decay of the current Q.
        refractory_decay: c, the decay of the refractory term R.
        refractory_weight: w, the size of the refractory term.
        gain: g, the gain of the synapses.
        step: Length of a time step, in milliseconds.
        surrogate: The threshold and its surrogate derivative.
    """

    membrane_decay: float = 0.95
    synapse_decay: float = 0.90
    refractory_decay: float = 0.65
    refractory_weight: float = 1.0
    gain: float = 1.0
    step: float = 1.0
    surrogate: Surrogate = FAST_SIGMOID

    @property
    def membrane_tau(self) -> float:
        """Time constant of P in milliseconds; 19.5 with the default decay."""
        return -self.step / math.log(self.membrane_decay)

    @property
    def synapse_tau(self) -> float:
        """Time constant of Q in milliseconds; 9.5 with the default decay."""
        return -self.step / math.log(self.synapse_decay)

    @property
    def refractory_tau(self) -> float:
        """Time constant of R in milliseconds; 2.3 with the default decay."""
        return -self.step / math.log(self.refractory_decay)

    def stretched(self, factor: int) -> "Neuron":
        """Return the neuron with longer time steps and the same time constants in milliseconds.

        Args:
            factor: Length of the new time step, in old ones.
        """
        return replace(
            self,
            membrane_decay=self.membrane_decay**factor,
            synapse_decay=self.synapse_decay**factor,
            refractory_decay=self.refractory_decay**factor,
            step=self.step * factor,
        )


class NeuronState(NamedTuple):
    """The state of a layer between time steps.

    Attributes:
        current: Q after the last step, in the shape of one step of incoming spikes.
        potential: P of the next step, in the same shape; it does not depend on the next step's
            spikes.
        trace: -R / w of the next step, a low-pass of the layer's own spikes, in the shape of one
            step of membranes.
    """

    current: Tensor
    potential: Tensor
    trace: Tensor


def neuron_step(
    spikes: Tensor, state: NeuronState | None, connection: Connection, neuron: Neuron
) -> tuple[Tensor, NeuronState]:
    """Run one time step; return the membranes U and the state for the next step.

    Args:
        spikes: Incoming spikes or event counts of the step.
        state: The state before the step; None is the state at rest.
        connection: Maps potentials, shaped as `spikes`, to membranes.
        neuron: The constants.
    """
    q, p = (torch.zeros_like(spikes),) * 2 if state is None else state[:2]
    drive = connection(p)
    trace = torch.zeros_like(drive) if state is None else state.trace
    u = drive - neuron.refractory_weight * trace
    q = neuron.synapse_decay * q + (1 - neuron.synapse_decay) * neuron.gain * spikes
    p = neuron.membrane_decay * p + (1 - neuron.membrane_decay) * q
    trace = neuron.refractory_decay * trace + (1 - neuron.refractory_decay) * spike(
        u, neuron.surrogate
    )
    return u, NeuronState(q, p, trace)


def neuron_sequence(
    spikes: Tensor, state: NeuronState | None, connection: Connection, neuron: Neuron
) -> tuple[Tensor, NeuronState]:
    """Run `neuron_step` over a sequence; return the membranes U [T, ...] and the last state.

    Args:
        spikes: Incoming spikes or event counts [T, ...].
        state: The state before the first step; None is the state at rest.
        connection: Maps potentials [T, ...] of many steps to membranes [T, ...].
        neuron: The constants.
    """
    potentials, current = _synapse(spikes, state, neuron)
    u, trace = _refractory(connection(potentials[:-1]), state, neuron)
    return u, NeuronState(current, potentials[-1], trace)


def fired_sequence(
    spikes: Tensor,
    state: NeuronState | None,
    connection: Connection,
    bias: Tensor,
    neuron: Neuron,
    pooling: str,
) -> tuple[Tensor, NeuronState]:
    """Run `neuron_sequence` without a graph; return the pooled spikes in place of the membranes.

    Args:
        spikes: Incoming spikes or event counts [T, ...].
        state: The state before the first step; None is the state at rest.
        connection: Maps potentials [T, ...] of many steps to membranes [T, n, H, W, D], but for the
            bias; they may be of a lower precision.
        bias: [D].
        neuron: The constants.
        pooling: "max" or "average", over 2 x 2 cells.

    Returns:
        Spikes [T, n, H // 2, W // 2, D] and the last state.
    """
    potentials, current = _synapse(spikes, state, neuron)
    drive = connection(potentials[:-1])
    # Under autocast the drive is of half precision, which saves memory; the trace is not.
    trace = torch.zeros_like(drive[0], dtype=spikes.dtype) if state is None else state.trace
    constants = neuron.refractory_decay, neuron.refractory_weight, neuron.surrogate
    fired, trace = fire(drive, trace, bias, *constants, pooling)
    return fired, NeuronState(current, potentials[-1], trace)


def membranes_ahead(
    spikes: Tensor, state: NeuronState | None, connection: Connection, neuron: Neuron
) -> Tensor:
    """Return the membranes U [T + 1, ...] of T steps and the next.

    The next step's membranes depend only on past spikes.

    Args:
        spikes: Incoming spikes or event counts [T, ...].
        state: The state before the first step; None is the state at rest.
        connection: Maps potentials [T + 1, ...] to membranes [T + 1, ...].
        neuron: The constants.
    """
    potentials, _ = _synapse(spikes, state, neuron)
    return _refractory(connection(potentials), state, neuron)[0]


def potential_ahead(spikes: Tensor, neuron: Neuron) -> Tensor:
    """Return the potential P after a sequence that starts at rest, in the shape of one step.

    Args:
        spikes: Incoming spikes or event counts [T, ...].
        neuron: The constants.
    """
    return _synapse(spikes, None, neuron)[0][-1]


def _synapse(spikes: Tensor, state: NeuronState | None, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """Return the potentials [T + 1, ...] of all steps and the next, and the last current."""
    current, potential = (torch.zeros_like(spikes[0]),) * 2 if state is None else state[:2]
    return synapse(
        spikes, current, potential, neuron.synapse_decay, neuron.membrane_decay, neuron.gain
    )


def _refractory(drive: Tensor, state: NeuronState | None, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """Return the membranes [T, ...] of a drive [T, ...] and the last trace; overwrite the drive."""
    trace = torch.zeros_like(drive[0]) if state is None else state.trace
    return refractory(
        drive, trace, neuron.refractory_decay, neuron.refractory_weight, neuron.surrogate
    )
