"""Spikes, synaptic operations and memory of the baselines: the cost of a sample and of adapting.

A synaptic operation is one use of one weight, counted as by NeuroBench (Yik et al. 2025, "The
neurobench framework for benchmarking neuromorphic computing algorithms and systems", Nature
Communications 16, 1545):

- It is effective if the operand and the weight are not zero. `dense` also counts the others. Taps
  of a kernel that lie outside the frame, and biases, are not counted.
- It is an accumulation (AC) if all inputs of the layer, in that sample and time step, are 0, 1 or
  -1. Else it is a multiply-accumulation (MAC). So operations on event counts are MACs, and those on
  spikes are ACs. NeuroBench decides this per call of a layer: with one sample and one time step per
  call, both counts are equal.

The spiking network is counted in its event-driven form: weights act on the incoming spikes, and the
filters of the neuron act on the result. The filters are linear, so it is the same network as the
one that `networks` computes, whose weights act on filtered spikes. Spikes that cannot reach the
read-out before the last time step are not sent, and not counted.

One adaptation of `maml.MAML` is, per inner step and support sample:

- the forward pass, as above,
- the error through the weights of every layer above the lowest one that learns: one MAC per error
  that is not zero and weight of that neuron that is not zero, in each time step that carries a
  gradient,
- the gradients of the weights: one MAC per error and operand of the weight that are both not zero,
  in each of these time steps; the operands are the potentials P, or the activities of a network
  without spikes,

and once per inner step one MAC per parameter that is updated. Errors are the gradients by a layer's
weighted sums. One adaptation of `transfer.Transfer` is the forward pass of the support through the
frozen layers, and per step of the new last layer one MAC per feature that is not zero and class for
the forward pass, as many for the gradient, and three per parameter (weight decay, momentum and
update).

A query of `components.ComponentMatching` is the forward pass of its sides through the convolutions,
and one MAC per feature and feature of a version of a support side that are both not zero. One
adaptation is the forward pass of the support's sides and of all their versions, and the products
between the sides and the versions.

Elementwise work (neuron states, pooling, normalization, loss) is not counted: NeuroBench counts
operations of synapses. Counts are exact; no time and no energy follows from them alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from baselines.components import ComponentMatching
from baselines.inference_mode import leaves_inference_mode, ordinary
from baselines.maml import MAML
from baselines.networks import ConvNet, LayerTrace, Params, SpikingNet
from baselines.transfer import Transfer

_CHUNK = 5  # samples per pass, which bounds memory
_HEAD_UPDATE = 3  # MACs per parameter and step of a new last layer


@dataclass(frozen=True)
class Operations:
    """Numbers of synaptic operations.

    Attributes:
        macs: Effective multiply-accumulations.
        acs: Effective accumulations.
        dense: All operations, also those with a zero.
    """

    macs: int = 0
    acs: int = 0
    dense: int = 0

    def __add__(self, other: Operations) -> Operations:
        """Return the sum."""
        return Operations(self.macs + other.macs, self.acs + other.acs, self.dense + other.dense)

    def __mul__(self, times: int) -> Operations:
        """Return the operations of several repetitions."""
        return Operations(self.macs * times, self.acs * times, self.dense * times)


@dataclass
class Count:
    """What was counted in one or several forward and backward passes.

    Attributes:
        operations: Synaptic operations.
        spikes: Number of spikes that each layer sent to the next one; empty without spikes.
        fired: Number of spikes of each layer's neurons, before pooling; empty without spikes.
        active: Number of activations that are not zero: spikes or activities that were sent.
        activations: Number of all of them.
        kept: Most numbers that one sample's forward pass keeps for its backward pass.
    """

    operations: Operations = Operations()
    spikes: dict[str, int] = field(default_factory=dict)
    fired: dict[str, int] = field(default_factory=dict)
    active: int = 0
    activations: int = 0
    kept: int = 0

    def add_activity(self, layer: LayerTrace) -> None:
        """Add what a layer sent."""
        if layer.fired is not None:
            self.fired[layer.name] = self.fired.get(layer.name, 0) + layer.fired
        if layer.sent is None:
            return
        active = int(layer.sent.count_nonzero())
        self.active += active
        self.activations += layer.sent.numel()
        if layer.fired is not None:
            self.spikes[layer.name] = self.spikes.get(layer.name, 0) + active


# --- single layers -------------------------------------------------------------------------------


def forward_operations(inputs: Tensor, weight: Tensor) -> Operations:
    """Return the operations of a layer's weights on its inputs.

    Args:
        inputs: Inputs [T, n, H, W, C].
        weight: Kernel [D, C, k, k] of odd size; the frame is padded with zeros.
    """
    cells = inputs.flatten(2)
    fan_out = _fan_out(weight != 0, inputs.shape[2:4]).flatten()
    counts = (cells != 0).double() @ fan_out  # [T, n], exact below 2^53
    binary = ((cells == 0) | (cells.abs() == 1)).all(-1)
    total, accumulations = int(counts.sum()), int(counts[binary].sum())
    steps = inputs.shape[0] * inputs.shape[1]
    dense = steps * int(_fan_out(torch.ones_like(weight), inputs.shape[2:4]).sum())
    return Operations(total - accumulations, accumulations, dense)


def error_operations(errors: Tensor, weight: Tensor) -> Operations:
    """Return the operations that propagate errors through a layer's weights to its inputs.

    Args:
        errors: Gradients by the weighted sums [S, n, H, W, D].
        weight: Kernel [D, C, k, k].
    """
    sent = forward_operations(errors, weight.transpose(0, 1).flip(2, 3))
    return Operations(sent.macs + sent.acs, 0, sent.dense)


def gradient_operations(errors: Tensor, operands: Tensor, kernel: int) -> Operations:
    """Return the operations that make the gradient of a layer's weights.

    Args:
        errors: Gradients by the weighted sums [S, n, H, W, D].
        operands: What the weights were multiplied by [S, n, H, W, C].
        kernel: Side of the kernel.
    """
    ones = torch.ones(1, 1, kernel, kernel, dtype=torch.float64, device=errors.device)

    def pairs(d: Tensor, c: Tensor) -> int:
        """Return the sum over cells and taps of d [S, n, H, W] times c at the tap."""
        around = conv2d(c.flatten(0, 1)[:, None], ones, padding=kernel // 2)
        return int((around[:, 0] * d.flatten(0, 1)).sum())

    effective = pairs((errors != 0).sum(-1).double(), (operands != 0).sum(-1).double())
    every = torch.ones(errors.shape[:4], dtype=torch.float64, device=errors.device)
    return Operations(effective, 0, pairs(every * errors.shape[-1], every * operands.shape[-1]))


def _fan_out(connected: Tensor, frame: tuple[int, ...] | torch.Size) -> Tensor:
    """Return the number of connections from each input [H, W, C], of a kernel [D, C, k, k]."""
    targets = connected.double().sum(0, keepdim=True).transpose(0, 1)  # [C, 1, k, k]
    everywhere = torch.ones(1, len(targets), *frame, dtype=torch.float64, device=targets.device)
    flipped = targets.flip(2, 3)
    counts = conv2d(everywhere, flipped, padding=targets.shape[-1] // 2, groups=len(targets))
    return counts[0].permute(1, 2, 0)


# --- networks ------------------------------------------------------------------------------------


@torch.no_grad()
def inference(
    net: SpikingNet | ConvNet,
    params: Params,
    x: Tensor,
    *,
    head: bool = True,
    layers: int | None = None,
    count: Count | None = None,
) -> Count:
    """Count the forward pass of samples.

    Args:
        net: The network.
        params: Its parameters and constants by name.
        x: Samples [n, ...].
        head: Whether the head's operations are counted too.
        layers: How many of the first layers run; None runs all.
        count: What the pass is added to; None makes a new count.
    """
    count = count or Count()
    for chunk in torch.split(x, _CHUNK):
        for layer in net.trace(params, chunk).layers[:layers]:
            count.add_activity(layer)
            if head or layer.name != "head":
                count.operations += forward_operations(layer.inputs, _kernel(params, layer.name))
    return count


def inner_loop(maml: MAML, path: list[Params], support_x: Tensor, support_y: Tensor) -> Count:
    """Count one adaptation.

    Args:
        maml: The learner.
        path: Parameters before each inner step, and after the last; see `MAML.inner_path`.
        support_x: Support samples [n, ...].
        support_y: Labels [n].
    """
    count, learning = Count(), set(maml.learning)
    for params in path[:-1]:
        held = {name: value.detach() for name, value in params.items()}
        held |= {name: held[name].requires_grad_() for name in learning}
        for x, y in zip(
            torch.split(support_x, _CHUNK), torch.split(support_y, _CHUNK), strict=True
        ):
            with torch.enable_grad():
                trace = maml.net.trace(held, x)
                errors = torch.autograd.grad(
                    maml.loss(trace.logits, y),
                    [layer.products for layer in trace.layers if layer.products.requires_grad],
                )
            _add_passes(count, trace.layers, list(errors), held, learning)
        updated = sum(path[0][name].numel() for name in learning)
        count.operations += Operations(updated, 0, updated)
    return count


@torch.no_grad()
def _add_passes(
    count: Count, layers: list[LayerTrace], errors: list[Tensor], params: Params, learning: set[str]
) -> None:
    """Add a forward and a backward pass through all layers."""
    below_learns = False
    kept = 0
    for layer in layers:
        count.add_activity(layer)
        weight = _kernel(params, layer.name)
        count.operations += forward_operations(layer.inputs, weight)
        if not layer.products.requires_grad:
            continue
        error = errors.pop(0).reshape(*layer.operands.shape[:4], -1)
        kept += layer.operands[:, 0].numel() + error[:, 0].numel()
        if below_learns:
            backward = _kernel(params, layer.name, "feedback")
            count.operations += error_operations(error, backward)
        if f"{layer.name}.weight" in learning:
            count.operations += gradient_operations(error, layer.operands, weight.shape[-1])
        below_learns = True
    count.kept = max(count.kept, kept)


def _kernel(params: Params, layer: str, name: str = "weight") -> Tensor:
    """Return a layer's weight, or its feedback if there is any, as a kernel [D, C, k, k]."""
    weight = params.get(f"{layer}.{name}", params[f"{layer}.weight"]).detach()
    return weight if weight.dim() == 4 else weight[..., None, None]


