"""The command line `metaevents`: a table of commands. Each imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Sequence

from metaevents._version import __version__
from metaevents.cli.base import Parser, run_chosen
from metaevents.cli.benchmark import commands as benchmark_commands
from metaevents.cli.data import commands as data_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = Parser(
        prog="metaevents",
        description="Few-shot learning on event cameras: archives, episodes, scores.",
        epilog="Start with `metaevents quickstart`, which needs no download.",
    )
    parser.add_argument("--version", action="version", version=f"metaevents {__version__}")
    return run_chosen(parser, (*data_commands(), *benchmark_commands()), arguments)
