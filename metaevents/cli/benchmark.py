"""The benchmark's commands, for the table of `metaevents.cli`."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaevents.cli.base import Command, json_flag, print_json
from metaevents.errors import MetaeventsError, MissingError, UsageError

if TYPE_CHECKING:
    from metaevents.datasets import ComposedDataset


def commands() -> Iterable[Command]:
    """The commands, in the order of `metaevents --help`."""
    yield from (
        Command(
            "evaluate",
            "score a learner on the episodes of a protocol",
            _evaluate_arguments,
            _evaluate,
        ),
        Command("score", "recompute a score from a prediction file", _score_arguments, _score),
        Command(
            "validate",
            "check an entry of the leaderboard against its predictions",
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


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "learner", metavar="MODULE:ATTRIBUTE", help="import path of a learner, or floor:NAME"
    )
    evaluation_arguments(parser)


def evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command that evaluates a learner asks for; `evaluate_and_write` takes it."""
    parser.add_argument(
        "--archive",
        type=Path,
        required=True,
        metavar="FILE",
        help="the archive, or the folder that holds it",
    )
    parser.add_argument(
        "--protocol", default="5way-1shot", metavar="NAME", help="5way-1shot by default"
    )
    parser.add_argument(
        "--pairing", default="all", metavar="NAME", help="all (default) or published"
    )
    parser.add_argument(
        "--classes",
        default="published",
        metavar="NAME",
        help="published (default) or novel-components",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="double-nmnist or double-asl-dvs, where --archive is a folder",
    )
    parser.add_argument(
        "--episodes",
        type=int,
        metavar="N",
        help="another number than the protocol's; not the protocol then",
    )
    parser.add_argument("--queries", type=int, metavar="N", help="queries a class, likewise")
    parser.add_argument(
        "--trials",
        type=int,
        default=1,
        metavar="N",
        help="streams of episodes; the published figures are over 10",
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that prepare episodes"
    )
    parser.add_argument("--out", type=Path, metavar="ENTRY.json", help="write an entry")
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE.npz",
        help="write the predictions; predictions.npz beside the entry by default",
    )
    method = parser.add_argument_group("for the entry")
    for name, help in METHOD_OPTIONS.items():
        method.add_argument(
            f"--{name.replace('_', '-')}",
            nargs="+" if name == "authors" else None,
            metavar="TEXT",
            help=help,
        )
    json_flag(parser)


METHOD_OPTIONS: Mapping[str, str] = {
    "name": "the method's name",
    "authors": "one word or quoted name an author",
    "citation": "how to cite it",
    "code": "https address of the code, or the name of a released package",
    "commit": "commit or version of the code",
    "other_data": "data that the method saw beside the train split, or none",
    "hardware": "what it ran on",
    "notes": "anything else a reader should know",
}


def _evaluate(args: argparse.Namespace) -> None:
    from metaevents.benchmark.resolve import load_learner

    words = ["metaevents", "evaluate", args.learner]
    method = {name: getattr(args, name) for name in METHOD_OPTIONS}
    evaluate_and_write(
        args, lambda dataset: [load_learner(args.learner, dataset)], args.learner, words, method
    )


def evaluate_and_write(
    args: argparse.Namespace,
    make: Callable[[ComposedDataset], Sequence[Any]],
    learner: str,
    words: Sequence[str],
    method: Mapping[str, Any],
) -> None:
    """Run an evaluation as the options of `evaluation_arguments` say; write entry and predictions, print the report.

    Args:
        args: the options.
        make: gives the learner for the test split; several are trainings of one method, whose first is reported.
        learner: its name in the report.
        words: the command's first words, before the options.
        method: the entry's method fields but the command.
    """
    from metaevents.benchmark.evaluation import evaluate
    from metaevents.benchmark.report import over_training_seeds
    from metaevents.datasets import load

    for path in (args.out, args.predictions):  # before the work, not after it
        if path and not path.absolute().parent.is_dir():
            raise MissingError(f"no folder {path.absolute().parent} for {path.name}; make it first")
    dataset = load(
        args.dataset or _dataset_of(args.archive),
        args.archive,
        "test",
        pairing=args.pairing,
        classes=args.classes,
    )
    _use_own_gpu()
    options = {name: getattr(args, name) for name in ("episodes", "queries", "trials", "workers")}
    reports = [evaluate(each, dataset, args.protocol, **options) for each in make(dataset)]
    report = over_training_seeds(reports) if len(reports) > 1 else reports[0]
    report.learner = learner
    if os.environ.get("RANK", "0") != "0":  # every process has the report; the first one writes it
        return
    predictions = args.predictions or (args.out and args.out.parent / "predictions.npz")
    if predictions:
        report.save_predictions(predictions)
    if args.out:
        report.save(args.out, **{**method, "command": _command_of(args, words)})
    if args.json:
        print_json(report.to_dict())
        return
    print(report)
    for path in (predictions, args.out):
        if path:
            print(f"{path}: written")


