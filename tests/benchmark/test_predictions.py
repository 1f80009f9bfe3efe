"""Prediction files: what they contain, the scores that follow, and which files are refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import run
from support.simple_learners import ClassMeans, evaluate

import metaevents as me
from metaevents.benchmark import Predictions, Report, Score, score
from metaevents.errors import ArchiveError, MissingError, UsageError


@pytest.fixture(scope="module")
def report(digits: me.DoubleNMNIST) -> Report:
    return evaluate(ClassMeans(), digits, episodes=8)


@pytest.fixture
def file(report: Report, tmp_path: Path) -> Path:
    report.save_predictions(tmp_path / "predictions.npz")
    return tmp_path / "predictions.npz"


def rewrite(path: Path, **changes: Any) -> Path:
    """Replace arrays of a prediction file; None removes an array, a `header` dict is merged."""
    with np.load(path) as loaded:
        arrays = dict(loaded)
    if "header" in changes and isinstance(changes["header"], dict):
        changes["header"] = np.array(
            json.dumps({**json.loads(str(arrays["header"])), **changes["header"]})
        )
    arrays = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    np.savez_compressed(path, **arrays)
    return path


def predictions_of(path: Path) -> np.ndarray:
    with np.load(path) as loaded:
        return loaded["predictions"]


def test_the_score_follows_from_the_file_and_the_archive(
    report: Report, file: Path, digits_root: Path
) -> None:
    found = score(file, digits_root)
    assert type(found) is Score
    for name in Score.document_fields():
        assert getattr(found, name) == getattr(report, name), name
    assert not found.is_protocol


def test_the_file_is_compact_and_its_bytes_follow_from_the_predictions(
    report: Report, file: Path, tmp_path: Path
) -> None:
    assert file.stat().st_size < 2000
    report.save_predictions(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()
    assert predictions_of(file).dtype == np.uint8
    assert predictions_of(file).shape == (8, 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels + 300, "400 predictions are out of range, the first is 30"),
        (lambda labels: labels - 5, "predictions are out of range, the first is -"),
        (lambda labels: labels.astype(float), "predictions are float64 of shape .* expected whole"),
        (lambda labels: labels[:, 1:].tolist(), r"shape \(8, 49\), expected whole"),
        (lambda labels: [[0], [0, 1]], "predictions are a list that is no array; give a NumPy"),
        (lambda labels: None, "predictions are object of shape"),
    ],
)
def test_labels_that_do_not_fit_are_not_saved(
    report: Report, tmp_path: Path, change: Callable[[np.ndarray], Any], message: str
) -> None:
    predictions = report.predictions
    assert predictions is not None
    changed = replace(predictions, labels=change(predictions.labels))
    with pytest.raises(UsageError, match=message):
        changed.save(tmp_path / "changed.npz")
    assert not list(tmp_path.iterdir())


def test_lists_are_saved_as_arrays(report: Report) -> None:
    predictions = report.predictions
    assert predictions is not None
    assert predictions.scores is not None
    lists: Any = {"labels": predictions.labels.tolist(), "scores": predictions.scores.tolist()}
    assert replace(predictions, **lists).to_bytes(scores=True) == predictions.to_bytes(scores=True)
    with pytest.raises(UsageError, match=r"scores have shape \(8, 50\), expected \(8, 50, 5\)"):
        replace(predictions, scores=predictions.scores[..., 0]).to_bytes(scores=True)


def test_a_file_holds_its_arrays_alone(report: Report) -> None:
    predictions = report.predictions
    assert predictions is not None
    with np.load(io.BytesIO(predictions.to_bytes(scores=True))) as arrays:
        assert sorted(arrays) == ["episodes", "header", "predictions", "scores"]


def test_predictions_load_as_they_were_saved(report: Report, file: Path, tmp_path: Path) -> None:
    loaded = Predictions.load(file)
    assert report.predictions is not None
    assert loaded.protocol == report.protocol
    assert (loaded.fingerprint, loaded.episodes_digest) == (
        report.archive["fingerprint"],
        report.episodes_digest,
    )
    np.testing.assert_array_equal(loaded.labels, report.predictions.labels)
    assert loaded.scores is None
    report.save_predictions(tmp_path / "scores.npz", scores=True)
    with_scores = Predictions.load(tmp_path / "scores.npz")
    np.testing.assert_array_equal(with_scores.scores, report.predictions.scores)
    np.testing.assert_array_equal(with_scores.scores.argmax(axis=2), loaded.labels)
    with pytest.raises(UsageError, match="hold no scores"):
        loaded.save(tmp_path / "none.npz", scores=True)


def test_episodes_may_stand_in_any_order(report: Report, file: Path, digits_root: Path) -> None:
    order = np.array([3, 1, 2, 0, 7, 6, 5, 4])
    rewrite(file, episodes=order, predictions=predictions_of(file)[order].astype(np.int64))
    assert score(file, digits_root).per_episode == report.per_episode


def test_rows_without_numbers_are_in_order(report: Report, file: Path, digits_root: Path) -> None:
    rewrite(file, episodes=None)
    assert score(file, digits_root).per_episode == report.per_episode


def one_wrong(value: int) -> Callable[[Path], dict[str, Any]]:
    def change(path: Path) -> dict[str, Any]:
        predictions = predictions_of(path).astype(np.int16)
        predictions[2, 7] = value
        return {"predictions": predictions}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            one_wrong(5),
            r"1 predictions are out of range, the first is 5 for query 7 of episode 2; "
            "give labels from 0 to 4",
        ),
        (one_wrong(-1), r"out of range, the first is -1 for query 7 of episode 2"),
        (
            lambda p: {"predictions": predictions_of(p)[:-1], "episodes": np.arange(7)},
            "1 of 8 episodes are missing, the .* is 7",
        ),
        (
            lambda p: {
                "predictions": predictions_of(p)[[0, 2, 3, 4, 5, 6, 7]],
                "episodes": np.array([0, 2, 3, 4, 5, 6, 7]),
            },
            "1 of 8 episodes are missing, the first is 1",
        ),
        (
            lambda p: {"predictions": predictions_of(p)[:0], "episodes": np.arange(0)},
            "8 of 8 episodes are missing, the .* is 0",
        ),
        (
            lambda p: {"episodes": np.array([0, 1, 2, 3, 4, 5, 6, 6])},
            "1 episodes occur more than once, the first is 6",
        ),
        (
            lambda p: {"predictions": np.repeat(predictions_of(p), 2, axis=0), "episodes": None},
            "episode 8 is out of range; give episodes 0 to 7 only",
        ),
        (
            lambda p: {"episodes": np.array([-1, 1, 2, 3, 4, 5, 6, 7])},
            "episode -1 is out of range",
        ),
        (
            lambda p: {"episodes": np.arange(9)},
            r"episodes are int64 of shape \(9,\), expected whole numbers \[8\]",
        ),
        (
            lambda p: {"predictions": predictions_of(p)[:, :-1]},
            r"49 predictions per episode, expected 50 \(5 ways x 10 queries\)",
        ),
        (
            lambda p: {"predictions": predictions_of(p) / 1.0},
            r"predictions are float64 of shape \(8, 50\), expected whole",
        ),
        (lambda p: {"predictions": predictions_of(p).ravel()}, r"of shape \(400,\)"),
        (lambda p: {"predictions": None}, "it holds no array 'predictions'"),
        (lambda p: {"header": None}, "is no prediction file of metaevents"),
        (lambda p: {"header": np.array("{")}, "is no prediction file of metaevents"),
        (lambda p: {"header": np.array("[]")}, "header does not say format"),
        (lambda p: {"header": {"format": "else"}}, "header does not say format"),
        (
            lambda p: {"header": {"format_version": 2}},
            "format version 2, this release reads 1; upgrade metaevents",
        ),
        (lambda p: {"header": {"fingerprint": None}}, "its header has no fingerprint"),
        (lambda p: {"header": {"protocol": {}}}, "a protocol has the fields"),
        (
            lambda p: {"scores": np.zeros((8, 50, 4))},
            r"scores have shape \(8, 50, 4\), expected \(8, 50, 5\)",
        ),
    ],
)
def test_unfit_files_are_refused_with_the_reason(
    file: Path, digits_root: Path, change: Callable[[Path], dict[str, Any]], message: str
) -> None:
    rewrite(file, **change(file))
    with pytest.raises(UsageError, match=message):
        score(file, digits_root)


def test_predictions_for_another_archive_are_refused(file: Path, nmnist_root: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"made on the archive [0-9a-f]{16}\.\.\., .* give the archive that they were made on",
    ):
        score(file, nmnist_root)


def test_predictions_for_another_dataset_are_refused(file: Path, asl_root: Path) -> None:
    with pytest.raises(
        ArchiveError, match="is an archive of double-asl-dvs, expected double-nmnist"
    ):
        score(file, asl_root / "double-asl-dvs.h5")


def test_predictions_for_another_protocol_are_refused(file: Path, digits_root: Path) -> None:
    with pytest.raises(
        UsageError, match="made under protocol sample-5way-1shot, expected 5way-1shot"
    ):
        score(file, digits_root, protocol="5way-1shot")
    assert score(file, digits_root, protocol="sample-5way-1shot").accuracy > 0


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"episodes": 7}, {"pairing": "published"}, {"classes": "novel-components"}],
)
def test_predictions_for_other_episodes_are_refused(
    file: Path, digits_root: Path, change: dict[str, Any]
) -> None:
    with np.load(file) as loaded:
        protocol = json.loads(str(loaded["header"]))["protocol"]
    predictions = predictions_of(file)[: change.get("episodes", 8)]
    rewrite(
        file, header={"protocol": {**protocol, **change}}, predictions=predictions, episodes=None
    )
    with pytest.raises(UsageError, match="made on other episodes"):
        score(file, digits_root)


@pytest.mark.parametrize(
    "change", [{"name": "7way-1shot"}, {"version": 3}, {"dataset": "triple-nmnist"}]
)
def test_predictions_of_unknown_protocols_are_refused(
    file: Path, digits_root: Path, change: dict[str, Any]
) -> None:
    with np.load(file) as loaded:
        protocol = json.loads(str(loaded["header"]))["protocol"]
    rewrite(file, header={"protocol": {**protocol, **change}})
    with pytest.raises(
        UsageError, match=r"no protocol '7way|this release knows 1|no dataset 'triple"
    ):
        score(file, digits_root)


def test_what_is_no_npz_is_refused(tmp_path: Path, digits_root: Path) -> None:
    text = tmp_path / "text.npz"
    text.write_text("accuracy: 100 %", "utf-8")
    with pytest.raises(UsageError, match="is no prediction file of metaevents"):
        score(text, digits_root)
    with pytest.raises(MissingError, match="no prediction file"):
        score(tmp_path / "nothing.npz", digits_root)


def test_a_truncated_file_is_refused(file: Path, digits_root: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UsageError, match="is no prediction file of metaevents"):
        score(file, digits_root)


def test_pickled_objects_are_never_loaded(file: Path, digits_root: Path) -> None:
    rewrite(file, predictions=np.array([[object()]]))
    with pytest.raises(UsageError, match="is no prediction file of metaevents"):
        score(file, digits_root)


def test_a_file_that_unpacks_to_too_much_is_refused_unread(file: Path, digits_root: Path) -> None:
    with (
        zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("scores.npy", "w") as member,
    ):
        for _ in range(5):
            member.write(bytes(1 << 26))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(UsageError, match=r"unpacks to 335,\d+,\d+ bytes"):
        score(file, digits_root)


def test_the_command_recomputes_the_score(report: Report, file: Path, digits_root: Path) -> None:
    done = run("score", file, "--archive", digits_root / "double-nmnist.h5", "--json")
    assert done.returncode == 0, done.stderr
    assert Score.from_dict(json.loads(done.stdout)) == score(file, digits_root)
    text = run("score", file, "--archive", digits_root)
    assert f"{report.accuracy:.2%}" in text.stdout
    assert "NOT THE PROTOCOL: episodes=8 instead of 600" in text.stdout


def test_the_command_refuses_in_one_line(file: Path, nmnist_root: Path) -> None:
    done = run("score", file, "--archive", nmnist_root)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "made on the archive" in done.stderr
