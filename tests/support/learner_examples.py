"""The learners shown in SUBMITTING.md, each with the imports that it has there."""
# ruff: noqa: E402, F811

# [numpy]
import numpy as np


class ClassMeans:
    """Nearest class mean of time-summed counts, with nothing but numpy."""

    representation, numpy = "sum", True

    def adapt(self, support_x, support_y, ways):
        support = support_x.reshape(len(support_x), -1)
        means = np.stack([support[support_y == k].mean(axis=0) for k in range(ways)])

        def classify(query_x):
            query = query_x.reshape(len(query_x), 1, -1)
            return -((query - means) ** 2).sum(axis=-1)

        return classify


# [torch]
import torch
from torch import nn


class FineTuned(nn.Module):
    """A small CNN, and a new last layer for every episode, trained on its support; plain torch."""

    representation = "sum"

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )

    def adapt(self, support_x, support_y, ways):
        with torch.no_grad():
            support = self.features(support_x)
        head = nn.Linear(support.shape[1], ways)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(support), support_y).backward()
            optimizer.step()
        return lambda query_x: head(self.features(query_x))


# [snntorch]
import snntorch
import torch
from torch import nn


class Spiking(nn.Module):
    """Leaky integrate-and-fire neurons of snntorch; nearest class mean of their spike counts."""

    representation = "frames"

    def __init__(self, neurons=256):
        super().__init__()
        self.synapses = nn.LazyLinear(neurons)
        self.neurons = snntorch.Leaky(beta=0.9)
        self.spikes = self.samples = 0

    def count(self, x):
        """Spikes of every neuron over time, [n, neurons]."""
        membrane, counts = self.neurons.init_leaky(), 0
        for frame in x.flatten(2).unbind(1):
            spike, membrane = self.neurons(self.synapses(20 * frame), membrane)
            counts = counts + spike
        self.spikes, self.samples = self.spikes + counts.sum().item(), self.samples + len(x)
        return counts

    def adapt(self, support_x, support_y, ways):
        with torch.no_grad():
            counts = self.count(support_x)
        means = torch.stack([counts[support_y == k].mean(dim=0) for k in range(ways)])
        return lambda query_x: -torch.cdist(self.count(query_x), means)

    def spikes_per_sample(self):
        return self.spikes / self.samples


# [learn2learn]
from torch.nn.functional import cross_entropy


class FromLearn2Learn:
    """A model in learn2learn.algorithms.MAML; a clone takes a few inner steps per episode."""

    representation = "sum"

    def __init__(self, maml, steps=1):
        self.maml, self.steps = maml, steps

    def adapt(self, support_x, support_y, ways):
        learner = self.maml.clone()
        for _ in range(self.steps):
            learner.adapt(cross_entropy(learner(support_x), support_y))
        return learner

    def parameters(self):
        return self.maml.parameters()