# --- learners ------------------------------------------------------------------------------------


@leaves_inference_mode
def costs(
    learner: MAML | Transfer | ComponentMatching,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    ways: int,
) -> dict[str, Any]:
    """Return what one sample and one adaptation cost, as `metaevents.evaluate` asks a learner.

    The samples are the queries, classified after adapting to the support.

    Args:
        learner: The learner.
        support_x: Support samples [n, ...].
        support_y: Labels [n], in 0..ways-1.
        query_x: Queries [m, ...], at least one.
        ways: Number of classes.

    Returns:
        The costs by name; see `metaevents.benchmark.learner_metrics`.

    Raises:
        UsageError: A MAML network has another number of outputs than `ways`.
    """
    support_x, support_y, query_x = (
        ordinary(each.to(learner.device)) for each in (support_x, support_y, query_x)
    )
    if isinstance(learner, MAML):
        return _maml_costs(learner, support_x, support_y, query_x, ways)
    if isinstance(learner, ComponentMatching):
        return _matching_costs(learner, support_x, query_x)
    return _transfer_costs(learner, support_x, support_y, query_x, ways)


def _maml_costs(
    maml: MAML, support_x: Tensor, support_y: Tensor, query_x: Tensor, ways: int
) -> dict[str, Any]:
    path = maml.inner_path(support_x, support_y, ways)
    query, support = (
        inference(maml.net, path[-1], query_x),
        inner_loop(maml, path, support_x, support_y),
    )
    learned = sum(_bytes(path[0][name]) for name in maml.learning)
    # The adapted parameters and their gradients, beside the parameters that they start from.
    adapting = module_bytes(maml) + 2 * learned + support.kept * query_x.new_zeros(()).itemsize
    return {
        **_per_sample(query, len(query_x), module_bytes(maml.net)),
        "adaptation": _per_adaptation(support, adapting),
    }


