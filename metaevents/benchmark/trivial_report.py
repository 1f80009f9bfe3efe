"""Running all trivial baselines, and writing their entries and a table of their accuracies.

`python -m metaevents.benchmark.trivial_report --archive FILE --out DIR` does both. The baselines
themselves are in `metaevents.benchmark.trivial`.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from metaevents._version import __version__
from metaevents.archive.reader import Archive
from metaevents.benchmark.deals import over_deals
from metaevents.benchmark.evaluation import evaluate
from metaevents.benchmark.markdown import table
from metaevents.benchmark.protocols import Protocol, bind
from metaevents.benchmark.report import Report
from metaevents.benchmark.trivial import TRIVIAL_BASELINES
from metaevents.benchmark.validation import read_entry
from metaevents.component_deals import DEALS, FIRST_DEAL
from metaevents.datasets import load
from metaevents.distributed import available_processors
from metaevents.errors import UsageError
from metaevents.files import PathLike, require_writable_folder, write_atomic
from metaevents.specs import CLASS_SPLITS, PAIRINGS

_PROTOCOLS = ("sample-5way-1shot", "sample-5way-5shot")

_EVERY_PROTOCOL = ("published", FIRST_DEAL)  # class splits of all protocols; others have one shot


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


def run_all(
    archive: PathLike,
    protocols: Sequence[str],
    out: Path,
    class_splits: Sequence[str] = CLASS_SPLITS,
    baselines: Sequence[str] | None = None,
) -> Iterator[TrivialResult]:
    """Run every trivial baseline with both pairings and all class splits.

    Writes an entry and a prediction file per result. The second and further deals of
    `novel-components` are run under the protocols with one shot alone.

    Args:
        archive: Path of the archive.
        protocols: Names of the protocols.
        out: Folder for entries and prediction files; it is created.
        class_splits: The class splits.
        baselines: Names of the baselines; all by default.

    Yields:
        The results.

    Raises:
        UsageError: A protocol does not exist or does not fit the archive.
    """
    dataset_name = Archive(archive).dataset
    first = load(dataset_name, archive, "test")
    # Bound before the work, which takes long.
    shots = {protocol: bind(protocol, first).shots for protocol in protocols}
    names = list(TRIVIAL_BASELINES) if baselines is None else list(baselines)
    for name in names:
        if name not in TRIVIAL_BASELINES:
            raise UsageError(
                f"no trivial baseline {name!r}; choose one of {', '.join(TRIVIAL_BASELINES)}"
            )
    out.mkdir(parents=True, exist_ok=True)
    for classes in class_splits:
        if classes not in first.rules.class_splits:
            continue
        datasets = {
            pairing: load(dataset_name, archive, "test", pairing=pairing, classes=classes)
            for pairing in PAIRINGS
        }
        for name in names:
            learner = TRIVIAL_BASELINES[name](datasets["all"])  # does not depend on the pairing
            for protocol in protocols:
                if shots[protocol] > 1 and classes not in _EVERY_PROTOCOL:
                    continue
                for dataset in datasets.values():
                    report = evaluate(learner, dataset, protocol)
                    report.learner = f"floor:{name}"
                    stem = _stem(name, report.protocol)
                    report.save_predictions(out / f"{stem}.npz")
                    report.save(out / f"{stem}.json", **_method(name, learner, report))
                    yield TrivialResult(name, learner.title, report)


def read_all(archive: PathLike, protocols: Sequence[str], out: Path) -> Iterator[TrivialResult]:
    """Read the results that `run_all` wrote on an archive, in its order.

    Args:
        archive: Path of the archive.
        protocols: Names of the protocols.
        out: Folder of the entries.

    Yields:
        The results, without predictions.

    Raises:
        UsageError: A protocol does not exist, or an entry does not pass its checks.
    """
    first = load(Archive(archive).dataset, archive, "test")
    bound = [bind(protocol, first) for protocol in protocols]
    for classes, name, protocol, pairing in product(
        CLASS_SPLITS, TRIVIAL_BASELINES, bound, PAIRINGS
    ):
        path = out / f"{_stem(name, replace(protocol, pairing=pairing, classes=classes))}.json"
        if not path.is_file():
            continue
        entry = read_entry(path)
        report = Report.from_dict(entry.report)
        if report.archive["fingerprint"] == first.fingerprint:
            yield TrivialResult(name, entry.name, report)


def _stem(name: str, protocol: Protocol) -> str:
    """Return the name of a baseline's entry, without its ending; with the version from 2 on."""
    version = "" if protocol.version == 1 else f"-v{protocol.version}"
    return (
        f"floor-{name}.{protocol.dataset}.{protocol.name}{version}.{protocol.pairing}."
        f"{protocol.classes}"
    )


