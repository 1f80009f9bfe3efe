"""Export of a spiking network as a graph of NIR, the Neuromorphic Intermediate Representation.

NIR (Pedersen et al. 2024, Nature Communications 15, 8122) describes a network by nodes with simple
dynamics, which several simulators and chips read. Each layer of `networks.SpikingNet` becomes:

    delay       Delay       one time step: what arrives in a step acts in the next
    current     LI          synaptic current Q
    potential   LI          potential P
    weights     Conv2d      weights and bias; the head has Flatten and Affine
    membrane    Scale       by 1: the sum of `weights` and `refractory`, the membrane U
    neuron      Threshold   the neuron's spikes: 1 where U is above 0
    refractory  LI          refractory term, from the neuron's spikes back to the membrane
    pool        SumPool2d   spikes of 2 x 2 neurons; with average pooling, AvgPool2d of membranes
    spikes      Threshold   the layer's spikes: 1 where `pool` is above 0

The output is the head's membrane. The last step's is the network's logits.

What a reader has to know, and finds in the metadata of the graph too:

- Time constants are for the explicit Euler method with the time step `dt` in seconds: per step,
  v += dt / tau (r input - v). Then every decay is exactly the network's. They are not those of an
  exponential decay, -dt / log(decay).
- A node passes its output on within the time step. Only the way from `refractory` back to
  `membrane` takes one step, since it closes a loop.
- The input of a step is the mean of the counts of `frames_per_step` frames [P, H, W].

What NIR cannot express: max pooling of membranes (the sum of spikes is equal, and is used), group
normalization (such a network is refused), surrogate gradients, and learning.
"""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np

from baselines.networks import Params, SpikingNet
from baselines.snn.neurons import Neuron
from metaevents.arguments import finite_number
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike, user_path, write_atomic

_POOLED = 2  # side of the square that pooling reduces to one cell


def to_nir(net: SpikingNet, params: Params | None = None, dt: float | None = None) -> Any:
    """Return a spiking network as a graph of NIR.

    Args:
        net: The network.
        params: Its parameters by name, such as adapted ones; None takes the network's own.
        dt: Time step in seconds for which the time constants are written; None takes the network's.
            Give the one that a reader takes for granted, if it does.

    Returns:
        The graph, a `nir.NIRGraph`.

    Raises:
        MissingError: The package `nir` is not installed.
        UsageError: The network is normalized, which NIR cannot express, or `dt` is no finite number
            above 0.
    """
    nir = _nir()
    config = net.config
    if config.norm_groups:
        raise UsageError(
            f"the network has norm_groups={config.norm_groups}, and NIR has no normalization; "
            "export a network that was trained with norm_groups=0"
        )
    step = net.neurons[0].step / 1000 if dt is None else finite_number("dt", dt)
    if not step > 0:
        raise UsageError(f"dt={step:g} is no time step; give one above 0, in seconds")
    values = {
        name: value.detach().cpu().numpy().astype(np.float32)
        for name, value in (dict(net.named_parameters()) if params is None else params).items()
    }
    _, polarities, height, width = config.frame_shape
    shape: tuple[int, ...] = (polarities, height, width)
    nodes: dict[str, Any] = {"input": nir.Input(np.array(shape))}
    edges: list[tuple[str, str]] = []
    source = "input"
    for number, neuron in enumerate(net.neurons):
        is_head = number == len(net.body)
        name = "head" if is_head else f"body_{number}"
        layer = f"body.{number}"
        nodes[f"{name}_delay"] = nir.Delay(np.full(shape, step))
        nodes[f"{name}_current"] = _low_pass(shape, neuron.synapse_decay, neuron.gain, step)
        nodes[f"{name}_potential"] = _low_pass(shape, neuron.membrane_decay, 1, step)
        edges += [
            (source, f"{name}_delay"),
            (f"{name}_delay", f"{name}_current"),
            (f"{name}_current", f"{name}_potential"),
        ]
        if is_head:
            nodes[f"{name}_flatten"] = nir.Flatten({"input": np.array(shape)}, 0, -1)
            nodes[f"{name}_weights"] = nir.Affine(
                _channels_first(values["head.weight"], shape), values["head.bias"]
            )
            edges += [
                (f"{name}_potential", f"{name}_flatten"),
                (f"{name}_flatten", f"{name}_weights"),
            ]
            shape = (config.ways,)
        else:
            pad = config.kernel // 2
            nodes[f"{name}_weights"] = nir.Conv2d(
                shape[1:], values[f"{layer}.weight"], (1, 1), (pad, pad), (1, 1), 1,
                values[f"{layer}.bias"],
            )  # fmt: skip
            edges.append((f"{name}_potential", f"{name}_weights"))
            shape = (config.channels[number], *shape[1:])
        nodes |= _neuron(name, shape, neuron, step)
        edges += [
            (f"{name}_weights", f"{name}_membrane"),
            (f"{name}_membrane", f"{name}_neuron"),
            (f"{name}_neuron", f"{name}_refractory"),
            (f"{name}_refractory", f"{name}_membrane"),
        ]
        if is_head:
            continue
        pool_nodes, pool_edges, shape = _pooling(name, shape, config.pooling)
        nodes, edges, source = nodes | pool_nodes, edges + pool_edges, f"{name}_spikes"
    nodes["output"] = nir.Output(np.array(shape))
    edges.append(("head_membrane", "output"))
    return nir.NIRGraph(nodes, edges, _metadata(net, step))


