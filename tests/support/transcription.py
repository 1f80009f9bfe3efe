"""The spiking network transcribed from its equations, one time step at a time, as a reference.

`SMOOTH` replaces the threshold by a smooth function, so that gradients can be compared with finite
differences.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, linear, max_pool2d

from baselines.networks import Params, SpikingConfig
from baselines.snn.recurrence import Surrogate

Threshold = Callable[[Tensor], Tensor]


def smooth_threshold(u: Tensor) -> Tensor:
    """Return sigmoid(2 u)."""
    return torch.sigmoid(2 * u)


def _slope(u: Tensor) -> Tensor:
    s = smooth_threshold(u)
    return 2 * s * (1 - s)


def _curvature(u: Tensor) -> Tensor:
    s = smooth_threshold(u)
    return 4 * s * (1 - s) * (1 - 2 * s)


SMOOTH = Surrogate(lambda u, out: out.copy_(smooth_threshold(u)), _slope, _curvature)
"""A smooth threshold whose slope and curvature are its true derivatives."""


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
"""The threshold at zero with the slope 1 / (10 |u| + 1)^2."""


def network(
    config: SpikingConfig,
    params: Params,
    x: Tensor,
    threshold: Threshold = hard_threshold,
    burn_in_params: Params | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run the network on frames.

    Args:
        config: The architecture; its neurons are those of the paper.
        params: Parameters by name.
        x: Frames [n, T, P, H, W].
        threshold: The threshold and its gradient.
        burn_in_params: Parameters of the burn-in, as in the published code; None takes `params`.

    Returns:
        The output membranes at the last step [n, ways], and the membranes of every layer at the
        last step, pooled below the head.
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
                # The features are in the order H, W, C.
                u = linear(p.permute(0, 2, 3, 1).flatten(1), weight, bias) + r
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
