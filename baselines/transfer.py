"""Transfer learning: a network pre-trained on the train classes, frozen, and a new last layer for every episode.

The features are what arrives at the last layer at the last step: the potentials of the spiking network, the activity of
the other. The new layer is a linear read-out of them, trained by gradient descent on an episode's support. Pre-training
itself, its steps and checkpoints, is for `training`; its samples are drawn here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baselines.networks import ConvNet, SpikingNet


class Transfer(nn.Module):
    """A learner with frozen features.

    Args:
        net: pre-trained; its own last layer is not used.
        steps, rate, decay: of the new layer's gradient descent with momentum 0.9, and its weight decay.
    """

    layout = "TPHW"
    dtype = torch.float32

    def __init__(
        self, net: SpikingNet | ConvNet, steps: int = 100, rate: float = 0.1, decay: float = 1e-3
    ) -> None:
        super().__init__()
        self.net, self.steps, self.rate, self.decay = net, steps, rate, decay

    @property
    def representation(self) -> str:
        return self.net.representation

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Callable[[Tensor], Tensor]:
        """Train a last layer on support samples [n, ...] and labels [n]: a function of queries [m, ...] -> logits [m, ways]."""
        features = self.features(support_x)
        # One scale for all, from the support alone, so that one rate suits every network; the query plays no part.
        scale = features.pow(2).sum(1).mean().sqrt().clamp_min(1e-12)
        layer = train_head(
            features / scale, support_y.to(self.device), ways, self.steps, self.rate, self.decay
        )

        @torch.no_grad()
        def classifier(query_x: Tensor) -> Tensor:
            logits: Tensor = layer(self.features(query_x) / scale)
            return logits

        return classifier

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """What arrives at the last layer at the last step; [n, ...] -> [n, features] float32."""
        params = dict(self.net.named_parameters())
        parts = torch.split(x, 16 if self.device.type == "cpu" else len(x))
        return torch.cat(
            [self.net.features(params, part.to(self.device)).float() for part in parts]
        )


def train_head(x: Tensor, y: Tensor, ways: int, steps: int, rate: float, decay: float) -> nn.Linear:
    """A linear layer from zero, trained on features [n, d] and labels [n] by full-batch gradient descent with momentum."""
    layer = nn.Linear(x.shape[1], ways, device=x.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(layer(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return layer.requires_grad_(False)
