"""Lightning's trainer: episodes in one process and in two, evaluation, supervised data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.simple_learners import ClassMeans
from support.torchrun import python
from torch import nn
from torch.utils.data import DataLoader

import metaevents as me

lightning = pytest.importorskip(
    "lightning", reason="lightning is not installed; pip install -e '.[test-extra]'"
)
filters = pytest.mark.filterwarnings(
    "ignore", "ignore::ResourceWarning"
)  # Lightning's own, about its loggers and the number of workers


def prototypes_module() -> Any:
    """A Lightning module: nearest class means of a linear embedding of the counts."""

    class Prototypes(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(2 * 16 * 32, 8)
            self.seen: list[str] = []

        def loss(self, episode: me.Episode, step: str) -> torch.Tensor:
            self.seen.append(step)
            assert isinstance(episode, me.Episode)
            support = self.embed(episode.support_x.flatten(1))
            means = torch.stack([support[episode.support_y == label].mean(0) for label in range(3)])
            scores = -torch.cdist(self.embed(episode.query_x.flatten(1)), means)
            loss = nn.functional.cross_entropy(scores, episode.query_y)
            self.log(f"{step}_loss", loss, batch_size=len(episode.query_y))
            return loss

        def training_step(self, episode: me.Episode, batch: int) -> torch.Tensor:
            return self.loss(episode, "train")

        def validation_step(self, episode: me.Episode, batch: int) -> None:
            self.loss(episode, "val")

        def test_step(self, episode: me.Episode, batch: int) -> None:
            self.loss(episode, "test")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    return Prototypes()


@filters
@pytest.mark.parametrize(
    "options", [{}, {"num_workers": 2}, {"num_workers": 2, "transform": torch.sqrt}]
)
def test_a_trainer_fits_validates_and_tests(
    nmnist_root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    train, val, test = (
        me.EpisodeLoader(
            me.DoubleNMNIST(nmnist_root, split=split),
            ways=3,
            queries=2,
            episodes=episodes,
            representation="sum",
            **options,
        )
        for split, episodes in (("train", 5), ("val", 3), ("test", 4))
    )
    module = prototypes_module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, train, val)
    assert (module.seen.count("train"), module.seen.count("val")) == (10, 7)
    assert trainer.validate(module, val, verbose=False)[0]["val_loss"] > 0
    assert trainer.test(module, test, verbose=False)[0]["test_loss"] > 0
    assert (module.seen.count("val"), module.seen.count("test")) == (10, 4)


def quiet_trainer(folder: Path, **options: Any) -> Any:
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


@filters
def test_a_module_is_evaluated_in_a_hook_and_afterwards(nmnist_root: Path, tmp_path: Path) -> None:
    """A learner that takes gradients, although Lightning validates without them."""
    val = me.DoubleNMNIST(nmnist_root, split="val")
    accuracies = []

    class FineTuned(lightning.LightningModule):  # type: ignore[misc, name-defined]
        representation = "sum"

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(2 * 16 * 32, 8)

        def adapt(self, support_x: Any, support_y: Any, ways: int) -> Any:
            head = nn.Linear(8, ways)
            features = self.embed(support_x.flatten(1)).detach()
            optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                nn.functional.cross_entropy(head(features), support_y).backward()
                optimizer.step()
            return lambda x: head(self.embed(x.flatten(1)))

        def training_step(self, episode: me.Episode, batch: int) -> torch.Tensor:
            return self.embed(episode.support_x.flatten(1)).square().mean()

        def validation_step(self, episode: me.Episode, batch: int) -> None:
            pass

        def on_validation_epoch_end(self) -> None:
            report = me.evaluate(self, val, protocol="sample-5way-1shot", episodes=3)
            accuracies.append(report.accuracy)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    module = FineTuned()
    loader = me.EpisodeLoader(val, ways=3, queries=2, episodes=2, representation="sum")
    quiet_trainer(tmp_path, num_sanity_val_steps=0).fit(module, loader, loader)
    after = me.evaluate(module, val, protocol="sample-5way-1shot", episodes=3)
    assert accuracies == [after.accuracy]
    assert after.parameters == 2 * 16 * 32 * 8 + 8


@filters
def test_a_trainer_takes_supervised_data(nmnist_root: Path, tmp_path: Path) -> None:
    data = me.DoubleNMNIST(nmnist_root, split="train").as_classification(
        2, seed=0, transform=lambda x: x.sum(0)
    )
    seen: list[int] = []

    class Classifier(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2 * 16 * 32, len(data.classes))

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            x, y = batch
            seen.extend(y.tolist())
            return nn.functional.cross_entropy(self.head(x.flatten(1)), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-4)

    loader = DataLoader(data, batch_size=16, shuffle=True)
    quiet_trainer(tmp_path).fit(Classifier(), loader)
    assert sorted(seen) == data.targets


SCRIPT = """
import json
import sys
from operator import itemgetter
from pathlib import Path

import lightning
import torch
from support.simple_learners import ClassMeans
from torch.utils.data import DataLoader

import metaevents as me

root, out = sys.argv[1:]


class Embedding(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(2 * 16 * 32, 4)
        self.seen = []

    def training_step(self, episode, batch):
        assert isinstance(episode, me.Episode)
        self.seen.append(episode.index)
        return self.embed(episode.query_x.flatten(1)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


loader = me.EpisodeLoader(
    me.DoubleNMNIST(root, split="train"), ways=3, queries=2, episodes=6, representation="sum"
)
told = {}
trainer = lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    default_root_dir=out,
)
module = Embedding()
trainer.fit(module, DataLoader(loader, batch_size=1, collate_fn=itemgetter(0)))
told["data loader"] = module.seen
weights = trainer.strategy.all_gather(module.embed.weight.detach().sum())
told["weights differ"] = len(set(weights.tolist())) > 1
test = me.DoubleNMNIST(root, split="test")
report = me.evaluate(ClassMeans(), test, protocol="sample-5way-1shot", episodes=5)
told["accuracy"] = report.per_episode
module.seen = []
trainer.fit_loop.epoch_progress.reset()
trainer.fit(module, loader)
told["episode loader"] = module.seen
Path(out, f"{trainer.global_rank}.json").write_text(json.dumps(told))
"""


def test_two_processes_share_episodes_and_an_evaluation(
    simulated_root: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    support = Path(__file__).parents[1]
    script.write_text(f"import sys; sys.path.insert(0, {str(support)!r})\n{SCRIPT}", "utf-8")
    done = python("-W", "ignore", script, simulated_root, tmp_path)
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"{rank}.json").read_text("utf-8")) for rank in range(2)]
    shares = [set(each["data loader"]) for each in told]  # shuffled by Lightning
    assert [len(share) for share in shares] == [3, 3]
    assert set.union(*shares) == set(range(6))
    assert [each["episode loader"] for each in told] == [list(range(6))] * 2
    assert [each["weights differ"] for each in told] == [False, False]
    test = me.DoubleNMNIST(simulated_root, split="test")
    alone = me.evaluate(ClassMeans(), test, protocol="sample-5way-1shot", episodes=5)
    assert [each["accuracy"] for each in told] == [alone.per_episode] * 2
