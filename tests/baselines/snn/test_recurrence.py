"""The GPU kernels against the loops: on a GPU, or else in Triton's interpreter."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from support.transcription import SMOOTH
from torch import Tensor

import baselines.snn
from baselines.init import lsuv_init
from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.networks import SpikingConfig, SpikingNet
from baselines.snn import autograd, recurrence
from baselines.snn.neurons import FAST_SIGMOID
from baselines.snn.recurrence import Recurrence

ROOT = Path(__file__).parents[3]
LOOPS: Recurrence = recurrence
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def kernels() -> Iterator[Recurrence]:
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE.type == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        pytest.importorskip(
            "triton", reason="Triton is not installed: it comes with torch's builds for GPUs"
        )
        yield importlib.import_module("baselines.snn.recurrence_triton")  # type: ignore[misc]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As on a GPU; Triton's interpreter allows no more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


CALLS: dict[str, tuple[list[int], tuple[Any, ...]]] = {
    # For each tensor the number of its steps beyond T, or -1 for a state; then the constants.
    "synapse": ([0, -1, -1], (0.9, 0.95, 3.0)),
    "synapse_adjoint": ([1, -1], (0.9, 0.95, 3.0)),
    "refractory": ([0, -1], (0.65, 0.8, FAST_SIGMOID)),
    "refractory_adjoint": ([0, -1, 0], (0.65, 0.8, FAST_SIGMOID)),
    "refractory_second": ([0, -1, -1, 0, 0], (0.65, 0.8, FAST_SIGMOID)),
}


def arguments(name: str, steps: int, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    extras, _ = CALLS[name]
    shapes = [shape if extra < 0 else (steps + extra, *shape) for extra in extras]
    return [draw(*each, dtype=dtype, seed=seed) for seed, each in enumerate(shapes)]


def call(on: Recurrence, name: str, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    out: tuple[Tensor, ...] = getattr(on, name)(
        *(each.clone() for each in tensors), *CALLS[name][1]
    )
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("steps", "shape"),
    [(31, (2, 3, 50)), (1, (1,)), (1, (257,)), (12, (1,)), (5, (2, 128)), (0, (7,)), (4, (0, 3))],
    ids=str,
)
@pytest.mark.parametrize("name", CALLS)
def test_a_kernel_returns_what_the_loop_returns(
    kernels: Recurrence, name: str, steps: int, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    tensors = arguments(name, steps, shape, dtype)
    results, expected = call(kernels, name, tensors), call(LOOPS, name, tensors)
    assert len(results) == len(expected)
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result, reference)


@pytest.mark.parametrize("name", CALLS)
def test_a_kernel_accepts_views(kernels: Recurrence, name: str) -> None:
    tensors = arguments(name, 6, (4, 70), torch.float64)
    views = [each.movedim(0, -1).contiguous().movedim(-1, 0) for each in tensors]
    assert not any(each.is_contiguous() for each in views)
    out: tuple[Tensor, ...] = getattr(kernels, name)(*views, *CALLS[name][1])
    for result, reference in zip(out, call(LOOPS, name, tensors), strict=True):
        torch.testing.assert_close(result, reference)


def test_refractory_membranes_overwrite_the_drive(kernels: Recurrence) -> None:
    v, trace = arguments("refractory", 5, (300,), torch.float32)
    u, last = kernels.refractory(v, trace, 0.65, 0.8, FAST_SIGMOID)
    assert u.data_ptr() == v.data_ptr()
    assert last.data_ptr() != trace.data_ptr()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_second_order_meta_gradients_through_kernels_are_those_through_loops(
    kernels: Recurrence, tasks_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SpikingConfig(frame_shape=(24, 2, 8, 8), ways=3, channels=(4, 6), kernel=3, burn_in=12)
    events = torch.Generator().manual_seed(0)
    x = torch.poisson(torch.full((2, 9, *config.frame_shape), 0.4), generator=events).double()
    y = torch.arange(9).remainder(3).expand(2, 9)
    net = SpikingNet(config).double()
    lsuv_init(net, x[0], generator=torch.Generator().manual_seed(1))
    used: list[Recurrence] = []

    def gradients(chosen: Recurrence) -> list[Tensor]:
        def of(sequence: Tensor, surrogate: object = None) -> Recurrence:
            used.append(chosen)
            return chosen

        monkeypatch.setattr(autograd, "recurrence_for", of)
        maml = MAML(net, MAMLConfig(inner_lr=0.5, steps=2, tasks_at_once=tasks_at_once)).to(DEVICE)
        maml.zero_grad()
        batch = TaskBatch(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:])
        maml.accumulate(TaskBatch(*(each.to(DEVICE) for each in batch)))
        return [
            parameter.grad.clone() for parameter in maml.parameters() if parameter.grad is not None
        ]

    expected, results = gradients(LOOPS), gradients(kernels)
    assert kernels in used
    assert len(results) == len(list(net.parameters()))
    assert all(float(each.abs().sum()) > 0 for each in expected)
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result, reference)


COMPILED = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from baselines.snn import recurrence_triton

for name in sys.argv[1:]:
    kernel = getattr(recurrence_triton, "_" + name)
    # Triton makes an argument of 1 a constant.
    for pointer, steps in (("*fp32", "i32"), ("*fp64", 1)):
        types = {argument: pointer for argument in kernel.arg_names}
        types |= {"neurons": "i32", "BLOCK": "constexpr"}
        types["steps"] = "constexpr" if steps == 1 else steps
        constants = {"BLOCK": recurrence_triton._NEURONS} | ({"steps": 1} if steps == 1 else {})
        source, target = ASTSource(kernel, types, constants), GPUTarget("cuda", 80, 32)
        print(name, pointer, len(triton.compile(source, target=target).asm["ptx"]))
"""


def test_kernels_compile_for_a_gpu(kernels: Recurrence) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, *CALLS],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 2 * len(CALLS)


# --- the choice --------------------------------------------------------------


def on_gpu(dtype: torch.dtype = torch.float32) -> Tensor:
    return cast(Tensor, SimpleNamespace(is_cuda=True, dtype=dtype))


def test_a_gpu_runs_kernels_if_they_support_the_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = cast(Recurrence, SimpleNamespace())
    monkeypatch.setattr(autograd, "_gpu_kernels", lambda: kernels)
    assert autograd.recurrence_for(on_gpu()) is kernels
    assert autograd.recurrence_for(on_gpu(torch.float64), FAST_SIGMOID) is kernels
    assert autograd.recurrence_for(on_gpu(), SMOOTH) is LOOPS
    assert autograd.recurrence_for(on_gpu(torch.bfloat16)) is LOOPS
    assert autograd.recurrence_for(torch.zeros(1)) is LOOPS


def test_a_gpu_runs_loops_if_torch_came_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "baselines.snn.recurrence_triton", None)
    monkeypatch.delattr(baselines.snn, "recurrence_triton", raising=False)
    monkeypatch.setattr(autograd, "_gpu_kernels", autograd._gpu_kernels.__wrapped__)
    assert autograd.recurrence_for(on_gpu()) is LOOPS


def test_the_steepness_of_the_surrogate_is_that_of_its_slope() -> None:
    u = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert FAST_SIGMOID.steepness is not None
    torch.testing.assert_close(FAST_SIGMOID.slope(u), (FAST_SIGMOID.steepness * u.abs() + 1) ** -2)
    assert SMOOTH.steepness is None
