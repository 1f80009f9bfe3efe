"""Frames that a device fills: on a GPU, or else by the same operations on the CPU."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.simulated_gpu import GPU, simulated_gpu

import metaevents as me
from metaevents import device_frames
from metaevents.episodes import EpisodeLoader
from metaevents.errors import UsageError

REAL = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if REAL else torch.device("cpu")
DTYPES = [None, torch.float32, torch.float16, torch.bfloat16, torch.uint8]
FIELDS = ("support_x", "support_y", "query_x", "query_y")


@pytest.fixture(scope="module")
def dataset(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, split="train")


@pytest.fixture
def samples(dataset: me.DoubleNMNIST) -> list[tuple[int, int]]:
    drawn = np.random.default_rng(0).integers(0, len(dataset.archive), (40, 2))
    return [(int(left), int(right)) for left, right in drawn]


@pytest.fixture
def gpu() -> Iterator[None]:
    """A GPU, simulated if there is none."""
    if REAL:
        yield
        return
    with simulated_gpu():
        yield


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_device_fills_the_frames_of_the_cpu(
    dataset: me.DoubleNMNIST, samples: list[tuple[int, int]], dtype: torch.dtype | None
) -> None:
    extra = np.arange(5)
    expected = dataset.stack_frames(samples, dtype)
    found, sent = dataset.stack_on(DEVICE, samples, dtype, extra=extra)
    assert found.dtype == expected.dtype
    assert found.device == DEVICE
    assert torch.equal(found.cpu(), expected)
    assert sent.tolist() == extra.tolist()
    for bins in (100, 50, 4, 1):
        merged, _ = dataset.stack_on(DEVICE, samples, dtype, bins=bins)
        assert torch.equal(merged.cpu(), dataset.stack_frames(samples, dtype, bins))
    summed, _ = dataset.stack_on(DEVICE, samples, dtype, summed=True)
    assert torch.equal(summed.cpu(), dataset.stack_sums(samples, dtype))


def test_no_samples_give_no_frames(dataset: me.DoubleNMNIST) -> None:
    for summed in (False, True):
        assert len(dataset.stack_on(DEVICE, [], summed=summed)[0]) == 0


def test_large_counts_saturate_as_on_the_cpu(
    dataset: me.DoubleNMNIST, samples: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = dataset._columns("cells")
    many = columns["count"].astype(np.uint32) * 40_000
    raised = type(columns)({"offset": columns.offset, "cell": columns["cell"], "count": many})
    monkeypatch.setitem(dataset._decoded, "cells", raised)
    monkeypatch.setattr(dataset, "_on_device", {})
    monkeypatch.setattr(device_frames, "_uploaded", {})
    for dtype in DTYPES:
        expected = dataset.stack_frames(samples, dtype)
        assert expected.max() >= 255
        assert torch.equal(dataset.stack_on(DEVICE, samples, dtype)[0].cpu(), expected)
        summed = dataset.stack_on(DEVICE, samples, dtype, summed=True)[0].cpu()
        assert torch.equal(summed, dataset.stack_sums(samples, dtype))


@pytest.mark.skipif(REAL, reason="the kernel runs on the GPU in the other tests")
def test_the_kernel_writes_what_the_operations_write(
    dataset: me.DoubleNMNIST, samples: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton is not installed: it comes with builds for GPUs")
    module: ModuleType = importlib.import_module("metaevents.frames_triton")
    monkeypatch.setattr(torch.cuda, "device", _nowhere)
    monkeypatch.setattr(device_frames, "_kernels", lambda _: module)
    for dtype in (torch.float32, torch.float16, torch.uint8):
        found = dataset.stack_on(DEVICE, samples, dtype)[0]
        assert torch.equal(found, dataset.stack_frames(samples, dtype))
        found = dataset.stack_on(DEVICE, samples, dtype, bins=20)[0]
        assert torch.equal(found, dataset.stack_frames(samples, dtype, 20))
        found = dataset.stack_on(DEVICE, samples, dtype, summed=True)[0]
        assert torch.equal(found, dataset.stack_sums(samples, dtype))


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class _nowhere:
    """In place of `torch.cuda.device`."""

    def __init__(self, index: int) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"representation": "sum"},
        {"batch_size": 3},
        {"layout": "TNPHW", "batch_size": 2},
        {"layout": "TPWH"},
        {"bins": 20, "dtype": torch.uint8},
        {"num_workers": 2},
        {"transform": doubled},
        {"transform": doubled, "num_workers": 1},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_a_loader_gives_the_episodes_of_the_cpu(
    dataset: me.DoubleNMNIST, options: dict[str, Any], gpu: None
) -> None:
    plain = {name: value for name, value in options.items() if name != "num_workers"}
    here = EpisodeLoader(dataset, 3, 2, 3, episodes=5, **plain)
    there = EpisodeLoader(dataset, 3, 2, 3, episodes=5, device="cuda", **options)
    for expected, found in zip(here, there, strict=True):
        for name in FIELDS:
            value = getattr(found, name)
            assert value.device == GPU
            assert torch.equal(value.cpu(), getattr(expected, name)), name
        assert found.index == expected.index
        assert found.query_ids == expected.query_ids
        if "batch_size" not in options:
            assert found.to("cpu").digest() == expected.digest()
    assert torch.equal(there[-1].query_x.cpu(), here[-1].query_x)
    assert [e.index for e in there.iterate([1, 0])] == [e.index for e in here.iterate([1, 0])]


def test_passes_and_streams_side_by_side_give_the_same_episodes(
    dataset: me.DoubleNMNIST, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = EpisodeLoader(dataset, 3, 2, 3, episodes=6)
    there = EpisodeLoader(dataset, 3, 2, 3, episodes=6, device="cuda")
    passes = [iter(there), iter(there)]
    order = [0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1]
    seen = [0, 0]
    for number, turn in enumerate(order):
        if number == 7:  # from here on, on another stream
            stream = torch.cuda.Stream()
            monkeypatch.setattr(torch.cuda, "current_stream", lambda *_, stream=stream: stream)
        episode, expected = next(passes[turn]), here[seen[turn]]
        assert episode.index == seen[turn]
        assert torch.equal(episode.query_x.cpu(), expected.query_x)
        assert torch.equal(episode.support_y.cpu(), expected.support_y)
        seen[turn] += 1


def test_an_episode_that_the_caller_changed_comes_back_unchanged(
    dataset: me.DoubleNMNIST, gpu: None
) -> None:
    loader = EpisodeLoader(dataset, 3, 1, 2, episodes=6, device="cuda")
    for _ in range(2):
        first = loader[0]
        assert first.support_y.tolist() == [0, 1, 2]
        first.support_y.add_(1)
        first.query_x.zero_()
        assert loader[0].query_x.sum() > 0


def test_events_stay_in_main_memory(dataset: me.DoubleNMNIST, gpu: None) -> None:
    episode = EpisodeLoader(dataset, 3, 1, 1, representation="events", device="cuda")[0]
    assert isinstance(episode.support_x, list)
    assert episode.support_y.device == GPU


def test_splits_share_the_recordings_on_a_device(nmnist_root: Path) -> None:
    splits = [me.DoubleNMNIST(nmnist_root, split=split) for split in ("train", "val")]
    for split in splits:
        split.stack_on(DEVICE, [(0, 1)])
    assert splits[0]._on_device[DEVICE] is splits[1]._on_device[DEVICE]


def test_what_lies_on_a_device_is_not_sent_to_other_processes(dataset: me.DoubleNMNIST) -> None:
    dataset.stack_on(DEVICE, [(0, 1)])
    assert dataset._on_device
    assert not pickle.loads(pickle.dumps(dataset))._on_device


def test_a_worker_of_a_data_loader_is_refused_in_one_sentence(
    dataset: me.DoubleNMNIST, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = EpisodeLoader(dataset, 3, 1, 1, episodes=2, device="cuda")
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: "a worker")
    with pytest.raises(UsageError, match="num_workers=0"):
        loader[0]
