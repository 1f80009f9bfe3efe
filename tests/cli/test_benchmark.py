"""The files of `metaevents evaluate`: checked before the work, whole or as they were."""

from __future__ import annotations

import errno
import json
import os
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
        (("--out", "{folder}/data.h5"), "is the archive or has the name of one"),
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
