"""Trained baselines as learners for `metaevents.evaluate`.

Weights come from a run's folder, a weights file or the release. A learner refuses a test that
overlaps with what its weights were trained on; if forced, it marks the report. Training is left to
`baselines.training`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.components import ComponentMatching
from baselines.config import MODELS, SAME_WEIGHTS, RunConfig
from baselines.inference_mode import leaves_inference_mode
from baselines.maml import MAML
from baselines.models import build_frozen, build_maml, build_network
from baselines.operations import costs
from baselines.precision import arithmetic
from baselines.provenance import Record
from baselines.released import SHIPPED, released
from baselines.transfer import Transfer
from baselines.weights_file import Weights, fill, read_weights, weights_path
from metaevents.datasets import ComposedDataset
from metaevents.distributed import pick_device
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike

logger = logging.getLogger(__name__)


class Baseline:
    """A trained model as a learner.

    Args:
        model: What learns.
        config: How it was trained.
        record: What it was trained and selected on.
        force: Accept a test that the weights have seen, and mark the report.

    Attributes:
        model: What learns.
        config: How it was trained.
        record: What it was trained and selected on.
        representation: "frames" or "sum": what it takes.
        layout: Order of the axes that it takes.
        dtype: Type of the numbers that it takes.
    """

    def __init__(
        self,
        model: MAML | Transfer | ComponentMatching,
        config: RunConfig,
        record: Record,
        force: bool = False,
    ) -> None:
        self.model, self.config, self.record, self._force = model, config, record, force
        self.representation = model.representation
        self.layout = model.layout
        self.dtype = model.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.device

    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Callable[[Tensor], Tensor]:
        """Learn from a support set.

        Args:
            support_x: Support samples [n, ...].
            support_y: Labels [n] int64 in 0 .. ways - 1.
            ways: Number of classes.

        Returns:
            A function of queries [m, ...] that returns logits [m, ways].

        Raises:
            UsageError: A MAML network has another number of outputs than `ways`.
        """
        precision = self.config.precision
        with arithmetic(precision):
            classifier = self.model.adapt(support_x, support_y, ways)

        def classify(query_x: Tensor) -> Tensor:
            with arithmetic(precision):
                return classifier(query_x)

        return classify

    def costs(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, ways: int
    ) -> dict[str, Any]:
        """Return spikes, operations and memory of one sample and of one adaptation.

        Args:
            support_x: Support samples [n, ...].
            support_y: Labels [n] int64 in 0 .. ways - 1.
            query_x: Queries [m, ...], the samples.
            ways: Number of classes.

        Returns:
            The costs by name; see `operations.costs`.

        Raises:
            UsageError: A MAML network has another number of outputs than `ways`.
        """
        return costs(self.model, support_x, support_y, query_x, ways)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Return the parameters, which the report counts."""
        return self.model.parameters()

    def seen(self) -> dict[str, Any]:
        """Return what an entry says of the training: the record's summary and the configuration."""
        return {**self.record.summary(), "config": self.config.to_dict()}

    def overlap(self, dataset: ComposedDataset) -> str | None:
        """Return what of a test split the weights have seen.

        With pairing "published" the test draws from recordings of the val split, by its definition.
        Weights that were selected on the val split are therefore marked there, not refused.

        Args:
            dataset: The test split.

        Returns:
            Phrases joined by "; ", or None if the weights have seen nothing of it.

        Raises:
            UsageError: There is overlap, and the learner was not loaded with `force`.
        """
        phrases = self.record.overlap(dataset)
        by_definition = dataset.pairing == "published" and all(
            "to choose" in phrase for phrase in phrases
        )
        if phrases and not self._force and not by_definition:
            wanted = {"classes": dataset.class_split, "pairing": dataset.pairing}
            differs = [
                f"with {name}={value!r}"
                for name, value in wanted.items()
                if getattr(self.config, name) != value
            ]
            advice = " and ".join(differs) or "on other recordings than those of the test"
            raise UsageError(
                f"the weights have seen the {dataset.split} split of {dataset.name} "
                f"({dataset.class_split}, pairing {dataset.pairing}): {'; '.join(phrases)}; train "
                f"{advice}, or force the evaluation, which marks the report"
            )
        return "; ".join(phrases) or None


