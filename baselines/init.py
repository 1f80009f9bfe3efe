"""The two reference networks: a spiking convolutional stack on event frames, and its non-spiking twin on summed frames.

Both run under parameters handed in from outside (`apply_params`, or `torch.func.functional_call`), which is all that
meta-learning asks of them. `initialize` sets their weights from data. How they learn is for `maml` and `transfer`.

Their parameters: `body.<i>.weight` [D, C, k, k] and `body.<i>.bias` [D] of each convolution (`body.<i>.scale` [D] too where it is
normalized), `head.weight` [ways, features] and `head.bias` [ways]; features are the last layer's, in the order H, W, C.
Where there is a `body.<i>.feedback` or `head.feedback` too (`align`), gradients pass down through it and not through the weight.
"""

from __future__ import annotations

import logging
import math
from statistics import NormalDist

import torch
from torch import Tensor, nn

from baselines.networks import ConvNet, SpikingNet
from metaevents.errors import UsageError

logger = logging.getLogger(__name__)


@torch.no_grad()
def lsuv_init(
    net: SpikingNet | ConvNet,
    x: Tensor,
    *,
    rate: float = 0.288,
    tolerance: float = 0.1,
    max_iterations: int = 50,
    generator: torch.Generator | None = None,
) -> None:
    """Set the weights of `net` from one batch x, so that every layer starts well inside its range.

    Orthogonal weights and zero biases; then, layer by layer, weights are scaled and biases moved until the pooled membranes (at
    the last step) have variance 1 and the mean at which a normal membrane is above zero in `rate` of the cases, both
    within `tolerance`. A layer that has not settled after `max_iterations` stays as it is, with a warning in the log.
    """
    target = NormalDist().inv_cdf(rate)
    layers = (*net.body, net.head)
    for layer in layers:
        nn.init.orthogonal_(layer["weight"], generator=generator)
        nn.init.zeros_(layer["bias"])
        if "scale" in layer:
            nn.init.ones_(layer["scale"])
    for number, (layer, membranes) in enumerate(zip(layers, net._membranes(x), strict=True)):
        scaled = layer["scale"] if "scale" in layer else layer["weight"]
        for _ in range(max_iterations):
            u = membranes()
            variance, error = u.var().item(), u.mean().item() - target
            if not variance > 0:
                raise UsageError(
                    f"Layer {number} of the network sees no signal in the batch given; initialize it on samples with events."
                )
            if abs(variance - 1) < tolerance and abs(error) < tolerance:
                break
            scaled.div_(math.sqrt(variance))
            layer["bias"].sub_(error / 2)
        else:
            logger.warning(
                "layer %d has not settled in %d iterations: variance %.2f, mean off by %.2f",
                number, max_iterations, variance, error,
            )  # fmt: skip
