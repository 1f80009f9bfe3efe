"""Online adaptation: one sample at a time, in two orders, with a part of the learning rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.experiment_runs import document

import baselines
import metaevents as me
from baselines.experiments.online import CORRELATED, ORDERS, RANDOM, one_by_one, places, scaled
from baselines.experiments.variants import fixed_classifier, inner_params, run_update
from baselines.maml import MAML, adapt, sgd
from metaevents.episodes import Episode


@pytest.fixture(scope="module")
def episode(archive: Path) -> Episode:
    dataset = me.load("double-nmnist", archive, "test")
    loaded: Episode = me.EpisodeLoader(dataset, 5, 2, 2, representation="sum")[3]
    return loaded


@pytest.fixture
def maml(runs: Path) -> MAML:
    model = baselines.load(runs / "cnn-maml").model
    assert isinstance(model, MAML)
    return model


def test_a_scaled_update_goes_a_part_of_the_way() -> None:
    params, gradients = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, -1.0])}
    after = scaled(sgd(0.5), 0.25)(params, gradients, 0)
    torch.testing.assert_close(after["w"], torch.tensor([0.875, 2.125]))


def test_each_sample_is_seen_once_and_classes_stand_together_in_the_correlated_order(
    episode: Episode,
) -> None:
    for order in ORDERS:
        assert sorted(places(episode, order).tolist()) == list(range(10))
    labels = episode.support_y[places(episode, CORRELATED)].tolist()
    assert labels == sorted(labels)
    shuffled = places(episode, RANDOM)
    assert shuffled.equal(places(episode, RANDOM))
    assert episode.support_y[shuffled].tolist() != labels


def test_learning_takes_a_step_per_sample(episode: Episode, maml: MAML) -> None:
    params, update = inner_params(maml), scaled(run_update(maml), 0.001)
    for index in places(episode, CORRELATED).tolist():
        x, y = episode.support_x[index, None], episode.support_y[index, None]
        params = adapt(maml.net.apply_params, params, x, y, update)
    expected = fixed_classifier(maml, params, episode)(episode.query_x)
    found = one_by_one(maml, episode, CORRELATED, 0.01)(episode.query_x)
    torch.testing.assert_close(found, expected)
    other = one_by_one(maml, episode, RANDOM, 0.01)(episode.query_x)
    assert not torch.allclose(other, expected)


def test_the_result_has_both_orders_of_each_model_and_verdicts(outputs: Path) -> None:
    rows = document(outputs, "online")["rows"]
    measured = [row for row in rows if "verdict" not in row]
    assert [row["model"] for row in measured] == ["cnn-maml"] * 3 + ["snn-maml"] * 3
    assert {row["support"] for row in measured} == {"whole support at once", *ORDERS}
    verdicts = [row for row in rows if "verdict" in row]
    assert len(verdicts) == 6
    assert {row["bound"] for row in verdicts} == {-0.01}
