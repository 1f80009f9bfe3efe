"""accelerate: two processes share the episodes of training and of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.packages import import_or_skip
from support.simple_learners import ClassMeans
from support.torchrun import torchrun

import metaevents as me

import_or_skip("accelerate")

SCRIPT = """
import json
import sys
from operator import itemgetter
from pathlib import Path

import torch
from accelerate import Accelerator
from support.simple_learners import ClassMeans
from torch.utils.data import DataLoader

import metaevents as me

root, out = sys.argv[1:]
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
train = me.DoubleNMNIST(root, split="train")
loader = me.EpisodeLoader(train, ways=3, queries=2, episodes=6, representation="sum")
told = {"as it is": [episode.index for episode in accelerator.prepare(loader)]}

share = range(rank, len(loader), accelerator.num_processes)
told["share"] = [episode.index for episode in loader.iterate(share)]

torch.manual_seed(rank)  # accelerate gives all processes the weights of the first
model = torch.nn.Linear(2 * 16 * 32, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
data = DataLoader(loader, batch_size=1, collate_fn=itemgetter(0))
model, optimizer, data = accelerator.prepare(model, optimizer, data)
told["steps"] = len(data)
told["prepared"] = []
for epoch in range(2):
    for episode in data:
        assert isinstance(episode, me.Episode)
        told["prepared"].append(episode.index)
        # One call per step, because the model of several processes collects gradients in it.
        features = model(torch.cat([episode.support_x, episode.query_x]).flatten(1))
        support, query = features.split([3, 6])
        means = torch.stack([support[episode.support_y == label].mean(0) for label in range(3)])
        loss = torch.nn.functional.cross_entropy(-torch.cdist(query, means), episode.query_y)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
weights = accelerator.unwrap_model(model).weight.detach()
told["weights differ by"] = float((accelerator.gather(weights[None]) - weights).abs().max())


class Embedded:
    representation = "sum"

    def adapt(self, support_x, support_y, ways):
        embed = accelerator.unwrap_model(model)
        with torch.no_grad():
            features = embed(support_x.flatten(1))
            means = torch.stack([features[support_y == label].mean(0) for label in range(ways)])
        return torch.no_grad()(lambda query_x: -torch.cdist(embed(query_x.flatten(1)), means))


test = me.DoubleNMNIST(root, split="test")
options = {"protocol": "sample-5way-1shot", "episodes": 5}
told["embedded"] = me.evaluate(Embedded(), test, **options).per_episode
told["accuracy"] = me.evaluate(ClassMeans(), test, **options).per_episode
Path(out, f"{rank}.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes have written, in order of rank.

    `accelerate launch --cpu --num_processes 2` starts one process, so `torchrun` starts them.
    """
    folder = tmp_path_factory.mktemp("accelerate")
    script = folder / "train.py"
    support = Path(__file__).parents[1]
    script.write_text(f"import sys; sys.path.insert(0, {str(support)!r})\n{SCRIPT}", "utf-8")
    done = torchrun(script, simulated_root, folder)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(2)]


def test_a_prepared_loader_does_not_share(told: list[dict[str, Any]]) -> None:
    assert [each["as it is"] for each in told] == [list(range(6))] * 2


def test_a_share_is_taken_by_number(told: list[dict[str, Any]]) -> None:
    assert [each["share"] for each in told] == [[0, 2, 4], [1, 3, 5]]


def test_a_prepared_data_loader_of_episodes_shares(told: list[dict[str, Any]]) -> None:
    assert [each["steps"] for each in told] == [3, 3]
    assert [each["prepared"] for each in told] == [[0, 2, 4] * 2, [1, 3, 5] * 2]
    assert [each["weights differ by"] for each in told] == [0, 0]


def test_an_evaluation_is_shared_and_the_same(
    told: list[dict[str, Any]], simulated_root: Path
) -> None:
    test = me.DoubleNMNIST(simulated_root, split="test")
    alone = me.evaluate(ClassMeans(), test, protocol="sample-5way-1shot", episodes=5)
    for each in told:
        assert each["accuracy"] == alone.per_episode
        assert each["embedded"] == told[0]["embedded"]
