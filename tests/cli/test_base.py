"""Exit statuses, one-line errors and quick help, whatever the command."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Main, all_options, error_line, required_words, run

import baselines.cli
import metaevents as me
from baselines.config import RunConfig
from metaevents.cli import base, main
from metaevents.errors import UsageError
from metaevents.files import progress_bar

COMMANDS = (
    *("quickstart", "download", "build", "info", "verify", "show", "clean"),
    *("evaluate", "score", "validate", "leaderboard", "list"),
)
HEAVY = {"tqdm", "torch", "tonic", "numpy", "h5py", "scipy", "sklearn", "numba", "requests", "PIL"}


def test_both_entry_points_say_the_version() -> None:
    assert run("--version").stdout.strip() == f"metaevents {me.__version__}"
    script = Path(sys.executable).with_name("metaevents")
    if script.exists():
        assert subprocess.run(
            [script, "--version"], capture_output=True, text=True, check=True
        ).stdout.startswith("meta")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from metaevents.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"heavy = {HEAVY} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_is_quick(command: str) -> None:
    start = time.perf_counter()
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: metaevents {command}")
    assert time.perf_counter() - start < 5, "0.1 s alone; the limit allows for a busy machine"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


def test_an_unknown_command_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert "invalid choice: 'frobnicate'" in error_line(capsys, "frobnicate")


def test_a_defect_is_status_1_with_a_traceback(built: Path) -> None:
    code = (
        "import metaevents.archive.reader as reader, sys\n"
        "reader.Archive.verify = lambda self: 1 / 0\n"
        "from metaevents.cli import main\n"
        f"sys.exit(main(['verify', {str(built)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_closed_pipe_and_a_full_disk_give_no_traceback(built: Path) -> None:
    command = f"{sys.executable} -m metaevents info {built} | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "metaevents", "info", str(built)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 2
    assert "standard output: No space left" in process.stderr
    assert "Traceback" not in process.stderr


def help_of(program: Main, command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a command, on one line."""
    with pytest.raises(SystemExit):
        program([command, "--help"])
    return " ".join(capsys.readouterr().out.split())


def shown_default(action: argparse.Action) -> str | None:
    """How `--help` shows the default of an argument; None if it is off or has no value."""
    is_flag = action.nargs == 0 and not isinstance(action, argparse.BooleanOptionalAction)
    if is_flag or action.default is None or action.default == argparse.SUPPRESS:
        return None
    values = action.default if isinstance(action.default, list) else [action.default]
    return f"(default: {' '.join(map(str, values)) or 'none'})"


