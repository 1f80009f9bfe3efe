"""The inner steps at test: one grid, the learner's own accuracies, and a choice inside the grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from support.untrained import untrained_weights

import baselines.inner_steps
import metaevents as me
from baselines.accuracy import learner_accuracy
from baselines.inner_steps import TEST_STEPS, is_inside, measured_steps, with_best_test_steps
from baselines.learners import from_weights
from baselines.released import SHIPPED
from baselines.training.validation import validation_episodes
from baselines.weights_file import read_weights


def test_accuracies_are_those_of_learners_with_so_many_steps(
    nmnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines.inner_steps, "TEST_STEPS", (1, 2, 4))
    archive = nmnist_root / "double-nmnist.h5"
    weights = untrained_weights(archive, measured={"val_accuracy_3_steps": 0.3, "other": 0.1})
    config = replace(weights.config, val_episodes=4, queries=3)
    weights = replace(weights, config=config)
    chosen = with_best_test_steps(weights, Path("w"), archive, progress=False)
    accuracies = measured_steps(chosen.record.measured)
    assert list(accuracies) == [1, 2, 4]  # those of another grid are gone
    assert (chosen.record.measured or {})["other"] == 0.1
    val = me.load("double-nmnist", archive, "val")
    for steps, accuracy in accuracies.items():
        learner = from_weights(replace(weights, config=replace(config, test_steps=steps)), "w")
        episodes = validation_episodes(val, config, learner.representation)
        assert accuracy == fmean(learner_accuracy(learner, episode) for episode in episodes)
    assert accuracies[chosen.config.test_steps] == max(accuracies.values())


def test_a_choice_at_the_end_of_the_grid_is_not_settled() -> None:
    def measured(*values: float) -> dict[str, float]:
        steps = (1, 3, 10)
        return {f"val_accuracy_{n}_steps": v for n, v in zip(steps, values, strict=True)}

    assert is_inside(measured(0.5, 0.7, 0.6))
    assert is_inside(measured(0.5, 0.7, 0.7))  # the fewest steps of equals
    assert not is_inside(measured(0.5, 0.6, 0.7))
    assert not is_inside({"val_accuracy": 0.5})
    assert not is_inside(None)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_the_records_of_shipped_weights_agree_with_their_configuration(path: Path) -> None:
    weights = read_weights(path)
    if accuracies := measured_steps(weights.record.measured):
        best = max(accuracies.values())
        assert accuracies[weights.config.test_steps] == best
        assert weights.config.test_steps == min(n for n, v in accuracies.items() if v == best)
        assert set(accuracies) <= set(TEST_STEPS)
