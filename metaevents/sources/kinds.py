"""Sources by the name of their kind, as a rules file gives it; see `metaevents.custom_rules`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metaevents.custom_rules import CustomRules, SourceRules
from metaevents.errors import UsageError
from metaevents.events import Events
from metaevents.files import PathLike, user_path
from metaevents.sources.asl_dvs import ASLDVS
from metaevents.sources.base import RecordingRef, Source, source_name
from metaevents.sources.dataset import DatasetSource
from metaevents.sources.folders import FolderDataset
from metaevents.sources.n_omniglot import NOmniglot
from metaevents.sources.nmnist import NMNIST
from metaevents.sources.tonic_datasets import TonicDataset

_OFFICIAL: Mapping[str, Callable[[PathLike], Source]] = {
    "n-mnist": NMNIST,
    "asl-dvs": ASLDVS,
    "n-omniglot": NOmniglot,
}

_TONIC = "tonic:"


def open_recordings(rules: CustomRules, folder: PathLike) -> Source:
    """Return the recordings of a user's own dataset.

    Args:
        rules: The rules, which say what reads the recordings.
        folder: The folder of the recordings; for tonic, the one that was given as `save_to`.

    Returns:
        The recordings. They are named after the official dataset, or after the rules.

    Raises:
        UsageError: The rules name no source or a label that there is none of.
        MissingError: The folder does not exist or holds no recordings.
        RecordingError: The folder does not have the layout of the kind.
    """
    source = rules.source
    if source is None:
        raise UsageError(
            f"the rules of {rules.name} have no field source, expected what reads the recordings, "
            'such as {"kind": "folders"}'
        )
    if source.kind in _OFFICIAL:
        if source.sensor_size is not None:
            raise UsageError(
                f"the rules of {rules.name} give a sensor_size, but {source.kind} has its own; "
                "remove it"
            )
        opened = _OFFICIAL[source.kind](folder)
    elif source.kind.startswith(_TONIC):
        opened = _tonic_source(rules, source, folder)
    else:
        opened = _folder_source(rules, source, folder)
    return opened if source.labels is None else _SelectedLabels(opened, source.labels)


def _folder_source(rules: CustomRules, source: SourceRules, folder: PathLike) -> Source:
    """Return the recordings in a folder per label."""
    dataset = FolderDataset(folder)
    return DatasetSource(
        dataset,
        sensor_size=source.sensor_size,
        labels=list(dict.fromkeys(dataset.targets)),
        name=source_name(user_path(folder), True, rules.name),
        names=dataset.names,
    )


def _tonic_source(rules: CustomRules, source: SourceRules, folder: PathLike) -> Source:
    """Return the recordings of a dataset of tonic."""
    dataset = TonicDataset(source.kind.removeprefix(_TONIC), folder)
    return DatasetSource(
        dataset,
        sensor_size=source.sensor_size,
        labels=sorted(set(dataset.targets)),
        name=source_name(user_path(folder), dataset.complete, rules.name),
        folder=dataset.folders.__getitem__,
        names=dataset.names,
    )


class _SelectedLabels:
    """The recordings of some labels of a source.

    Args:
        source: All recordings.
        labels: The labels to take, in this order.

    Attributes:
        name: The source's name.
        labels: The labels.
        sensor_size: (width, height) in pixels.

    Raises:
        UsageError: The source has no such label.
    """

    def __init__(self, source: Source, labels: tuple[str, ...]) -> None:
        if unknown := [label for label in labels if label not in source.labels]:
            shown = ", ".join(source.labels[:20]) + (", ..." if len(source.labels) > 20 else "")
            raise UsageError(
                f"{source.name} has no recordings of {unknown[0]!r}, which the rules name; its "
                f"labels are {shown}"
            )
        self._source = source
        self.name = source.name
        self.labels = labels
        self.sensor_size = source.sensor_size

    def recordings(self) -> list[RecordingRef]:
        """Return a reference to every recording of these labels."""
        chosen = frozenset(self.labels)
        return [ref for ref in self._source.recordings() if ref.label in chosen]

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """Read one recording; see `Source.read`.

        Args:
            ref: One of `recordings()`.
        """
        return self._source.read(ref)
