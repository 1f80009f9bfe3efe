"""On a GPU: gradients equal those of the CPU, and training and evaluation run."""

from __future__ import annotations

import copy
import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch

import metaevents as me
from baselines.config import recipe
from baselines.cuda_graphs import GraphedFunction
from baselines.init import lsuv_init
from baselines.learners import load
from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.networks import SpikingConfig, SpikingNet
from baselines.training.folder import RunFolder, learning_curve
from baselines.training.loop import TrainingRun, train
from metaevents.episodes import EpisodeLoader

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("tasks_at_once", [None, 1, 2])
def test_second_order_meta_gradients_equal_those_of_the_cpu(tasks_at_once: int | None) -> None:
    config = SpikingConfig(frame_shape=(40, 2, 8, 16), ways=3, channels=(8, 16), burn_in=20)
    x = torch.poisson(
        torch.full((2, 12, *config.frame_shape), 0.4), generator=torch.Generator().manual_seed(0)
    ).double()
    y = torch.arange(12).remainder(3).expand(2, 12)
    net = SpikingNet(config).double()
    lsuv_init(net, x[0], generator=torch.Generator().manual_seed(1))
    gradients = []
    for device in ("cpu", "cuda"):
        maml = MAML(net, MAMLConfig(steps=2, tasks_at_once=tasks_at_once)).to(device)
        maml.zero_grad()
        batch = TaskBatch(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:])
        maml.accumulate(TaskBatch(*(each.to(device) for each in batch)))
        gradients.append(
            [
                parameter.grad.cpu().clone()
                for parameter in maml.parameters()
                if parameter.grad is not None
            ]
        )
    for on_cpu, on_gpu in zip(*gradients, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu)


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        *((model, "float32") for model in ("snn-fomaml", "snn-transfer", "cnn-transfer")),
        *(
            (model, each)
            for model in ("snn-maml", "cnn-maml")
            for each in ("float32", "tf32", "bfloat16")
        ),
    ],
)
def test_a_run_trains_on_a_gpu_and_its_weights_evaluate_anywhere(
    model: str, precision: str, nmnist_root: Path, tmp_path: Path
) -> None:
    config = recipe(
        model, "paper", channels=(4, 4, 8), time_stride=10, burn_in=50, steps=4, val_every=2,
        val_episodes=3, queries=3, meta_batch_size=2, batch_size=8, precision=precision,
    )  # fmt: skip
    result = train(
        config, nmnist_root / "double-nmnist.h5", tmp_path, device="cuda", progress=False
    )
    assert result is not None
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(math.isfinite(line["loss"]) for line in lines)
    for device in ("cuda", "cpu"):
        learner = load(tmp_path, device=device)
        dataset = me.DoubleNMNIST(nmnist_root, split="test")
        report = me.evaluate(
            learner, dataset, protocol="sample-5way-1shot", episodes=2, progress=False
        )
        assert 0 <= report.accuracy <= 1


def test_a_graph_has_the_gradients_of_the_cpu() -> None:
    config = SpikingConfig(frame_shape=(40, 2, 8, 16), ways=3, channels=(8, 16), burn_in=20)
    net = SpikingNet(config).double()
    draw = torch.Generator().manual_seed(0)
    rate = torch.full((5, 1, 12, *config.frame_shape), 0.4)
    episodes = torch.poisson(rate, generator=draw).double()
    lsuv_init(net, episodes[0, 0], generator=torch.Generator().manual_seed(1))
    y = torch.arange(12).remainder(3)[None]
    learners = [
        MAML(copy.deepcopy(net), MAMLConfig(steps=2)).to(device) for device in ("cpu", "cuda")
    ]

    def gradients(learner: MAML, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        learner.zero_grad()
        batch = TaskBatch(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:])
        return list(learner.accumulate(batch).gradients.values())

    graphed = GraphedFunction(partial(gradients, learners[1]), "the gradients")
    for x in episodes:
        found = graphed(x.to("cuda"), y.to("cuda"))
        for on_cpu, on_gpu in zip(gradients(learners[0], x, y), found, strict=True):
            torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-10, atol=1e-10)
    assert graphed.graphed


def test_short_trainings_on_both_devices_agree(nmnist_root: Path, tmp_path: Path) -> None:
    config = recipe(
        "snn-maml", "paper", channels=(4, 4, 8), time_stride=10, burn_in=50, steps=30, val_every=30,
        val_episodes=20, queries=3,
    )  # fmt: skip
    curves = []
    for device in ("cpu", "cuda"):
        archive = nmnist_root / "double-nmnist.h5"
        train(config, archive, tmp_path / device, device=device, progress=False)
        curves.append(learning_curve(tmp_path / device)[-1])
    assert curves[1]["loss"] == pytest.approx(curves[0]["loss"], rel=0.1)
    assert abs(curves[1]["val_accuracy"] - curves[0]["val_accuracy"]) <= curves[0]["val_ci95"]


def test_a_resumed_run_goes_on_to_the_same_weights(nmnist_root: Path, tmp_path: Path) -> None:
    config = recipe(
        "snn-maml", "paper", channels=(4, 4, 8), time_stride=10, burn_in=50, steps=16, val_every=8,
        val_episodes=4, queries=3,
    )  # fmt: skip
    archive = nmnist_root / "double-nmnist.h5"
    train(config, archive, tmp_path / "whole", device="cuda", progress=False)
    run = TrainingRun(config, archive, tmp_path / "parts", device="cuda", progress=False)
    saved = run._save_checkpoint

    def save_and_stop() -> None:
        saved()
        if run.step == 8:
            raise KeyboardInterrupt

    run._save_checkpoint = save_and_stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.run()
    train(config, archive, tmp_path / "parts", device="cuda", resume=True, progress=False)
    weights = [
        RunFolder(tmp_path / name).load_checkpoint().weights.tensors for name in ("whole", "parts")
    ]
    for name, values in weights[0].items():
        assert torch.equal(values, weights[1][name]), name


@pytest.mark.parametrize("model", ["snn-maml", "cnn-transfer"])
def test_a_learner_with_graphs_answers_as_on_the_cpu(
    model: str, nmnist_root: Path, tmp_path: Path
) -> None:
    config = recipe(
        model, "paper", channels=(4, 4, 8), time_stride=10, burn_in=50, steps=2, val_every=2,
        val_episodes=2, queries=3, batch_size=8,
    )  # fmt: skip
    train(config, nmnist_root / "double-nmnist.h5", tmp_path, device="cpu", progress=False)
    dataset = me.DoubleNMNIST(nmnist_root, split="test")
    learners = [load(tmp_path, device=device) for device in ("cpu", "cuda")]
    form = learners[0].representation
    for episode in EpisodeLoader(dataset, 5, 1, 3, episodes=6, representation=form):
        expected, found = (
            learner.adapt(episode.support_x, episode.support_y, 5)(episode.query_x).cpu()
            for learner in learners
        )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
