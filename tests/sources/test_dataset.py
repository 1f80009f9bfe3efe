"""Datasets of (events, label) pairs as sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.recordings import random_events

from metaevents.errors import MetaeventsError, UsageError
from metaevents.sources import DatasetSource, Source


class Gestures:
    """A dataset like tonic's: targets, and (events, target) items in another dtype."""

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


def source_of(*arrays: np.ndarray, width: int = 34) -> DatasetSource:
    pairs = [(array, 0) for array in arrays]
    return DatasetSource(pairs, sensor_size=(width, 34), labels="a", name="mine")


def table(t: Any, x: Any = 1, p: Any = 1, polarity: str = "p") -> np.ndarray:
    t, x, p = np.broadcast_arrays(*map(np.asarray, (t, x, p)))
    fields = [("x", x.dtype), ("y", "i2"), ("t", t.dtype), (polarity, p.dtype)]
    array = np.zeros(t.shape, fields)
    array["x"], array["t"], array[polarity] = x, t, p
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (table([0.0, 0.01]), "t has values such as 0.01; give whole microseconds"),
        (table(np.array([0, 1.5], "f4")), "multiply seconds by 1,000,000"),
        (table([0.0, np.nan]), "no numbers"),
        (table([0.0, 1e300]), "beyond the type int64"),
        (table(np.array([0, 2**63], "u8")), "beyond the type int64"),
        (table([-(2**63), 2**63 - 1]), "beyond 64 bits"),
        (table([0, 1], x=[1.5, 2]), "x has values such as 1.5; give whole pixels"),
        (table([0, 1], x=[np.nan, 2]), "x has values that are not finite"),
        (table([0, 1], p=[0.5, 1]), "p has values such as 0.5"),
        (table([0, 1], p=[np.nan, 1]), "p has values that are no numbers"),
        (table(["a", "b"]), "t has the type"),
        (table(np.array([0, 1], "M8[us]")), "t has the type"),
        (table([0, 1], x=[1j, 2]), "x has the type"),
        (table([[0, 1], [2, 3]]), r"x has the shape \(2, 2\); give one column"),
        (np.zeros((3, 4)), "give a structured array with fields x, y, t"),
    ],
    ids=range(15),
)
def test_columns_that_the_cast_would_change_are_refused_by_name(
    array: np.ndarray, message: str
) -> None:
    source = source_of(table([0, 1]), array)
    with pytest.raises(MetaeventsError, match=f"recording a/000001 of mine: .*{message}"):
        source.read(source.recordings()[1])


def test_whole_numbers_of_any_type_are_taken() -> None:
    for dtype in ("u1", "i2", "u4", "i8", "u8", "f4", "f8"):
        array = table(np.array([0, 5, 9], dtype), x=np.array([1, 2, 33], dtype), p=[True, 0, -1])
        events, _ = source_of(array).read(source_of(array).recordings()[0])
        assert events.tolist() == [(1, 0, 0, True), (2, 0, 5, False), (33, 0, 9, False)]


def test_a_polarity_named_on_is_taken() -> None:
    source = source_of(table([0, 1], p=[True, False], polarity="on"))
    assert source.read(source.recordings()[0])[0]["p"].tolist() == [True, False]


def test_milliseconds_in_whole_numbers_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(0)
    wrong = table(np.sort(rng.integers(0, 300, 4_000)))  # N-MNIST: 4,000 events in 300 ms
    right = table(np.sort(rng.integers(0, 300_000, 4_000)))
    source = source_of(right, wrong, wrong)
    for ref in source.recordings():
        source.read(ref)
    (record,) = caplog.records
    assert "recording a/000001 of mine has 4000 events in 300 us" in record.getMessage()


@pytest.mark.parametrize(
    "size", [5, (5,), (5.5, 5), (0, 5), (5, -1), (True, 5), ("a", "b"), (10**6, 5), None]
)
def test_a_sensor_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="sensor_size"):
        DatasetSource([], sensor_size=size, labels="a", name="mine")


@pytest.mark.parametrize("labels", [[], ["a", "a"], ["a", ""], [1, "1"]])
def test_labels_that_are_none_or_the_same_are_refused(labels: Any) -> None:
    with pytest.raises(UsageError, match="labels"):
        DatasetSource([], sensor_size=(5, 5), labels=labels, name="mine")


@pytest.mark.parametrize("item", [random_events(0), (random_events(0),), None])
def test_elements_that_are_no_pairs_are_refused(item: Any) -> None:
    with pytest.raises(UsageError, match=r"\(events, label\) pairs"):
        DatasetSource([item], sensor_size=(34, 34), labels="a", name="mine")
