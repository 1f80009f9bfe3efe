"""Commands on learners and scores: evaluate, score, validate, leaderboard.

`evaluation_arguments` and `evaluate_and_write` are shared with `python -m baselines evaluate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaevents.cli.base import (
    MAX_PROCESSES,
    Command,
    archive_option,
    check_outputs,
    command_line,
    json_flag,
    path_argument,
    print_json,
    print_lines,
    require_no_input,
    text_path_argument,
    whole_number,
)
from metaevents.errors import MetaeventsError, MissingError, UsageError

if TYPE_CHECKING:
    from metaevents.benchmark.leaderboard import DealTable, Table
    from metaevents.benchmark.report import Report
    from metaevents.datasets import ComposedDataset

METHOD_OPTIONS: Mapping[str, str] = {
    "name": "name of the method",
    "authors": "authors, one word or one quoted name each",
    "citation": "how to cite the method",
    "code": "https URL of the code, or name of a released package",
    "commit": "commit or version of the code",
    "other_data": "training data other than the train split, or none",
    "hardware": "hardware that the evaluation ran on",
    "notes": "other information for readers",
}
"""Method field of an entry -> help text of its option."""

# Options that change the episodes or the files, in the order in which a command is written.
_REPEATED_OPTIONS = (
    "archive",
    "protocol",
    "pairing",
    "classes",
    "dataset",
    "episodes",
    "queries",
    "trials",
    "out",
)


def commands() -> Iterable[Command]:
    """The commands on learners and scores, in the order of `metaevents --help`."""
    return (
        Command(
            "evaluate",
            "score a learner on the episodes of a protocol",
            _evaluate_arguments,
            _evaluate,
        ),
        Command("score", "recompute a score from a prediction file", _score_arguments, _score),
        Command(
            "validate",
            "check a leaderboard entry against its predictions",
            _validate_arguments,
            _validate,
        ),
        Command(
            "leaderboard",
            "write the leaderboard from its entries",
            _leaderboard_arguments,
            _leaderboard,
        ),
    )


# --- evaluate ------------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "learner",
        metavar="MODULE:ATTRIBUTE",
        help="import path of a learner, or floor:NAME for a trivial baseline",
    )
    evaluation_arguments(parser)


def evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that evaluates a learner; see `evaluate_and_write`."""
    archive_option(parser, text_path_argument)
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="evaluation protocol; `metaevents list protocols` lists them. NAME-v1 is version 1 of "
        "a protocol that has several, NAME the newest (default: 5way-1shot, or the one that the "
        "rules of a dataset of your own name)",
    )
    parser.add_argument(
        "--pairing", default="all", metavar="NAME", help="pairing: all or published"
    )
    parser.add_argument(
        "--classes",
        default="published",
        metavar="NAME",
        help="class split: published, novel-components, or another deal, novel-components-2 to "
        "novel-components-10",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="dataset, if --archive is a folder that holds several (default: the one that it "
        "holds)",
    )
    parser.add_argument(
        "--episodes",
        type=whole_number(1),
        metavar="N",
        help="number of episodes; another number is reported as a deviation (default: the "
        "protocol's)",
    )
    parser.add_argument(
        "--queries",
        type=whole_number(1),
        metavar="N",
        help="queries per class; another number is reported as a deviation (default: the "
        "protocol's)",
    )
    parser.add_argument(
        "--trials",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="number of independent lists of episodes; the paper has 10",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(0, MAX_PROCESSES),
        default=0,
        metavar="N",
        help="number of threads or processes that prepare episodes; 0 takes none",
    )
    parser.add_argument(
        "--no-probe",
        dest="probe",
        action="store_false",
        help="do not measure whether the learner is transductive or stateful; the entry is marked "
        '"not probed"',
    )
    parser.add_argument(
        "--out", type=text_path_argument, metavar="ENTRY.json", help="write an entry"
    )
    parser.add_argument(
        "--predictions",
        type=text_path_argument,
        metavar="FILE.npz",
        help="write the prediction file (default with --out: predictions.npz beside the entry)",
    )
    method = parser.add_argument_group("method fields of the entry")
    for name, text in METHOD_OPTIONS.items():
        method.add_argument(
            f"--{name.replace('_', '-')}",
            nargs="+" if name == "authors" else None,
            metavar="TEXT",
            help=text,
        )
    json_flag(parser)


