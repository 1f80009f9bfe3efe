"""Layer-sequential unit-variance (LSUV) initialization of the reference networks.

Mishkin and Matas (2016), "All you need is a good init", ICLR, scale the weights of one layer after
the other until its output on a batch has unit variance. Here biases are set too, so that a fixed
share of the neurons is active.
"""

from __future__ import annotations

import logging
import math
from statistics import NormalDist

import torch
from torch import Tensor, nn

from baselines.networks import ConvNet, SpikingNet, fill_orthogonal
from metaevents.errors import UsageError

logger = logging.getLogger(__name__)

# The released code of Stewart and Neftci (2022), nmi-lab/snn_maml, initializes so that 28.8 % of
# the neurons are active. That is a membrane of unit variance with mean Phi^-1(0.288) = -0.56.
_ACTIVE_SHARE = 0.288


@torch.no_grad()
def lsuv_init(
    net: SpikingNet | ConvNet,
    x: Tensor,
    *,
    active_share: float = _ACTIVE_SHARE,
    tolerance: float = 0.1,
    max_iterations: int = 50,
    generator: torch.Generator | None = None,
) -> None:
    """Initialize the weights of `net` in place from one batch.

    Weights start orthogonal and biases at zero. Then, layer by layer, weights are divided by the
    standard deviation of the layer's pooled membranes at the last time step, and biases move by
    half the error of their mean, until their variance is 1 and their mean is Phi^-1(active_share).
    A normalized layer's scale takes the place of its weights.

    A layer that has not converged after `max_iterations` stays as it is, and a warning is logged.

    Args:
        net: The network.
        x: Samples [n, ...] of the network's representation.
        active_share: Share of normally distributed membranes that is above zero.
        tolerance: Largest deviation of variance and mean.
        max_iterations: Iterations per layer.
        generator: Draws the orthogonal weights, on its own device; None uses torch's global
            generator.

    Raises:
        UsageError: The membranes of a layer do not vary over the batch, as those of samples without
            events.
    """
    target = NormalDist().inv_cdf(active_share)
    layers = (*net.body, net.head)
    for layer in layers:
        fill_orthogonal(layer["weight"], generator)
        nn.init.zeros_(layer["bias"])
        if "scale" in layer:
            nn.init.ones_(layer["scale"])
    for number, (layer, membranes) in enumerate(
        zip(layers, net.membranes_by_layer(x), strict=True)
    ):
        scaled = layer["scale"] if "scale" in layer else layer["weight"]
        for _ in range(max_iterations):
            u = membranes()
            variance, error = u.var().item(), u.mean().item() - target
            if not variance > 0:
                raise UsageError(
                    f"layer {number} of the network gets no signal from the batch; initialize the"
                    " network on samples with events"
                )
            if abs(variance - 1) < tolerance and abs(error) < tolerance:
                break
            scaled.div_(math.sqrt(variance))
            layer["bias"].sub_(error / 2)
        else:
            logger.warning(
                "layer %d has not converged in %d iterations: variance %.2f, mean off by %.2f",
                number, max_iterations, variance, error,
            )  # fmt: skip
