"""learn2learn: MAML on the episodes of a loader, and tasks of `as_classification`."""

from __future__ import annotations

from pathlib import Path

import torch
from support.packages import import_or_skip
from torch import nn

import metaevents as me

l2l = import_or_skip(
    "learn2learn", "build it with Cython below 3 and `python setup.py build_ext bdist_wheel`"
)


def test_maml_takes_the_episodes_of_a_loader(nmnist_root: Path) -> None:
    train = me.DoubleNMNIST(nmnist_root, split="train")
    maml = l2l.algorithms.MAML(nn.Sequential(nn.Flatten(), nn.Linear(2 * 16 * 32, 5)), lr=0.01)
    for episode in me.EpisodeLoader(train, queries=2, episodes=2, representation="sum"):
        task = episode.as_torchmeta()
        learner = maml.clone()
        x, y = task["train"]
        learner.adapt(nn.functional.cross_entropy(learner(x), y))
        x, y = task["test"]
        nn.functional.cross_entropy(learner(x), y).backward()
    assert all(p.grad is not None and p.grad.any() for p in maml.parameters())


def test_tasks_are_made_of_a_classification_dataset(nmnist_root: Path) -> None:
    train = me.DoubleNMNIST(nmnist_root, split="train")
    data = train.as_classification(pairs_per_class=3, seed=0, transform=lambda x: x.sum(0))
    meta = l2l.data.MetaDataset(data, indices_to_labels=dict(enumerate(data.targets)))
    assert {label: len(items) for label, items in meta.labels_to_indices.items()} == dict.fromkeys(
        range(64), 3
    )
    assert l2l.data.MetaDataset(data).labels_to_indices == meta.labels_to_indices
    transforms = [
        l2l.data.transforms.NWays(meta, n=5),
        l2l.data.transforms.KShots(meta, k=3),
        l2l.data.transforms.LoadData(meta),
        l2l.data.transforms.RemapLabels(meta),
        l2l.data.transforms.ConsecutiveLabels(meta),
    ]
    tasks = l2l.data.Taskset(meta, task_transforms=transforms, num_tasks=4)
    x, y = tasks.sample()
    assert x.shape == (15, 2, 16, 32)
    assert sorted(y.tolist()) == [label for label in range(5) for _ in range(3)]
    assert isinstance(x, torch.Tensor)
