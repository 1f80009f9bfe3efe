"""Values as JSON can write them."""

from __future__ import annotations

import datetime
import json
from collections import namedtuple
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from metaevents.benchmark.json_values import to_json
from metaevents.errors import UsageError


@dataclass
class Config:
    lr: float
    steps: Any


class Color(Enum):
    RED = "red"


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (np.bool_(False), False),
        (3, 3),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        ("text", "text"),
        (np.str_("text"), "text"),
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        (Pair(1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1, "a"}, ["a", 1]),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array(7), 7),
        (np.array(["a", "b"]), ["a", "b"]),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
        (torch.tensor(2, dtype=torch.int8), 2),
        (torch.tensor([0.5], dtype=torch.bfloat16), [0.5]),
        (torch.float32, "torch.float32"),
        (torch.device("cpu"), "cpu"),
        (np.dtype("int8"), "int8"),
        (torch.Size([2, 3]), [2, 3]),
        (PurePosixPath("a/b"), "a/b"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Color.RED, "red"),
        (Config(0.1, np.int32(5)), {"lr": 0.1, "steps": 5}),
        ({1: "a", np.int64(2): "b", None: 3}, {"1": "a", "2": "b", "null": 3}),
        ({"a": {"b": {np.float64(1.5)}}}, {"a": {"b": [1.5]}}),
    ],
)
def test_values_of_python_numpy_and_torch_become_plain(value: Any, plain: Any) -> None:
    converted = to_json("seen", value)
    assert converted == plain
    assert type(converted) is type(plain)
    assert json.loads(json.dumps(converted)) == plain


def circle() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


class Broken(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"loss": float("nan")}, r"seen\.loss is nan, which JSON cannot write"),
        ({"loss": np.array([1.0, np.inf])}, r"seen\.loss\[1\] is inf"),
        ({"net": object()}, r"seen\.net is object, which JSON cannot write"),
        ({"raw": b"bytes"}, r"seen\.raw is bytes"),
        ({"late": iter([1])}, r"seen\.late is list_iterator"),
        ({"name": "\udc80"}, "is no valid text"),
        ({"many": 1 << 5000}, "is a number of 5,001 bits"),
        ({(1, 2): 3}, "give text as keys"),
        ({1: "a", "1": "b"}, "two keys '1'"),
        (circle(), "more than 32 levels"),
        (np.zeros(2_000_000), "has 2,000,000 elements"),
        (["x" * 600_000] * 2, "has 1,200,008 bytes as JSON"),
        (Broken(a=1), "cannot be written as JSON .RuntimeError: no items"),
        (1j, "seen is complex"),
        (np.array([1j]), r"seen\[0\] is complex"),
    ],
)
def test_what_json_cannot_write_is_refused_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_json("seen", value)
