"""Torch's modes and defaults are undone where the package makes tensors."""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch

from metaevents.global_state import (
    generators_restored,
    ordinary_tensors,
    seed_generators,
    to_tensor,
)


def test_modes_are_undone_within_the_block_alone() -> None:
    torch.set_default_device("meta")
    try:
        with torch.inference_mode():
            with ordinary_tensors():
                inside = torch.zeros(2)
                assert not torch.is_grad_enabled()
            outside = torch.zeros(2)
    finally:
        torch.set_default_device("cpu")
        torch.set_default_device(None)
    assert (inside.device.type, outside.device.type) == ("cpu", "meta")
    assert (inside.is_inference(), outside.is_inference()) == (False, True)


def test_without_modes_nothing_changes() -> None:
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), ordinary_tensors():
            assert torch.is_grad_enabled() == gradients
            assert torch.zeros(2).device.type == "cpu"


def test_a_tensor_shares_the_arrays_memory() -> None:
    array = np.zeros(3)
    for mode in (False, True):
        with torch.inference_mode(mode):
            tensor = to_tensor(array)
        assert not tensor.is_inference()
        tensor += 1
    assert array.tolist() == [2, 2, 2]


def test_blocks_that_seed_lie_within_each_other_in_one_thread() -> None:
    with generators_restored():
        seed_generators(3)
        with generators_restored():
            seed_generators(4)
        inner = random.random()
    assert inner == random.Random(3).random()


def test_the_block_of_another_thread_waits() -> None:
    entered = Event()

    def enter() -> None:
        with generators_restored():
            entered.set()

    with ThreadPoolExecutor(1) as threads:
        with generators_restored():
            waiting = threads.submit(enter)
            assert not entered.wait(0.1)
        waiting.result(10)
    assert entered.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_does_not_wait_for_a_thread_of_its_parent() -> None:
    entered, done = Event(), Event()

    def stay() -> None:
        with generators_restored():
            entered.set()
            done.wait(60)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(stay)
        entered.wait(10)
        child = os.fork()
        if not child:
            signal.alarm(20)  # ends it if it waits
            with generators_restored():
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        done.set()