def _dataset_of(archive: Path) -> str:
    from metaevents.archive.reader import Archive
    from metaevents.datasets import BUILT_IN

    if archive.is_dir():
        here = [name for name in BUILT_IN if (archive / f"{name}.h5").is_file()]
        if len(here) != 1:
            raise UsageError(
                f"{archive} holds {len(here)} archives; give --archive FILE, or --dataset {' or '.join(BUILT_IN)}"
            )
        return here[0]
    return Archive(archive).dataset


def _use_own_gpu() -> None:
    """Under torchrun, make "cuda" mean this process's GPU."""
    if "LOCAL_RANK" in os.environ:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def _command_of(args: argparse.Namespace, words: Sequence[str]) -> str:
    """The command that gives the same report again."""
    words = list(words)
    for name in (
        "archive",
        "protocol",
        "pairing",
        "classes",
        "dataset",
        "episodes",
        "queries",
        "trials",
        "out",
    ):
        value = getattr(args, name)
        if value is not None and (name, value) != ("trials", 1):
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "predictions", type=Path, metavar="PREDICTIONS.npz", help="a prediction file"
    )
    parser.add_argument(
        "--archive",
        type=Path,
        required=True,
        metavar="FILE",
        help="the archive, or the folder that holds it",
    )
    parser.add_argument("--protocol", metavar="NAME", help="refuse predictions for another one")
    json_flag(parser)


def _score(args: argparse.Namespace) -> None:
    from metaevents.benchmark.scoring import score

    found = score(args.predictions, args.archive, args.protocol)
    if args.json:
        print_json(found.to_dict())
        return
    print(f"{args.predictions}: {found}")


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "entry", type=Path, metavar="ENTRY", help="an entry (.json), its prediction file beside it"
    )
    parser.add_argument(
        "--archive", type=Path, metavar="FILE", help="the archive; score the predictions again"
    )
    json_flag(parser)


def _validate(args: argparse.Namespace) -> None:
    from metaevents.benchmark.validation import validate

    try:
        found = validate(args.entry, args.archive)
    except MetaeventsError as error:
        if args.json:
            print_json({"entry": str(args.entry), "valid": False, "problem": str(error)})
        raise
    if args.json:
        entry = found.entry
        print_json(
            {
                "entry": str(args.entry),
                "valid": True,
                "checked": list(found.checked),
                "remarks": list(found.remarks),
                "accuracy": entry.accuracy,
                "setting": entry.setting,
                "simulated": entry.simulated,
                "sample": entry.sample,
                "verified": entry.verified,
            }
        )
        return
    for line in found.checked:
        print(f"ok  {line}")
    for line in found.remarks:
        print(f"    {line}")


def _leaderboard_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--entries",
        type=Path,
        metavar="DIR",
        help="folder of the entries; cards/entries by default",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="LEADERBOARD.md beside that folder by default"
    )
    parser.add_argument("--html", type=Path, metavar="DIR", help="write DIR/index.html too")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if the files are not what would be written",
    )
    json_flag(parser)


def _leaderboard(args: argparse.Namespace) -> None:
    from metaevents.benchmark.leaderboard import tables
    from metaevents.benchmark.render_html import page
    from metaevents.benchmark.render_markdown import markdown
    from metaevents.benchmark.validation import admit

    folder = args.entries or _default_entries()
    found = tables(admit(folder))
    files = {args.markdown or folder.parent / "LEADERBOARD.md": markdown(found)}
    if args.html:
        files[args.html / "index.html"] = page(found)
    if args.check:
        _check_files(files, folder)
    else:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8", newline="\n")
    if args.json:
        print_json(
            {"files": list(map(str, files)), "tables": [_described(table) for table in found]}
        )
        return
    for path in files:
        print(f"{path}: {'as it should be' if args.check else 'written'}")


def _default_entries() -> Path:
    """cards/entries of the working folder, or of the checkout that this package runs from."""
    places = [root / "cards" / "entries" for root in (Path(), Path(__file__).parents[2])]
    for place in places:
        if place.is_dir():
            return place
    raise MissingError(
        "no folder cards/entries here; go to the repository or name the folder with --entries"
    )


def _check_files(files: dict[Path, str], folder: Path) -> None:
    stale = [
        str(path)
        for path, text in files.items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]
    if stale:
        raise UsageError(
            f"{' and '.join(stale)}: not what the entries in {folder} give; run `metaevents leaderboard` with the same options "
            "but --check, and commit what it writes"
        )


def _described(table: Any) -> dict[str, Any]:
    rows = [
        {
            "entry": row.entry.id,
            "method": row.entry.name,
            "accuracy": row.entry.accuracy,
            "ci95": row.entry.report["ci95"],
            "bootstrap95": row.entry.report["bootstrap95"],
            "setting": row.entry.setting,
            "verified": row.entry.verified is not None,
            **vars(row.standings["all"]),
        }
        for row in table.rows
    ]
    return {"protocol": table.protocol, "sample": table.sample, "rows": rows}
