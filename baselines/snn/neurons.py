"""The spiking neuron of Stewart and Neftci 2022 (Eq. 4) as pure functions with explicit state, and thin layers of it.

One time step, for incoming spikes S_in and a connection (weights and bias) W:

    Q[t] = b Q[t-1] + (1-b) g S_in[t]        synaptic current
    P[t] = a P[t-1] + (1-a) Q[t-1]           membrane's low-pass of it
    R[t] = c R[t-1] - (1-c) w S[t-1]         refractory pull
    U[t] = W(P[t]) + R[t],  S[t] = [U[t] > 0]

`neuron_step` is these lines. `neuron_sequence` gives the same for many steps at once and is what networks run: P is a
linear filter of the incoming spikes, so all steps go through the connection as one batch, and only R is sequential.
Both are causal with a delay: U[t] depends on spikes before t, never on S_in[t].

Which neurons are connected how, pooling and read-out are for `networks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from baselines.snn.autograd import refractory, spike, synapse
from baselines.snn.recurrence import Surrogate

Connection = Callable[[Tensor], Tensor]


def _heaviside(u: Tensor, out: Tensor) -> Tensor:
    return torch.gt(u, 0, out=out)


def _fast_slope(u: Tensor) -> Tensor:
    return u.abs().mul_(10).add_(1).pow_(-2)


def _fast_curvature(u: Tensor) -> Tensor:
    return u.abs().mul_(10).add_(1).pow_(-3).mul_(u.sign()).mul_(-20)


FAST_SIGMOID = Surrogate(_heaviside, _fast_slope, _fast_curvature, steepness=10.0)
"""The threshold at zero with the slope 1 / (10 |u| + 1)^2 (Zenke and Ganguli 2018, SuperSpike)."""


@dataclass(frozen=True)
class Neuron:
    """The constants of a population; decays are per time step of `step` milliseconds."""

    membrane_decay: float = 0.95
    synapse_decay: float = 0.90
    refractory_decay: float = 0.65
    refractory_weight: float = 1.0
    gain: float = 1.0
    step: float = 1.0
    surrogate: Surrogate = FAST_SIGMOID

    @property
    def membrane_tau(self) -> float:
        """Milliseconds in which P falls to 1/e: 19.5 with the default decay."""
        return -self.step / math.log(self.membrane_decay)

    @property
    def synapse_tau(self) -> float:
        """Milliseconds in which Q falls to 1/e: 9.5 with the default decay."""
        return -self.step / math.log(self.synapse_decay)

    @property
    def refractory_tau(self) -> float:
        """Milliseconds in which R falls to 1/e: 2.3 with the default decay."""
        return -self.step / math.log(self.refractory_decay)

    def stretched(self, factor: int) -> Neuron:
        """The same time constants at steps `factor` times as long."""
        return replace(
            self,
            membrane_decay=self.membrane_decay**factor,
            synapse_decay=self.synapse_decay**factor,
            refractory_decay=self.refractory_decay**factor,
            step=self.step * factor,
        )


class NeuronState(NamedTuple):
    """What a layer remembers between time steps.

    current: Q after the last step, shaped as one step of incoming spikes.
    potential: P of the step to come (it depends on nothing later), the same shape.
    trace: the low-pass of the layer's own spikes, -R / w of the step to come, shaped as one step of membranes.
    """

    current: Tensor
    potential: Tensor
    trace: Tensor


def neuron_step(
    spikes: Tensor, state: NeuronState | None, connection: Connection, neuron: Neuron
) -> tuple[Tensor, NeuronState]:
    """One time step of incoming spikes (or event counts): the membranes U, and the state for the next step.

    `connection` maps potentials, shaped as `spikes`, to membranes. `None` is the state at rest.
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
    """`neuron_step` over `spikes` [T, ...]: the membranes U [T, ...], and the state after the last step.

    `connection` maps potentials of many steps [T, ...] to membranes [T, ...].
    """
    potentials, current = _synapse(spikes, state, neuron)
    u, trace = _refract(connection(potentials[:-1]), state, neuron)
    return u, NeuronState(current, potentials[-1], trace)


def membranes_ahead(
    spikes: Tensor, state: NeuronState | None, connection: Connection, neuron: Neuron
) -> Tensor:
    """The membranes U [T + 1, ...] of the steps of `spikes` [T, ...] and of the step after, which they decide already.

    The end of a sequence: what the last spikes would do later is not computed.
    """
    potentials, _ = _synapse(spikes, state, neuron)
    return _refract(connection(potentials), state, neuron)[0]


def _synapse(spikes: Tensor, state: NeuronState | None, neuron: Neuron) -> tuple[Tensor, Tensor]:
    current, potential = (torch.zeros_like(spikes[0]),) * 2 if state is None else state[:2]
    return synapse(
        spikes, current, potential, neuron.synapse_decay, neuron.membrane_decay, neuron.gain
    )


def _refract(drive: Tensor, state: NeuronState | None, neuron: Neuron) -> tuple[Tensor, Tensor]:
    trace = torch.zeros_like(drive[0]) if state is None else state.trace
    return refractory(
        drive, trace, neuron.refractory_decay, neuron.refractory_weight, neuron.surrogate
    )
