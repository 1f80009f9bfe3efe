"""Run the command line as a user does: in a process of its own, or in this one for errors."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import baselines.cli
import metaevents.cli
from metaevents.cli import benchmark, data, listing, main

Main = Callable[[Sequence[str]], int]

CompletedProcess = subprocess.CompletedProcess[str]


def run(*arguments: object, **options: Any) -> CompletedProcess:
    """Run `python -m metaevents` in a process of its own; options are those of subprocess.run."""
    command = [sys.executable, "-m", "metaevents", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def error_line(capsys: pytest.CaptureFixture[str], *arguments: object, program: Main = main) -> str:
    """The error message of a command, which must be one line on stderr with exit status 2."""
    try:
        status = program([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    assert printed.err[:-1].isprintable()
    assert "Traceback" not in printed.err
    return printed.err


def all_options() -> Iterator[tuple[Main, str, argparse.Action]]:
    """(the program's main function, name of the command, argument) of every command we have."""
    programs = (
        (
            metaevents.cli.main,
            (*data.commands(), *benchmark.commands(), *listing.commands()),
        ),
        (baselines.cli.main, baselines.cli.commands()),
    )
    for program, commands in programs:
        for command in commands:
            parser = argparse.ArgumentParser()
            command.arguments(parser)
            for action in parser._actions:
                yield program, command.name, action


def required_words(command: str, program: Main, without: argparse.Action) -> list[str]:
    """The words that a command cannot do without, but for one argument."""
    words: list[str] = []
    for owner, name, action in all_options():
        if (owner, name) != (program, command) or action.dest == without.dest:
            continue
        value = str(next(iter(action.choices))) if action.choices else "some-word"
        if not action.option_strings and action.nargs != "?":
            words.append(value)
        elif action.required:
            words += [action.option_strings[0], value]
    return words
