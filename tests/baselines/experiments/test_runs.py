"""The trained runs of a study: which are found, and which are trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
from support.experiment_runs import OPTIONS, SMALL, document, results, small
from support.untrained import untrained_weights

from baselines.experiments import EXPERIMENTS, Study, reproduce
from baselines.models import build_maml, build_network
from baselines.training import train
from baselines.weights_file import Weights
from metaevents.errors import UsageError


def test_a_missing_run_is_trained_after_its_pre_training(nmnist_root: Path, tmp_path: Path) -> None:
    training = {**SMALL, "pretrain_steps": 2, "steps": 2}
    reproduce("fig4", nmnist_root, tmp_path, training=training, **OPTIONS)
    found = document(tmp_path, "fig4")
    assert found["data"] == "sample"
    assert "sample: double-nmnist from n-mnist-subset" in (results(tmp_path) / "fig4.md").read_text(
        "utf-8"
    )
    assert [(run["model"], run["recipe"], run["steps"]) for run in found["runs"]] == [
        ("snn-maml", "best", 2)
    ]
    assert len([*(tmp_path / "runs").glob("snn-transfer.*/best.safetensors")]) == 1
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("best.safetensors")
    }
    # The two runs of this experiment are trained already.
    reproduce("table3", nmnist_root, tmp_path, training=training, **OPTIONS)
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("best.safetensors")
    }


def test_runs_are_matched_by_their_configuration(archive: Path, runs: Path, tmp_path: Path) -> None:
    train(
        small("cnn-maml", pairing="published"),
        archive,
        tmp_path / "published",
        progress=False,
        device="cpu",
    )
    train(small("cnn-maml", ways=3), archive, tmp_path / "three", progress=False, device="cpu")
    study = Study(EXPERIMENTS["table2"], archive, tmp_path, runs=[tmp_path, runs / "snn-maml"])
    assert study.runs.find("cnn-maml") is None
    assert study.runs.find("snn-fomaml") is None
    published, three, snn = (
        study.runs.get("cnn-maml", pairing="published"),
        study.runs.get("cnn-maml", ways=3),
        study.runs.get("snn-maml"),
    )
    assert (published.config.pairing, three.config.ways, snn.config.model) == (
        "published",
        3,
        "snn-maml",
    )


def test_a_study_with_pairing_published_takes_a_run_with_pairing_all_if_there_is_no_other(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    study = Study(EXPERIMENTS["fig3"], archive, tmp_path, runs=[runs], pairing="published")
    assert study.runs.get("snn-maml").config.pairing == "all"
    assert [run.config.pairing for run in study.runs.available("snn-maml", "cnn-maml")] == [
        "all",
        "all",
    ]
    assert study.notes == [
        "snn-maml was trained with pairing all, because no run with pairing published was given.",
        "cnn-maml was trained with pairing all, because no run with pairing published was given.",
    ]
    train(
        small("snn-maml", pairing="published"),
        archive,
        tmp_path / "own",
        progress=False,
        device="cpu",
    )
    own = Study(
        EXPERIMENTS["fig3"], archive, tmp_path, runs=[runs, tmp_path / "own"], pairing="published"
    )
    assert own.runs.get("snn-maml").config.pairing == "published"
    assert not own.notes


def test_the_best_recipe_is_taken_and_of_its_trainings_the_first_seed(
    archive: Path, tmp_path: Path
) -> None:
    accuracies = {("narrow", 0): 0.3, ("narrow", 1): 0.9, ("narrow", 2): 0.4, ("wide", 0): 0.5}
    for (name, seed), accuracy in accuracies.items():
        channels = (4, 4, 8) if name == "narrow" else (8, 4, 8)
        weights = untrained_weights(archive, measured={"val_accuracy": accuracy})
        config = replace(weights.config, channels=channels, seed=seed, test_steps=seed)
        net = build_network(config, weights.record.frame_shape)
        tensors = build_maml(config, net).state_dict()
        Weights(tensors, config, weights.record).save(tmp_path / f"{name}{seed}.safetensors")
    study = Study(EXPERIMENTS["fig3"], archive, tmp_path, runs=[tmp_path], device="cpu")
    first = study.runs.get("cnn-maml")
    assert (first.config.channels, first.config.seed) == ((4, 4, 8), 0)
    trainings = study.runs.trainings(first)
    assert [run.config.seed for run in trainings] == [0, 1, 2]
    assert {run.config.channels for run in trainings} == {(4, 4, 8)}
    assert len({run.digest for run in trainings}) == 3
    assert [run.summary()["test_steps"] for run in trainings] == [1, 1, 2]


def test_other_trainings_stand_beside_the_first(archive: Path, tmp_path: Path) -> None:
    for seed in range(3):
        train(small("cnn-maml", seed=seed), archive, tmp_path / str(seed), progress=False,
              device="cpu")  # fmt: skip
    options = {**OPTIONS, "episodes": 4}
    reproduce("table2", archive, tmp_path / "out", runs=[tmp_path], models=["cnn-maml"],
              trials=2, **options)  # fmt: skip
    found = document(tmp_path / "out", "table2")
    assert {row["model"] for row in found["rows"]} == {"cnn-maml"}
    assert sorted(run["seed"] for run in found["runs"]) == [0, 1, 2]
    alone = tmp_path / "alone"
    accuracies = []
    for seed in range(3):
        runs = [tmp_path / str(seed)]
        reproduce("table2", archive, alone / str(seed), runs=runs, models=["cnn-maml"], trials=2,
                  **options)  # fmt: skip
        accuracies.append(
            [row["accuracy"] for row in document(alone / str(seed), "table2")["rows"]]
        )
    for row, *values in zip(found["rows"], *accuracies, strict=True):
        assert row["accuracy"] == values[0]
        assert (row["trials"], row["trainings"]) == (2, 3)
        assert row["trainings_mean"] == pytest.approx(fmean(values), rel=1e-3)
        assert row["trainings_deviation"] == pytest.approx(stdev(values), rel=1e-3, abs=1e-12)


def test_models_that_an_experiment_does_not_measure_are_refused(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    study = Study(EXPERIMENTS["fig3"], archive, tmp_path, runs=[runs], models=["snn-transfer"])
    with pytest.raises(UsageError, match="fig3 measures snn-maml, snn-fomaml, cnn-maml"):
        EXPERIMENTS["fig3"].rows(study)
