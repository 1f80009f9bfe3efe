"""A split as supervised data: a map-style torch dataset, as other libraries take it.

`metaevents.datasets.ComposedDataset.as_classification` draws the samples. Importing this module
imports torch, because the class derives from torch's `Dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from metaevents.arguments import shown, whole_number
from metaevents.errors import UsageError
from metaevents.sampling import Sample

if TYPE_CHECKING:
    import torch

    from metaevents.datasets import ComposedDataset


class ClassificationDataset(Dataset[tuple[Any, Any]]):
    """A split as supervised data: a map-style torch dataset of (frames, class index).

    It has the attributes of torchvision's datasets, so other libraries find what they look for.

    Args:
        dataset: The split.
        samples: The items, class by class.
        pairs_per_class: Items per class.
        dtype: Of the frames; see `ComposedDataset.frames`.
        bins: Number of time bins; see `ComposedDataset.stack_frames`.
        transform: Applied to the frames of every item.
        target_transform: Applied to the class index of every item; `targets` stays as it is.

    Attributes:
        dataset: The split.
        classes: Class names; an item's label is an index into them.
        class_to_idx: Class name -> label.
        targets: The label of every item, as a list.
        samples: The archive indices of every item's recordings, one per side.
        transform: As given; may be changed.
        target_transform: As given; may be changed.

    Example:
        data = dataset.as_classification(pairs_per_class=20, seed=0)
        train, holdout = torch.utils.data.random_split(data, [0.9, 0.1])
    """

    def __init__(
        self,
        dataset: ComposedDataset,
        samples: Sequence[Sample],
        pairs_per_class: int,
        dtype: torch.dtype | None,
        bins: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        for name, given in (("transform", transform), ("target_transform", target_transform)):
            if not (given is None or callable(given)):
                raise UsageError(f"{name}={shown(given)} cannot be called; give a function")
        self.dataset = dataset
        self.classes = dataset.classes
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples = samples
        self.targets = [index // pairs_per_class for index in range(len(samples))]
        self.transform, self.target_transform = transform, target_transform
        self._dtype, self._bins = dtype, bins

    def __len__(self) -> int:
        """The number of items."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return (frames [T, P, H, W], label) of an item, transformed.

        Args:
            index: Place of the item; negative ones count from the end.

        Raises:
            IndexError: There is no such item.
            UsageError: The index is no whole number, such as a slice.
        """
        index = self._place(index)
        x: Any = self.dataset.stack_frames([self.samples[index]], self._dtype, self._bins)[0]
        y: Any = self.targets[index]
        if self.transform is not None:
            x = self.transform(x)
        if self.target_transform is not None:
            y = self.target_transform(y)
        return x, y

    def __repr__(self) -> str:
        return f"<{len(self)} labeled samples of {self.dataset!r}>"

    def get_labels(self) -> list[int]:
        """Return the label of every item: `targets`, by the name that easyfsl asks for."""
        return self.targets

    def ids(self, index: int) -> tuple[str, ...]:
        """Return the recording ids of an item, left to right.

        Args:
            index: Place of the item.
        """
        return self.dataset.name_samples([self.samples[self._place(index)]])[0]

    def _place(self, index: int) -> int:
        """Return the place of an item, from 0; negative indices count from the end."""
        if isinstance(index, slice):
            raise UsageError(
                f"{index} is no index of one item; "
                "for a part, use torch.utils.data.Subset(dataset, range(start, stop))"
            )
        index = whole_number("index", index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {shown(index)} of {len(self)}")
        return index % len(self)
