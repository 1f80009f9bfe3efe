"""Variants of a trained run: other inner loops under the same weights."""

from __future__ import annotations

import pytest
import torch
from support.experiment_runs import small

from baselines.experiments import Study, variant
from baselines.experiments.accuracy import learner_accuracies
from baselines.maml import MAML, MAMLConfig, TaskBatch
from baselines.models import build_network
from baselines.quantization import FixedPoint, quantized
from metaevents.episodes import EpisodeLoader


def test_a_variant_without_changes_is_the_run_itself(study: Study) -> None:
    for model in ("snn-maml", "cnn-maml"):
        run = study.runs.get(model)
        same = learner_accuracies(variant(run.maml), study.test, 5, 1, 5, 3, 0)
        assert same == learner_accuracies(run.learner, study.test, 5, 1, 5, 3, 0)


def test_a_task_starts_from_what_start_makes_of_the_meta_parameters(study: Study) -> None:
    maml, format = study.runs.get("snn-maml").maml, FixedPoint(4, 3)
    rounded = variant(maml, start=lambda params: quantized(params, format))
    net = build_network(small(), study.test.frame_shape)
    net.load_state_dict(quantized(maml.net.state_dict(), format))
    elsewhere = variant(maml, net)
    assert learner_accuracies(rounded, study.test, 5, 1, 3, 2, 0) == learner_accuracies(
        elsewhere, study.test, 5, 1, 3, 2, 0
    )


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_meta_gradient_passes_through_start(tasks: int, study: Study) -> None:
    net = build_network(small("cnn-maml"), study.test.frame_shape)
    loader = EpisodeLoader(study.test, 5, 1, 2, episodes=2, batch_size=2, representation="sum")
    batch = loader[0]
    halved = MAML(
        net,
        MAMLConfig(inner_lr=0.1, tasks_at_once=tasks),
        start=lambda p: {n: v / 2 for n, v in p.items()},
    )
    through = halved.accumulate(
        TaskBatch(batch.support_x, batch.support_y, batch.query_x, batch.query_y)
    ).gradients
    net.load_state_dict({name: value / 2 for name, value in net.state_dict().items()})
    plain = MAML(net, MAMLConfig(inner_lr=0.1, tasks_at_once=tasks))
    gradients = plain.accumulate(
        TaskBatch(batch.support_x, batch.support_y, batch.query_x, batch.query_y)
    ).gradients
    for name, value in gradients.items():
        torch.testing.assert_close(through[name], value / 2)
