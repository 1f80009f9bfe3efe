"""What every command of ours is made of: a name, arguments and an action, and the place where errors become an exit status.

Exit status 0; 2 for an error of the user's (one line on stderr that says what is wrong and what to do); 1 for a defect of ours.
The commands themselves are in `metaevents.cli` and `metaevents.cli.benchmark`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from metaevents.errors import MetaeventsError


@dataclass(frozen=True)
class Command:
    """One command: its name, its help line, its arguments, and what it does with them."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def run_chosen(parser: Parser, commands: Iterable[Command], arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments name, or print the help where they name none; returns the exit status."""
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    by_name = {command.name: command for command in commands}
    for command in by_name.values():
        command.arguments(
            subparsers.add_parser(command.name, help=command.help, description=command.help)
        )
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    return run(parser.prog, lambda: by_name[chosen.command].run(chosen))


def run(program: str, action: Callable[[], None]) -> int:
    """Do something on a user's behalf: exit status 0, or 2 and one line on stderr for an error that the user can mend."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        action()
        sys.stdout.flush()
    except MetaeventsError as error:
        return _complain(program, str(error))
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _complain(
            program, f"{where}{error.strerror}; check the path, its permissions and the free space"
        )
    except KeyboardInterrupt as interrupt:
        return _complain(
            program, str(interrupt) or "interrupted; run the same command to go on", status=130
        )
    return 0


def _complain(program: str, message: str, status: int = 2) -> int:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return status


def print_json(value: object) -> None:
    """Write a value for a program to read."""
    print(json.dumps(value, indent=2))


def json_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="write JSON")
