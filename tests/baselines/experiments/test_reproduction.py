"""Running experiments by name and from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.experiment_runs import OPTIONS, SMALL, document

from baselines.cli import main
from baselines.experiments import EXPERIMENTS, Experiment, reproduce
from baselines.experiments.names import EXPERIMENT_MODULES
from metaevents.errors import MissingError, UsageError


def test_novel_components_have_no_published_values(archive: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "training": {**SMALL, "steps": 1}, "classes": "novel-components"}
    reproduce("table2", archive, tmp_path, **options)
    assert not any(
        "published" in row for row in document(tmp_path, "table2", "novel-components")["rows"]
    )
    reproduce("fig6", archive, tmp_path, **options)
    fig6 = document(tmp_path, "fig6", "novel-components")
    assert {row["ways"] for row in fig6["rows"]} == {5, 9}  # the split has nine test classes
    assert {run["classes"] for run in fig6["runs"]} == {"novel-components"}


def test_an_experiment_can_be_defined_by_the_user(archive: Path, tmp_path: Path) -> None:
    own = Experiment(
        name="mine",
        title="Mine",
        rows=lambda study: [{"x": 1, "classes": len(study.test)}, {"x": 2, "classes": 1 / 3}],
        plot=lambda figure, rows: figure.subplots().plot([row["x"] for row in rows]) and None,
        published=({"x": 1, "published": 20},),
    )
    reproduce(own, archive, tmp_path, **OPTIONS)
    assert document(tmp_path, "mine")["rows"] == [
        {"x": 1, "classes": 20, "published": 20},
        {"x": 2, "classes": 0.3333},
    ]


def test_the_command_line_knows_every_experiment() -> None:
    assert tuple(EXPERIMENTS) == tuple(EXPERIMENT_MODULES)
    assert all(name == experiment.name for name, experiment in EXPERIMENTS.items())


def test_all_runs_every_experiment(
    outputs: Path,
    archive: Path,
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(outputs, out)  # with cached results: nothing is left to compute
    words = ["--archive", archive, "--out", out, "--runs", runs, "--episodes", 2, "--tuning", 2]
    assert main(["reproduce", "all", *map(str, words), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for experiment in EXPERIMENTS.values():
        assert f"# {experiment.title}\n" in printed
        command = f"python -m baselines reproduce {experiment.name} --archive {archive} "
        assert document(out, experiment.name)["command"].startswith(command)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["fig7"], "invalid choice: 'fig7'"),
        (["fig3", "--archive", "nowhere.h5"], "nowhere.h5"),
        (["fig3", "--runs", "{empty}"], "no trained runs in"),
        (["fig3", "--episodes", "0"], "argument --episodes: '0'; give a whole number from 1"),
        (["fig3", "--device", "abacus"], "no device 'abacus'"),
    ],
)
def test_an_error_is_one_line(
    words: list[str],
    problem: str,
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [word.format(empty=empty) for word in words]
    defaults = {"--archive": str(archive), "--out": str(tmp_path)}
    for option, value in defaults.items():
        words += [] if option in words else [option, value]
    try:
        status = main(["reproduce", *words])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    error = capsys.readouterr().err
    assert problem in error
    assert len(error.splitlines()) == 1


def test_unknown_names_are_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no experiment 'fig7'; choose one of table2, fig3"):
        reproduce("fig7", archive, tmp_path)
    with pytest.raises(UsageError, match="budget 'huge'; choose one of quick, full"):
        reproduce("fig3", archive, tmp_path, budget="huge")
    with pytest.raises(MissingError):
        reproduce("fig3", tmp_path / "nowhere.h5", tmp_path)