def _method(name: str, learner: Any, report: Report) -> dict[str, Any]:
    """Return the method fields of a baseline's entry; its notes are the docstring's first line."""
    import torch

    protocol = report.protocol
    command = [
        "metaevents", "evaluate", f"floor:{name}", "--archive", f"{protocol.dataset}.h5",
        "--protocol", protocol.versioned_name, "--pairing", protocol.pairing,
        "--classes", protocol.classes, "--out", "entry.json",
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
        One table per protocol and class split, with the pairings side by side; and one per
        protocol and pairing with the mean and the deviation over the deals.
    """
    reports = {(r.name, *_setting(r.report), r.report.protocol.pairing): r.report for r in results}
    header = ("Baseline", *(f"pairing `{pairing}`" for pairing in PAIRINGS), "difference")
    parts = []
    settings = dict.fromkeys(_setting(r.report) for r in results)
    for protocol, classes in sorted(settings, key=lambda each: each[0]):
        if classes in DEALS[1:]:
            continue
        rows = []
        for name, title in dict.fromkeys((r.name, r.title) for r in results):
            free, published = (
                reports.get((name, protocol, classes, pairing)) for pairing in PAIRINGS
            )
            if free is None or published is None:  # not among the results
                continue
            difference = 100 * (published.accuracy - free.accuracy)
            rows.append((title, _percent(free), _percent(published), f"{difference:+.1f}"))
        parts.append(f"### {protocol}, classes {classes}\n\n{table(header, rows, 'lrrr')}")
    return "\n\n".join([*parts, *_deal_tables(results)]) + "\n"


def _setting(report: Report) -> tuple[str, str]:
    """Return the protocol, with its version, and the class split of a report."""
    protocol = report.protocol
    return f"{protocol.name}, version {protocol.version}", protocol.classes


def _deal_tables(results: Sequence[TrivialResult]) -> list[str]:
    """Return a table of the deals per protocol and pairing that have several."""
    groups: dict[tuple[str, str], dict[str, list[Report]]] = {}
    for result in results:
        protocol, classes = _setting(result.report)
        if classes in DEALS:
            key = protocol, result.report.protocol.pairing
            groups.setdefault(key, {}).setdefault(result.title, []).append(result.report)
    parts = []
    for (protocol, pairing), methods in groups.items():
        summaries = {title: over_deals(reports) for title, reports in methods.items()}
        numbers = sorted({n for each in summaries.values() for n in each.accuracies})
        if len(numbers) < 2:
            continue
        rows = [
            (
                title,
                f"{100 * each.mean:.1f}",
                "" if each.deviation is None else f"{100 * each.deviation:.1f}",
                *(
                    f"{100 * each.accuracies[n]:.1f}" if n in each.accuracies else ""
                    for n in numbers
                ),
            )
            for title, each in summaries.items()
        ]
        header = ("Baseline", "mean", "deviation", *(f"deal {n}" for n in numbers))
        parts.append(
            f"### {protocol}, {len(numbers)} deals of novel components, pairing `{pairing}`\n\n"
            f"{table(header, rows, 'l' + 'r' * (2 + len(numbers)))}"
        )
    return parts


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
        "the episode. Mean and deviation (n - 1 in the denominator) over deals are those of the "
        "deals' accuracies.\n\n"
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
        description="Run every trivial baseline with both pairings and all class splits. Deals "
        "2 to 10 of novel-components are run under the protocols with one shot alone.",
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
    parser.add_argument(
        "--classes",
        nargs="+",
        choices=CLASS_SPLITS,
        default=list(CLASS_SPLITS),
        metavar="NAME",
        help="class splits; all by default",
    )
    parser.add_argument(
        "--baselines", nargs="+", metavar="NAME", help="names of the baselines; all by default"
    )
    parser.add_argument(
        "--read",
        action="store_true",
        help="run nothing: write the tables of the entries that the folder holds, such as those of "
        "several runs beside each other",
    )

    def work() -> None:
        args = parser.parse_args(arguments)
        require_writable_folder(args.out)
        if args.markdown:
            require_writable_folder(args.markdown.parent)
        if args.read:
            results = list(read_all(args.archive, args.protocols, args.out))
            if not results:
                raise UsageError(
                    f"{args.out} holds no entry of a trivial baseline on {args.archive}; leave out "
                    "--read to make them"
                )
        else:
            results = list(
                run_all(args.archive, args.protocols, args.out, args.classes, args.baselines)
            )
        words = [*program.split(), "--archive", args.archive.name, "--out", str(args.out)]
        if args.markdown:
            words += ["--markdown", str(args.markdown)]
        words += ["--protocol", *args.protocols]
        words += ["--classes", *args.classes] if args.classes != list(CLASS_SPLITS) else []
        words += ["--baselines", *args.baselines] if args.baselines else []
        text = document(results, shlex.join(words))
        if args.markdown:
            args.markdown.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(args.markdown, text)
        else:
            print(text)

    return run_action(program, work)


if __name__ == "__main__":
    sys.exit(main())