@pytest.mark.parametrize(
    ("program", "command"),
    [
        pytest.param(program, command, id=f"{program.__module__}-{command}")
        for program, command in dict.fromkeys((main, name) for main, name, _ in all_options())
    ],
)
def test_the_help_shows_every_default(
    program: Main, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(program, command, capsys)
    actions = [a for owner, name, a in all_options() if (owner, name) == (program, command)]
    expected = [default for action in actions if (default := shown_default(action))]
    for default in set(expected):
        assert text.count(default) >= expected.count(default), default
    for option in re.findall(r"default (?!with)|by default|[(]default[)]", text):
        pytest.fail(f"a default that is written in another way: {option}")


def test_options_that_take_their_default_from_elsewhere_say_where(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = help_of(main, "evaluate", capsys)
    assert text.count("(default: the protocol's)") == 2
    training = help_of(baselines.cli.main, "train", capsys)
    assert training.count("(default: the recipe's)") == len(fields(RunConfig)) - 3


def test_commands_for_maintainers_stand_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        baselines.cli.main(["--help"])
    users, maintainers = capsys.readouterr().out.split("commands for maintainers:")
    for command in baselines.cli.commands():
        place, other = (maintainers, users) if command.for_maintainers else (users, maintainers)
        assert f"  {command.name} " in place
        assert f"  {command.name} " not in other
    apart = {command.name for command in baselines.cli.commands() if command.for_maintainers}
    assert {"publish", "cards"} <= apart
    assert not apart & {"train", "evaluate", "reproduce"}


@pytest.mark.parametrize(
    ("program", "words", "name"),
    [
        (main, ["build", "double-nmnist", "--root", "x", "--nope"], "metaevents build"),
        (main, ["build", "triple", "--root", "x"], "metaevents build"),
        (main, ["build", "double-nmnist"], "metaevents build"),
        (main, ["evaluate", "a:b", "--archive", "x", "--trials", "0"], "metaevents evaluate"),
        (main, ["info", "a.h5", "b.h5"], "metaevents info"),
        (main, ["-q", "show", "a.h5", "--out", "b.png", "-v"], "metaevents show"),
        (main, ["frobnicate"], "metaevents"),
        (main, ["--nope"], "metaevents"),
        (baselines.cli.main, ["train", "snn-maml", "--out", "x"], "python -m baselines train"),
        (main, ["baselines", "train", "snn-maml", "x"], "metaevents baselines train"),
    ],
)
def test_an_error_of_the_arguments_names_the_help_of_its_command(
    program: Main, words: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(capsys, *words, program=program)
    assert line.startswith(f"{name}: ")
    assert line.endswith(f"; see `{name} --help`\n")


# --- verbose and quiet ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "level"),
    [
        ([], [], logging.WARNING),
        (["-v"], [], logging.INFO),
        ([], ["--verbose"], logging.INFO),
        (["--quiet"], [], logging.ERROR),
        ([], ["-q"], logging.ERROR),
        (["-q"], ["-q"], logging.ERROR),
    ],
)
def test_verbose_and_quiet_set_the_level_for_one_command(
    before: list[str], after: list[str], level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def work(args: argparse.Namespace) -> None:
        for name in ("metaevents.files", "baselines.maml"):
            seen.append(logging.getLogger(name).getEffectiveLevel())
        base.print_note("a note")
        with progress_bar("work", 2, "x", None) as bar:
            seen.append(bar.disable)

    names = ("metaevents", "baselines")
    loggers = [logging.getLogger(name) for name in names]
    old = [logger.level for logger in loggers]
    command = base.Command("work", "work", lambda parser: None, work)
    assert base.run_cli(base.Parser(prog="p"), [command], [*before, "work", *after]) == 0
    assert seen[:2] == [level, level]
    assert seen[2] is True, "no terminal"
    assert ("a note" in capsys.readouterr().out) == (level != logging.ERROR)
    assert [logger.level for logger in loggers] == old


def test_quiet_hides_bars_and_notes_of_a_process(built: Path, tmp_path: Path) -> None:
    words = ("evaluate", "floor:prototypes", "--archive", built, "--protocol")
    words += ("5way-1shot", "--episodes", "3", "--queries", "2")
    loud, quiet = run(*words, "-v"), run("-q", *words)
    assert loud.returncode == quiet.returncode == 0, loud.stderr + quiet.stderr
    assert "INFO: evaluating " in loud.stderr
    assert "INFO: probed in " in loud.stderr
    assert quiet.stderr == ""
    assert "accuracy" in quiet.stdout


# --- standard output -----------------------------------------------------------------------------


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `metaevents COMMAND` in a shell."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shlex.quote(sys.executable)} -m metaevents {command}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )


def test_a_closed_stdout_is_one_line(built: Path) -> None:
    done = shell(f"info {built} >&-")
    assert done.returncode == 2
    assert done.stderr == (
        "metaevents: standard output: it is closed; check the path, its permissions and the free "
        "space\n"
    )


def test_closed_streams_are_not_replaced_by_the_files_that_a_command_writes(
    built: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    assert shell(f"show {built} --out {out} >&- 2>&- <&-").returncode == 2
    assert out.read_bytes().startswith(b"\x89PNG"), "written before the output failed"
    assert out.read_bytes().endswith(b"IEND\xaeB\x60\x82")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_a_terminal_that_lacks_characters_gets_escapes(encoding: str) -> None:
    code = (
        "from metaevents.cli.base import run_action\n"
        "raise SystemExit(run_action('p', lambda: print('0 \\u00b1 1 \\u2212 \\U0001f600')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert text.startswith("0 \\xb1 1 " if encoding == "ascii" else "0 \u00b1 1 ")


def test_only_our_own_broken_pipe_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    def break_another_pipe() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            os.write(writer, b"x")
        finally:
            os.close(writer)

    assert base.run_action("program", break_another_pipe) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "has ended (Broken pipe), perhaps for want of memory" in printed


def test_a_reader_that_ends_is_silent_whatever_else_the_action_does() -> None:
    code = (
        "import sys\nfrom metaevents.cli.base import run_action\n"
        "def work():\n"
        "    while True: print('x' * 1000)\n"
        "sys.exit(run_action('p', work))"
    )
    for flags in ("", "-u"):
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"set -o pipefail; {sys.executable} {flags} -c {shlex.quote(code)} | head -1",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_stderr_that_takes_nothing_leaves_the_exit_status(tmp_path: Path) -> None:
    assert shell(f"info {tmp_path / 'none.h5'} 2>&-").returncode == 2
    if Path("/dev/full").exists():
        assert shell(f"info {tmp_path / 'none.h5'} 2>/dev/full").returncode == 2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; check"),
        (MemoryError("Unable to allocate 9 TiB"), "not enough memory (Unable to allocate 9 TiB)"),
        (MemoryError(), "not enough memory; close"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "has ended"),
        (UsageError("one\ntwo\x1b[31m\u202e"), r"one two\x1b[31m\u202e"),
    ],
)
def test_errors_of_the_system_and_of_ours_are_one_printable_line(
    error: BaseException, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert base.run_action("program", fail) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.endswith("\n")
    assert printed[:-1].isprintable()


def test_what_is_printed_and_logged_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        print("\x1b[2J\rcitation\u202e\x9b\udcff", end="\n")
        base.print_lines(["one\nok  forged\ttext"])

    assert base.run_action("program", work) == 0
    assert capsys.readouterr().out == (
        "\\x1b[2J\\rcitation\\u202e\\x9b\\udcff\none\\nok  forged\\ttext\n"
    )


def test_an_unknown_argument_is_shown_without_its_escapes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert r"\x1b[31m" in error_line(capsys, "info", "a.h5", "--\x1b[31mred")


def test_the_streams_of_a_caller_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    assert base.run_action("program", lambda: print("text")) == 0
    assert sys.stdout is stream
    assert stream.getvalue() == "text\n"


# --- argument types ------------------------------------------------------------------------------


def is_path_option(action: argparse.Action) -> bool:
    return action.type in (base.path_argument, base.text_path_argument)


def test_every_path_and_number_has_the_type_that_checks_it() -> None:
    for _, command, action in all_options():
        assert action.type not in (int, float, Path), (command, action.dest)


PATH_OPTIONS = [
    pytest.param(program, command, action, id=f"{program.__module__}-{command}-{action.dest}")
    for program, command, action in all_options()
    if is_path_option(action)
]


@pytest.mark.parametrize(("program", "command", "action"), PATH_OPTIONS)
@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", ""])
def test_a_path_that_cannot_be_is_one_line(
    program: Main,
    command: str,
    action: argparse.Action,
    path: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [command, *required_words(command, program, action)]
    words += [f"{action.option_strings[0]}={path}"] if action.option_strings else [path]
    line = error_line(capsys, *words, program=program)
    assert "give the path of a file or folder" in line


def test_every_form_of_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    for _, _, action in all_options():
        if is_path_option(action):
            assert action.type("~/x") == Path("/somewhere/x")  # type: ignore[operator,misc]
    assert base.path_argument("./~") == Path("~").absolute(), "a file, and so at every later use"
    assert base.path_argument("a/../b c") == Path("a/../b c")


def test_a_path_that_is_no_text_is_refused_only_where_it_is_written_down() -> None:
    name = os.fsdecode(b"caf\xe9")
    assert base.path_argument(name) == Path(name)
    with pytest.raises(argparse.ArgumentTypeError, match="is not UTF-8"):
        base.text_path_argument(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("+7", 7), ("007", 7), ("9", 9), *((bad, None) for bad in (
        "0", "10", "-1", "", " ", "1.0", "1e3", "x", "nan", "1_0", "\u0665", "0x1", "+-1", "--1",
        "1\n", "9" * 100, "9" * 10_000, "\x1b[31m",
    ))],
)  # fmt: skip
def test_whole_numbers_are_decimal_digits_in_a_range(text: str, number: int | None) -> None:
    convert = base.whole_number(1, 9)
    if number is not None:
        assert convert(text) == number
        return
    with pytest.raises(argparse.ArgumentTypeError, match="give a whole number from 1 to 9") as bad:
        convert(text)
    assert len(str(bad.value)) < 120


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "x", "1,5", "9" * 10_000])
def test_other_numbers_are_finite(text: str) -> None:
    assert base.finite_number("1e-3") == 0.001
    with pytest.raises(argparse.ArgumentTypeError, match="give a finite number"):
        base.finite_number(text)


NUMBER_OPTIONS: list[Any] = [
    pytest.param(program, command, action, id=f"{program.__module__}-{command}-{action.dest}")
    for program, command, action in all_options()
    if action.metavar == "N"
]


@pytest.mark.parametrize(("program", "command", "action"), NUMBER_OPTIONS)
def test_a_number_that_is_out_of_range_is_one_line(
    program: Main, command: str, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("-1", "1.5", "9" * 30):
        words = [command, *required_words(command, program, action)]
        line = error_line(capsys, *words, f"{action.option_strings[0]}={text}", program=program)
        assert "give a whole number from" in line
