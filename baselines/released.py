"""The trained weights that the release contains, without reading them.

Making a learner of them is left to `baselines.learners`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

SHIPPED: Any = resources.files("baselines") / "weights"
"""Folder of the weights that the release contains: a `Path`, unless the package is in a zip."""

_ENDING = ".safetensors"
_NAME = re.compile(
    r"(?P<model>[^.]+)[.](?P<recipe>.+?)[.](?P<dataset>[^.]+)[.](?P<classes>[^.]+)"
    r"([.](?P<ways>[0-9]+)way)?([.](?P<pairing>[^.]+)-pairing)?([.]seed(?P<seed>[0-9]+))?"
    rf"{re.escape(_ENDING)}"
)


@dataclass(frozen=True)
class Released:
    """One file of trained weights.

    Attributes:
        name: Name of the file without its ending.
        model: Name of the baseline.
        recipe: Name of the configuration.
        dataset: Name of the dataset.
        classes: Name of the class split.
        ways: Number of classes per episode; None for any number.
        pairing: Pairing of the training.
        seed: Seed of the training.
    """

    name: str
    model: str
    recipe: str
    dataset: str
    classes: str
    ways: int | None
    pairing: str = "all"
    seed: int = 0


def released() -> Iterator[Released]:
    """Yield the trained weights of the release, in order of name."""
    if not SHIPPED.is_dir():
        return
    names = (file.name for file in SHIPPED.iterdir())
    for name in sorted(names, key=lambda name: name.removesuffix(_ENDING)):
        if match := _NAME.fullmatch(name):
            model, recipe, dataset, classes, ways = match.group(
                "model", "recipe", "dataset", "classes", "ways"
            )
            yield Released(
                name.removesuffix(_ENDING),
                model,
                recipe,
                dataset,
                classes,
                int(ways) if ways else None,
                match["pairing"] or "all",
                int(match["seed"] or 0),
            )
