"""What is trained: the gradients of each step, and the learner that is validated.

`MetaObjective` meta-learns on episodes; `SupervisedObjective` trains on all train classes, and
`ComponentObjective` on the components that they consist of.
Samples and random shifts are a function of the seed and the number of the step. Steps, validation
and checkpoints are in `baselines.training.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baselines.components import ComponentMatching
from baselines.config import RunConfig
from baselines.data import ComponentStream, SampleStream, random_shift
from baselines.maml import MAML, TaskBatch
from baselines.models import build_frozen, build_maml, build_network
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
    def learner(self) -> MAML | Transfer | ComponentMatching:
        """The learner that is validated; shares its parameters with `module`."""
        ...

    def load(self, step: int, share: range) -> tuple[Tensor, ...]:
        """Return a share of a step's samples and labels, on the device.

        Args:
            step: Number of the step, from 0.
            share: Which of the step's samples, among 0 .. `samples` - 1.
        """
        ...

    def gradients(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradients of some samples to every parameter's `grad`.

        Args:
            batch: What `load` returned.

        Returns:
            Loss [] and accuracy [], summed over the samples, as the gradients are.
        """
        ...

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """Return `gradients` of what `load` returns."""
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
        one_side = config.kind.method == "components"
        self._sides = 1 if one_side else train.rules.composition.arity

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
            device=_filling_device(device),
        )

    def load(self, step: int, share: range) -> TaskBatch:
        """See `Objective.load`; support, support labels, queries and their labels."""
        episodes = [self._episodes[step * self.samples + task] for task in share]
        return TaskBatch(
            support_x=self._samples(episodes, "support"),
            support_y=self._labels(episodes, "support"),
            query_x=self._samples(episodes, "query"),
            query_y=self._labels(episodes, "query"),
        )

    def gradients(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective.gradients`."""
        outcome = self.learner.accumulate(TaskBatch(*batch))
        tasks = len(batch[0])
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(tasks)
        return outcome.loss * tasks, outcome.accuracy * tasks

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """See `Objective.accumulate`."""
        return self.gradients(*self.load(step, share))

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
        self.net = net or self._new_network(config, train).to(device)
        self.module: nn.Module = self.net
        self.learner = build_frozen(config, self.net)
        self.samples = config.batch_size
        self._shift = shift or RandomShift(config, train)
        self._stream = self._new_stream(
            train,
            self.net.representation,
            config.holdout_every,
            config.seed,
            _filling_device(device),
        )

    _new_stream: type[SampleStream] = SampleStream

    def _new_network(self, config: RunConfig, train: ComposedDataset) -> SpikingNet | ConvNet:
        """Return a network with one output per train class."""
        return build_network(config, train.frame_shape, ways=len(train))

    def load(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """See `Objective.load`; samples and class indices."""
        x, y = self._stream.batch(step, self.samples)
        x = self._shift(x, step, "batch")
        part = slice(share.start, share.stop, share.step)
        x, y = x[part], y[part]
        return x.to(self.learner.device), y.to(self.learner.device)

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """See `Objective.accumulate`."""
        return self.gradients(*self.load(step, share))

    def gradients(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective.gradients`."""
        x, y = batch
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
        return {"held_out_accuracy": float((predicted == y.cpu()).double().mean())}


class ComponentObjective(SupervisedObjective):
    """Supervised training on single sides: whole components, and stitched ones.

    Args:
        config: The run's configuration.
        train: The train split.
        device: Where to compute.
        net: Network to train, with one output per class of a `ComponentStream`; by default a new
            one that the configuration describes.
        shift: Random shifts; by default those of the configuration.
    """

    _new_stream = ComponentStream

    def _new_network(self, config: RunConfig, train: ComposedDataset) -> SpikingNet | ConvNet:
        """Return a network for single sides, with one output per class of the stream."""
        time, polarities, height, width = train.frame_shape
        side = time, polarities, height, width // train.rules.composition.arity
        return build_network(config, side, ways=ComponentStream.n_classes(train))


def _filling_device(device: torch.device) -> torch.device | None:
    """Return the device if it fills frames itself; see `metaevents.EpisodeLoader`."""
    return device if device.type == "cuda" else None


OBJECTIVES: Mapping[str, Callable[[RunConfig, ComposedDataset, torch.device], Objective]] = {
    "maml": MetaObjective,
    "transfer": SupervisedObjective,
    "components": ComponentObjective,
}
"""Method of a model -> its objective."""
