"""Lightning's trainer takes an episode loader for fitting, validating and testing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

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
