"""What the sources share: repairs, and the unit of time."""

from __future__ import annotations

import numpy as np
import pytest
from support.recordings import random_events

from metaevents.errors import RecordingError
from metaevents.events import EVENT_DTYPE, make_events
from metaevents.sources.base import repair_events, require_microseconds


def spanning(times: np.ndarray) -> np.ndarray:
    return make_events(np.zeros(len(times)), np.zeros(len(times)), times, np.ones(len(times)))


@pytest.mark.parametrize("count", [2, 3, 50, 1_000, 10_000])
def test_a_window_that_holds_less_than_a_hundredth_is_refused(count: int) -> None:
    within = spanning(np.linspace(0, 9_900_000, count).astype(np.int64))
    require_microseconds(within, 100_000, "a/1")
    beyond = spanning(np.linspace(0, 10_300_000, count).astype(np.int64))
    with pytest.raises(RecordingError, match=r"a/1 .* less than 1 %; give times in microseconds"):
        require_microseconds(beyond, 100_000, "a/1")


def test_nanoseconds_are_refused() -> None:
    events = random_events(0, 4_000)
    require_microseconds(events, 100_000, "a/1")
    events["t"] *= 1_000
    with pytest.raises(RecordingError, match="nanoseconds"):
        require_microseconds(events, 100_000, "a/1")


@pytest.mark.parametrize("place", [0, -1])
def test_a_few_wrong_times_are_no_wrong_unit(place: int) -> None:
    events = random_events(0, 4_000)
    if place:
        events["t"][-30:] = 10**15
    else:
        events["t"][30:] += 10**15
    require_microseconds(events, 100_000, "a/1")
    require_microseconds(events[:0], 100_000, "a/1")


def test_a_recording_without_events_is_counted() -> None:
    for events in (np.empty(0, EVENT_DTYPE), make_events([99], [0], [0], [1])):
        left, repairs = repair_events(events, (34, 34))
        assert len(left) == 0
        assert repairs["recordings_empty"] == 1