def _evaluate(args: argparse.Namespace) -> None:
    from metaevents.benchmark.report import check_method
    from metaevents.benchmark.resolve import load_learner

    method = {name: getattr(args, name) for name in METHOD_OPTIONS}
    check_method(method)  # checked before the work, which takes long
    evaluate_and_write(
        args,
        lambda dataset: [load_learner(args.learner, dataset)],
        args.learner,
        ["metaevents", "evaluate", args.learner],
        method,
    )


def evaluate_and_write(
    args: argparse.Namespace,
    make: Callable[[ComposedDataset], Sequence[Any]],
    learner: str,
    words: Sequence[str],
    method: Mapping[str, Any],
    inputs: Iterable[Path] = (),
) -> None:
    """Evaluate learners, write entry and predictions, and print the report.

    Args:
        args: Parsed options of `evaluation_arguments`.
        make: Makes the learners for the test split. Several learners are trainings of one method
            with different seeds; the report of the first one has the statistics of all.
        learner: Name of the learner in the report.
        words: First words of the command in the entry, before the options.
        method: Method fields of the entry, without the command. Read after `make` was called.
        inputs: Files of the learners, which must not be replaced.

    Raises:
        MissingError: The folder of an output file does not exist.
        UsageError: An option does not fit the archive, an output file is another file of the
            command, or the environment announces a process group that cannot be.
        OSError: An output file cannot be written.
    """
    from metaevents.benchmark.evaluation import evaluate
    from metaevents.benchmark.report import over_training_seeds
    from metaevents.datasets import archive_dataset, load
    from metaevents.distributed import is_first_process, use_own_gpu

    is_first = is_first_process()
    _check_outputs(args, inputs)  # checked before the work, which takes long
    dataset = load(
        args.dataset or archive_dataset(args.archive),
        args.archive,
        "test",
        pairing=args.pairing,
        classes=args.classes,
    )
    args.protocol = args.protocol or dataset.rules.protocol
    use_own_gpu()
    names = ("episodes", "queries", "trials", "workers", "probe")
    options = {name: getattr(args, name) for name in names}
    reports = [evaluate(model, dataset, args.protocol, **options) for model in make(dataset)]
    report = over_training_seeds(reports) if len(reports) > 1 else reports[0]
    report.learner = learner
    args.protocol = report.protocol.versioned_name  # in the command that the entry states
    if is_first:  # every process has the whole report
        _write_report(args, report, {**method, "command": _command(args, words)})


def _check_outputs(args: argparse.Namespace, inputs: Iterable[Path]) -> None:
    """Check that the files of an evaluation can be written, and replace no file that it needs."""
    predictions = _predictions_path(args)
    outputs = [path for path in (args.out, predictions) if path]
    check_outputs(outputs, [args.archive, *inputs])
    if args.out and predictions and _is_file_to_be(args.out) and _is_file_to_be(predictions):
        if args.out.resolve().parent != predictions.resolve().parent:
            raise UsageError(
                f"the entry {args.out} and the predictions {predictions} are in two folders; put "
                "both into one, as an entry names the file beside it"
            )
        if other := _entry_of(predictions, args.out):
            raise UsageError(
                f"{predictions} holds the predictions of {other}; give another file with "
                f"--predictions, such as {args.out.with_suffix('.npz')}"
            )
    if (
        len(outputs) == 2
        and outputs[0].resolve() == outputs[1].resolve()
        and (outputs[0].is_file() or not outputs[0].exists())
    ):
        raise UsageError(f"entry and predictions are both {outputs[0]}; give two names")


