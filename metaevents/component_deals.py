"""The deals of `novel-components`: which labels train, validate and test.

A deal divides the labels of a dataset among train, val and test, so that no label of a test class
occurs in training. One deal says little, because some labels are easier than others. Each dataset
with the class split `novel-components` therefore has ten deals. The first is `novel-components`
itself, which the dataset's rules state. The others, `novel-components-2` to `novel-components-10`,
are in `metaevents/data/component-deals.json`, which `draw_deal` reproduces.

The deals are not part of the fingerprint: archives do not depend on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from metaevents.rng import Streams

FIRST_DEAL = "novel-components"
"""Name of the first deal."""

N_DEALS = 10
"""Number of deals of a dataset."""

DEALS = (FIRST_DEAL, *(f"{FIRST_DEAL}-{number}" for number in range(2, N_DEALS + 1)))
"""The names of all deals, as class splits."""

Deal = Mapping[str, tuple[str, ...]]
"""Split -> its labels, sorted."""


def deal_number(class_split: str) -> int | None:
    """Return the number of a deal, from 1, or None if a class split is no deal.

    Args:
        class_split: Name of a class split.
    """
    return DEALS.index(class_split) + 1 if class_split in DEALS else None


@cache
def further_deals(dataset: str) -> Mapping[str, Deal]:
    """Return the deals of a built-in dataset that its rules do not state, by name.

    Args:
        dataset: Name of the dataset, such as "double-nmnist".

    Returns:
        Name of the deal -> split -> labels; empty for a dataset without `novel-components`.
    """
    source = files("metaevents") / "data" / "component-deals.json"
    stated = json.loads(source.read_text("utf-8"))["deals"].get(dataset, {})
    return {
        name: {split: tuple(labels.split()) for split, labels in by_split.items()}
        for name, by_split in stated.items()
    }


def draw_deal(dataset: str, first: Mapping[str, Sequence[str]], number: int) -> Deal:
    """Draw a deal of a dataset's labels.

    The labels, sorted, are shuffled by stream `number` of the Philox streams (`metaevents.rng`)
    whose key has the dataset's name and the sizes of the splits. Train takes the first ones, val
    the next and test the last.

    Args:
        dataset: Name of the dataset.
        first: The first deal: split -> its labels. All deals have as many labels per split.
        number: Number of the deal, from 2.
    """
    labels = sorted(label for part in first.values() for label in part)
    sizes = [len(part) for part in first.values()]
    streams = Streams({"component deal": 1, "dataset": dataset, "sizes": sizes})
    shuffled = streams(number).choose(labels, len(labels))
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    return {
        split: tuple(sorted(shuffled[end - size : end]))
        for split, size, end in zip(first, sizes, ends, strict=True)
    }
