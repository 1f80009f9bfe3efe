"""The trained runs of a study: which are found, and which are trained."""

from __future__ import annotations

from pathlib import Path

from support.experiment_runs import OPTIONS, SMALL, document, results, small

import baselines
from baselines.experiments import EXPERIMENTS, Study, reproduce
from baselines.training import train


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


def test_the_run_of_the_best_validation_is_taken(archive: Path, tmp_path: Path) -> None:
    for seed in range(3):
        train(
            small("cnn-maml", seed=seed),
            archive,
            tmp_path / str(seed),
            progress=False,
            device="cpu",
        )
    measured = [baselines.load(tmp_path / str(seed)).record.measured for seed in range(3)]
    best = max(values["val_accuracy"] for values in measured if values)
    found = Study(EXPERIMENTS["fig3"], archive, tmp_path, runs=[tmp_path]).runs.get("cnn-maml")
    assert (found.learner.record.measured or {})["val_accuracy"] == best
