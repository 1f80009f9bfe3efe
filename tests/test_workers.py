"""Workers: order, errors, forks, and memory that nobody else has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metaevents.errors import MissingError, UsageError
from metaevents.workers import WorkerProcesses, prepare_in_threads


def square(item: int) -> int:
    if item == 13:
        raise ValueError("thirteen")
    return item * item


def test_threads_keep_the_order() -> None:
    assert list(prepare_in_threads(square, range(12), 3)) == [i * i for i in range(12)]
    assert list(prepare_in_threads(square, [], 3)) == []


def test_threads_read_no_further_ahead_than_needed() -> None:
    read: list[int] = []

    def items() -> Any:
        for i in range(1000):
            read.append(i)
            yield i

    values = prepare_in_threads(square, items(), 2)
    assert [next(values) for _ in range(3)] == [0, 1, 4]
    values.close()  # type: ignore[attr-defined]
    assert len(read) < 12


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    values = prepare_in_threads(square, range(20), 2)
    with pytest.raises(ValueError, match="thirteen"):
        list(values)
    with pytest.raises(ValueError, match="thirteen"):
        list(WorkerProcesses(square, range(20), 2, 100))


class PrivateError(MissingError):
    """A class of a user's own."""


@pytest.mark.parametrize(
    "error", [UsageError("no; do yes"), MissingError("none"), PrivateError("nothing")], ids=repr
)
def test_an_error_of_the_user_is_the_same_in_a_process(error: Exception) -> None:
    def refuse(item: int) -> int:
        if item:
            raise error
        return item

    processes = WorkerProcesses(refuse, range(4), 1, 100)
    values = iter(processes)
    assert next(values) == 0
    with pytest.raises(UsageError if isinstance(error, UsageError) else MissingError) as caught:
        next(values)
    processes.close()
    assert str(caught.value) == str(error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_goes_on_without_the_threads() -> None:
    values = prepare_in_threads(square, range(10), 2)
    next(values)
    child = os.fork()
    if not child:
        os._exit(0 if list(values) == [i * i for i in range(1, 10)] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert list(values) == [i * i for i in range(1, 10)]


def everything(item: int) -> Any:
    """A value of every kind that a transform may give."""
    generator = np.random.default_rng(item)
    events = np.zeros(item, [("x", "i2"), ("t", "i8")])
    events["t"] = generator.integers(0, 1000, item)
    return {
        "float": torch.arange(item, dtype=torch.float32).reshape(1, -1),
        "bfloat16": torch.full((3,), item, dtype=torch.bfloat16),
        "strided": torch.arange(12).reshape(3, 4).t(),
        "scalar": torch.tensor(item),
        "empty": torch.empty(0, 4),
        "sparse": torch.eye(2).to_sparse(),
        "bits": torch.tensor([True, False]),
        "events": events,
        "text": (str(item), None),
        "large": torch.full((5000,), item),
    }


@pytest.mark.parametrize("largest", [0, 1000, 1 << 20])
def test_values_of_every_kind_arrive_unchanged_and_stay(largest: int) -> None:
    # Slots of 0 and 1000 bytes are too small for some values or all: these go through the pipe.
    processes = WorkerProcesses(everything, range(8), 2, largest)
    for _ in range(2):
        values = list(processes)
        for item, value in enumerate(values):
            expected = everything(item)
            assert list(value) == list(expected)
            for name, part in value.items():
                if name == "sparse":
                    assert torch.equal(part.to_dense(), torch.eye(2))
                elif isinstance(part, torch.Tensor):
                    assert torch.equal(part, expected[name]), name
                    assert part.dtype == expected[name].dtype
                    part.zero_()
                elif name == "events":
                    assert np.array_equal(part, expected[name])
                    part["t"] = 0
                else:
                    assert part == expected[name]


def test_results_keep_no_file_open() -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    before = len(list(descriptors.iterdir()))
    processes = WorkerProcesses(everything, range(300), 2, 1 << 20)
    values = list(processes)
    assert len(list(descriptors.iterdir())) - before < 40
    assert len(values) == 300


def test_a_pass_that_was_left_does_not_disturb_the_next() -> None:
    processes = WorkerProcesses(square, range(12), 2, 100)
    for stop in (1, 5, 12):
        values = iter(processes)
        assert [next(values) for _ in range(stop)] == [i * i for i in range(stop)]
