"""Numbers that a user gives: whole ones and finite ones, within bounds."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from metaevents.arguments import finite_number, one_of, whole_number
from metaevents.errors import UsageError


class Five:
    def __index__(self) -> int:
        return 5

    def __repr__(self) -> str:  # the test's name, which must be the same in every process
        return "Five()"


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "five", [5, np.int64(5), np.uint8(5), np.array(5), torch.tensor(5), Five()], ids=repr
)
def test_whatever_has_an_index_is_a_whole_number(five: Any) -> None:
    number = whole_number("ways", five, least=5, most=5)
    assert number == 5
    assert type(number) is int


NO_WHOLE_NUMBERS = [
    True, False, np.True_, np.array(True), torch.tensor(True), 5.0, np.float64(5),
    torch.tensor(5.0),
    float("nan"), float("inf"), "5", b"5", None, [5], (5,), {}, 5j, Decimal(5), Fraction(5), int,
    np.array([5, 6]), np.array([5.0]), Unspeakable(), object(),
]  # fmt: skip


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=lambda value: type(value).__name__)
def test_anything_else_is_none(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^ways=.* is no whole number; give one of at least 2$"):
        whole_number("ways", value, least=2)


@pytest.mark.parametrize("value", [1, -1, 8, 10**30, -(10**5000), 10**5000], ids=lambda _: "n")
def test_numbers_out_of_range_are_refused_in_a_short_sentence(value: int) -> None:
    with pytest.raises(
        UsageError, match=r"out of range; give a whole number from 2 to 7"
    ) as caught:
        whole_number("ways", value, least=2, most=7)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("half", [0.5, np.float32(0.5), torch.tensor(0.5), Decimal("0.5")])
def test_finite_numbers_are_floats(half: Any) -> None:
    number = finite_number("lr", half, least=0, most=1)
    assert number == 0.5
    assert type(number) is float


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -np.inf, "0.5", True, np.False_, None, [0.5], 1j, 10**400, object],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_no_finite_numbers(value: Any) -> None:
    with pytest.raises(UsageError, match=r"lr=.* is no finite number"):
        finite_number("lr", value)


def test_words_are_plain_texts() -> None:
    word = one_of("split", np.str_("val"), ["train", "val"])
    assert word == "val"
    assert type(word) is str


@pytest.mark.parametrize(
    "value",
    ["dev", "", ["val"], {}, np.array(["val", "val"]), b"val", None, 1, 10**5000, "v" * 1000],
    ids=lambda value: type(value).__name__,
)
def test_other_words_are_refused_in_a_short_sentence(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^split=.*; choose one of train, val$") as caught:
        one_of("split", value, ["train", "val"])
    assert len(str(caught.value)) < 120
