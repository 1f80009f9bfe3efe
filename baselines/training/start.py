"""Starting from the weights of another run: its convolutions, with a new last layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from baselines.networks import ConvNet, SpikingNet
from baselines.provenance import Record
from baselines.weights_file import read_weights, weights_path
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.files import PathLike


def start_from_weights(
    net: SpikingNet | ConvNet,
    source: PathLike,
    record: Record,
    untrained: Iterable[ComposedDataset],
) -> Record:
    """Copy the body of trained weights into a network and set its last layer to zero.

    The last layer starts at zero so that all classes start equal.

    Args:
        net: The network; changed in place.
        source: A run's folder or a weights file.
        record: The new run's record.
        untrained: Splits whose classes the weights must not have been trained on: val and test.

    Returns:
        The new run's record, extended by what the weights were trained and selected on.

    Raises:
        MissingError: There are no such weights.
        UsageError: The weights are of another dataset or architecture, or were trained on classes
            of the val or test split.
    """
    path = weights_path(source)
    weights = read_weights(path)
    _check_record(path, weights.record, record, untrained)
    body = {
        name.removeprefix("net."): value
        for name, value in weights.tensors.items()
        if "body." in name
    }
    state = net.state_dict()
    _check_body(path, body, state)
    net.load_state_dict({**state, **body})
    nn.init.zeros_(net.head["weight"])
    nn.init.zeros_(net.head["bias"])
    return replace(
        record,
        trained=record.trained | weights.record.trained,
        chosen=record.chosen | weights.record.chosen,
    )


def _check_record(
    path: Path, source: Record, record: Record, untrained: Iterable[ComposedDataset]
) -> None:
    """Refuse weights of another dataset, and those that have seen classes of val or test."""
    if source.dataset != record.dataset:
        raise UsageError(
            f"{path} was trained on {source.dataset}, but this run is on {record.dataset}; give "
            "weights of the same dataset"
        )
    for split in untrained:
        if source.simulated == record.simulated and set(source.trained.classes) & set(
            split.classes
        ):
            raise UsageError(
                f"{path} was trained on classes of the {split.split} split; give weights trained "
                f"with classes={split.class_split!r}"
            )


def _check_body(path: Path, body: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse a body whose tensors have other names or shapes than the network's."""
    for name in {**state, **body}:
        if "body." in name and _shape(body, name) != _shape(state, name):
            raise UsageError(
                f"{path} is of another architecture: {name} is {_shape(body, name)} there and "
                f"{_shape(state, name)} here; give weights of the same network"
            )


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    """Return the shape of a tensor as text, or "absent"."""
    return str(list(tensors[name].shape)) if name in tensors else "absent"
