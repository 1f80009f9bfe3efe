"""Training data beside episodes: labelled batches for supervised training, and random shifts.

Batches are pure functions of a seed and their index, so a run that was interrupted resumes exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from metaevents.augmentation import shift_cells
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.rng import Draws, Streams
from metaevents.sampling import sides_of_labels

_HELD_OUT_STREAM = 2**62  # beyond the index of any batch


class SampleStream:
    """Batches of composed samples with class indices, for training on all classes of a split.

    Every `holdout_every`-th recording of a label, in id order, is held out: `batch` never uses it,
    and `held_out` uses only such recordings.

    Args:
        dataset: The train split.
        representation: "frames" or "sum".
        holdout_every: Hold out every n-th recording of a label; 0 holds out none.
        seed: Seed of the stream.

    Attributes:
        has_held_out: Whether the held-out recordings suffice for `held_out`.

    Raises:
        UsageError: a label has too few recordings that are not held out.
    """

    def __init__(
        self, dataset: ComposedDataset, representation: str, holdout_every: int, seed: int
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
        self._training: dict[str, list[int]] = {}
        self._held_out: dict[str, list[int]] = {}
        for label in dataset.labels:
            pool = dataset.pool(label).tolist()
            held_out = pool[holdout_every - 1 :: holdout_every] if holdout_every else []
            self._held_out[label] = held_out
            self._training[label] = [index for index in pool if index not in set(held_out)]
        required = _recordings_per_sample(dataset)
        for label, pool in self._training.items():
            if len(pool) < required[label]:
                raise UsageError(
                    f"{dataset.archive.path} has {len(pool)} recordings of {label!r} for"
                    f" pre-training and a sample needs {required[label]}; build it from more"
                    " recordings, or hold out fewer (--holdout-every)"
                )
        self.has_held_out = all(
            len(pool) >= required[label] for label, pool in self._held_out.items()
        )

    def batch(self, index: int, n: int) -> tuple[Tensor, Tensor]:
        """Return batch `index`: samples [n, ...] float32 and class indices [n] int64."""
        return self._draw(self._streams(index), n, self._training)

    def held_out(self, n: int) -> tuple[Tensor, Tensor]:
        """Return always the same samples of held-out recordings, and class indices; see `batch`."""
        return self._draw(self._streams(_HELD_OUT_STREAM), n, self._held_out)

    def _draw(
        self, draws: Draws, n: int, pools: Mapping[str, Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Return samples and class indices, from recordings of `pools`."""
        classes = [draws.below(len(self.dataset)) for _ in range(n)]
        samples = [self._sample(self.dataset.classes[c], draws, pools) for c in classes]
        return self._stack(samples), torch.from_numpy(np.array(classes, np.int64))

    def _sample(
        self, name: str, draws: Draws, pools: Mapping[str, Sequence[int]]
    ) -> tuple[int, ...]:
        """Return a sample of class `name`: one archive index per side, all different."""
        components = self.dataset.components[name]
        chosen = {
            label: draws.choose(pools[label], len(sides))
            for label, sides in sides_of_labels(components).items()
        }
        return tuple(chosen[label].pop() for label in components)


def _recordings_per_sample(dataset: ComposedDataset) -> dict[str, int]:
    """Return, for each label, the largest number of sides that show it in one sample."""
    return {
        label: max(len(sides_of_labels(c).get(label, ())) for c in dataset.components.values())
        for label in dataset.labels
    }


def random_shift(x: Tensor, sides: int, largest: int, draws: Draws) -> Tensor:
    """Return samples with each side shifted at random on both axes; zeros move in.

    Args:
        x: Samples [n, ..., H, W], with the sides next to each other along W.
        sides: Number of sides.
        largest: Largest shift, in cells; 0 returns `x` itself.
        draws: The random numbers.
    """
    if not largest:
        return x
    out = torch.zeros_like(x)
    width = x.shape[-1] // sides
    for sample, target in zip(x, out, strict=True):
        for left in range(0, width * sides, width):
            down, right = (draws.below(2 * largest + 1) - largest for _ in range(2))
            side = slice(left, left + width)
            shift_cells(sample[..., side], down, right, out=target[..., side])
    return out
