"""Training and evaluation on a GPU that is simulated, for machines without one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.simulated_gpu import GPU, GpuTensor, simulated_gpu
from support.training_runs import same_weights, small, without_time
from torch import Tensor

import baselines.init
import baselines.training.loop
import metaevents as me
from baselines.config import MODELS
from baselines.cuda_graphs import GraphedFunction
from baselines.learners import load
from baselines.maml import MAML
from baselines.training.folder import RunFolder
from baselines.training.loop import TrainingError, TrainingRun, train
from baselines.training.step import GraphedSteps
from metaevents.episodes import EpisodeLoader


@pytest.fixture
def gpu() -> Iterator[list[str]]:
    with simulated_gpu() as reads:
        yield reads


def test_the_simulated_gpu_refuses_what_a_gpu_refuses(gpu: list[str]) -> None:
    on_gpu = torch.ones(3, device="cuda")
    assert isinstance(on_gpu, GpuTensor)
    assert on_gpu.device == GPU
    with pytest.raises(RuntimeError, match="two devices"):
        on_gpu + torch.ones(3)
    with pytest.raises(RuntimeError, match="generator"):
        torch.nn.init.normal_(on_gpu, generator=torch.Generator("cpu"))
    with pytest.raises(ValueError, match="index"):
        torch.cuda.set_device(torch.device("cuda"))
    assert not gpu
    assert on_gpu.sum().item() == 3
    assert len(gpu) == 1


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_as_on_the_cpu(
    model: str, archive: Path, tmp_path: Path, gpu: list[str]
) -> None:
    config = small(model, steps=6, val_every=3)
    for device in ("cpu", "cuda"):
        train(config, archive, tmp_path / device, device=device, progress=False)
    expected, found = (without_time(tmp_path / device) for device in ("cpu", "cuda"))
    assert [line["step"] for line in found] == [3, 6]
    for one, other in zip(expected, found, strict=True):
        for name in ("loss", "accuracy", "lr"):
            assert other[name] == pytest.approx(one[name], rel=1e-3)
    weights = [
        RunFolder(tmp_path / device).load_checkpoint().weights.tensors for device in ("cpu", "cuda")
    ]
    for name, expected_values in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected_values, rtol=1e-2, atol=1e-4)


def test_the_steps_after_the_first_are_one_graph_that_waits_for_nothing(
    archive: Path, tmp_path: Path, gpu: list[str]
) -> None:
    run = TrainingRun(small(steps=8, val_every=8), archive, tmp_path, device="cuda", progress=False)
    steps = run._new_steps()
    assert isinstance(steps, GraphedSteps)
    before = len(gpu)
    for step in range(6):
        assert steps.take(step) == []
    assert steps._run.graphed
    assert len(gpu) == before
    assert len(steps.read()) == 6
    assert len(gpu) == before + 1


def test_a_loss_that_is_not_a_number_names_its_step(
    archive: Path, tmp_path: Path, gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(small(steps=9, val_every=3), archive, tmp_path, device="cuda", progress=False)
    loaded = run._objective.load

    def spoiled(step: int, share: range) -> tuple[Tensor, ...]:
        support_x, *others = loaded(step, share)
        return (support_x * float("nan") if step == 4 else support_x, *others)

    monkeypatch.setattr(run._objective, "load", spoiled)
    with pytest.raises(TrainingError, match=r"step 5 is not a number .* step 3 in .* is good"):
        run.run()


@pytest.mark.parametrize("model", ["snn-maml", "cnn-maml", "snn-transfer", "cnn-transfer"])
def test_a_learner_answers_as_on_the_cpu(
    model: str, archive: Path, tmp_path: Path, gpu: list[str]
) -> None:
    train(small(model, steps=2), archive, tmp_path, device="cpu", progress=False)
    dataset = me.load("double-nmnist", archive, "test")
    episodes = EpisodeLoader(
        dataset, 5, 1, 3, episodes=6, representation=load(tmp_path).representation
    )
    learners = [load(tmp_path, device=device) for device in ("cpu", "cuda")]
    classifiers = []
    for episode in episodes:  # the first ones run, then a graph is recorded, then it is replayed
        expected, found = (
            learner.adapt(episode.support_x, episode.support_y, 5) for learner in learners
        )
        classifiers.append((expected, found, episode))
        answer = found(episode.query_x)
        assert answer.device == GPU
        torch.testing.assert_close(answer.cpu(), expected(episode.query_x), rtol=1e-3, atol=1e-4)
    # A classifier keeps its task, whatever the learner adapted to afterwards.
    for expected, found, episode in classifiers:
        x = episode.query_x
        torch.testing.assert_close(found(x).cpu(), expected(x), rtol=1e-3, atol=1e-4)


def test_the_inner_path_is_that_of_the_cpu(archive: Path, tmp_path: Path, gpu: list[str]) -> None:
    train(small(steps=2, inner_steps=7), archive, tmp_path, device="cpu", progress=False)
    episode = EpisodeLoader(me.load("double-nmnist", archive, "test"), 5, 1, 3)[0]
    models = [load(tmp_path, device=device).model for device in ("cpu", "cuda")]
    paths = []
    for model in models:
        assert isinstance(model, MAML)
        paths.append(model.inner_path(episode.support_x, episode.support_y, 5))
    assert len(paths[0]) == len(paths[1]) == 8
    for expected, found in zip(*paths, strict=True):
        for name, value in expected.items():
            torch.testing.assert_close(found[name].cpu(), value, rtol=1e-3, atol=1e-5)


def test_evaluation_on_the_gpu_gives_the_answers_of_the_cpu(
    archive: Path, tmp_path: Path, gpu: list[str]
) -> None:
    train(small(steps=2), archive, tmp_path, device="cpu", progress=False)
    dataset = me.load("double-nmnist", archive, "test")
    reports = [
        me.evaluate(
            load(tmp_path, device=device),
            dataset,
            "sample-5way-1shot",
            episodes=2,
            progress=False,
        )
        for device in ("cpu", "cuda")
    ]
    assert reports[0].accuracy == reports[1].accuracy


def test_what_cannot_be_recorded_runs_as_it_is_and_says_so(
    gpu: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    def waits(x: Tensor) -> list[Tensor]:
        return [x * float(x.sum())]

    function = GraphedFunction(waits, "a function that waits")
    with caplog.at_level(logging.INFO, "baselines.cuda_graphs"):
        for number in range(1, 6):
            (result,) = function(torch.full((2,), float(number), device="cuda"))
            assert result.tolist() == [2.0 * number**2] * 2
    assert len(caplog.messages) == 1
    assert "a function that waits runs without a CUDA graph" in caplog.messages[0]


# The two faults that were found when training first ran on a GPU.


def test_a_device_without_a_number_is_noticed(
    archive: Path, tmp_path: Path, gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pick_device(name: str) -> torch.device:
        device = torch.device(name)
        torch.cuda.set_device(device)
        return device

    monkeypatch.setattr(baselines.training.loop, "pick_device", pick_device)
    with pytest.raises(ValueError, match="index"):
        train(small(steps=2), archive, tmp_path, device="cuda", progress=False)


def test_a_generator_of_another_device_is_noticed(
    archive: Path, tmp_path: Path, gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_orthogonal(tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.nn.init.orthogonal_(tensor, generator=generator)

    monkeypatch.setattr(baselines.init, "fill_orthogonal", fill_orthogonal)
    with pytest.raises(RuntimeError, match="generator"):
        train(small(steps=2), archive, tmp_path, device="cuda", progress=False)


def test_auto_takes_the_gpu_and_resuming_goes_on_to_the_same_weights(
    archive: Path, tmp_path: Path, gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(steps=8, val_every=4)
    train(config, archive, tmp_path / "whole", device="auto", progress=False)
    run = TrainingRun(config, archive, tmp_path / "parts", device="auto", progress=False)
    assert run.device.type == "cuda"
    monkeypatch.setattr(run, "config", config)
    saved = run._save_checkpoint

    def save_and_stop() -> None:
        saved()
        if run.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "_save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    train(config, archive, tmp_path / "parts", device="auto", resume=True, progress=False)
    name = "best.safetensors"
    assert same_weights(tmp_path / "whole" / name, tmp_path / "parts" / name)