def _neuron(name: str, shape: tuple[int, ...], neuron: Neuron, dt: float) -> dict[str, Any]:
    """Return the nodes between a layer's weights and its neurons' spikes."""
    return {
        f"{name}_membrane": _nir().Scale(np.ones(shape, np.float32)),
        f"{name}_neuron": _nir().Threshold(np.zeros(shape, np.float32)),
        f"{name}_refractory": _low_pass(
            shape, neuron.refractory_decay, -neuron.refractory_weight, dt
        ),
    }


def _pooling(
    name: str, shape: tuple[int, ...], pooling: str
) -> tuple[dict[str, Any], list[tuple[str, str]], tuple[int, ...]]:
    """Return the nodes and edges from a layer's neurons to its spikes, and their shape."""
    nir, square, none = _nir(), np.array([_POOLED] * 2), np.array([0, 0])
    pooled = (shape[0], shape[1] // _POOLED, shape[2] // _POOLED)
    pool = nir.SumPool2d if pooling == "max" else nir.AvgPool2d
    source = "neuron" if pooling == "max" else "membrane"
    nodes = {
        f"{name}_pool": pool(square, square, none),
        f"{name}_spikes": nir.Threshold(np.zeros(pooled, np.float32)),
    }
    edges = [(f"{name}_{source}", f"{name}_pool"), (f"{name}_pool", f"{name}_spikes")]
    return nodes, edges, pooled


def _low_pass(shape: tuple[int, ...], decay: float, gain: float, dt: float) -> Any:
    """Return a leaky integrator: v = decay v + (1 - decay) gain input, per step of Euler."""
    return _nir().LI(
        tau=np.full(shape, dt / (1 - decay)), r=np.full(shape, float(gain)), v_leak=np.zeros(shape)
    )


def _channels_first(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the head's weight [ways, H * W * C] for features in the order C, H, W."""
    channels, height, width = shape
    moved = weight.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(moved.reshape(len(weight), -1))


def _metadata(net: SpikingNet, dt: float) -> dict[str, Any]:
    """Return what a reader of the graph has to know."""
    return {
        "dt": dt,
        "method": "explicit Euler: v += dt / tau (r input - v)",
        "frames_per_step": net.config.time_stride,
        "output": "membranes of the read-out; those of the last step are the logits",
    }


def export(
    net: SpikingNet, path: PathLike, params: Params | None = None, dt: float | None = None
) -> None:
    """Write a spiking network to a file of NIR.

    Args:
        net: The network.
        path: The file, which is replaced.
        params: As for `to_nir`.
        dt: As for `to_nir`.

    Raises:
        MissingError: The package `nir` is not installed.
        UsageError: As for `to_nir`.
        OSError: The file cannot be written.
    """
    graph = to_nir(net, params, dt)
    content = BytesIO()
    _nir().write(content, graph)
    write_atomic(user_path(path), content.getvalue())


def _nir() -> Any:
    """Return the package `nir`."""
    try:
        return import_module("nir")
    except ImportError:
        raise MissingError(
            "the export needs the package nir; install it with `pip install 'metaevents[nir]'`"
        ) from None
