"""On a GPU: gradients equal those of the CPU, and training and evaluation run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import metaevents as me
from baselines.config import recipe
from baselines.init import lsuv_init
from baselines.learners import load
from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.networks import SpikingConfig, SpikingNet
from baselines.training.loop import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_second_order_meta_gradients_equal_those_of_the_cpu(tasks_at_once: int) -> None:
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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "model", ["snn-maml", "snn-fomaml", "cnn-maml", "snn-transfer", "cnn-transfer"]
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
