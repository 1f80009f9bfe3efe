"""Training runs: steps, validation, checkpoints, and going on where a run stopped.

A run lives in a folder: `config.json`, `log.jsonl` (a line for every validation), `best.safetensors` (the weights of the best
validation, which is what counts) and `last/` with the newest checkpoint: weights, optimizer state and a `state.json` that
names them and is replaced last. Everything drawn at random follows from the seed and the number of the step, so a run that
is killed goes on bit for bit as if it had not been.

Started by `torchrun`, the tasks (or samples) of every step are shared among the processes and gradients summed.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baselines.config import RunConfig
from baselines.data import SampleStream, random_shift
from baselines.learners import transfer_learner
from baselines.maml import MAML
from baselines.transfer import Transfer
from metaevents.datasets import ComposedDataset
from metaevents.episodes import EpisodeLoader
from metaevents.rng import Streams

_HELD_OUT = 200  # samples of recordings kept aside that pre-training reports on

_ENDLESS = 2**31  # episodes of a training stream; steps say how many are drawn


class Objective(Protocol):
    """What is trained: gives gradients for a step and a learner to validate."""

    module: nn.Module
    learner: MAML | Transfer
    samples: int

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        """Add to every parameter's `grad` the sum over a share of the step's samples; their summed loss and accuracy."""
        ...

    def batch(self) -> Tensor:
        """Samples to set the weights from."""
        ...

    def measure(self) -> dict[str, float]:
        """Figures beside validation."""
        ...


class _Meta:
    def __init__(self, config: RunConfig, train: ComposedDataset, device: torch.device) -> None:
        self.module = self.learner = config.meta_learner(config.network(train.frame_shape)).to(
            device
        )
        self.samples = config.meta_batch_size
        self._shift = _Shift(config, train)
        self._tasks = EpisodeLoader(
            train, config.ways, config.shots, config.queries, episodes=_ENDLESS, seed=config.seed,
            representation=self.learner.representation,
        )  # fmt: skip

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        episodes = [self._tasks[step * self.samples + task] for task in share]
        device = self.learner.device
        x = [
            torch.stack(
                [self._shift(getattr(e, f"{part}_x"), (e.index, part)) for e in episodes]
            ).to(device)
            for part in ("support", "query")
        ]
        y = [
            torch.stack([getattr(e, f"{part}_y") for e in episodes]).to(device)
            for part in ("support", "query")
        ]
        outcome = self.learner.accumulate(x[0], y[0], x[1], y[1])
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(len(episodes))
        return outcome.loss * len(episodes), outcome.accuracy * len(episodes)

    def batch(self) -> Tensor:
        x: Tensor = self._tasks[0].query_x
        return x.to(self.learner.device)

    def measure(self) -> dict[str, float]:
        return {}


class _Supervised:
    def __init__(self, config: RunConfig, train: ComposedDataset, device: torch.device) -> None:
        self.net = config.network(train.frame_shape, ways=len(train)).to(device)
        self.module: nn.Module = self.net
        self.learner = transfer_learner(config, self.net)
        self.samples = config.batch_size
        self._shift = _Shift(config, train)
        self._stream = SampleStream(
            train, self.net.representation, config.holdout_every, config.seed
        )

    def accumulate(self, step: int, share: range) -> tuple[Tensor, Tensor]:
        x, y = self._stream.batch(step, self.samples)
        x = self._shift(x, (step, "batch"))
        own = list(share)
        x, y = x[own].to(self.learner.device), y[own].to(self.learner.device)
        logits = self.net(x)
        loss = cross_entropy(logits, y, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), (logits.argmax(-1) == y).sum().float()

    def batch(self) -> Tensor:
        return self._stream.batch(0, 64)[0].to(self.learner.device)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Accuracy on the train classes, on samples of recordings that were kept aside."""
        if not self._stream.has_held_out:
            return {}
        x, y = self._stream.held_out(_HELD_OUT)
        told = torch.cat(
            [self.net(part.to(self.learner.device)).argmax(-1).cpu() for part in torch.split(x, 16)]
        )
        return {"held_out_accuracy": float((told == y).double().mean())}


class _Shift:
    """Moves the recordings of training samples at random; each part of each step has draws of its own."""

    def __init__(self, config: RunConfig, train: ComposedDataset) -> None:
        self._most, self._seed = config.shift, config.seed
        self._sides = train.rules.composition.arity

    def __call__(self, x: Tensor, what: object) -> Tensor:
        return random_shift(
            x, self._sides, self._most, Streams({"shift": 1, "seed": self._seed, "of": what})(0)
        )


OBJECTIVES: dict[str, Any] = {"maml": _Meta, "transfer": _Supervised}