def _transfer_costs(
    transfer: Transfer, support_x: Tensor, support_y: Tensor, query_x: Tensor, ways: int
) -> dict[str, Any]:
    net, params = transfer.net, dict(transfer.net.named_parameters())
    features, query_features = transfer.features(support_x), transfer.features(query_x)
    layer, _ = transfer.new_head(features, support_y, ways)
    query, support = (inference(net, params, x, head=False) for x in (query_x, support_x))
    query.operations += forward_operations(
        query_features[None, :, None, None], layer.weight[..., None, None]
    )
    one_pass = Operations(int(features.count_nonzero()) * ways, 0, features.numel() * ways)
    updated = sum(each.numel() for each in layer.parameters()) * _HEAD_UPDATE
    support.operations += (one_pass * 2 + Operations(updated, 0, updated)) * transfer.steps
    body = module_bytes(net.body)
    # The new layer with its gradient and its momentum, and the features of the support.
    adapting = body + 3 * module_bytes(layer) + _bytes(features)
    return {
        **_per_sample(query, len(query_x), body + module_bytes(layer)),
        "adaptation": _per_adaptation(support, adapting),
    }


@torch.no_grad()
def _matching_costs(
    learner: ComponentMatching, support_x: Tensor, query_x: Tensor
) -> dict[str, Any]:
    net, params, layers = learner.net, dict(learner.net.named_parameters()), len(learner.net.body)
    support, queries = learner.sides(support_x), learner.sides(query_x)
    query, adapting = (inference(net, params, x, layers=layers) for x in (queries, support))
    aligned, kept = learner.config.aligned, learner.kept(support)
    for version in learner.versions(support) if aligned else ():
        inference(net, params, version, layers=aligned, count=adapting)
    for count, sides in ((query, queries), (adapting, support)):
        for features, versions in zip(learner.features(sides), kept, strict=True):
            products = versions.flatten(0, 1)[..., None, None]
            count.operations += forward_operations(features[None, :, None, None], products)
    memory = module_bytes(net.body) + sum(map(_bytes, kept))
    return {
        **_per_sample(query, len(query_x), memory),
        "adaptation": _per_adaptation(adapting, memory),
    }