def load(
    name: PathLike,
    dataset: str = "double-nmnist",
    *,
    classes: str = "published",
    ways: int = 5,
    recipe: str = "best",
    pairing: str = "all",
    seed: int = 0,
    device: str = "cpu",
    force: bool = False,
) -> Baseline:
    """Load a trained baseline for `metaevents.evaluate`.

    The options `dataset`, `classes`, `ways`, `recipe`, `pairing` and `seed` select among the
    weights that the release contains. They are not used for folders and files. Transfer learning
    and component matching take any number of ways.

    Args:
        name: A baseline of the release ("snn-maml"), a run's folder, or a weights file. A string
            that is a baseline's name means the baseline; for a folder of that name in the working
            folder, give "./snn-maml" or a `Path`.
        dataset: Name of the dataset.
        classes: Class split.
        ways: Number of classes per episode.
        recipe: Name of the configuration.
        pairing: Pairing of the training; the test may have another one.
        seed: Seed of the training; 0 is the first one.
        device: Where it computes.
        force: Evaluate also on what the weights have seen; the report is then marked.

    Returns:
        The learner.

    Raises:
        MissingError: There are no such weights; the message lists those of the release.
        UsageError: The file has no record of its training, or is of another architecture.

    Example:
        >>> learner = load("snn-maml", dataset="double-nmnist")
        >>> learner.config.inner_steps
        1
    """
    if not isinstance(name, str) or name not in MODELS:
        path = weights_path(name)
        return from_weights(read_weights(path), path, device=device, force=force)
    if Path(name).exists():
        logger.warning("%s is the baseline of the release; ./%s is the folder here", name, name)
    config = RunConfig(
        name, recipe, dataset, pairing=pairing, classes=classes, ways=ways, seed=seed
    )
    shipped = SHIPPED / config.file_name
    if config.kind.method == "components" and recipe in SAME_WEIGHTS:
        shipped = SHIPPED / replace(config, recipe=SAME_WEIGHTS[0]).file_name
    if not shipped.is_file():
        available = [weights.name for weights in released()]
        raise MissingError(
            f"this release has no weights of {name} ({recipe}) for {dataset}, classes "
            f"{classes}, {ways} ways, training with pairing {pairing} and seed {seed}; it has "
            f"{', '.join(available) or 'none'}; train your own "
            f"with `python -m baselines train {name}`"
        )
    with resources.as_file(shipped) as path:
        weights = read_weights(path)
        weights = replace(weights, config=weights.config.variant(recipe))
        return from_weights(weights, path, device=device, force=force)


@leaves_inference_mode
def from_weights(
    weights: Weights, path: PathLike, *, device: str = "cpu", force: bool = False
) -> Baseline:
    """Return the learner that has these weights.

    Args:
        weights: The weights.
        path: Where they come from, for messages.
        device: Where the learner computes.
        force: Evaluate also on what the weights have seen; the report is then marked.

    Raises:
        UsageError: The tensors do not fit the configuration, or there is no such device.
    """
    config, record = weights.config, weights.record
    place = pick_device(str(device))
    logger.info("weights of %s (%s) from %s, on %s", config.model, config.recipe, path, place)
    if config.kind.method == "maml":
        maml = build_maml(config, build_network(config, record.frame_shape, device="meta"))
        fill(maml.to_empty(device=place), weights, path)
        return Baseline(maml, config, record, force)
    ways = len(weights.tensors["head.bias"]) if "head.bias" in weights.tensors else None
    net = build_network(config, record.frame_shape, ways, device="meta")
    fill(net.to_empty(device=place), weights, path)
    return Baseline(build_frozen(config, net), config, record, force)
