"""Published weights: learning curve, inner steps at test, and the weights of the release."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

import baselines.learners
import baselines.publish
import metaevents as me
from baselines.accuracy import learner_accuracy
from baselines.config import recipe
from baselines.inner_steps import TEST_STEPS, measured_steps
from baselines.learners import SHIPPED, load
from baselines.publish import publish
from baselines.training.folder import learning_curve
from baselines.training.loop import TrainingRun
from baselines.weights_file import read_weights
from metaevents.errors import MissingError, UsageError

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


@pytest.fixture(scope="module")
def run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = recipe("cnn-maml", "paper", **SMALL)
    TrainingRun(config, archive, folder, progress=False, device="cpu").run()
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the weights of the release."""
    folder = tmp_path / "weights"
    for module in (baselines.publish, baselines.learners):
        monkeypatch.setattr(module, "SHIPPED", folder)
    return folder


def test_published_weights_carry_the_whole_learning_curve_and_load_by_name(
    run: Path, shipped: Path
) -> None:
    path = publish(run, folder=shipped)
    assert path.name == "cnn-maml.paper.double-nmnist.published.5way.safetensors"
    assert list(read_weights(path).record.curve) == learning_curve(run)
    learner = load("cnn-maml", recipe="paper")
    assert learner.record.step == read_weights(run / "best.safetensors").record.step


def test_trainings_with_other_seeds_and_pairings_are_published_beside_the_first(
    run: Path, archive: Path, tmp_path: Path, shipped: Path
) -> None:
    publish(run, folder=shipped)
    changes = {**SMALL, "seed": 3, "pairing": "published"}
    TrainingRun(
        recipe("cnn-maml", "paper", **changes), archive, tmp_path / "b", progress=False
    ).run()
    path = publish(tmp_path / "b", folder=shipped)
    assert path.name == (
        "cnn-maml.paper.double-nmnist.published.5way.published-pairing.seed3.safetensors"
    )
    other = load("cnn-maml", recipe="paper", pairing="published", seed=3)
    assert (other.config.seed, other.config.pairing) == (3, "published")
    first = load("cnn-maml", recipe="paper")
    assert (first.config.seed, first.config.pairing) == (0, "all")
    with pytest.raises(MissingError, match="pairing all and seed 3"):
        load("cnn-maml", recipe="paper", seed=3)


def test_transfer_ships_for_any_number_of_ways() -> None:
    assert load("cnn-transfer", ways=20).config == load("cnn-transfer").config


def test_inner_steps_at_test_are_selected_on_validation_episodes(
    run: Path, archive: Path, simulated_root: Path, tmp_path: Path
) -> None:
    weights = read_weights(publish(run, archive, tmp_path))
    measured = weights.record.measured or {}
    accuracies = measured_steps(measured)
    assert tuple(accuracies) == TEST_STEPS
    assert accuracies[weights.config.test_steps] == max(accuracies.values())
    assert load(
        tmp_path / f"{weights.config.model}.paper.double-nmnist.published.5way.safetensors"
    ).model.config.test_steps
    # The run itself validated with one step, on the same episodes.
    assert accuracies[1] == pytest.approx(measured["val_accuracy"])
    # Published weights are selected again from their file, and nothing else changes.
    again = read_weights(publish(tmp_path / weights.config.file_name, archive, tmp_path / "again"))
    assert (again.config, again.record) == (weights.config, weights.record)
    other = tmp_path / "other"
    config = recipe("cnn-maml", "paper", **SMALL)
    TrainingRun(config, simulated_root, other, progress=False, device="cpu").run()
    with pytest.raises(UsageError, match="validated on other recordings"):
        publish(other, archive, tmp_path)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_weights_load_and_have_seen_nothing_of_the_test(
    path: Path, sample_root: Path
) -> None:
    weights = read_weights(path)
    learner = load(path)
    assert path.stat().st_size < 1.5e6
    assert not weights.record.simulated
    config = weights.config
    test = me.load(
        config.dataset, sample_root, "test", classes=config.classes, pairing=config.pairing
    )
    assert test.fingerprint == weights.record.fingerprint
    overlap = learner.overlap(test)
    if config.pairing == "all":
        assert overlap is None
    else:  # the test draws from recordings of the val split, by the pairing's definition
        assert overlap is not None
        assert overlap.endswith("to choose the weights")
    ways = weights.config.ways
    episodes = me.EpisodeLoader(test, ways, 1, 5, episodes=3, representation=learner.representation)
    accuracy = fmean(learner_accuracy(learner, episode) for episode in episodes)
    # For digits that training never saw see cards/results/baselines.md.
    if weights.config.classes == "published":
        assert accuracy > 3 / ways  # three times chance
