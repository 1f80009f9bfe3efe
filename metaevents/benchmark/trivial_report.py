"""Running all trivial baselines, and writing their entries and a table of their accuracies.

`python -m metaevents.benchmark.trivial_report --archive FILE --out DIR` does both. The baselines
themselves are in `metaevents.benchmark.trivial`.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaevents._version import __version__
from metaevents.archive.reader import Archive
from metaevents.benchmark.evaluation import evaluate
from metaevents.benchmark.markdown import table
from metaevents.benchmark.protocols import bind
from metaevents.benchmark.report import Report
from metaevents.benchmark.trivial import TRIVIAL_BASELINES
from metaevents.datasets import load
from metaevents.distributed import available_processors
from metaevents.files import PathLike, require_writable_folder, write_atomic
from metaevents.specs import CLASS_SPLITS, PAIRINGS

_PROTOCOLS = ("sample-5way-1shot", "sample-5way-5shot")


@dataclass(frozen=True)
class TrivialResult:
    """The result of one trivial baseline under one protocol.

    Attributes:
        name: Name of the baseline in `TRIVIAL_BASELINES`.
        title: Its name for readers.
        report: The report of its evaluation.
    """

    name: str
    title: str
    report: Report


def run_all(archive: PathLike, protocols: Sequence[str], out: Path) -> Iterator[TrivialResult]:
    """Run every trivial baseline with both pairings and both class splits.

    Writes an entry and a prediction file per result.

    Args:
        archive: Path of the archive.
        protocols: Names of the protocols.
        out: Folder for entries and prediction files; it is created.

    Yields:
        The results.

    Raises:
        UsageError: A protocol does not exist or does not fit the archive.
    """
    dataset_name = Archive(archive).dataset
    for protocol in protocols:  # before the work, which takes long
        bind(protocol, load(dataset_name, archive, "test"))
    out.mkdir(parents=True, exist_ok=True)
    for classes in CLASS_SPLITS:
        datasets = {
            pairing: load(dataset_name, archive, "test", pairing=pairing, classes=classes)
            for pairing in PAIRINGS
        }
        for name, make in TRIVIAL_BASELINES.items():
            learner = make(datasets["all"])  # does not depend on the pairing
            for protocol in protocols:
                for pairing, dataset in datasets.items():
                    report = evaluate(learner, dataset, protocol)
                    report.learner = f"floor:{name}"
                    stem = f"floor-{name}.{dataset_name}.{protocol}.{pairing}.{classes}"
                    report.save_predictions(out / f"{stem}.npz")
                    report.save(out / f"{stem}.json", **_method(name, learner, report))
                    yield TrivialResult(name, learner.title, report)


def _method(name: str, learner: Any, report: Report) -> dict[str, Any]:
    """Return the method fields of a baseline's entry; its notes are the docstring's first line."""
    import torch

    protocol = report.protocol
    command = [
        "metaevents", "evaluate", f"floor:{name}", "--archive", f"{protocol.dataset}.h5",
        "--protocol", protocol.name, "--pairing", protocol.pairing, "--classes", protocol.classes,
        "--out", "entry.json",
    ]  # fmt: skip
    return {
        "name": learner.title,
        "authors": ["The metaevents authors"],
        "code": "metaevents",
        "commit": __version__,
        "command": shlex.join(command),
        "other_data": "none",
        "hardware": f"{available_processors()} CPU cores, {platform.machine()}; "
        f"torch on {torch.get_num_threads()} thread(s)",
        "notes": (learner.__doc__ or "").split("\n")[0],
    }


def tables(results: Sequence[TrivialResult]) -> str:
    """Write the accuracies as Markdown.

    Args:
        results: Results with both pairings for each baseline, protocol and class split.

    Returns:
        One table per protocol and class split, with the pairings side by side.
    """
    reports = {
        (r.name, r.report.protocol.name, r.report.protocol.classes, r.report.protocol.pairing): (
            r.report
        )
        for r in results
    }
    header = ("Baseline", *(f"pairing `{pairing}`" for pairing in PAIRINGS), "difference")
    parts = []
    for protocol in dict.fromkeys(r.report.protocol.name for r in results):
        for classes in dict.fromkeys(r.report.protocol.classes for r in results):
            rows = []
            for name, title in dict.fromkeys((r.name, r.title) for r in results):
                free, published = (
                    reports[name, protocol, classes, pairing] for pairing in ("all", "published")
                )
                difference = 100 * (published.accuracy - free.accuracy)
                rows.append((title, _percent(free), _percent(published), f"{difference:+.1f}"))
            parts.append(f"### {protocol}, classes {classes}\n\n{table(header, rows, 'lrrr')}")
    return "\n\n".join(parts) + "\n"


def _percent(report: Report) -> str:
    """Return an accuracy with its interval, and that on unshared queries, in percent."""
    text = f"{100 * report.accuracy:.1f} ± {100 * report.ci95:.1f}"
    if report.unshared_accuracy is None:
        return text
    return f"{text} ({100 * report.unshared_accuracy:.1f})"


def document(results: Sequence[TrivialResult], command: str) -> str:
    """Write the Markdown document: the tables, the data, and the command that makes them.

    Args:
        results: As for `tables`; at least one.
        command: The command.

    Returns:
        The document.
    """
    import torch

    report = results[0].report
    archive = report.archive
    simulated = (
        " SIMULATED recordings: these are no results on real data." if archive["simulated"] else ""
    )
    return (
        "# Trivial baselines\n\n"
        f"Accuracy in %: the mean over {report.protocol.episodes} episodes, ± half of its 95 % "
        "interval over fresh recordings and episodes (`cards/statistics.md`). In brackets: the "
        "accuracy on the queries none of whose recordings is in the support of another class of "
        "the episode.\n\n"
        f"Dataset {report.protocol.dataset}, recordings `{archive['source']}` "
        f"({archive['recordings']:,}), fingerprint `{archive['fingerprint']}`.{simulated} Made on "
        f"{torch.get_num_threads()} thread(s) by\n\n"
        f"```sh\n{command}\n```\n\n{tables(results)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of this module.

    Args:
        arguments: Words of the command line; `sys.argv[1:]` if None.

    Returns:
        The exit status.
    """
    from metaevents.cli.base import Parser, path_argument, run_action

    program = "python -m metaevents.benchmark.trivial_report"
    parser = Parser(
        prog=program,
        description="Run every trivial baseline with both pairings and both class splits.",
    )
    parser.add_argument(
        "--archive", type=path_argument, required=True, metavar="FILE", help="an archive (.h5)"
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        required=True,
        metavar="DIR",
        help="folder for entries and prediction files",
    )
    parser.add_argument(
        "--markdown",
        type=path_argument,
        metavar="FILE",
        help="file for the tables; standard output by default",
    )
    parser.add_argument(
        "--protocol",
        dest="protocols",
        nargs="+",
        default=list(_PROTOCOLS),
        metavar="NAME",
        help=f"protocols; {' and '.join(_PROTOCOLS)} by default",
    )

    def work() -> None:
        args = parser.parse_args(arguments)
        require_writable_folder(args.out)
        if args.markdown:
            require_writable_folder(args.markdown.parent)
        results = list(run_all(args.archive, args.protocols, args.out))
        words = [*program.split(), "--archive", args.archive.name, "--out", str(args.out)]
        if args.markdown:
            words += ["--markdown", str(args.markdown)]
        text = document(results, shlex.join([*words, "--protocol", *args.protocols]))
        if args.markdown:
            args.markdown.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(args.markdown, text)
        else:
            print(text)

    return run_action(program, work)


if __name__ == "__main__":
    sys.exit(main())
