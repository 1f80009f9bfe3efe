"""Any dataset of (events, label) pairs as a source of recordings: tonic's datasets, or a list of one's own."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from metaevents.errors import UsageError
from metaevents.events import Events, as_events
from metaevents.sources.base import RecordingRef, clean


class DatasetSource:
    """A map-style dataset whose items are (events, label), tonic's datasets among them.

    Args:
        dataset: `len(dataset)` and `dataset[i] -> (events, label)`; events is a structured array with fields x, y, t
            (microseconds) and p. Give it without transforms that change events into something else.
        sensor_size: (width, height, ...) in pixels, as tonic states it.
        labels: the component classes as short strings; a label of the dataset is an index into them, or one of them.
        name: names the origin in the archive.
        targets: the label of every item, where they are known without reading the events; `dataset.targets` by default,
            and failing that every item is read once.
        folder: the official partition folder of every recording ("" for none), such as "Train".

    Raises:
        UsageError: a label that is not among `labels`.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        sensor_size: Sequence[int],
        labels: Sequence[str],
        name: str,
        targets: Sequence[Any] | None = None,
        folder: str | Callable[[int], str] = "",
    ) -> None:
        self.dataset = dataset
        self.sensor_size = (int(sensor_size[0]), int(sensor_size[1]))
        self.labels = tuple(str(label) for label in labels)
        self.name = name
        if targets is None:
            targets = getattr(dataset, "targets", None)
        if targets is None:
            targets = [dataset[i][1] for i in range(len(dataset))]
        if len(targets) != len(dataset):
            raise UsageError(
                f"{len(targets)} targets for {len(dataset)} recordings; give one for each"
            )
        self._recordings = [
            self._ref(i, self._label(target), folder(i) if callable(folder) else folder)
            for i, target in enumerate(targets)
        ]

    def _label(self, target: Any) -> str:
        if isinstance(target, str) and target in self.labels:
            return target
        try:
            index = operator.index(target)
        except TypeError:
            index = -1
        if not 0 <= index < len(self.labels):
            raise UsageError(
                f"label {target!r} is neither one of {self.labels} nor an index into them"
            )
        return self.labels[index]

    @staticmethod
    def _ref(index: int, label: str, folder: str) -> RecordingRef:
        id = f"{folder}/{label}/{index:06d}" if folder else f"{label}/{index:06d}"
        return RecordingRef(id, label, folder, index, index)

    def recordings(self) -> list[RecordingRef]:
        return self._recordings

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """One recording as the dataset gives it, brought in order; see `Source.read`."""
        return clean(as_events(self.dataset[int(ref.location)][0]), self.sensor_size)
