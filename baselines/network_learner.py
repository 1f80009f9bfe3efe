"""The base of learners that hold a network."""

from __future__ import annotations

import torch
from torch import nn

from baselines.networks import ConvNet, SpikingNet


class NetworkLearner(nn.Module):
    """A learner whose samples are the input of a network.

    Attributes:
        net: The network.
        layout: Axis order of the samples, for `metaevents.evaluate`.
        dtype: Dtype of the samples, for `metaevents.evaluate`.
    """

    layout = "TPHW"
    dtype = torch.float32
    net: SpikingNet | ConvNet

    @property
    def representation(self) -> str:
        """The network's input: "frames" or "sum"."""
        return self.net.representation

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.net.parameters()).device
