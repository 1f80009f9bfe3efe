"""Relearning: the tasks A, B and A again, from three kinds of initial weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.experiment_runs import document

import metaevents as me
from baselines.accuracy import recording_design
from metaevents.episodes import EpisodeLoader


def test_the_result_has_every_phase_and_its_verdicts(outputs: Path) -> None:
    rows = document(outputs, "relearning")["rows"]
    measured = [row for row in rows if "verdict" not in row]
    phases = ["before learning", "after A", "after A, B", "after A, B, A"]
    for network in ("cnn", "snn"):
        for weights in ("meta-trained", "supervised", "random"):
            shown = [
                row
                for row in measured
                if (row["network"], row["initial weights"]) == (network, weights)
            ]
            assert [row["phase"] for row in shown] == phases
            assert shown[1]["change"] == 0
            assert all(
                (row["learning rate"] is None) == (weights == "meta-trained") for row in shown
            )
    # A last layer of zeros gives all queries to one class.
    assert {
        row["accuracy"]
        for row in measured
        if (row["initial weights"], row["phase"]) == ("supervised", "before learning")
    } == {0.2}
    verdicts = [row for row in rows if "verdict" in row]
    assert len(verdicts) == 10


def test_the_support_of_the_other_task_counts_as_shared(archive: Path) -> None:
    dataset = me.load("double-nmnist", archive, "test")

    def loader(seed: int) -> EpisodeLoader:
        return EpisodeLoader(dataset, 5, 1, 2, episodes=30, seed=seed, representation="sum")

    rng = np.random.default_rng(0)
    answers = rng.random((2, 30, 10)) < 0.7
    alone, beside = recording_design([loader(0)]), recording_design([loader(0)], [loader(1)])
    shares = [each.mean_variance(answers).shares[1].sum() for each in (alone, beside)]
    assert shares[1] > shares[0]  # more episodes share recordings of their supports
