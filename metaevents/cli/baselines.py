"""The command `metaevents baselines` and the console script `metaevents-baselines`.

Both run the commands of the package `baselines`, which comes with this one. Python may find another
package of that name first: a folder of the user, or an old reinforcement learning library. It is
refused before it is imported. `metaevents` imports `baselines` here alone, and only to run it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from metaevents.cli.base import Command, run_action
from metaevents.errors import UsageError

_NAME = "baselines"


def commands() -> Iterable[Command]:
    """The command that runs the reference models, for `metaevents --help`."""
    return (
        Command(
            _NAME,
            "train, evaluate and reproduce the reference models",
            _no_arguments,
            lambda args: _run(args.words, f"metaevents {_NAME}"),
            takes_all_words=True,
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the reference models: the console script `metaevents-baselines`.

    Args:
        arguments: Words of the command line; `sys.argv[1:]` if None.

    Returns:
        The exit status.
    """
    program = f"metaevents-{_NAME}"
    status = run_action(program, require_own_package)
    return status or _run(arguments, program)


def require_own_package() -> None:
    """Check that `import baselines` finds the package that comes with this one.

    Raises:
        UsageError: It finds another package, or none.
    """
    own = Path(__file__).resolve().parents[2] / _NAME
    spec = find_spec(_NAME)
    if spec is None:
        raise UsageError(
            f"the package {_NAME}, which comes with metaevents, is not at {own}; install "
            "metaevents again"
        )
    found = _location(spec)
    if found != own:
        raise UsageError(
            f"`import {_NAME}` finds another package, {found}, before the one that comes with "
            f"metaevents, {own}; rename or remove the other one, run the command from another "
            "folder, or use an environment without it"
        )


def _location(spec: ModuleSpec) -> Path:
    """The folder of a package, or the file of a module."""
    folders = list(spec.submodule_search_locations or [])
    return Path(folders[0] if folders else spec.origin or "").resolve()


def _run(words: Sequence[str] | None, program: str) -> int:
    """Run a command of `baselines` under the name of a program; return the exit status."""
    require_own_package()
    status = import_module(f"{_NAME}.cli").main(words, program)
    assert isinstance(status, int)
    return status


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `baselines.cli` parses all words."""
