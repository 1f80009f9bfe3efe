"""The classes of a user's own dataset: how they are named, and how they are dealt to splits.

A class is a tuple of component labels, of length `arity`. Its name is
`metaevents.specs.class_name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from metaevents.arguments import shown
from metaevents.errors import UsageError
from metaevents.rng import Streams
from metaevents.specs import PARTITIONS, Classes

DISJOINT = "disjoint"
"""Name of the class split that deals the classes to train, val and test."""

DISJOINT_LABELS = "disjoint-labels"
"""Name of the class split that deals the labels; a split has all classes of its labels."""

Splits: TypeAlias = str | Mapping[str, Iterable[str | Sequence[str]]]
"""`DISJOINT`, `DISJOINT_LABELS`, or split -> its classes, each a name or a tuple of labels."""

_MAX_CLASSES = 3_000_000  # all pairs of the 1,623 characters of N-Omniglot are 2,634,129

_VAL_PERCENT, _TEST_PERCENT = 16, 20  # train has the other 64 %

_WAYS_OUT = (
    "give splits='disjoint', which deals the classes to train, val and test (64, 16 and 20 %), or "
    "a dictionary such as splits={'train': [...], 'val': [...], 'test': [...]}"
)


def find_classes(splits: Splits | None, labels: Sequence[str], arity: int) -> dict[str, Classes]:
    """Return the classes of every split.

    The deal of "disjoint" and "disjoint-labels" follows from the set of labels and the arity alone.
    It depends neither on the recordings nor on the order of the labels, so a subset of the
    recordings has the same splits.

    Args:
        splits: What the user gave.
        labels: The component labels.
        arity: Number of labels of a class.

    Returns:
        Split -> its classes. Dealt classes are in the order of `itertools.product`.

    Raises:
        UsageError: `splits` is missing or has another form, names no class, or there are too few or
            too many classes to deal.
    """
    if splits is None:
        raise UsageError(
            f"splits is missing, without which every class would train and test; {_WAYS_OUT}"
        )
    if isinstance(splits, str):
        return _dealt_classes(splits, labels, arity)
    if not isinstance(splits, Mapping):
        raise UsageError(f"splits={shown(splits)} is no dictionary; {_WAYS_OUT}")
    if unknown := sorted(set(map(str, splits)) - set(PARTITIONS)):
        raise UsageError(f"splits has the keys {', '.join(unknown)}; use {', '.join(PARTITIONS)}")
    if not splits:
        raise UsageError(f"splits names no split; {_WAYS_OUT}")
    names = ClassNames(tuple(labels), arity)
    found = {}
    for split, classes in splits.items():
        found[split] = tuple(names.resolve(c, split) for c in _listed(classes, split))
        if not found[split]:
            raise UsageError(
                f"the {split} split names no class; give at least one, or leave it out"
            )
    return found


def _listed(classes: object, split: str) -> list[Any]:
    """Return the classes that the user gave to a split, as a list."""
    try:
        if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
            raise TypeError
        return list(classes)
    except TypeError:  # an array without an axis is iterable by its type
        raise UsageError(
            f"the {split} split has the classes {shown(classes)}; give a list of names"
        ) from None


def _dealt_classes(name: str, labels: Sequence[str], arity: int) -> dict[str, Classes]:
    """Return the classes of every split, dealt at random; see `find_classes`."""
    if name not in (DISJOINT, DISJOINT_LABELS):
        raise UsageError(f"splits={name[:60]!r} is unknown; {_WAYS_OUT}")
    if len(labels) ** min(arity, 64) > _MAX_CLASSES:
        raise UsageError(
            f"arity={arity} with {len(labels)} labels gives more than {_MAX_CLASSES:,} "
            'classes; name those of each split, such as splits={"train": [...]}'
        )
    if name == DISJOINT_LABELS:
        dealt = _deal([(label,) for label in labels], labels, 1)
        return {
            split: tuple(product([label for (label,) in part], repeat=arity))
            for split, part in dealt.items()
        }
    return _deal(list(product(labels, repeat=arity)), labels, arity)


def _deal(
    classes: Classes | list[tuple[str, ...]], labels: Sequence[str], arity: int
) -> dict[str, Classes]:
    """Return 64 % of some classes as train, 16 % as val and 20 % as test, in their order.

    The numbers of val and test are rounded to the nearest, and at least 1.
    """
    n = len(classes)
    n_val, n_test = (max(1, (n * p + 50) // 100) for p in (_VAL_PERCENT, _TEST_PERCENT))
    if n - n_val - n_test < 1:
        raise UsageError(
            f"splits={DISJOINT!r} needs at least 3 to deal, got {n}: {sorted(labels)[:5]}; "
            "give recordings of more labels, or name the classes of each split"
        )
    streams = Streams({"class split": 1, "labels": sorted(labels), "arity": arity})
    ordered = sorted(classes)
    shuffled = [ordered[i] for i in np.argsort(streams.first_words(0, n), kind="stable").tolist()]
    ends = {"train": n - n_val - n_test, "val": n - n_test, "test": n}
    split_of, start = {}, 0
    for split, end in ends.items():
        split_of.update(dict.fromkeys(shuffled[start:end], split))
        start = end
    return {
        split: tuple(components for components in classes if split_of[components] == split)
        for split in ends
    }


class ClassNames:
    """Finds the classes that a user names, without making the names of all classes.

    `metaevents.specs.class_name` joins the labels without a hyphen if all are single characters,
    and with hyphens otherwise.

    Args:
        labels: The component labels.
        arity: Number of labels of a class.
    """

    def __init__(self, labels: tuple[str, ...], arity: int) -> None:
        self._labels, self._arity = labels, arity
        self._known = frozenset(labels)
        self._parts = sorted({label.count("-") + 1 for label in labels})  # of a label, by hyphens

    def resolve(self, c: str | Sequence[str], split: str) -> tuple[str, ...]:
        """Return the component labels of a class.

        Args:
            c: Its name, or its component labels.
            split: The split that has it, for messages.

        Raises:
            UsageError: There is no such class, or there are two of that name.
        """
        if isinstance(c, str):
            readings = self._read(c)
        else:
            components = tuple(c) if isinstance(c, Iterable) else ()
            known = all(isinstance(label, str) and label in self._known for label in components)
            readings = [components] if known and len(components) == self._arity else []
        if not readings:
            listed = ", ".join(self._labels[:50]) + (", ..." if len(self._labels) > 50 else "")
            raise UsageError(
                f"class {shown(c)} of the {split} split is not {self._arity} of the labels {listed}"
            )
        if len(readings) > 1:
            raise UsageError(
                f"class {c!r} of the {split} split can be {readings[0]} or {readings[1]}; "
                "rename a label, so that class names differ"
            )
        return readings[0]

    def _read(self, name: str) -> list[tuple[str, ...]]:
        """Return the classes that have a name: none, one, or the first two found."""
        readings = []
        if len(name) == self._arity and all(char in self._known for char in name):
            readings.append(tuple(name))
        parts = name.split("-")
        if len(parts) < self._arity * self._parts[0]:
            return readings
        # The ways to read the first parts as labels, by the number of parts. Three are enough,
        # because at most one of them has single characters alone.
        ways: dict[int, list[tuple[str, ...]]] = {0: [()]}
        for _ in range(self._arity):
            longer: dict[int, list[tuple[str, ...]]] = {}
            for first, beginnings in ways.items():
                for n in self._parts:
                    label = "-".join(parts[first : first + n])
                    if first + n <= len(parts) and label in self._known:
                        after = longer.setdefault(first + n, [])
                        after += [(*start, label) for start in beginnings[: 3 - len(after)]]
            ways = longer
        readings += [
            components
            for components in ways.get(len(parts), [])
            if any(len(label) != 1 for label in components)
        ]
        return readings[:2]
