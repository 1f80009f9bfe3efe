"""Datasets of (events, label) pairs as sources."""

from __future__ import annotations

import numpy as np
import pytest
from support.recordings import random_events

from metaevents.errors import UsageError
from metaevents.sources import DatasetSource, Source


class Gestures:
    """What a tonic dataset looks like: targets, and (events, target) items in a dtype of its own."""

    sensor_size = (128, 128, 2)
    targets = (0, 1, 1)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        events = random_events(index, 30, 128, 128, start=50)
        return events.astype([("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")]), self.targets[
            index
        ]


def test_a_dataset_becomes_a_source() -> None:
    source = DatasetSource(
        Gestures(), sensor_size=Gestures.sensor_size, labels="ab", name="gestures"
    )
    assert isinstance(source, Source)
    assert [(ref.id, ref.label) for ref in source.recordings()] == [
        ("a/000000", "a"), ("b/000001", "b"), ("b/000002", "b"),
    ]  # fmt: skip
    events, repairs = source.read(source.recordings()[1])
    assert np.array_equal(events, random_events(1, 30, 128, 128))
    assert repairs == {"recordings_not_from_zero": 1}


def test_a_list_of_pairs_will_do_and_names_may_be_labels() -> None:
    source = DatasetSource(
        [(random_events(0), "b")], sensor_size=(34, 34), labels="ab", name="mine", folder="Train"
    )
    assert source.recordings()[0].id == "Train/b/000000"


@pytest.mark.parametrize("label", ["c", 2, -1, None])
def test_an_unknown_label_is_refused(label: object) -> None:
    with pytest.raises(UsageError, match="neither one of"):
        DatasetSource([(random_events(0), label)], sensor_size=(34, 34), labels="ab", name="mine")
