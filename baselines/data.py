"""Transfer learning: a network pre-trained on the train classes, frozen, and a new last layer for every episode.

The features are what arrives at the last layer at the last step: the potentials of the spiking network, the activity of
the other. The new layer is a linear read-out of them, trained by gradient descent on an episode's support. Pre-training
itself, its steps and checkpoints, is for `training`; its samples are drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.rng import Draws, Streams
from metaevents.sampling import alike


class SampleStream:
    """Batches of composed samples of a split's classes; batch i is a pure function of the seed and i.

    Every `aside`-th recording of a label, in id order, is kept out; `held_out` gives samples of those alone. Without
    recordings to keep aside (`aside` 0, or too few) there are none.

    Args:
        dataset: the train split.
        representation: "frames" or "sum".
        aside: keep every so manieth recording of a label; 0 keeps none.
        seed: names the stream.
    """

    def __init__(
        self, dataset: ComposedDataset, representation: str, aside: int, seed: int
    ) -> None:
        self.dataset = dataset
        self._stack = {"frames": dataset.stack_frames, "sum": dataset.stack_sums}[representation]
        self._streams = Streams(
            {
                "supervised": 1,
                "fingerprint": dataset.fingerprint,
                "split": dataset.split,
                "seed": seed,
            }
        )
        self._own: dict[str, list[int]] = {}
        self._aside: dict[str, list[int]] = {}
        for label in dataset.labels:
            pool = dataset.pool(label).tolist()
            self._aside[label] = pool[aside - 1 :: aside] if aside else []
            self._own[label] = [index for index in pool if index not in set(self._aside[label])]
        sides = {
            label: max(len(alike(c).get(label, ())) for c in dataset.components.values())
            for label in dataset.labels
        }
        short = [label for label, pool in self._own.items() if len(pool) < sides[label]]
        if short:
            raise UsageError(
                f"{dataset.archive.path} has {len(self._own[short[0]])} recordings of {short[0]!r} to pre-train on and "
                f"{sides[short[0]]} are needed; build it from more recordings, or keep fewer aside"
            )
        self.has_held_out = all(len(pool) >= sides[label] for label, pool in self._aside.items())

    def batch(self, index: int, n: int) -> tuple[Tensor, Tensor]:
        """Batch `index`: samples [n, ...] float32 and class indices [n]."""
        return self._draw(self._streams(index), n, self._own)

    def held_out(self, n: int) -> tuple[Tensor, Tensor]:
        """The same `n` samples always, of recordings that no batch holds."""
        return self._draw(self._streams(2**62), n, self._aside)

    def _draw(self, draws: Draws, n: int, pools: dict[str, list[int]]) -> tuple[Tensor, Tensor]:
        classes = [draws.below(len(self.dataset)) for _ in range(n)]
        samples = [self._sample(self.dataset.classes[c], draws, pools) for c in classes]
        return self._stack(samples), torch.from_numpy(np.array(classes, np.int64))

    def _sample(self, name: str, draws: Draws, pools: dict[str, list[int]]) -> tuple[int, ...]:
        components = self.dataset.components[name]
        chosen = {
            label: draws.choose(pools[label], len(places))
            for label, places in alike(components).items()
        }
        return tuple(chosen[label].pop() for label in components)


def random_shift(x: Tensor, sides: int, most: int, draws: Draws) -> Tensor:
    """Samples [n, ..., H, W] with each of their `sides` moved by up to `most` cells on both axes, at random; zeros move in."""
    if not most:
        return x
    out = torch.zeros_like(x)
    height, width = x.shape[-2], x.shape[-1] // sides
    for sample, target in zip(x, out, strict=True):
        for left in range(0, width * sides, width):
            down, right = (draws.below(2 * most + 1) - most for _ in range(2))
            rows, columns = (
                _overlapping(size, by) for size, by in ((height, down), (width, right))
            )
            source, place = sample[..., left : left + width], target[..., left : left + width]
            place[..., rows[1], columns[1]] = source[..., rows[0], columns[0]]
    return out


def _overlapping(size: int, by: int) -> Sequence[slice]:
    """Of an axis that is moved: what stays within it, before and after."""
    return slice(max(0, -by), size - max(0, by)), slice(max(0, by), size - max(0, -by))
