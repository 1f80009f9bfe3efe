"""Any dataset of (events, label) pairs as a source: tonic's datasets, or a list of pairs."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

import numpy as np

from metaevents.arguments import shown, whole_number
from metaevents.errors import MetaeventsError, UsageError, printable
from metaevents.events import EVENT_DTYPE, Events, as_events, has_rows
from metaevents.files import progress_bar
from metaevents.sources.base import MANY_EVENTS, MAX_RATE, RecordingRef, repair_events

logger = logging.getLogger(__name__)

_MAX_PIXELS = 4096  # per axis of a sensor whose size is taken from events; today's have 1,280


class DatasetSource:
    """A map-style dataset of (events, label) pairs as a source of recordings.

    Args:
        dataset: `len(dataset)` is the number of recordings, `dataset[i]` is (events, label). Events
            are a structured array with fields x, y, t (microseconds) and p, or in another form that
            `metaevents.events.as_events` takes, so the dataset must not have transforms that turn
            events into something else.
        sensor_size: (width, height, ...) in pixels, as tonic gives it; the height of a
            one-dimensional sensor is 1, and its events need no field y. The default is
            `dataset.sensor_size`. Without that, every recording is read once, and the size is the
            smallest that holds all events, up to 4,096 x 4,096 pixels. Events at negative
            coordinates do not count.
        labels: The component classes as short strings. A label of the dataset is one of them, or an
            index into them.
        name: Name of the source in the archive.
        targets: The label of every recording, if it is known without reading events. The default is
            `dataset.targets`; without that, or if it is empty, every recording is read once.
        folder: The official partition folder of every recording, such as "Train"; "" for none. A
            function gives the folder of each index.
        names: The name of every recording, unique in its label and folder, for its id; its index by
            default.

    Raises:
        UsageError: A label is not among `labels`, labels are empty or given twice, the number of
            targets or names is wrong, a folder is no text, the sensor's size is none, or the events
            give none.

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
        sensor_size: Sequence[int] | None = None,
        labels: Sequence[str],
        name: str,
        targets: Iterable[Any] | None = None,
        folder: str | Callable[[int], str] = "",
        names: Iterable[str] | None = None,
    ) -> None:
        if not isinstance(dataset, Sized):
            raise UsageError(
                f"the dataset is {type(dataset).__name__}, which has no length; give a map-style "
                "dataset or a list of (events, label) pairs"
            )
        self.dataset = dataset
        if sensor_size is None:
            sensor_size = getattr(dataset, "sensor_size", None)
        size = None if sensor_size is None else _sensor_size(sensor_size)
        if not isinstance(labels, Iterable):
            raise UsageError(f"labels={shown(labels)}; give a list of short texts")
        self.labels = tuple(str(label) for label in labels)
        if not self.labels or len(set(self.labels)) < len(self.labels) or "" in self.labels:
            raise UsageError(
                f"labels={shown(self.labels)}; give at least one, none of them empty and each once"
            )
        self.name = name
        self._warned = False
        if targets is None:
            targets = _declared_targets(dataset)
        if targets is None or size is None:
            read_targets, extent = _read_all(dataset, name, measure=size is None)
            targets = read_targets if targets is None else targets
            size = extent if size is None else size
        self.sensor_size = size
        given_targets = _one_each("targets", targets, len(dataset))
        given_names = None if names is None else _one_each("names", names, len(dataset))
        self._recordings = [
            _recording_ref(
                i,
                self._label(target),
                _folder_name(folder, i),
                f"{i:06d}" if given_names is None else given_names[i],
            )
            for i, target in enumerate(given_targets)
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
                f"label {shown(target)} is neither one of {self.labels} nor an index into them; "
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
        array = _pair(self.dataset, int(ref.location))[0]
        try:
            events, repairs = repair_events(as_events(array), self.sensor_size)
            if self.sensor_size[1] > 1 and not has_rows(array):
                raise UsageError(
                    f"the events have no field y, and the sensor has {self.sensor_size[1]} rows; "
                    "name the rows y, or give a sensor_size of height 1"
                )
        except MetaeventsError as error:
            raise type(error)(f"recording {ref.id} of {self.name}: {error}") from error
        self._warn_of_rate(ref, events)
        return events, repairs

    def _warn_of_rate(self, ref: RecordingRef, events: Events) -> None:
        """Warn once if events are so dense in time that it cannot be in microseconds."""
        if self._warned or len(events) < MANY_EVENTS:
            return
        span = int(events["t"][-1]) + 1
        width, height = self.sensor_size
        if len(events) * 1_000_000 > MAX_RATE * width * height * span:
            self._warned = True
            logger.warning(
                "recording %s of %s has %d events in %d us on %d x %d pixels, more than %d per "
                "pixel and second; check that its times are in microseconds",
                *(printable(ref.id), printable(self.name), len(events), span),
                *(width, height, MAX_RATE),
            )


def _one_each(name: str, values: Any, n: int) -> list[Any]:
    """Return values as a list, if there is one per recording."""
    try:
        given = list(values)
    except TypeError:
        raise UsageError(f"{name}={shown(values)}; give a list of one per recording") from None
    if len(given) != n:
        raise UsageError(f"{len(given)} {name} for {n} recordings; give one per recording")
    return given


def _folder_name(folder: object, index: int) -> str:
    """Return the folder of a recording."""
    name = folder(index) if callable(folder) else folder
    if not isinstance(name, str):
        raise UsageError(
            f"the folder of recording {index} is {shown(name)}; give a text, '' for none"
        )
    return name


def _sensor_size(size: Sequence[int]) -> tuple[int, int]:
    """(width, height) in pixels, from a sequence that starts with them.

    Raises:
        UsageError: It does not.
    """
    try:
        width, height = size[0], size[1]
    except (TypeError, IndexError, KeyError):
        raise UsageError(
            f"sensor_size={shown(size)}; give (width, height) in pixels, as tonic does"
        ) from None
    most = np.iinfo(EVENT_DTYPE["x"]).max  # event arrays hold no greater coordinates
    return (
        whole_number("the width in sensor_size", width, least=1, most=most),
        whole_number("the height in sensor_size", height, least=1, most=most),
    )


def _declared_targets(dataset: Any) -> Iterable[Any] | None:
    """The labels that a dataset gives as `targets`; None if it has none.

    Tonic's datasets have an empty list where labels come with the events alone.
    """
    targets = getattr(dataset, "targets", None)
    if isinstance(targets, Sized) and not len(targets):
        return None
    return targets


def _read_all(dataset: Any, name: str, measure: bool) -> tuple[list[Any], tuple[int, int]]:
    """Read every recording once.

    Args:
        dataset: The dataset.
        name: Its name, for messages.
        measure: Whether to take the sensor's size from the events.

    Returns:
        The labels, and the smallest (width, height) that holds all events; (0, 0) if not measured.

    Raises:
        UsageError: An element is no pair, or the events give no size.
    """
    targets, width, height = [], 0, 0
    title = f"read {name} for {'the size of its sensor' if measure else 'its labels'}"
    for index in progress_bar(title, len(dataset), "rec", None, iterable=range(len(dataset))):
        array, target = _pair(dataset, index)
        targets.append(target)
        if not measure:
            continue
        try:
            events = as_events(array)
        except MetaeventsError as error:
            raise type(error)(f"recording {index} of {name}: {error}") from error
        if len(events):
            width = max(width, int(events["x"].max()) + 1)
            height = max(height, int(events["y"].max()) + 1)
        if max(width, height) > _MAX_PIXELS:
            raise UsageError(
                f"recording {index} of {name} has an event beyond {_MAX_PIXELS} pixels, so its "
                "events give no sensor_size; give (width, height) in pixels"
            )
    if measure and not (width and height):
        raise UsageError(
            f"sensor_size=None, and {name} has no events to take it from; "
            "give (width, height) in pixels"
        )
    if measure:
        logger.info("sensor_size of %s, from its events: %d x %d", printable(name), width, height)
    return targets, (width, height)


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


def _recording_ref(index: int, label: str, folder: str, name: str) -> RecordingRef:
    """The reference to recording `index` of a dataset; the index is its number and location."""
    id = f"{folder}/{label}/{name}" if folder else f"{label}/{name}"
    return RecordingRef(id, label, folder, index, index)
