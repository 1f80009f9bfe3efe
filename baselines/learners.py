"""Trained baselines as learners for `metaevents.evaluate`, from a run's folder, a weights file or the weights that ship.

A learner knows what its weights were trained on: it refuses a test that overlaps with that, or, forced, says so in the
report. Training is for `training`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.config import MODELS, RunConfig
from baselines.maml import MAML
from baselines.networks import ConvNet, SpikingNet
from baselines.provenance import Record
from baselines.transfer import Transfer
from baselines.weights_file import Weights, fill, read_weights
from metaevents.datasets import ComposedDataset
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike

SHIPPED = Path(__file__).parent / "weights"


class Baseline:
    """A trained model as a learner.

    Attributes:
        model: the module that learns: `MAML` or `Transfer`.
        config, record: how it was trained, and on what.
        representation, layout, dtype, device: how it wants its input.
    """

    def __init__(
        self, model: MAML | Transfer, config: RunConfig, record: Record, force: bool = False
    ) -> None:
        self.model, self.config, self.record, self._force = model, config, record, force
        self.representation, self.layout, self.dtype = (
            model.representation,
            model.layout,
            model.dtype,
        )

    @property
    def device(self) -> torch.device:
        return self.model.device

    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Callable[[Tensor], Tensor]:
        """Learn from support samples [n, ...] and labels [n]: a function of queries [m, ...] -> logits [m, ways]."""
        return self.model.adapt(support_x, support_y, ways)

    def parameters(self) -> Any:
        return self.model.parameters()

    def seen(self) -> dict[str, Any]:
        """What an entry says of the weights' past."""
        return {**self.record.summary(), "config": self.config.to_dict()}

    def overlap(self, dataset: ComposedDataset) -> str | None:
        """What of a test the weights have seen; None for nothing.

        With pairing "published" the test draws from recordings that validation draws from, by its definition; weights chosen
        on validation are marked there and not refused.

        Raises:
            UsageError: there is overlap, and the learner was not loaded with `force`.
        """
        found = self.record.overlap(dataset)
        by_definition = dataset.pairing == "published" and all(
            "to choose" in phrase for phrase in found
        )
        if found and not self._force and not by_definition:
            raise UsageError(
                f"the weights have seen the {dataset.split} split of {dataset.name} ({dataset.class_split}, pairing "
                f"{dataset.pairing}): {'; '.join(found)}; train with classes={dataset.class_split!r}, or force it, and the "
                "report is marked"
            )
        return "; ".join(found) or None


def load(
    name: PathLike,
    dataset: str = "double-nmnist",
    *,
    classes: str = "published",
    ways: int = 5,
    recipe: str = "best",
    device: str = "cpu",
    force: bool = False,
) -> Baseline:
    """A trained baseline, ready for `metaevents.evaluate`.

    Args:
        name: a baseline whose weights ship ("snn-maml"), a run's folder, or a weights file.
        dataset, classes, ways, recipe: which of the weights that ship; not asked of folders and files. Transfer learning takes
            any number of ways.
        device: where it computes.
        force: evaluate also on what the weights have seen; the report is then marked.

    Raises:
        MissingError: nothing of that name; says what there is.
        UsageError: a file that is not one of ours, or of another architecture.
    """
    if str(name) in MODELS:
        path = SHIPPED / RunConfig(str(name), recipe, dataset, classes=classes, ways=ways).file_name
        if not path.is_file():
            there = sorted(
                file.name.removesuffix(".safetensors") for file in SHIPPED.glob("*.safetensors")
            )
            raise MissingError(
                f"no weights of {name} ({recipe}) for {dataset}, classes {classes}, {ways} ways ship with this release; it has "
                f"{', '.join(there) or 'none'}; train some with `python -m baselines train {name}`"
            )
    else:
        path = Path(name).expanduser()
        path = path / "best.safetensors" if path.is_dir() else path
    return from_weights(read_weights(path), path, device=device, force=force)


def from_weights(
    weights: Weights, path: PathLike, *, device: str = "cpu", force: bool = False
) -> Baseline:
    """The learner that has these weights; `path` is for messages."""
    config, record = weights.config, weights.record
    if config.kind.method == "maml":
        maml = config.meta_learner(config.network(record.frame_shape))
        fill(maml, weights, path)
        return Baseline(maml.to(device), config, record, force)
    net = config.network(record.frame_shape, ways=len(weights.tensors["head.bias"]))
    fill(net, weights, path)
    return Baseline(transfer_learner(config, net.to(device)), config, record, force)


def transfer_learner(config: RunConfig, net: SpikingNet | ConvNet) -> Transfer:
    return Transfer(net, config.head_steps, config.head_lr, config.head_weight_decay)
