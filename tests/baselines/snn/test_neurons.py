"""The neuron: its equations, its time constants, and sequences against single steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from support.transcription import SMOOTH, smooth_threshold
from torch import Tensor

from baselines.snn.neurons import Neuron, NeuronState, membranes_ahead, neuron_sequence, neuron_step

Run = Callable[..., tuple[Tensor, NeuronState]]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def connection_of(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda p: p @ weight.T + 0.1


def step_by_step(
    spikes: Tensor, state: NeuronState | None, *constants: object
) -> tuple[Tensor, NeuronState]:
    membranes = []
    for s in spikes:
        u, state = neuron_step(s, state, *constants)  # type: ignore[arg-type]
        membranes.append(u)
    assert state is not None
    return torch.stack(membranes), state


@pytest.mark.parametrize("run", [step_by_step, neuron_sequence])
def test_membranes_are_those_of_the_equations(run: Run) -> None:
    weight, spikes = draw(3, 4), draw(12, 2, 4, seed=1).abs()
    neuron = Neuron(refractory_weight=0.7, gain=5.0, surrogate=SMOOTH)
    u, _ = run(spikes, None, connection_of(weight), neuron)
    q, p, r, s = draw(2, 4) * 0, draw(2, 4) * 0, draw(2, 3) * 0, draw(2, 3) * 0
    for t in range(12):
        p, q = 0.95 * p + 0.05 * q, 0.90 * q + 0.10 * 5.0 * spikes[t]
        r = 0.65 * r - 0.35 * 0.7 * s
        expected = p @ weight.T + 0.1 + r
        torch.testing.assert_close(u[t], expected)
        s = smooth_threshold(expected)


@pytest.mark.parametrize("surrogate", [SMOOTH, Neuron().surrogate], ids=["smooth", "fast sigmoid"])
def test_a_sequence_equals_its_steps_in_values_and_both_gradients(surrogate: object) -> None:
    neuron = Neuron(gain=8.0, surrogate=surrogate)  # type: ignore[arg-type]
    inputs = [
        each.requires_grad_()
        for each in (draw(3, 4), draw(10, 2, 4, seed=1), *(draw(2, 4, seed=i) for i in (2, 3)))
    ]
    trace = draw(2, 3, seed=4).sigmoid().requires_grad_()

    def gradients(run: Run) -> list[Tensor]:
        weight, spikes, current, potential = inputs
        u, state = run(
            spikes, NeuronState(current, potential, trace), connection_of(weight), neuron
        )
        first = torch.autograd.grad(
            (u**2).sum() + sum((s**2).sum() for s in state), [*inputs, trace], create_graph=True
        )
        second = torch.autograd.grad(sum((g**2).sum() for g in first), [*inputs, trace])  # type: ignore[arg-type]
        return [u, *state, *first, *second]

    for result, expected in zip(gradients(neuron_sequence), gradients(step_by_step), strict=True):
        torch.testing.assert_close(result, expected)


def test_a_sequence_continues_from_its_state() -> None:
    connection, spikes, neuron = connection_of(draw(3, 4)), draw(11, 2, 4, seed=1), Neuron()
    whole, end = neuron_sequence(spikes, None, connection, neuron)
    first, state = neuron_sequence(spikes[:4], None, connection, neuron)
    rest, state = neuron_sequence(spikes[4:], state, connection, neuron)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    torch.testing.assert_close(state, end)


def test_membranes_depend_on_earlier_spikes_alone() -> None:
    spikes, steps = draw(6, 1, 2).requires_grad_(), 6
    u, _ = neuron_sequence(
        spikes, None, connection_of(draw(1, 2, seed=1)), Neuron(surrogate=SMOOTH)
    )
    dependence = torch.stack(
        [
            torch.autograd.grad(u[t].sum(), spikes, retain_graph=True)[0].abs().sum((1, 2))
            for t in range(6)
        ]
    )
    assert torch.equal(dependence > 0, torch.ones(steps, steps).tril(-1) > 0)


def test_membranes_ahead_include_the_step_after_the_last_spikes() -> None:
    connection, spikes, neuron = connection_of(draw(3, 4)), draw(7, 2, 4, seed=1), Neuron()
    ahead = membranes_ahead(spikes[:6], None, connection, neuron)
    torch.testing.assert_close(ahead, neuron_sequence(spikes, None, connection, neuron)[0])


# --- time constants ----------------------------------------------------------


@pytest.mark.parametrize(
    ("tau", "milliseconds"),
    [("membrane_tau", 19.496), ("synapse_tau", 9.491), ("refractory_tau", 2.321)],
)
def test_time_constants_are_in_milliseconds(tau: str, milliseconds: float) -> None:
    assert getattr(Neuron(), tau) == pytest.approx(milliseconds, abs=1e-3)
    assert getattr(Neuron(step=2.0), tau) == pytest.approx(2 * milliseconds, abs=2e-3)
    assert getattr(Neuron().stretched(4), tau) == pytest.approx(milliseconds, abs=1e-3)


@pytest.mark.parametrize("stretch", [1, 4])
@pytest.mark.parametrize(
    ("state", "tau"), list(enumerate(["synapse_tau", "membrane_tau", "refractory_tau"]))
)
def test_a_state_without_input_decays_with_its_time_constant(
    state: int, tau: str, stretch: int
) -> None:
    neuron, steps = Neuron().stretched(stretch), 40
    now = NeuronState(
        *(torch.full((1, 1), float(i == state), dtype=torch.float64) for i in range(3))
    )
    for _ in range(steps):
        _, now = neuron_step(torch.zeros(1, 1), now, lambda p: torch.zeros_like(p) - 100, neuron)
    milliseconds = steps * stretch
    assert now[state].item() == pytest.approx(
        math.exp(-milliseconds / getattr(neuron, tau)), rel=1e-9
    )


def test_stretched_steps_settle_at_the_same_potential() -> None:
    for neuron in (Neuron(gain=10.0), Neuron(gain=10.0).stretched(5)):
        _, state = neuron_sequence(
            torch.ones(2000, 1, 1), None, lambda p: torch.zeros_like(p) - 1, neuron
        )
        assert state.potential.item() == pytest.approx(10.0, rel=1e-4)
