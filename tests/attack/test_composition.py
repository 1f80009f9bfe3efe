"""Compositions that cannot be: names that collide, numbers of every kind, absurd sizes."""

from __future__ import annotations

import random
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.composed import PAIRS, busy_archive, in_all_splits
from support.recordings import random_events

import metaevents as me
from metaevents.errors import UsageError
from metaevents.sources import DatasetSource
from metaevents.specs import class_name


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busy_archive(tmp_path_factory.mktemp("busy"), events=5)


def source_of(*labels: str) -> DatasetSource:
    """Five recordings of each label on a sensor of 4 x 4 pixels."""
    pairs = [(random_events(i, 5, 4, 4), label) for label in labels for i in range(5)]
    return DatasetSource(pairs, sensor_size=(4, 4), labels=labels, name="made")


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "arity"),
    [
        (("a", "a-b", "b-c", "c"), 2),  # a + b-c and a-b + c
        (("a", "b", "a-b"), 3),
        (("x", "x-x"), 3),
        (("-", "--"), 2),
        (("1-1", "1", "1-1-1"), 2),
        (("ab", "ab-", "-ab"), 2),
    ],
)
def test_class_names_that_collide_are_refused(
    tmp_path: Path, labels: tuple[str, ...], arity: int
) -> None:
    with pytest.raises(UsageError, match=r"are both named .*; rename a label"):
        me.compose(
            source_of(*labels), arity=arity, root=tmp_path, splits=in_all_splits(labels, arity)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("c", ["a-b-c", ("a", "b-c"), ("a-b", "c")])
def test_an_ambiguous_name_is_refused(tmp_path: Path, c: Any) -> None:
    labels = ("a", "a-b", "b-c", "c")
    other = ("a-b", "c") if c == ("a", "b-c") else ("a", "b-c")
    splits = {"train": [c]} if isinstance(c, str) else {"train": [c], "test": [other]}
    with pytest.raises(UsageError, match=r"rename a label, so that class names differ"):
        me.compose(source_of(*labels), root=tmp_path, splits=splits)
    dataset = me.compose(source_of(*labels), root=tmp_path, splits={"train": [("a", "b-c"), "aa"]})
    assert dataset.components == {"aa": ("a", "a"), "a-b-c": ("a", "b-c")}


def test_twin_labels_are_refused(tmp_path: Path) -> None:
    source = source_of("a", "b")
    source.labels = ("a", "b", "a")
    with pytest.raises(UsageError, match="the label 'a' is there twice"):
        me.compose(source, root=tmp_path, splits=PAIRS)


def check_names(labels: tuple[str, ...], arity: int) -> None:
    """Resolve the names of all classes, and compare with all names made and looked up."""
    from metaevents.class_splits import ClassNames

    by_name: dict[str, list[tuple[str, ...]]] = {}
    for components in product(labels, repeat=arity):
        by_name.setdefault(class_name(components), []).append(components)
    names = ClassNames(labels, arity)
    for name, classes in by_name.items():
        if len(classes) == 1:
            assert names.resolve(name, "train") == classes[0]
        else:
            with pytest.raises(UsageError, match="can be"):
                names.resolve(name, "train")
    for wrong in ("", "-", "zz", "-".join(["zz"] * arity), next(iter(by_name)) + "-"):
        if wrong not in by_name:
            with pytest.raises(UsageError, match="is not"):
                names.resolve(wrong, "train")


def check_random_names(cases: int) -> None:
    generator = random.Random(0)
    for _ in range(cases):
        texts = {
            "".join(generator.choices("ab-", k=generator.randint(0, 4)))
            for _ in range(generator.randint(1, 5))
        }
        check_names(tuple(sorted(texts)), generator.randint(1, 4))


def test_names_are_read_as_they_are_made() -> None:
    check_names(tuple("0123456789"), 3)
    check_random_names(60)


@pytest.mark.attack
def test_many_names_are_read_as_they_are_made() -> None:
    check_random_names(5000)


def test_named_classes_cost_what_they_are(archive: Path, nmnist_root: Path) -> None:
    start = time.perf_counter()
    dataset = me.compose(
        nmnist_root / "double-nmnist.h5",
        arity=7,
        splits={"train": ["0123456", "6543210", ("1",) * 7]},
    )
    assert dataset.classes == ("0123456", "1111111", "6543210")
    long = me.compose(archive, arity=1000, bins=1, splits={"train": ["a" * 1000]})
    assert len(long.components["a" * 1000]) == 1000
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("arity", [23, 64, 1000, 10**6])
def test_more_classes_than_anyone_can_use_must_be_named(archive: Path, arity: int) -> None:
    with pytest.raises(UsageError, match=r"more than 3,000,000 classes; name those of each split"):
        me.compose(archive, arity=arity, bins=1, splits="disjoint")


@pytest.mark.parametrize(
    "splits",
    [
        {"train": []},
        {"train": 35},
        {"train": None},
        {"train": [35]},
        {"train": [None]},
        {"train": [("a",)]},
        {"train": [("a", 1)]},
        {"train": [("a", ["b"])]},
        {"train": ["aa", ("a", "a")]},
        {"train": [""]},
        {1: ["aa"]},
        ["aa"],
        "aa",
        None,
        {},
        {"train": "aa"},
        {"train": [b"aa"]},
    ],
    ids=repr,
)
def test_splits_of_a_wrong_form_are_refused(archive: Path, splits: Any) -> None:
    with pytest.raises(UsageError):
        me.compose(archive, splits=splits)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/tmp/x", "a\\b", ".h", "a\0", 3])
def test_a_name_must_name_a_file(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UsageError, match="cannot name a file"):
        me.compose(source_of("a", "b"), root=tmp_path, name=name, splits=PAIRS)


# --- numbers -------------------------------------------------------------------------------------

NUMBERS = ("arity", "downsample", "window_us", "bins", "min_gap", "jobs")

BAD = [1.0, True, float("nan"), float("inf"), "x", "2", None, [2], -1, 10**5000, np.float32(2)]


@pytest.mark.parametrize("value", BAD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_a_wrong_kind_are_refused(archive: Path, name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        me.compose(archive, splits=PAIRS, **{name: value})
    assert len(str(caught.value)) < 400


def test_numpy_numbers_give_the_same_dataset(archive: Path) -> None:
    plain = me.compose(archive, downsample=2, bins=10, min_gap=1, crop=(4, 2), splits=PAIRS)
    numbers: dict[str, Any] = {"arity": 2, "downsample": 2, "bins": 10, "min_gap": 1, "jobs": 1}
    for kind in (np.int64, np.uint8, np.array):
        given = {name: kind(value) for name, value in numbers.items()}
        for crop in ([kind(4), kind(2)], np.array([4, 2])):
            dataset = me.compose(archive, crop=crop, splits=PAIRS, **given)
            assert dataset.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    "crop",
    [
        (1000, 1000), (5, 4), (4, 5), (10**18, 1), (0, 4), (4, 0), (-4, 4), (4,), (4, 4, 4), (), 4,
        "44", "ab", (4.0, 4), (True, 4), (float("nan"), 4), {4}, (None, None), False,
    ],
    ids=repr,
)  # fmt: skip
def test_crops_that_cannot_be_are_refused_at_once(tmp_path: Path, archive: Path, crop: Any) -> None:
    start = time.perf_counter()
    for source in (archive, source_of("a", "b")):
        with pytest.raises(UsageError, match="crop"):
            me.compose(source, root=tmp_path, crop=crop, splits=PAIRS)
    assert time.perf_counter() - start < 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"bins": 10**9},
        {"bins": 10**18},
        {"arity": 10**9, "splits": {"train": ["aa"]}},
        {"window_us": 2**31},
        {"min_gap": 10**18},
        {"downsample": 10**18},
        {"downsample": 3},
    ],
    ids=repr,
)
def test_sizes_beyond_what_can_be_decoded_are_refused(archive: Path, options: Any) -> None:
    with pytest.raises(UsageError):
        me.compose(archive, **{"splits": PAIRS, **options})


