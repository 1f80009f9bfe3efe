"""`metaevents baselines` runs our package `baselines` and refuses another one of that name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from support.command_line import Main, error_line

import metaevents.cli
from metaevents.cli import baselines as command
from metaevents.errors import UsageError

OWN = Path(metaevents.cli.__file__).resolve().parents[2] / "baselines"


def through_metaevents(words: Sequence[str]) -> int:
    return metaevents.cli.main(["baselines", *words])


def status_of(program: Main, words: list[str]) -> int:
    try:
        return program(words)
    except SystemExit as stop:  # argparse
        return int(stop.code or 0)


PROGRAMS = pytest.mark.parametrize(
    ("program", "name"),
    [(through_metaevents, "metaevents baselines"), (command.main, "metaevents-baselines")],
)


@PROGRAMS
def test_its_help_is_that_of_baselines(
    program: Main, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, prefix in (["--help"], name), (["train", "--help"], f"{name} train"):
        assert status_of(program, words) == 0
        assert capsys.readouterr().out.startswith(f"usage: {prefix} ")


@PROGRAMS
@pytest.mark.parametrize(
    "words",
    [
        ["train", "--frob"],
        ["evaluate", "snn-maml", "--archive", "/does/not/exist"],
        ["evaluate", "/does/not/exist", "--archive", "/does/not/exist"],
    ],
)
def test_errors_are_those_of_baselines(
    program: Main, name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import baselines.cli

    expected = error_line(capsys, *words, program=baselines.cli.main)
    got = error_line(capsys, *words, program=program)
    assert got == expected.replace("python -m baselines", name)


@pytest.mark.parametrize("kind", ["baselines.py", "baselines/__init__.py"])
def test_another_package_of_that_name_is_refused_with_its_path(kind: str, tmp_path: Path) -> None:
    module = tmp_path / kind
    module.parent.mkdir(exist_ok=True)
    module.write_text("raise SystemExit('it was imported')\n")
    # As in an editable installation, ours come after those of the current folder.
    first = f"import sys; sys.path.append({str(OWN.parent)!r}); "
    for code in (
        "from metaevents.cli import main; sys.exit(main(['baselines', 'train']))",
        "from metaevents.cli.baselines import main; sys.exit(main(['train']))",
    ):
        done = subprocess.run(
            [sys.executable, "-c", first + code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        found = tmp_path / kind.split("/")[0]
        assert f"`import baselines` finds another package, {found}, before" in done.stderr
        assert f"metaevents, {OWN};" in done.stderr


def test_a_folder_of_that_name_is_refused_where_it_hides_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The finder of an editable installation comes after that of folders without __init__.py."""
    spec = ModuleSpec("baselines", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "baselines")]
    monkeypatch.setattr(command, "find_spec", lambda name: spec)
    for program in (through_metaevents, command.main):
        line = error_line(capsys, "train", program=program)
        assert f"finds another package, {tmp_path / 'baselines'}, before" in line


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"is not at .*; install metaevents again"):
        command.require_own_package()
