"""What is trained: the gradients of each step, and the learner that is validated.

`MetaObjective` meta-learns on episodes; `SupervisedObjective` pre-trains on all train classes.
Samples and random shifts are a function of the seed and the number of the step. Steps, validation
and checkpoints are in `baselines.training.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baselines.config import RunConfig
from baselines.data import SampleStream, random_shift
from baselines.maml import MAML, TaskBatch
from baselines.models import build_maml, build_network, build_transfer
from baselines.networks import ConvNet, SpikingNet
from baselines.transfer import Transfer
from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode, EpisodeLoader
from metaevents.rng import Streams

_HELD_OUT = 200  # held-out samples that pre-training reports its accuracy on

_INITIAL_BATCH = 64  # samples that pre-training scales its initial weights by

_ENDLESS = 2**31  # episodes of a training stream; the number of steps decides how many are drawn


class Objective(Protocol):
    """What a training run trains.

    Attributes:
        module: Holds the parameters.
        samples: Number of samples (or tasks) of a step, over all processes.
    """

    module: nn.Module
    samples: int

    @property
    def learner(self) -> MAML | Transfer:
        """The learner that is validated; shares its parameters with `module`."""
        ...

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """Add the gradients of a share of a step's samples to every parameter's `grad`.

        Args:
            step: Number of the step, from 0.
            share: Which of the step's samples, among 0 .. `samples` - 1.

        Returns:
            Loss [] and accuracy [], summed over the share, as the gradients are.
        """
        ...

    def batch(self) -> Tensor:
        """Return samples [n, ...] by which the initial weights are scaled."""
        ...

    def measure(self) -> dict[str, float]:
        """Return what the log reports beside the validation accuracy."""
        ...


class RandomShift:
    """Shifts each recording of the training samples at random.

    Args:
        config: Gives the seed and the largest shift.
        train: The train split.
    """

    def __init__(self, config: RunConfig, train: ComposedDataset) -> None:
        self._largest, self._seed = config.shift, config.seed
        self._sides = train.rules.composition.arity

    def __call__(self, x: Tensor, index: object, part: str) -> Tensor:
        """Return shifted samples.

        Args:
            x: Samples [n, ..., H, W].
            index: Number of the episode or batch, an int.
            part: "support", "query" or "batch"; each has its own draws.
        """
        return random_shift(
            x, self._sides, self._largest, Streams(self.key(self._seed, index, part))(0)
        )

    def key(self, seed: int, index: object, part: str) -> object:
        """Return the key of the random stream that draws the shifts."""
        return {"shift": 1, "seed": seed, "of": (index, part)}


class MetaObjective:
    """Meta-learning: each step averages the meta-gradients of `meta_batch_size` tasks.

    Args:
        config: The run's configuration.
        train: The train split.
        device: Where to compute.
        learner: Learner to train; by default a new one that the configuration describes.
        shift: Random shifts; by default those of the configuration.
    """

    def __init__(
        self,
        config: RunConfig,
        train: ComposedDataset,
        device: torch.device,
        *,
        learner: MAML | None = None,
        shift: RandomShift | None = None,
    ) -> None:
        maml = learner or build_maml(config, build_network(config, train.frame_shape)).to(device)
        self.module: nn.Module = maml
        self.learner = maml
        self.samples = config.meta_batch_size
        self._shift = shift or RandomShift(config, train)
        self._episodes = EpisodeLoader(
            train,
            config.ways,
            config.shots,
            config.queries,
            episodes=_ENDLESS,
            seed=config.seed,
            representation=maml.representation,
        )

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """See `Objective.accumulate`. Several tasks run as one batch."""
        episodes = [self._episodes[step * self.samples + task] for task in share]
        batch = TaskBatch(
            support_x=self._samples(episodes, "support"),
            support_y=self._labels(episodes, "support"),
            query_x=self._samples(episodes, "query"),
            query_y=self._labels(episodes, "query"),
        )
        outcome = self.learner.accumulate(batch)
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(len(episodes))
        return outcome.loss * len(episodes), outcome.accuracy * len(episodes)

    def _samples(self, episodes: list[Episode], part: str) -> Tensor:
        """Return the shifted samples of a part of the episodes, [tasks, n, ...]."""
        shifted = [self._shift(getattr(e, f"{part}_x"), e.index, part) for e in episodes]
        return torch.stack(shifted).to(self.learner.device)

    def _labels(self, episodes: list[Episode], part: str) -> Tensor:
        """Return the labels of a part of the episodes, [tasks, n]."""
        return torch.stack([getattr(e, f"{part}_y") for e in episodes]).to(self.learner.device)

    def batch(self) -> Tensor:
        """Return the queries of the first training episode."""
        x: Tensor = self._episodes[0].query_x
        return x.to(self.learner.device)

    def measure(self) -> dict[str, float]:
        """Return nothing: validation says it all."""
        return {}


class SupervisedObjective:
    """Supervised pre-training: classification of all train classes, `batch_size` samples per step.

    Args:
        config: The run's configuration.
        train: The train split.
        device: Where to compute.
        net: Network to train, with one output per train class; by default a new one that the
            configuration describes.
        shift: Random shifts; by default those of the configuration.
    """

    def __init__(
        self,
        config: RunConfig,
        train: ComposedDataset,
        device: torch.device,
        *,
        net: SpikingNet | ConvNet | None = None,
        shift: RandomShift | None = None,
    ) -> None:
        self.net = net or build_network(config, train.frame_shape, ways=len(train)).to(device)
        self.module: nn.Module = self.net
        self.learner = build_transfer(config, self.net)
        self.samples = config.batch_size
        self._shift = shift or RandomShift(config, train)
        self._stream = SampleStream(
            train, self.net.representation, config.holdout_every, config.seed
        )

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """See `Objective.accumulate`."""
        x, y = self._stream.batch(step, self.samples)
        x = self._shift(x, step, "batch")
        indices = list(share)
        x, y = x[indices].to(self.learner.device), y[indices].to(self.learner.device)
        with torch.enable_grad():
            logits = self.net(x)
            loss = cross_entropy(logits, y, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), (logits.argmax(-1) == y).sum().float()

    def batch(self) -> Tensor:
        """Return the first training samples."""
        return self._stream.batch(0, _INITIAL_BATCH)[0].to(self.learner.device)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return the accuracy on held-out recordings of train classes, if there are any."""
        if not self._stream.has_held_out:
            return {}
        x, y = self._stream.held_out(_HELD_OUT)
        predicted = torch.cat(
            [self.net(part.to(self.learner.device)).argmax(-1).cpu() for part in torch.split(x, 16)]
        )
        return {"held_out_accuracy": float((predicted == y).double().mean())}


OBJECTIVES: Mapping[str, Callable[[RunConfig, ComposedDataset, torch.device], Objective]] = {
    "maml": MetaObjective,
    "transfer": SupervisedObjective,
}
"""Method of a model -> its objective."""
