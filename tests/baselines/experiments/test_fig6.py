"""Figure 6: shots of transfer learning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.experiment_runs import document

import metaevents as me
from baselines.experiments import Study
from baselines.experiments.fig6 import by_shots
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


def test_shots_go_as_far_as_the_recordings(outputs: Path, archive: Path) -> None:
    found = document(outputs, "fig6")
    most = max(row["shots"] for row in found["rows"] if row["panel"] == "error")
    test = me.load("double-nmnist", archive, "test")
    EpisodeLoader(test, 20, most, 4)
    with pytest.raises(UsageError):
        EpisodeLoader(test, 20, most + 1, 4)
    assert any(f"has recordings for {most} shots" in note for note in found["notes"])
