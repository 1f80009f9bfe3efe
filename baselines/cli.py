"""The command line `python -m baselines`, also the console script `metaevents-baselines`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.config import MODELS, RECIPES, RunConfig, recipe
from metaevents._version import __version__
from metaevents.cli.base import Command, Parser, json_flag, print_json, run_chosen
from metaevents.cli.benchmark import METHOD_OPTIONS, evaluate_and_write, evaluation_arguments

if TYPE_CHECKING:
    from baselines.learners import Baseline


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = Parser(
        prog="python -m baselines",
        description="The reference models of metaevents: train them, score them.",
    )
    parser.add_argument("--version", action="version", version=f"metaevents {__version__}")
    return run_chosen(parser, _commands(), arguments)


def _commands() -> Iterable[Command]:
    yield from (
        Command("train", "train a baseline on an archive's train split", _train_arguments, _train),
        Command(
            "evaluate",
            "score a trained baseline and write a leaderboard entry",
            _evaluate_arguments,
            _evaluate,
        ),
        Command("reproduce", "the paper's tables and figures", _reproduce_arguments, _reproduce),
        Command(
            "publish",
            "put a run's weights where `baselines.load` finds them",
            _publish_arguments,
            _publish,
        ),
        Command("cards", "write the cards of the weights that ship", _cards_arguments, _cards),
    )


# --- train -----------------------------------------------------------------------------------------------------------------

_CHOSEN_ELSEWHERE = ("model", "recipe", "dataset")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", choices=tuple(MODELS), help="which baseline")
    parser.add_argument(
        "--archive",
        type=Path,
        required=True,
        metavar="FILE",
        help="the archive, or the folder that holds it",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder, if there is one"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="RUN",
        help="weights to take the body of, in place of pre-training",
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1 ..."
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write scalars for TensorBoard into the run's folder",
    )
    recipes = sorted({name for table in RECIPES.values() for name in table})
    parser.add_argument(
        "--recipe",
        default="best",
        choices=recipes,
        help="the configuration to start from (default: best)",
    )
    json_flag(parser)
    group = parser.add_argument_group("in place of the recipe's")
    for field in fields(RunConfig):
        if field.name in _CHOSEN_ELSEWHERE:
            continue
        option: Any = f"--{field.name.replace('_', '-')}"
        default: Any = field.default
        help: Any = field.metadata["help"]
        if isinstance(default, bool):
            group.add_argument(
                option, action=argparse.BooleanOptionalAction, default=None, help=help
            )
        elif isinstance(default, tuple):
            group.add_argument(option, type=int, nargs="+", metavar="N", help=help)
        else:
            metavar = {int: "N", float: "X"}.get(type(default), "NAME")
            group.add_argument(option, type=type(default), metavar=metavar, help=help)


def _train(args: argparse.Namespace) -> None:
    from baselines.training.loop import archive_dataset, train

    changes = {field.name: getattr(args, field.name, None) for field in fields(RunConfig)}
    changes = {
        name: value
        for name, value in changes.items()
        if value is not None and name not in _CHOSEN_ELSEWHERE
    }
    config = recipe(args.model, args.recipe, dataset=archive_dataset(args.archive), **changes)
    options = {
        "resume": args.resume,
        "start_from": args.start_from,
        "device": args.device,
        "tensorboard": args.tensorboard,
    }
    result = train(config, args.archive, args.out, **options)
    if result is None:
        return
    if args.json:
        print_json(result)
        return
    print(
        f"{result['weights']}: step {result['step']}, {result['val_accuracy']:.1%} on validation episodes"
    )


# --- evaluate --------------------------------------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights", metavar="RUN", nargs="+",
        help="a run's folder, a weights file, or a baseline that ships (snn-maml ...); several are trainings of one method",
    )  # fmt: skip
    evaluation_arguments(parser)
    parser.add_argument(
        "--ways",
        type=int,
        metavar="N",
        help="which of the weights that ship; the protocol's by default",
    )
    parser.add_argument(
        "--recipe",
        default="best",
        metavar="NAME",
        help="which of the weights that ship (default: best)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda ..."
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also on data that the weights have seen; the report is marked",
    )


def _evaluate(args: argparse.Namespace) -> None:
    import os
    import platform

    import torch

    from baselines.learners import load
    from baselines.training.loop import pick_device
    from metaevents.benchmark.protocols import bind
    from metaevents.datasets import ComposedDataset

    device = pick_device(args.device)
    given = {name: value for name in METHOD_OPTIONS if (value := getattr(args, name)) is not None}
    on = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"torch on {torch.get_num_threads()} thread(s)"
    )
    method: dict[str, Any] = {"hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}; {on}"}

    def make(dataset: ComposedDataset) -> list[Baseline]:
        ways = args.ways or bind(args.protocol, dataset, args.episodes, args.queries).ways
        which: dict[str, Any] = {
            "classes": dataset.class_split,
            "ways": ways,
            "recipe": args.recipe,
        }
        loaded = [
            load(each, dataset.name, **which, device=str(device), force=args.force)
            for each in args.weights
        ]
        method.update({**described(loaded), **given})
        return loaded

    words = ["python", "-m", "baselines", "evaluate", *args.weights]
    words += [
        *(["--recipe", args.recipe] if args.recipe != "best" else []),
        *(["--force"] if args.force else []),
    ]
    evaluate_and_write(args, make, f"baselines:{args.weights[0]}", words, method)


def described(learners: Sequence[Baseline]) -> dict[str, Any]:
    """The method fields of an entry over one or several trainings of a baseline."""
    config, record = learners[0].config, learners[0].record
    recordings, classes = len(record.trained.recordings), len(record.trained.classes)
    method = (
        f"{config.steps} outer steps of {config.meta_batch_size} task(s), {config.ways}-way {config.shots}-shot"
        if config.kind.method == "maml"
        else f"{config.steps} supervised steps of {config.batch_size} samples"
    )
    start = (
        f" after {config.pretrain_steps} steps of supervised pre-training"
        if config.pretrain_steps
        else ""
    )
    seeds = ", ".join(str(learner.config.seed) for learner in learners)
    steps = ", ".join(str(learner.record.step) for learner in learners)
    return {
        "name": f"{config.model.upper()} ({config.recipe})",
        "authors": ["The metaevents authors"],
        "citation": "doi:10.1088/2634-4386/ac8828 (method)",
        "code": "metaevents",
        "commit": __version__,
        "other_data": "none",
        "notes": f"Recipe {config.recipe!r}, seed {seeds}: {method}{start}; trained on {recordings:,} recordings of {classes} "
        f"classes ({record.source}); chosen at step {steps} on validation episodes.",
    }


# --- publish, cards --------------------------------------------------------------------------------------------------------


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FILE",
        help="choose the inner steps at test on its val split first",
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="another folder")


def _publish(args: argparse.Namespace) -> None:
    from baselines.publish import publish

    print(f"{publish(args.run, args.archive, args.to)}: written")


def _cards_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cards",
        type=Path,
        default=Path("cards"),
        metavar="DIR",
        help="folder of the cards (default: cards)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if the cards are not what would be written",
    )


def _cards(args: argparse.Namespace) -> None:
    from baselines.model_cards import check, write

    for path in (check if args.check else write)(args.cards):
        print(f"{path}: {'as it should be' if args.check else 'written'}")


# --- reproduce -------------------------------------------------------------------------------------------------------------

_EXPERIMENTS = ("table2", "fig3", "fig4", "table3", "fig5", "fig6", "quantization", "plasticity")


def _reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", choices=(*_EXPERIMENTS, "all"), help="which table or figure")
    parser.add_argument(
        "--archive",
        type=Path,
        required=True,
        metavar="FILE",
        help="the archive, or the folder that holds it",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where tables, figures and runs go"
    )
    parser.add_argument(
        "--budget",
        choices=("quick", "full"),
        default="quick",
        help="ten minutes each on two cores (default), or the paper's setting",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="trained runs to use, matched by their configuration; what is missing is trained",
    )
    parser.add_argument(
        "--pairing", choices=("all", "published"), default="all", help="of runs and episodes"
    )
    parser.add_argument(
        "--classes",
        choices=("published", "novel-components"),
        default="published",
        help="class split",
    )
    parser.add_argument(
        "--episodes", type=int, metavar="N", help="episodes of a trial, in place of the budget's"
    )
    parser.add_argument(
        "--tuning",
        type=int,
        metavar="N",
        help="outer steps where an experiment trains a run further, in place of the budget's",
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda ..."
    )
    json_flag(parser)


def _reproduce(args: argparse.Namespace) -> None:
    import shlex

    from baselines.experiments import reproduce

    options = ("budget", "pairing", "classes", "episodes", "tuning", "device")
    given = {name: getattr(args, name) for name in options}
    words = [
        "--archive",
        args.archive,
        "--out",
        args.out,
        *(["--runs", *args.runs] if args.runs else []),
    ]
    for name, value in given.items():
        words += [f"--{name}", value] if value is not None else []
    for name in _EXPERIMENTS if args.experiment == "all" else (args.experiment,):
        command = shlex.join(map(str, ["python", "-m", "baselines", "reproduce", name, *words]))
        paths = reproduce(name, args.archive, args.out, runs=args.runs, command=command, **given)
        if args.json:
            print_json({"experiment": name, "files": [str(path) for path in paths]})
            continue
        print(next(path for path in paths if path.suffix == ".md").read_text("utf-8"))
