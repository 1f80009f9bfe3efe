"""Floors: methods so plain that a learner should beat them before anything is claimed for it.

None of them meta-learns. All but the last look at nothing but an episode's support, as counts summed over the window. The
component recognizer knows the digits (or letters) that a sample is made of, from single recordings of the training
partition; what a method scores beyond it is what it can do with components that it never saw.

`TRIVIAL_BASELINES` has them by name, for `metaevents evaluate floor:NAME`. `python -m metaevents.benchmark.trivial_report --archive FILE
--out DIR`
runs all of them and writes their entries and a table.
"""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaevents._version import __version__
from metaevents.benchmark.trivial import TRIVIAL_BASELINES
from metaevents.datasets import load
from metaevents.files import PathLike
from metaevents.specs import CLASS_SPLITS, PAIRINGS

if TYPE_CHECKING:
    from metaevents.benchmark.report import Report

_PROTOCOLS = ("sample-5way-1shot", "sample-5way-5shot")


@dataclass(frozen=True)
class TrivialResult:
    """One floor under one protocol.

    Attributes:
        name, title: of the floor.
        report: what came of it.
    """

    name: str
    title: str
    report: Report


def run_all(archive: PathLike, protocols: Sequence[str], out: Path) -> Iterator[TrivialResult]:
    """Run every floor with both pairings and both class splits; writes an entry and its predictions for each into `out`.

    Raises:
        UsageError: a protocol that does not exist or does not fit the archive.
    """
    from metaevents.archive.reader import Archive
    from metaevents.benchmark.evaluation import evaluate

    dataset_name = Archive(archive).dataset
    out.mkdir(parents=True, exist_ok=True)
    for classes in CLASS_SPLITS:
        splits = {
            pairing: load(dataset_name, archive, "test", pairing=pairing, classes=classes)
            for pairing in PAIRINGS
        }
        for name, make in TRIVIAL_BASELINES.items():
            learner = make(splits["all"])  # what a floor learns from does not depend on the pairing
            for protocol in protocols:
                for pairing, dataset in splits.items():
                    report = evaluate(learner, dataset, protocol)
                    report.learner = f"floor:{name}"
                    stem = f"floor-{name}.{dataset_name}.{protocol}.{pairing}.{classes}"
                    report.save_predictions(out / f"{stem}.npz")
                    report.save(out / f"{stem}.json", **_method(name, learner, report))
                    yield TrivialResult(name, learner.title, report)


def _method(name: str, learner: Any, report: Report) -> dict[str, Any]:
    import torch

    protocol = report.protocol
    command = [
        "metaevents", "evaluate", f"floor:{name}", "--archive", f"{protocol.dataset}.h5", "--protocol", protocol.name,
        "--pairing", protocol.pairing, "--classes", protocol.classes, "--out", "entry.json",
    ]  # fmt: skip
    return {
        "name": learner.title,
        "authors": ["The metaevents authors"],
        "code": "metaevents",
        "commit": __version__,
        "command": shlex.join(command),
        "other_data": "none",
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}; torch on {torch.get_num_threads()} thread(s)",
        "notes": " ".join((learner.__doc__ or "").split("\n\n")[0].split()),
    }


def markdown(runs: Sequence[TrivialResult]) -> str:
    """Tables of floors: for each protocol and class split, both pairings side by side."""
    found = {
        (r.name, r.report.protocol.name, r.report.protocol.classes, r.report.protocol.pairing): r
        for r in runs
    }
    parts = []
    for protocol in dict.fromkeys(r.report.protocol.name for r in runs):
        for classes in dict.fromkeys(r.report.protocol.classes for r in runs):
            lines = [
                f"### {protocol}, classes {classes}",
                "",
                "| Floor | pairing `all` | pairing `published` | difference |",
                "|:--|--:|--:|--:|",
            ]
            for name, title in dict.fromkeys((r.name, r.title) for r in runs):
                honest, published = (
                    found[name, protocol, classes, pairing].report for pairing in PAIRINGS
                )
                difference = 100 * (published.accuracy - honest.accuracy)
                lines.append(
                    f"| {title} | {_cell(honest)} | {_cell(published)} | {difference:+.1f} |"
                )
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cell(report: Report) -> str:
    low, high = (100 * end for end in report.bootstrap95)
    return f"{100 * report.accuracy:.1f} ± {100 * report.ci95:.1f} ({low:.1f} to {high:.1f})"


def document(runs: Sequence[TrivialResult], command: str) -> str:
    """What `--markdown` writes: the tables, what they are over, and the command that makes them."""
    import torch

    report = runs[0].report
    archive = report.archive
    simulated = (
        " SIMULATED recordings: these are no results on real data." if archive["simulated"] else ""
    )
    return (
        f"# Floors\n\nAccuracy in %, mean ± half of the 95 % confidence interval over {report.protocol.episodes} episodes (in "
        "brackets the 95 % interval of a bootstrap over the query recordings).\n\n"
        f"Dataset {report.protocol.dataset}, recordings `{archive['source']}` ({archive['recordings']:,}), fingerprint "
        f"`{archive['fingerprint']}`.{simulated} Made on {torch.get_num_threads()} thread(s) by\n\n"
        f"```sh\n{command}\n```\n\n{markdown(runs)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m metaevents.benchmark.trivial_report --archive FILE --out DIR [--markdown FILE] [--protocol NAME ...]`."""
    import argparse

    from metaevents.cli.base import run

    program = "python -m metaevents.benchmark.trivial_report"
    parser = argparse.ArgumentParser(
        prog=program, description="Run every floor with both pairings and both class splits."
    )
    parser.add_argument(
        "--archive", type=Path, required=True, metavar="FILE", help="an archive (.h5)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for entries and prediction files",
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables here, else to standard output",
    )
    parser.add_argument(
        "--protocol",
        dest="protocols",
        nargs="+",
        default=list(_PROTOCOLS),
        metavar="NAME",
        help="which protocols",
    )
    args = parser.parse_args(arguments)

    def work() -> None:
        runs = list(run_all(args.archive, args.protocols, args.out))
        options = {"--archive": args.archive.name, "--out": args.out, "--markdown": args.markdown}
        words = [
            word
            for option, value in options.items()
            if value is not None
            for word in (option, str(value))
        ]
        text = document(runs, shlex.join([*program.split(), *words, "--protocol", *args.protocols]))
        if args.markdown:
            args.markdown.parent.mkdir(parents=True, exist_ok=True)
            args.markdown.write_text(text, "utf-8")
        else:
            print(text)

    return run(program, work)


if __name__ == "__main__":
    import sys

    sys.exit(main())
