"""Datasets of (events, label) pairs as sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.recordings import random_events

import metaevents as me
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


class Cochlea:
    """A dataset like tonic's of the Heidelberg digits: one-dimensional, with no list of targets."""

    sensor_size = (700, 1, 1)

    def __init__(self) -> None:
        self.targets: list[int] = []  # as tonic's base class sets it

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int64]:
        rng = np.random.default_rng(index)
        events = np.zeros(200, [("t", "i8"), ("x", "i8"), ("p", "i8")])
        events["t"] = np.sort(rng.integers(0, 100_000, 200))
        events["x"] = rng.integers(0, 70, 200) * 10 + index
        events["p"] = 1
        return events, np.int64(index % 2)


def test_a_one_dimensional_sensor_gives_samples_of_one_row(tmp_path: Path) -> None:
    source = DatasetSource(Cochlea(), labels="ab", name="cochlea")
    assert source.sensor_size == (700, 1)
    assert [ref.label for ref in source.recordings()] == ["a", "b"] * 6
    dataset = me.compose(
        source,
        arity=2,
        root=tmp_path,
        downsample=10,
        window_us=100_000,
        bins=20,
        partition=lambda ref, position, files: "train",
        splits={"train": ["ab", "ba"]},
    )
    assert dataset.frame_shape == (20, 2, 1, 140)
    frames = dataset.frames("ab", 0, 0)
    left, right = Cochlea()[0][0], Cochlea()[1][0]
    assert frames.sum() == frames[:, 1].sum() == 400
    assert torch.equal(
        frames[:, 1, 0, :70].sum(0), torch.bincount(torch.tensor(left["x"] // 10)).float()
    )
    assert torch.equal(
        frames[:, 1, 0, 70:].sum(0), torch.bincount(torch.tensor(right["x"] // 10)).float()
    )
    events = dataset.events("ab", 0, 0)
    assert (events["y"].max(), events["x"].max()) == (0, 139)
    whole = dataset.events("ab", 0, 0, downsampled=False)
    assert np.array_equal(whole["x"] // 10, events["x"])
    episode = me.EpisodeLoader(dataset, ways=2, queries=2, layout="TNPHW", bins=5)[0]
    assert episode.query_x.shape == (5, 4, 2, 1, 140)


def test_everything_that_a_split_offers_works_for_one_dimensional_sensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metaevents.benchmark import trivial
    from metaevents.show import show

    monkeypatch.setattr(trivial, "_TRAIN_STEPS", 3)
    source = DatasetSource(Cochlea(), labels="ab", name="cochlea")
    classes = {split: ["a", "b"] for split in ("train", "test")}
    options: dict[str, Any] = {"arity": 1, "downsample": 10, "splits": classes, "bins": 10}
    test = me.compose(
        source,
        root=tmp_path,
        split="test",
        name="cochlea",
        partition=lambda ref, position, files: "test" if position % 2 else "train",
        **options,
    )
    for name, make in trivial.TRIVIAL_BASELINES.items():
        learner = make(test)
        episode = me.EpisodeLoader(
            test, ways=2, queries=1, representation=getattr(learner, "representation", "frames")
        )[0]
        support, query = episode.support_x, episode.query_x
        if getattr(learner, "numpy", False):
            support, query = support.numpy(), query.numpy()
        scores = learner.adapt(support, episode.support_y, 2)(query)
        assert scores.shape == (2, 2), name
    assert test.as_classification(2, seed=0)[0][0].shape == (10, 2, 1, 70)
    assert show(tmp_path / "cochlea.h5", tmp_path / "figure.png").stat().st_size > 0


def test_crops_of_one_row_are_divided_along_x_alone(tmp_path: Path) -> None:
    archive = tmp_path / "cochlea.h5"
    source = DatasetSource(Cochlea(), labels="ab", name="cochlea")
    me.compose(source, root=tmp_path, name="cochlea", splits={"train": ["ab"]})
    options: dict[str, Any] = {"arity": 1, "splits": {"train": ["a", "b"]}}
    dataset = me.compose(archive, crop=(690, 1), downsample=30, **options)
    assert dataset.frame_shape == (100, 2, 1, 23)
    with pytest.raises(UsageError, match="cannot be divided by 9"):
        me.compose(archive, downsample=9, **options)


def test_two_dimensional_sensors_need_rows() -> None:
    pairs = [(table([0, 1])[["x", "t", "p"]], 0)]
    source = DatasetSource(pairs, sensor_size=(34, 34), labels="a", name="mine")
    with pytest.raises(UsageError, match=r"recording a/000000 of mine: .*no field y.*34 rows"):
        source.read(source.recordings()[0])
    source = DatasetSource(pairs, sensor_size=(34, 1), labels="a", name="mine")
    assert source.read(source.recordings()[0])[0]["y"].tolist() == [0, 0]


def test_the_size_of_the_sensor_is_the_datasets_own() -> None:
    assert DatasetSource(Gestures(), labels="ab", name="gestures").sensor_size == (128, 128)
    given = DatasetSource(Gestures(), sensor_size=(64, 32), labels="ab", name="gestures")
    assert given.sensor_size == (64, 32)


def test_the_size_of_the_sensor_is_taken_from_all_events() -> None:
    arrays = [table([0, 1], x=[5, 11]), table([3], x=40), table([0])[:0], table([0], x=-7)]
    arrays[1]["y"] = 9
    counted = Counted([(array, 0) for array in arrays])
    source = DatasetSource(counted, labels="a", name="mine")
    assert source.sensor_size == (41, 10)
    assert counted.reads == [0, 1, 2, 3]  # labels and size in one pass
    _, repairs = source.read(source.recordings()[3])
    assert repairs == {"events_out_of_range": 1, "recordings_empty": 1}


class Counted:
    """A list of pairs that notes which were read; like tonic's N-Caltech101, without a size."""

    sensor_size = None

    def __init__(self, pairs: list[Any]) -> None:
        self.pairs, self.reads = pairs, list[int]()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        self.reads.append(index)
        return self.pairs[index]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([table([0], x=4096)], "recording 0 of mine has an event beyond 4096 pixels"),
        ([table([0]), table([0], x=10**9)], "recording 1 of mine has an event beyond 4096"),
        ([], "mine has no events to take it from"),
        ([table([0])[:0]], "mine has no events to take it from"),
        ([table([0], x=-1)], "mine has no events to take it from"),
        ([table([0], x=[np.nan])], "recording 0 of mine: x has values that are not finite"),
    ],
)
def test_events_that_give_no_size_are_refused(arrays: list[np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DatasetSource([(array, 0) for array in arrays], labels="a", name="mine")
    assert DatasetSource(
        [(array, 0) for array in arrays], sensor_size=(34, 34), labels="a", name="mine"
    )


@pytest.mark.parametrize("labels", [[], ["a", "a"], ["a", ""], [1, "1"]])
def test_labels_that_are_none_or_the_same_are_refused(labels: Any) -> None:
    with pytest.raises(UsageError, match="labels"):
        DatasetSource([], sensor_size=(5, 5), labels=labels, name="mine")


@pytest.mark.parametrize("item", [random_events(0), (random_events(0),), None])
def test_elements_that_are_no_pairs_are_refused(item: Any) -> None:
    with pytest.raises(UsageError, match=r"\(events, label\) pairs"):
        DatasetSource([item], sensor_size=(34, 34), labels="a", name="mine")


PAIRS = [(random_events(i, 5, 4, 4), "ab"[i % 2]) for i in range(4)]


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array], ids=lambda kind: kind.__name__)
def test_targets_and_names_come_in_any_form(kind: Any) -> None:
    source = DatasetSource(
        PAIRS,
        sensor_size=(4, 4),
        labels="ab",
        name="mine",
        targets=kind([0, 1, 1, 0]),
        names=kind(["w", "x", "y", "z"]),
    )
    assert [ref.id for ref in source.recordings()] == ["a/w", "b/x", "b/y", "a/z"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["w", "x"]}, "2 names for 4 recordings; give one per recording"),
        ({"names": 3}, "names=3; give a list of one per recording"),
        ({"targets": (i for i in range(2))}, "2 targets for 4 recordings"),
        ({"targets": 3}, "targets=3; give a list of one per recording"),
        ({"targets": [10**5000] * 4}, "label <int> is neither one of"),
        ({"folder": 3}, "the folder of recording 0 is 3; give a text"),
        ({"folder": lambda i: None}, "the folder of recording 0 is None; give a text"),
        ({"labels": 3}, "labels=3; give a list"),
        ({"sensor_size": 10**5000}, "sensor_size=<int>; give"),
        ({"dataset": iter(PAIRS)}, "list_iterator, which has no length; give a map-style"),
    ],
)
def test_arguments_of_other_forms_are_refused(options: dict[str, Any], message: str) -> None:
    given = {"dataset": PAIRS, "sensor_size": (4, 4), "labels": "ab", "name": "mine", **options}
    with pytest.raises(UsageError, match=message):
        DatasetSource(given.pop("dataset"), **given)
