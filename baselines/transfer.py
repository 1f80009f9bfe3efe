"""Transfer learning: a frozen pre-trained network and a new last layer per episode.

The features are the input of the network's last layer at the last time step: membrane potentials of
the spiking network, activities of the other. The new layer is a linear read-out of the features,
trained on an episode's support by gradient descent. Pre-training is left to `training`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baselines.cuda_graphs import GraphCache, form, graphs_possible, places
from baselines.inference_mode import leaves_inference_mode, ordinary
from baselines.network_learner import NetworkLearner
from baselines.networks import ConvNet, SpikingNet
from baselines.precision import products

_CPU_CHUNK = 16  # samples per forward pass on a CPU


class Transfer(NetworkLearner):
    """A learner with frozen features.

    Args:
        net: The pre-trained network; its last layer is not used.
        steps: Gradient steps of the new last layer, per episode.
        lr: Learning rate of the new last layer.
        weight_decay: Weight decay of the new last layer.

    Example:
        >>> from baselines.networks import ConvNet
        >>> classifier = Transfer(ConvNet()).adapt(torch.rand(6, 2, 16, 32), torch.arange(6) % 3, 3)
        >>> classifier(torch.rand(4, 2, 16, 32)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        net: SpikingNet | ConvNet,
        steps: int = 100,
        lr: float = 0.1,
        weight_decay: float = 1e-3,
    ) -> None:
        super().__init__()
        self._graphs = GraphCache()
        self.net, self.steps, self.lr, self.weight_decay = net, steps, lr, weight_decay

    @leaves_inference_mode
    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Callable[[Tensor], Tensor]:
        """Train a last layer on a support set and return a classifier.

        Args:
            support_x: Support samples [n, ...].
            support_y: Support labels [n], in 0..ways-1.
            ways: Number of classes.

        Returns:
            A function from queries [m, ...] to logits [m, ways].
        """
        layer, scale = self.new_head(self.features(support_x), support_y, ways)

        @leaves_inference_mode
        @torch.no_grad()
        def classifier(query_x: Tensor) -> Tensor:
            logits: Tensor = layer(self.features(query_x) / scale)
            return logits

        return classifier

    @leaves_inference_mode
    def new_head(self, features: Tensor, support_y: Tensor, ways: int) -> tuple[nn.Linear, Tensor]:
        """Return a last layer that was trained on a support set, and the scale of its input.

        Args:
            features: Features of the support samples [n, features].
            support_y: Support labels [n], in 0..ways-1.
            ways: Number of classes.

        Returns:
            The layer, which takes features divided by the scale, and the scale.
        """
        # One scale for all features, so that one learning rate suits every network. It comes from
        # the support alone, so that no prediction depends on the other queries.
        scale = features.pow(2).sum(1).mean().sqrt().clamp_min(1e-12)
        inputs = features / scale, ordinary(support_y.to(self.device))
        steps, lr, weight_decay = self.steps, self.lr, self.weight_decay
        if not graphs_possible(self.device):
            return train_head(*inputs, ways, steps, lr, weight_decay), scale

        def trained(x: Tensor, y: Tensor) -> list[Tensor]:
            layer = train_head(x, y, ways, steps, lr, weight_decay)
            return [layer.weight, layer.bias]

        key = ("head", ways, steps, lr, weight_decay, products(), form(*inputs))
        weight, bias = self._graphs.get(key, lambda: trained, "a new last layer")(*inputs)
        layer = _linear(weight.shape[1], ways, weight)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        return layer.requires_grad_(False), scale

    @leaves_inference_mode
    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return the input of the last layer [n, features] float32, at the last time step.

        Args:
            x: Samples [n, ...].
        """
        params = dict(self.net.named_parameters())
        x = ordinary(x)
        if graphs_possible(self.device):
            x = x.to(self.device)
            key = ("features", places(self), products(), form(x))
            graph = self._graphs.get(
                key, lambda: lambda x: [self.net.features(params, x).float()], "the features"
            )
            return graph(x)[0].clone()
        chunks = torch.split(x, _CPU_CHUNK if self.device.type == "cpu" else len(x))
        return torch.cat(
            [self.net.features(params, chunk.to(self.device)).float() for chunk in chunks]
        )


@leaves_inference_mode
def train_head(
    x: Tensor, y: Tensor, ways: int, steps: int, lr: float, weight_decay: float
) -> nn.Linear:
    """Return a linear layer that was trained from zero weights.

    It learns by full-batch gradient descent with momentum 0.9.

    Args:
        x: Features [n, d].
        y: Labels [n].
        ways: Number of classes.
        steps: Gradient steps.
        lr: Learning rate.
        weight_decay: Weight decay.
    """
    layer = _linear(x.shape[1], ways, x)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    x, y = ordinary(x), ordinary(y)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(layer(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return layer.requires_grad_(False)


def _linear(features: int, ways: int, like: Tensor) -> nn.Linear:
    """Return a linear layer without values; no random number is drawn.

    Args:
        features: Number of inputs.
        ways: Number of outputs.
        like: A tensor that has the layer's device and dtype.
    """
    layer = nn.Linear(features, ways, device="meta", dtype=like.dtype)
    return layer.to_empty(device=like.device)
