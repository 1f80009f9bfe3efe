"""Draw the figures of stored results anew, without measuring anything.

    python -m baselines.experiments.redraw cards/results

Each result is a JSON file that `python -m baselines reproduce` wrote; its PNG and SVG are renewed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from baselines.experiments import report
from baselines.experiments.reproduction import EXPERIMENTS
from metaevents.cli.base import Parser, path_argument, run_action
from metaevents.errors import MissingError, UsageError
from metaevents.files import progress_bar, write_atomic

_FORMAT = "metaevents-experiment"


def redraw(folder: Path) -> list[Path]:
    """Draw the figures of all results below a folder.

    Args:
        folder: Such as `cards/results`.

    Returns:
        The figures.

    Raises:
        MissingError: There is no result.
        UsageError: A result cannot be read, or matplotlib is not installed.
    """
    report.check_matplotlib()
    found = [path for path in sorted(folder.rglob("*.json")) if path.stem in EXPERIMENTS]
    results = [path for path in found if path.parent.name != "cached"]
    if not results:
        raise MissingError(
            f"{folder} has no results of experiments; `python -m baselines reproduce` writes them"
        )
    written = []
    for path in progress_bar("figures", len(results), "figure", None, iterable=results):
        try:
            document = json.loads(path.read_text("utf-8"))
            if document["format"] != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT}")
            plot = EXPERIMENTS[document["experiment"]].plot
            figures = report.figures(document, plot)
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise UsageError(
                f"{path} is no result of an experiment ({error}); `python -m baselines reproduce` "
                "writes one"
            ) from error
        for kind, content in figures.items():
            write_atomic(path.with_suffix(f".{kind}"), content)
            written.append(path.with_suffix(f".{kind}"))
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m baselines.experiments.redraw DIR`; return the exit status."""
    parser = Parser(
        prog="python -m baselines.experiments.redraw",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=path_argument, metavar="DIR", help="folder of results")

    def run() -> None:
        for path in redraw(parser.parse_args(arguments).folder):
            print(f"{path}: written")

    return run_action(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
