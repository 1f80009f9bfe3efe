"""Figure 6: shots of transfer learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.experiment_runs import document

import metaevents as me
from baselines.accuracy import recording_design
from baselines.experiments import Study
from baselines.experiments.fig6 import _FeatureTable, by_shots, crossing
from baselines.transfer import Transfer
from metaevents.episodes import EpisodeLoader
from metaevents.errors import UsageError


def test_transfer_learns_from_the_first_shots_of_an_episode(study: Study) -> None:
    run = study.runs.get("snn-transfer")
    episode = EpisodeLoader(study.test, 5, 3, 2, episodes=1)[0]
    logits = {
        name: classifier(episode.query_x) for name, classifier in by_shots(run, 3, None)(episode)
    }
    assert list(logits) == ["1", "2", "3"]
    first = [index for index in range(15) if index % 3 < 2]
    direct = run.transfer.adapt(episode.support_x[first], episode.support_y[first], 5)(
        episode.query_x
    )
    torch.testing.assert_close(logits["2"], direct)


def test_features_are_computed_once_per_sample_and_are_the_bodys(study: Study) -> None:
    run = study.runs.get("snn-transfer")
    calls: list[int] = []

    class Counting(Transfer):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return super().features(x)

    body = Counting(run.transfer.net)
    table = _FeatureTable(body)
    episode = EpisodeLoader(study.test, 5, 1, 2, episodes=1)[0]
    ids = list(episode.query_ids)
    first = table(episode.query_x, ids)
    torch.testing.assert_close(first, run.transfer.features(episode.query_x))
    assert torch.equal(table(episode.query_x.flip(0), ids[::-1]), first.flip(0))
    assert calls == [len(ids)]
    # A sample that comes twice in one call, and a table that is full.
    twice = torch.cat([episode.support_x[:1], episode.support_x[:1]])
    rows = table(twice, [episode.support_ids[0]] * 2)
    assert torch.equal(rows[0], rows[1])
    assert calls[1:] == [1]


def test_the_interval_of_the_shots_needed_has_what_the_differences_do_not_exclude() -> None:
    differences = {1: (-0.05, 0.02), 2: (-0.01, 0.02), 3: (0.01, 0.02), 4: (0.04, 0.02)}
    assert crossing(differences) == (3, 2, 4)
    assert crossing({1: (0.05, 0.02)}) == (1, 1, 1)
    assert crossing({1: (-0.05, 0.02), 2: (-0.01, 0.02)}) == (None, 2, None)
    assert crossing({1: (-0.05, 0.02)}) == (None, None, None)


def test_fewer_shots_have_the_recordings_of_those_shots_alone(study: Study) -> None:
    loader = EpisodeLoader(study.test, 5, 3, 2, episodes=4)
    few = recording_design([loader], shots=1)
    for index in range(4):
        draw = loader.episode_sampler(index)
        first = {tuple(pair) for pair in np.asarray(draw.support)[::3].tolist()}
        assert len(first) <= 5
    correct = np.random.default_rng(0).random((1, 4, 10)) < 0.7
    whole = recording_design([loader])
    assert few.effective_samples == whole.effective_samples  # of the queries
    assert few.mean_variance(correct).means == whole.mean_variance(correct).means
    assert few._support.shape[1] * 3 == whole._support.shape[1]


def test_the_result_says_the_interval_of_the_shots_needed(outputs: Path) -> None:
    found = document(outputs, "fig6")
    needed = [row for row in found["rows"] if "shots needed" in row]
    assert {row["ways"] for row in needed} == {5, 20}
    for row in needed:
        for name in ("shots needed", "least", "greatest"):
            assert row[name].isdigit() or row[name] == f"more than {row['most shots']}"
    assert all(row["ci95"] is not None for row in found["rows"] if row["panel"] == "error")


def test_shots_go_as_far_as_the_recordings(outputs: Path, archive: Path) -> None:
    found = document(outputs, "fig6")
    most = max(row["shots"] for row in found["rows"] if row["panel"] == "error")
    test = me.load("double-nmnist", archive, "test")
    EpisodeLoader(test, 20, most, 4)
    with pytest.raises(UsageError):
        EpisodeLoader(test, 20, most + 1, 4)
    assert any(f"has recordings for {most} shots" in note for note in found["notes"])
