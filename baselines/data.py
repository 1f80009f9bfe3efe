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
        gpu: A GPU that fills the samples itself; None fills them in main memory.

    Attributes:
        has_held_out: Whether the held-out recordings suffice for `held_out`.

    Raises:
        UsageError: a label has too few recordings that are not held out.
    """

    def __init__(
        self,
        dataset: ComposedDataset,
        representation: str,
        holdout_every: int,
        seed: int,
        gpu: torch.device | None = None,
    ) -> None:
        self.dataset, self._summed, self._gpu = dataset, representation == "sum", gpu
        self._stack = dataset.stack_sums if self._summed else dataset.stack_frames
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
        return self._filled(samples, classes)

    def _filled(
        self, samples: Sequence[tuple[int, ...]], classes: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return samples, given by archive indices, and their classes as tensors."""
        labels = np.array(classes, np.int64)
        if self._gpu is not None:
            return self.dataset.stack_on(self._gpu, samples, summed=self._summed, extra=labels)
        return self._stack(samples), torch.from_numpy(labels)

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


_MOST_STITCHED = 500  # about the number of classes up to which all pairs of components are stitched


class ComponentStream(SampleStream):
    """Batches of single sides, some stitched from two components, with their classes.

    A few components teach a network to tell these few apart and little else. So a side is a whole
    recording, or its lower or right half is that of a recording of another component. Each
    component and each ordered pair of components, cut in either way, is a class. The network has to
    describe parts then, of which components that it never saw consist too.

    Where components are many, each is stitched with some others alone, so that there are not many
    more classes than components. A one-dimensional sensor is cut in one way.

    For the arguments see `SampleStream`.
    """

    @staticmethod
    def n_classes(dataset: ComposedDataset) -> int:
        """Return the number of classes.

        Args:
            dataset: The train split.
        """
        labels, partners, cuts = _stitching(dataset)
        return labels * (1 + partners * cuts)

    def _draw(
        self, draws: Draws, n: int, pools: Mapping[str, Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Return single sides [n, ..., H, W / sides] and their classes, from recordings of `pools`.

        Class c is component c whole. Above these, each component has `partners` classes per cut.
        """
        labels, partners, cuts = _stitching(self.dataset)
        firsts, seconds, cut_axes, classes = [], [], [], []
        for _ in range(n):
            label, offset, cut = draws.below(labels), draws.below(partners + 1), draws.below(cuts)
            other = (label + offset) % labels
            firsts.append(draws.choose(pools[self.dataset.labels[label]], 1)[0])
            seconds.append(draws.choose(pools[self.dataset.labels[other]], 1)[0])
            cut_axes.append(cut if offset else -1)
            stitched = labels + (label * partners + offset - 1) * cuts + cut
            classes.append(stitched if offset else label)
        sides = self.dataset.rules.composition.arity
        # A sample with a recording on every side shows it, cell for cell, on the left.
        x, y = self._filled([(index,) * sides for index in firsts + seconds], classes)
        x = x[..., : x.shape[-1] // sides]
        height, width = x.shape[-2:]
        replaced = torch.zeros(n, height, width, dtype=torch.bool, device="cpu")
        for mask, cut in zip(replaced, cut_axes, strict=True):
            if cut == 0:
                mask[:, width // 2 :] = True
            elif cut == 1:
                mask[height // 2 :] = True
        mask = replaced.view(n, *[1] * (x.dim() - 3), height, width).to(x.device)
        return torch.where(mask, x[n:], x[:n]), y


def _stitching(dataset: ComposedDataset) -> tuple[int, int, int]:
    """Return the numbers of labels, of other labels that each is stitched with, and of cuts."""
    labels, (_, _, height, width) = len(dataset.labels), dataset.frame_shape
    cuts = (width // dataset.rules.composition.arity > 1) + (height > 1)
    return labels, min(labels - 1, _MOST_STITCHED // labels) if cuts else 0, max(1, cuts)


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
    drawn = draws.below_times(2 * largest + 1, 2 * sides * len(x))
    shifts = np.array(drawn, np.int64).reshape(len(x), sides, 2) - largest
    if x.device.type != "cpu":
        return _shifted_at_once(x, shifts)
    out = torch.zeros_like(x)
    width = x.shape[-1] // sides
    for sample, target, of_sample in zip(x, out, shifts.tolist(), strict=True):
        for number, (down, right) in enumerate(of_sample):
            side = slice(number * width, (number + 1) * width)
            shift_cells(sample[..., side], down, right, out=target[..., side])
    return out


def _shifted_at_once(x: Tensor, shifts: np.ndarray) -> Tensor:
    """Return samples [n, ..., H, W] with each side shifted as by `shift_cells`, in few operations.

    Args:
        x: The samples.
        shifts: [n, sides, 2] cells to shift down and right.
    """
    (height, total), (n, sides, _) = x.shape[-2:], shifts.shape
    width = total // sides
    # As in `shift_cells`, an axis of one cell is never shifted.
    down = shifts[:, :, 0] * (height > 1)
    right = shifts[:, :, 1] * (width > 1)
    row = np.arange(height)[:, None, None] - down[:, None, :, None]
    column = np.arange(width) - right[:, None, :, None]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    left = (np.arange(sides) * width)[:, None]
    source = np.full((n, height, total), -1, np.int64)
    source[:, :, : sides * width] = np.where(inside, row * total + left + column, -1).reshape(
        n, height, sides * width
    )
    index = torch.from_numpy(source.reshape(n, 1, height * total))
    index = index.pin_memory().to(x.device, non_blocking=True) if x.is_cuda else index.to(x.device)
    cells = x.reshape(n, -1, height * total)
    moved = cells.gather(2, index.clamp(min=0).expand(cells.shape))
    return (moved * (index >= 0)).view(x.shape)