# --- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.0, True, np.True_, "0", "x", None, float("nan"), [0], 5, -1])
def test_indices_of_a_wrong_kind_are_refused(archive: Path, value: Any) -> None:
    dataset = me.compose(archive, splits=PAIRS)
    for call in (dataset.frames, dataset.events):
        for sides in ((value, 0), (0, value)):
            with pytest.raises(UsageError):
                call("ab", *sides)
    for name in ("left", "right"):
        if value is not None:
            with pytest.raises(UsageError):
                dataset.frames("ab", **{"left": 0, "right": 0, name: value})
    if value not in (-1,):
        with pytest.raises(UsageError):
            dataset.n_recordings(value)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array])
def test_indices_of_numpy_are_indices(archive: Path, kind: Any) -> None:
    dataset = me.compose(archive, splits=PAIRS)
    expected = dataset.frames("ab", 1, 2)
    assert (dataset.frames(kind(1), kind(1), kind(2)) == expected).all()
    assert len(dataset.events(kind(1), kind(1), kind(2))) == 10
    data = dataset.as_classification(kind(2), kind(3))
    assert data.samples == dataset.as_classification(2, 3).samples
    assert data.ids(kind(1)) == data.ids(1)
    assert data[kind(1)][1] == 0
    assert data[-1][1] == 3


@pytest.mark.parametrize("value", [1.0, True, "1", None, float("nan"), -1, 2**64])
def test_classification_takes_whole_numbers(archive: Path, value: Any) -> None:
    dataset = me.compose(archive, splits=PAIRS)
    with pytest.raises(UsageError):
        dataset.as_classification(2, value)
    with pytest.raises(UsageError):
        dataset.as_classification(value, 2)
    data = dataset.as_classification(2, 0)
    with pytest.raises((UsageError, IndexError)):
        data[value if value != -1 else 8]


def test_samples_of_another_arity_are_refused(archive: Path) -> None:
    # The compiled loops would write beyond the frame.
    dataset = me.compose(archive, splits=PAIRS)
    for samples in ([(0, 1, 2)], [(0,)], [(0, 1), (0, 1, 2)], [()]):
        for stack in (dataset.stack_frames, dataset.stack_sums):
            with pytest.raises(UsageError, match="has 2 recordings; give one per side"):
                stack(samples)
        with pytest.raises(UsageError, match="has 2 recordings"):
            dataset.stack_frames(samples, bins=10)
    assert dataset.stack_frames([]).shape == (0, 100, 2, 4, 8)


def test_samples_of_many_sides_are_drawn(archive: Path) -> None:
    # 5 ** 30 samples are more than a word of the random stream can tell apart.
    dataset = me.compose(archive, arity=30, bins=1, splits={"train": ["ab" * 15]})
    with pytest.raises(UsageError, match="has 0 different samples"):
        dataset.as_classification(1, 0)
    with pytest.raises(UsageError, match="recordings per side"):
        me.EpisodeLoader(dataset, ways=1, shots=1, queries=1)
