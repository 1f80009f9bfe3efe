"""Chunks of queries and parallel calls: sizes, order, and the settings of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

import baselines
from baselines.parallel import linear_in_order, parallel_map, query_chunks

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("samples", "sizes"),
    [(1, [1]), (2, [1, 1]), (18, [9, 9]), (19, [5, 5, 5, 4]), (50, [9, 9, 8, 8, 8, 8])],
)
def test_chunks_are_an_even_number_of_at_most_nine_whatever_the_threads(
    threads: int, samples: int, sizes: list[int]
) -> None:
    assert [len(chunk) for chunk in query_chunks(torch.zeros(samples, 2), None)] == sizes


@pytest.mark.parametrize("rows", [1, 7, 35, 40, 53])
def test_a_linear_map_in_order_is_the_linear_map(rows: int) -> None:
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)
        for shape in ((rows, 12), (5, 12), (5,))
    )
    mine, reference = linear_in_order(x, weight, bias), linear(x, weight, bias)
    torch.testing.assert_close(mine, reference)
    inputs = (x, weight, bias)
    for gradients in (
        torch.autograd.grad(y.pow(2).sum(), inputs, create_graph=True) for y in (mine, reference)
    ):
        second = torch.autograd.grad(gradients[1].pow(2).sum(), weight)[0]
        torch.testing.assert_close(second, _second_gradient(*inputs))
    assert torch.autograd.gradcheck(linear_in_order, inputs)


def _second_gradient(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    (first,) = torch.autograd.grad(linear(x, weight, bias).pow(2).sum(), weight, create_graph=True)
    return torch.autograd.grad(first.pow(2).sum(), weight)[0]


def test_spiking_predictions_do_not_depend_on_the_number_of_threads() -> None:
    learner = baselines.load("snn-maml").model
    draw = torch.Generator().manual_seed(0)
    support, query = (torch.poisson(torch.full((n, 100, 2, 16, 32), 0.1), draw) for n in (10, 4))
    labels, before = torch.arange(10) % 5, torch.get_num_threads()
    logits = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            logits.append(learner.adapt(support, labels, 5)(query))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*logits)


def test_a_given_size_and_axis_are_used() -> None:
    chunks = query_chunks(torch.arange(10).view(2, 5), 2, axis=1)
    assert [chunk.tolist() for chunk in chunks] == [[[0, 1], [5, 6]], [[2, 3], [7, 8]], [[4], [9]]]


def test_results_are_in_order_and_the_number_of_threads_is_restored(threads: int) -> None:
    assert parallel_map(lambda i: i**2, range(7), CPU) == [i**2 for i in range(7)]
    assert torch.get_num_threads() == threads


def test_each_thread_has_one_torch_thread_and_the_callers_autocast() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    both_started = threading.Barrier(2)

    def settings(_: int) -> tuple[int, bool]:
        both_started.wait(timeout=30)
        return torch.get_num_threads(), torch.is_autocast_enabled("cpu")

    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert parallel_map(settings, range(2), CPU) == [(1, True)] * 2
    finally:
        torch.set_num_threads(before)
