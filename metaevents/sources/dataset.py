"""Any dataset of (events, label) pairs as a source: tonic's datasets, or a list of pairs."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metaevents.arguments import whole_number
from metaevents.errors import MetaeventsError, UsageError, printable
from metaevents.events import EVENT_DTYPE, Events, as_events
from metaevents.sources.base import RecordingRef, repair_events

logger = logging.getLogger(__name__)

_MANY_EVENTS = 1_000  # a recording of fewer events may be a burst
_MAX_RATE = 1_000  # events per pixel and second; recordings of real scenes have some tens


class DatasetSource:
    """A map-style dataset of (events, label) pairs as a source of recordings.

    Args:
        dataset: `len(dataset)` is the number of recordings, `dataset[i]` is (events, label). Events
            are a structured array with fields x, y, t (microseconds) and p or on, so the dataset
            must not have transforms that turn events into something else.
        sensor_size: (width, height, ...) in pixels, as tonic gives it.
        labels: The component classes as short strings. A label of the dataset is one of them, or an
            index into them.
        name: Name of the source in the archive.
        targets: The label of every recording, if it is known without reading events. The default is
            `dataset.targets`; without that, every recording is read once.
        folder: The official partition folder of every recording, such as "Train"; "" for none. A
            function gives the folder of each index.

    Raises:
        UsageError: A label is not among `labels`, labels are empty or given twice, the number of
            targets is wrong, or the sensor's size is none.

    Example:
        source = DatasetSource(
            tonic.datasets.DVSGesture("data"),
            sensor_size=(128, 128, 2),
            labels="0123456789A",
            name="dvs-gesture",
        )
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
        self.sensor_size = _sensor_size(sensor_size)
        self.labels = tuple(str(label) for label in labels)
        if not self.labels or len(set(self.labels)) < len(self.labels) or "" in self.labels:
            raise UsageError(
                f"labels={labels!r}; give at least one, none of them empty and each once"
            )
        self.name = name
        self._warned = False
        if targets is None:
            targets = getattr(dataset, "targets", None)
        if targets is None:
            targets = [_pair(dataset, i)[1] for i in range(len(dataset))]
        if len(targets) != len(dataset):
            raise UsageError(
                f"{len(targets)} targets for {len(dataset)} recordings; give one per recording"
            )
        self._recordings = [
            _recording_ref(i, self._label(target), folder(i) if callable(folder) else folder)
            for i, target in enumerate(targets)
        ]

    def _label(self, target: Any) -> str:
        """The label that a target of the dataset names or indexes."""
        if isinstance(target, str) and target in self.labels:
            return target
        try:
            index = operator.index(target)
        except (TypeError, ValueError, RuntimeError):
            index = -1
        if not 0 <= index < len(self.labels):
            raise UsageError(
                f"label {target!r} is neither one of {self.labels} nor an index into them; "
                "add it to labels"
            )
        return self.labels[index]

    def recordings(self) -> list[RecordingRef]:
        """Return a reference to every recording, in the dataset's order."""
        return self._recordings

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        """Read one recording from the dataset and repair it.

        Args:
            ref: One of `recordings()`.

        Returns:
            The events and the repair counts; see `Source.read` and `repair_events`.

        Raises:
            UsageError: The events are not a structured array with fields x, y, t and p, or hold
                values that are no whole microseconds, pixels or polarities.
            RecordingError: As for `repair_events`.
        """
        try:
            events, repairs = repair_events(
                as_events(_pair(self.dataset, int(ref.location))[0]), self.sensor_size
            )
        except MetaeventsError as error:
            raise type(error)(f"recording {ref.id} of {self.name}: {error}") from error
        self._warn_of_rate(ref, events)
        return events, repairs

    def _warn_of_rate(self, ref: RecordingRef, events: Events) -> None:
        """Warn once if events are so dense in time that it cannot be in microseconds."""
        if self._warned or len(events) < _MANY_EVENTS:
            return
        span = int(events["t"][-1]) + 1
        width, height = self.sensor_size
        if len(events) * 1_000_000 > _MAX_RATE * width * height * span:
            self._warned = True
            logger.warning(
                "recording %s of %s has %d events in %d us on %d x %d pixels, more than %d per "
                "pixel and second; check that its times are in microseconds",
                *(printable(ref.id), printable(self.name), len(events), span),
                *(width, height, _MAX_RATE),
            )


def _sensor_size(size: Sequence[int]) -> tuple[int, int]:
    """(width, height) in pixels, from a sequence that starts with them.

    Raises:
        UsageError: It does not.
    """
    try:
        width, height = size[0], size[1]
    except (TypeError, IndexError, KeyError):
        raise UsageError(
            f"sensor_size={size!r}; give (width, height) in pixels, as tonic does"
        ) from None
    most = np.iinfo(EVENT_DTYPE["x"]).max  # event arrays hold no greater coordinates
    return (
        whole_number("the width in sensor_size", width, least=1, most=most),
        whole_number("the height in sensor_size", height, least=1, most=most),
    )


def _pair(dataset: Any, index: int) -> tuple[Any, Any]:
    """Element `index` of a dataset, which is (events, label).

    Raises:
        UsageError: It is something else.
    """
    item = dataset[index]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise UsageError(
            f"element {index} of the dataset is of type {type(item).__name__}; "
            "give a dataset of (events, label) pairs"
        )
    return item[0], item[1]


def _recording_ref(index: int, label: str, folder: str) -> RecordingRef:
    """The reference to recording `index` of a dataset; the index is its number and location."""
    id = f"{folder}/{label}/{index:06d}" if folder else f"{label}/{index:06d}"
    return RecordingRef(id, label, folder, index, index)