def module_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's parameters and buffers."""
    return sum(_bytes(each) for each in (*module.parameters(), *module.buffers()))


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor."""
    return tensor.numel() * tensor.element_size()


def _per_sample(count: Count, samples: int, footprint: int) -> dict[str, Any]:
    """Return a count as costs per sample."""
    return {
        "footprint_bytes": footprint,
        "activation_sparsity": _sparsity(count),
        "spikes_per_sample": _total(count.spikes, samples),
        "spikes_per_layer": _layers(count.spikes, samples),
        "effective_macs": count.operations.macs / samples,
        "effective_acs": count.operations.acs / samples,
        "dense_operations": count.operations.dense / samples,
    }


def _per_adaptation(count: Count, footprint: int) -> dict[str, Any]:
    """Return a count as costs per adaptation."""
    return {
        "footprint_bytes": footprint,
        "activation_sparsity": _sparsity(count),
        "spikes": _total(count.spikes, 1),
        "spikes_per_layer": _layers(count.spikes, 1),
        "effective_macs": count.operations.macs,
        "effective_acs": count.operations.acs,
        "dense_operations": count.operations.dense,
    }


def _sparsity(count: Count) -> float | None:
    """Return the share of activations that are zero; None if there are none."""
    return 1 - count.active / count.activations if count.activations else None


def _total(spikes: Mapping[str, int], samples: int) -> float | None:
    """Return the spikes of all layers per sample; None for a network without spikes."""
    return sum(spikes.values()) / samples if spikes else None


def _layers(spikes: Mapping[str, int], samples: int) -> dict[str, float] | None:
    """Return the spikes of each layer per sample; None for a network without spikes."""
    return {name: number / samples for name, number in spikes.items()} if spikes else None
