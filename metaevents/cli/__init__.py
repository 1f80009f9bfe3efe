"""The command line `metaevents`, a table of commands.

Each command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaevents._version import __version__
from metaevents.cli import baselines, benchmark, data, listing
from metaevents.cli.base import Parser, run_cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words of the command line; `sys.argv[1:]` if None.

    Returns:
        The exit status; see `metaevents.cli.base`.
    """
    parser = Parser(
        prog="metaevents",
        description="Few-shot learning on event cameras: archives, episodes, scores.",
        epilog="Start with `metaevents quickstart`, which needs no download.",
    )
    parser.add_argument("--version", action="version", version=f"metaevents {__version__}")
    every = (data, benchmark, listing, baselines)
    return run_cli(parser, [each for part in every for each in part.commands()], arguments)