def _predictions_path(args: argparse.Namespace) -> Path | None:
    """The prediction file to write, or None."""
    if args.predictions or not args.out:
        path: Path | None = args.predictions
        return path
    return args.out.parent / "predictions.npz" if _is_file_to_be(args.out) else None


def _is_file_to_be(path: Path) -> bool:
    """Return whether a path is, or will be, an ordinary file, not a device or pipe."""
    from metaevents.files import is_stream

    return not is_stream(path) and not path.is_dir()


def _entry_of(predictions: Path, own: Path) -> Path | None:
    """Return an entry beside a prediction file that names it, other than `own`; None if none does.

    Files that are no entries are passed over.
    """
    from metaevents.benchmark.entries import MAX_ENTRY_BYTES
    from metaevents.untrusted import parse_json, read_bytes

    if not predictions.is_file():
        return None
    for path in sorted(predictions.absolute().parent.glob("*.json")):
        if path.resolve() == own.resolve():
            continue
        try:
            named = parse_json(read_bytes(path, MAX_ENTRY_BYTES, "entry", "").decode())
            if named["predictions"]["file"] == predictions.name:
                return path
        except Exception:  # whatever else a JSON file may be
            continue
    return None


def _write_report(args: argparse.Namespace, report: Report, method: Mapping[str, Any]) -> None:
    """Write the files that the options name, and print the report."""
    predictions = _predictions_path(args)
    if predictions:
        report.save_predictions(predictions)
    if args.out:
        report.save(args.out, **method)
    if args.json:
        print_json(report.to_dict())
        return
    print(report)
    for path in (predictions, args.out):
        if path:
            print(f"{path}: written")


def _command(args: argparse.Namespace, words: Sequence[str]) -> str:
    """The command line that gives the same report again."""
    options = {name: getattr(args, name) for name in _REPEATED_OPTIONS}
    if options["trials"] == 1:
        del options["trials"]
    return command_line(*words, *_option_words(options), *([] if args.probe else ["--no-probe"]))


def _option_words(options: Mapping[str, object]) -> list[str]:
    """Options as words of a command line; an option that is None is left out."""
    return [
        word
        for name, value in options.items()
        if value is not None
        for word in (f"--{name}", str(value))
    ]


# --- score ---------------------------------------------------------------------------------------


def _score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "predictions", type=path_argument, metavar="PREDICTIONS.npz", help="a prediction file"
    )
    archive_option(parser)
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="fail if the predictions are for another protocol; with "
        "NAME-v1, also if they are for another version",
    )
    json_flag(parser)


def _score(args: argparse.Namespace) -> None:
    from metaevents.benchmark.scoring import score

    result = score(args.predictions, args.archive, args.protocol)
    if args.json:
        print_json(result.to_dict())
    else:
        print(f"{args.predictions}: {result}")


# --- validate ------------------------------------------------------------------------------------


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "entry",
        type=path_argument,
        metavar="ENTRY.json",
        help="an entry, with its prediction file in the same folder",
    )
    parser.add_argument(
        "--archive",
        type=path_argument,
        metavar="FILE",
        help="the archive; if given, the score is recomputed from the predictions",
    )
    json_flag(parser)


def _validate(args: argparse.Namespace) -> None:
    from metaevents.benchmark.validation import validate

    try:
        result = validate(args.entry, args.archive)
    except MetaeventsError as error:
        if args.json:
            print_json({"entry": str(args.entry), "valid": False, "problem": str(error)})
        raise
    if args.json:
        entry = result.entry
        print_json(
            {
                "entry": str(args.entry),
                "valid": True,
                "checked": list(result.checked),
                "remarks": list(result.remarks),
                "accuracy": entry.accuracy,
                "setting": entry.setting,
                "simulated": entry.simulated,
                "sample": entry.is_subset,
                "verified": entry.verified,
            }
        )
        return
    print_lines(f"ok  {line}" for line in result.checked)
    print_lines(f"    {line}" for line in result.remarks)


