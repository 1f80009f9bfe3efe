"""Torch's modes and defaults are undone where the package makes tensors."""

from __future__ import annotations

import numpy as np
import torch

from metaevents.global_state import ordinary_tensors, to_tensor


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
