"""easyfsl: its methods as learners, and its task sampler over `as_classification`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.packages import import_or_skip
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

import metaevents as me

ADVICE = "pip install easyfsl, with the torchvision that fits your torch"
methods = import_or_skip("easyfsl.methods", ADVICE)
samplers = import_or_skip("easyfsl.samplers", ADVICE)


def test_a_method_is_evaluated_as_a_learner(nmnist_root: Path) -> None:
    class Prototypical:
        representation = "sum"

        def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Any:
            model = methods.PrototypicalNetworks(nn.Flatten())
            model.process_support_set(support_x, support_y)
            return model

    test = me.DoubleNMNIST(nmnist_root, split="test")
    episode = me.EpisodeLoader(test, queries=3, representation="sum")[0]
    scores = Prototypical().adapt(episode.support_x, episode.support_y, 5)(episode.query_x)
    distances = torch.cdist(episode.query_x.flatten(1), episode.support_x.flatten(1))
    assert torch.allclose(scores, -distances[:, episode.support_y.argsort()])
    options = {"protocol": "sample-5way-1shot", "episodes": 2}
    simulated = me.evaluate(Prototypical(), test, **options)  # type: ignore[arg-type]
    assert len(simulated.per_episode) == 2


def test_the_task_sampler_takes_a_classification_dataset(
    nmnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # easyfsl 1.5 gives torch's sampler an argument that torch no longer takes.
    if Sampler.__init__ is object.__init__:
        monkeypatch.setattr(Sampler, "__init__", lambda self, data_source=None: None)
    train = me.DoubleNMNIST(nmnist_root, split="train")
    data = train.as_classification(pairs_per_class=4, seed=0, transform=lambda x: x.sum(0))
    sampler = samplers.TaskSampler(data, n_way=5, n_shot=1, n_query=2, n_tasks=3)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    tasks = list(loader)
    assert len(tasks) == 3
    for support_x, support_y, query_x, query_y, classes in tasks:
        assert support_x.shape == (5, 2, 16, 32)
        assert query_x.shape == (10, 2, 16, 32)
        assert sorted(support_y.tolist()) == sorted(query_y.tolist()[::2]) == list(range(5))
        assert set(classes) <= set(data.targets)