# --- leaderboard ---------------------------------------------------------------------------------


def _leaderboard_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--entries",
        type=path_argument,
        metavar="DIR",
        help="folder of the entries (default: cards/entries in the working folder)",
    )
    parser.add_argument(
        "--markdown",
        type=path_argument,
        metavar="FILE",
        help="Markdown file to write (default: LEADERBOARD.md beside the folder of the entries)",
    )
    parser.add_argument(
        "--html", type=path_argument, metavar="DIR", help="also write DIR/index.html"
    )
    parser.add_argument(
        "--archive",
        type=path_argument,
        metavar="FILE",
        help="an archive; missing episode files of entries made on it are written beside them",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if the files on disk are out of date",
    )
    json_flag(parser)


def _leaderboard(args: argparse.Namespace) -> None:
    from metaevents.benchmark.leaderboard import deal_tables, tables, write_missing_episodes
    from metaevents.benchmark.render_html import render_html
    from metaevents.benchmark.render_markdown import render_markdown
    from metaevents.benchmark.validation import admit
    from metaevents.generated_files import check_generated, write_generated

    folder = args.entries or _default_entries()
    entries = admit(folder)
    written = []
    if args.archive:
        if args.check:
            raise UsageError("--check writes nothing; give --archive without it first")
        written = write_missing_episodes(entries, args.archive)
    leaderboard, deals = tables(entries), deal_tables(entries)
    document = args.markdown or folder.parent / "LEADERBOARD.md"
    if not args.check:
        needed = [path for entry in entries for path in (entry.path, entry.predictions)]
        require_no_input(document, needed)
    files = {document: render_markdown(leaderboard, document.parent, deals)}
    if args.html:
        files[args.html / "index.html"] = render_html(leaderboard, args.html, deals)
    if args.check:
        options = {name: getattr(args, name) for name in ("entries", "markdown", "html")}
        command = command_line("metaevents", "leaderboard", *_option_words(options))
        check_generated(files, inputs=f"the entries in {folder}", command=command)
    else:
        write_generated(files)
    if args.json:
        print_json(
            {
                "files": [str(path) for path in [*written, *files]],
                "tables": [_table_facts(table) for table in leaderboard],
                "deals": [_deal_facts(table) for table in deals],
            }
        )
        return
    for path in [*written, *files]:
        print(f"{path}: {'up to date' if args.check else 'written'}")


def _deal_facts(table: DealTable) -> dict[str, Any]:
    """One table over the deals, as a JSON object."""
    protocol = {key: value for key, value in table.protocol.items() if key != "classes"}
    rows = [
        {
            "method": row.name,
            "mean": row.accuracies.mean,
            "deviation": row.accuracies.deviation,
            "entries": {str(number): entry.id for number, entry in row.entries.items()},
        }
        for row in table.rows
    ]
    return {"protocol": protocol, "sample": table.is_subset, "rows": rows}


def _default_entries() -> Path:
    """Return the folder cards/entries of the working folder."""
    folder = Path("cards/entries")
    if folder.is_dir():
        return folder
    raise MissingError(
        "no folder cards/entries here; go to the repository or name the folder with --entries"
    )


def _table_facts(table: Table) -> dict[str, Any]:
    """One table of the leaderboard, as a JSON object."""
    rows = [
        {
            "entry": row.entry.id,
            "method": row.entry.name,
            "accuracy": row.entry.accuracy,
            "ci95": row.entry.report["ci95"],
            "episode_ci95": row.entry.report["episode_ci95"],
            "unshared_accuracy": row.entry.report["unshared_accuracy"],
            "unshared_queries": row.entry.report["unshared_queries"],
            "setting": row.entry.setting,
            "verified": row.entry.verified is not None,
            **vars(row.standings["all"]),
        }
        for row in table.rows
    ]
    return {
        "protocol": table.protocol,
        "newest": table.is_newest,
        "sample": table.is_subset,
        "rows": rows,
    }
