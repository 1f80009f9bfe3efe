"""The spiking network as the equations have it, one time step at a time, for tests to compare with; and a smooth stand-in
for the threshold, so that gradients can be told from finite differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, linear, max_pool2d

from baselines.networks import Params, SpikingConfig
from baselines.snn.recurrence import Surrogate

Threshold = Callable[[Tensor], Tensor]


def smooth_threshold(u: Tensor) -> Tensor:
    return torch.sigmoid(2 * u)


def _slope(u: Tensor) -> Tensor:
    s = smooth_threshold(u)
    return 2 * s * (1 - s)


def _curvature(u: Tensor) -> Tensor:
    s = smooth_threshold(u)
    return 4 * s * (1 - s) * (1 - 2 * s)


SMOOTH = Surrogate(lambda u, out: out.copy_(smooth_threshold(u)), _slope, _curvature)
"""A threshold that is what its slope and curvature say: all gradients through it are true ones."""


class _HardThreshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (u,) = ctx.saved_tensors
        return gradient / (10 * u.abs() + 1) ** 2


hard_threshold: Threshold = _HardThreshold.apply


def network(
    config: SpikingConfig,
    params: Params,
    x: Tensor,
    threshold: Threshold = hard_threshold,
    burn_in_params: Params | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The stack on frames [n, T, P, H, W]: the output's membranes at the last step, and those of every layer, pooled, [n, ...].

    With `burn_in_params` the burn-in runs under those, as in the published code.
    """
    a, b, c, w = 0.95, 0.90, 0.65, 1.0
    pool = {"max": max_pool2d, "average": avg_pool2d}[config.pooling]
    layers = [f"body.{i}" for i in range(len(config.channels))] + ["head"]
    state: dict[str, tuple[Tensor | float, ...]] = dict.fromkeys(layers, (0.0, 0.0, 0.0, 0.0))
    membranes: dict[str, Tensor] = {}

    def step(arriving: Tensor, weights: Params) -> None:
        for name in layers:
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            gain = config.input_gain if name == layers[0] else 1.0
            q_before, p_before, r_before, s_before = state[name]
            q = b * q_before + (1 - b) * gain * arriving
            p = a * p_before + (1 - a) * q_before
            r = c * r_before - (1 - c) * w * s_before
            p = p if isinstance(p, Tensor) else torch.zeros_like(arriving)
            if name == "head":
                u = (
                    linear(p.permute(0, 2, 3, 1).flatten(1), weight, bias) + r
                )  # its features are in the order H, W, C
                membranes[name] = u
            else:
                u = conv2d(p, weight, bias, padding=config.kernel // 2) + r
                membranes[name] = pool(u, 2)
            state[name] = q, p, r, threshold(u)
            arriving = threshold(membranes[name])

    with torch.no_grad():
        for t in range(config.burn_in):
            step(x[:, t], params if burn_in_params is None else burn_in_params)
    for t in range(config.burn_in, x.shape[1]):
        step(x[:, t], params)
    return membranes["head"], [membranes[name] for name in layers]
