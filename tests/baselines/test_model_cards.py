"""Model cards say what weights and entries say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.untrained import untrained_weights

import baselines.learners
import baselines.model_cards
from baselines.cli import main
from baselines.config import recipe
from baselines.model_cards import check, write
from baselines.publish import publish
from baselines.training.folder import learning_curve
from baselines.training.loop import TrainingRun
from metaevents.benchmark.validation import read_entry, validate
from metaevents.errors import UsageError

CARDS = Path(__file__).parents[2] / "cards"
SMALL: dict[str, Any] = {
    "channels": (4, 4, 8),
    "steps": 4,
    "val_every": 2,
    "val_episodes": 3,
    "queries": 3,
    "pretrain_steps": 0,
}


@pytest.fixture(scope="module")
def archive(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the weights of the release."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for module in (baselines.model_cards, baselines.learners):
        monkeypatch.setattr(module, "SHIPPED", folder)
    return folder


def test_cards_say_what_weights_and_entries_say(
    shipped: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    config = recipe("cnn-maml", "paper", **SMALL)
    TrainingRun(config, archive, run, progress=False, device="cpu").run()
    publish(run, folder=shipped)
    cards = tmp_path / "cards"
    (cards / "entries").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    shutil.copy(archive, tmp_path / "a.h5")
    out = ("--out", "cards/entries/m.json", "--predictions", "cards/entries/m.npz")
    options = ["--recipe", "paper", "--archive", "a.h5", "--protocol", "sample-5way-1shot"]
    assert main(["evaluate", "cnn-maml", *options, *out]) == 0
    entry = read_entry(cards / "entries" / "m.json")
    assert entry.report["learner"] == "baselines:cnn-maml"
    assert validate(cards / "entries" / "m.json", "a.h5").entry.name == "CNN-MAML (paper)"
    card, results, energy = write(cards)
    text = card.read_text("utf-8")
    assert f"{100 * entry.accuracy:.1f} ±" in text
    assert f"{100 * entry.accuracy:.1f} ±" in results.read_text("utf-8")
    for line in learning_curve(run):
        assert f"| {line['step']:,} | {line['loss']:.3f} |" in text
    assert "| CNN-MAML (paper) |" in energy.read_text("utf-8")
    assert check(cards) == [card, results, energy]
    card.write_text(text.replace("cnn-maml", "cnn-mamba"), "utf-8")
    with pytest.raises(UsageError, match="out of date with the weights and entries"):
        check(cards)


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ((0.90, 0.95), "The last validation is the best; the accuracy was still rising."),
        ((0.90, 0.91), "the rise since the one before is within its interval."),
        ((0.90, 0.95, 0.91), "The best validation is that of step 200; no later one is better."),
        ((0.90,), "There is only one validation."),
    ],
)
def test_a_card_says_that_accuracy_rises_only_beyond_its_interval(
    accuracies: tuple[float, ...], verdict: str, shipped: Path, archive: Path, tmp_path: Path
) -> None:
    curve = tuple(
        {"step": 100 * n, "loss": 1.0, "accuracy": 0.5, "val_accuracy": value, "val_ci95": 0.02}
        for n, value in enumerate(accuracies, 1)
    )
    untrained_weights(archive, curve=curve).save(shipped / "w.safetensors")
    (tmp_path / "entries").mkdir()
    card = write(tmp_path)[0]
    assert verdict in card.read_text("utf-8")


def test_the_repositorys_cards_are_those_of_its_weights_and_entries() -> None:
    assert check(CARDS)
