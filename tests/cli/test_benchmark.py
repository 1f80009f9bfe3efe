"""The files of `metaevents evaluate`: checked before the work, whole or as they were."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.command_line import error_line

from metaevents import files
from metaevents.cli import main

SETTING = ("--protocol", "sample-5way-1shot", "--episodes", "2", "--queries", "2")


def words(archive: Path, *options: object) -> list[str]:
    """The words of a quick evaluation."""
    return ["evaluate", "floor:chance", "--archive", str(archive), *SETTING, *map(str, options)]


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let evaluations fail the test."""
    import metaevents.benchmark.evaluation as evaluation

    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("too late"))


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "{folder}"), "this is a folder, expected a file"),
        (("--out", "{folder}/e.json"), "predictions.npz: this is a folder"),
        (("--out", "{folder}/none/e.json"), "no folder"),
        (("--out", "{folder}/text/e.json"), "no folder"),
        (("--out", "{folder}/a.json", "--predictions", "{folder}/a.json"), "give two names"),
        (("--out", "{folder}/../folder/x", "--predictions", "{folder}/x"), "give two names"),
        (("--out", "{folder}/data.h5"), "has the name of an archive or of weights"),
        (("--out", os.fsdecode(b"caf\xe9.json")), "is not UTF-8"),
        (("--predictions", os.fsdecode(b"caf\xe9.npz")), "is not UTF-8"),
    ],
)
def test_files_that_cannot_be_written_are_found_out_before_the_work(
    built: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "folder"
    (folder / "predictions.npz").mkdir(parents=True)
    (folder / "text").write_text("text")
    line = error_line(capsys, *words(built, *(word.format(folder=folder) for word in options)))
    assert message in line
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.npz", "text"]


@pytest.mark.usefixtures("no_work")
def test_an_impossible_group_is_found_out_before_the_work(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "")
    assert "WORLD_SIZE=''" in error_line(capsys, *words(built))


def test_a_rank_that_another_program_left_silences_nobody(
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert main(words(built, "--out", tmp_path / "e.json")) == 0
    assert "accuracy" in capsys.readouterr().out
    assert json.loads((tmp_path / "e.json").read_text("utf-8"))["report"]["accuracy"] >= 0
    assert (tmp_path / "predictions.npz").is_file()


def test_a_full_disk_is_one_line_and_leaves_the_old_files(
    built: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "e.json").write_text("old")
    (tmp_path / "predictions.npz").write_text("old")

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fill)  # type: ignore[attr-defined]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("elsewhere")))
    line = error_line(capsys, *words(built, "--out", tmp_path / "e.json"))
    assert "predictions.npz" in line
    assert "No space left on device" in line
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "e.json": "old",
        "predictions.npz": "old",
    }


@pytest.mark.usefixtures("no_work")
def test_predictions_of_another_entry_are_not_replaced(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "predictions.npz").write_text("of a")
    (tmp_path / "a.json").write_text('{"predictions": {"file": "predictions.npz"}}', "utf-8")
    (tmp_path / "no-entry.json").write_text("[1]", "utf-8")
    line = error_line(capsys, *words(built, "--out", tmp_path / "b.json"))
    assert "holds the predictions of" in line
    assert f"--predictions, such as {tmp_path / 'b.npz'}" in line


def test_an_entry_is_made_anew_with_its_own_predictions(built: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert main(words(built, "--out", tmp_path / "a.json")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "predictions.npz"]


@pytest.mark.usefixtures("no_work")
def test_entry_and_predictions_lie_side_by_side(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    options = "--out", tmp_path / "e.json", "--predictions", tmp_path / "other" / "p.npz"
    assert "are in two folders" in error_line(capsys, *words(built, *options))


@pytest.mark.parametrize("name", ["a.h5", "a.HDF5", "w.safetensors"])
@pytest.mark.usefixtures("no_work")
def test_archives_and_weights_are_no_output(
    name: str, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(capsys, *words(built, "--out", tmp_path / name))
    assert "has the name of an archive or of weights" in line
    assert not (tmp_path / name).exists()


def test_a_device_in_place_of_an_entry_gets_no_neighbor(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(built, "--out", "/dev/null")) == 0
    assert ".npz" not in capsys.readouterr().out


@pytest.mark.parametrize("redirected", [True, False], ids=["file", "pipe"])
def test_an_entry_goes_to_stdout(redirected: bool, built: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "metaevents", *words(built, "--out", "/dev/stdout")]
    target = tmp_path / "out.txt"
    with target.open("wb") as file:
        done = subprocess.run(
            command, stdout=file if redirected else subprocess.PIPE, stderr=subprocess.PIPE
        )
    assert done.returncode == 0, done.stderr
    text = target.read_text("utf-8") if redirected else done.stdout.decode()
    assert json.JSONDecoder().raw_decode(text)[0]["format"] == "metaevents-entry"
    assert text.endswith("/dev/stdout: written\n")
