"""Classes of a user's own datasets: the deal to train, val and test."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from metaevents.class_splits import find_classes
from metaevents.errors import UsageError
from metaevents.hashing import digest_json

DIGITS = tuple("0123456789")


def sizes(n: int, arity: int = 1, name: str = "disjoint") -> tuple[int, ...]:
    """Numbers of classes of train, val and test for `n` labels."""
    classes = find_classes(name, [f"{i:04}" for i in range(n)], arity)
    assert all(not set(a) & set(b) for a, b in combinations(classes.values(), 2))
    return tuple(map(len, classes.values()))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (5, (3, 1, 1)),
        (10, (6, 2, 2)),
        (24, (15, 4, 5)),
        (100, (64, 16, 20)),
        (576, (369, 92, 115)),
        (1623, (1038, 260, 325)),
    ],
)
def test_classes_are_dealt_64_16_and_20_percent(n: int, expected: tuple[int, ...]) -> None:
    assert sizes(n) == expected


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_classes_are_refused(n: int) -> None:
    with pytest.raises(UsageError, match=f"needs at least 3 to deal, got {n}"):
        sizes(n)
    with pytest.raises(UsageError, match="at least 3"):
        sizes(2, arity=2, name="disjoint-labels")
    assert sizes(2, arity=2) == (2, 1, 1)


def test_the_deal_follows_from_the_labels_and_the_arity_alone() -> None:
    pairs = find_classes("disjoint", DIGITS, 2)
    assert {split: len(classes) for split, classes in pairs.items()} == {
        "train": 64,
        "val": 16,
        "test": 20,
    }
    reverse = find_classes("disjoint", DIGITS[::-1], 2)
    assert {split: set(classes) for split, classes in reverse.items()} == {
        split: set(classes) for split, classes in pairs.items()
    }
    assert sorted(chain.from_iterable(pairs.values())) == sorted(
        (a, b) for a in DIGITS for b in DIGITS
    )
    other = find_classes("disjoint", (*DIGITS[:9], "x"), 2)
    assert [(a, b) for a, b in other["test"] if "x" not in a + b] != [
        (a, b) for a, b in pairs["test"] if "9" not in a + b
    ]


def test_the_deal_never_changes() -> None:
    # Datasets are composed by these deals, whose fingerprints stand in entries.
    dealt = [
        find_classes(name, DIGITS, arity)
        for name in ("disjoint", "disjoint-labels")
        for arity in (1, 2)
    ]
    assert digest_json(dealt) == "987252e4e5adc5a4248b020815da60111bf255bef0315dccc6744efba960a0f4"


def test_dealt_labels_give_all_their_classes() -> None:
    single = find_classes("disjoint", DIGITS, 1)
    assert find_classes("disjoint-labels", DIGITS, 1) == single
    pairs = find_classes("disjoint-labels", DIGITS, 2)
    for split, classes in single.items():
        labels = [label for (label,) in classes]
        assert pairs[split] == tuple((a, b) for a in labels for b in labels)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (None, "splits is missing, without which every class would train and test"),
        ("random", "splits='random' is unknown; give splits='disjoint'"),
        ({}, "names no split"),
        ([], "no dictionary"),
        ({"train": "01"}, "give a list of names"),
        ({"train": []}, "names no class"),
        ({"dev": ["0"]}, "splits has the keys dev"),
        ({"train": ["x"]}, "class 'x' of the train split is not 1 of the labels"),
    ],
)
def test_other_splits_are_refused(splits: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_classes(splits, DIGITS, 1)  # type: ignore[arg-type]


def test_more_classes_than_anyone_can_use_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="more than 3,000,000 classes"):
        find_classes("disjoint", DIGITS, 1000)
