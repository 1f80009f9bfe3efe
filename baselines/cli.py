"""The command line `python -m baselines`, also the console script `metaevents-baselines`.

Commands import what they need when they run, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.config import MODELS, RECIPES, RunConfig, recipe
from baselines.experiments.names import EXPERIMENT_MODULES
from metaevents._version import __version__
from metaevents.cli.base import (
    MAX_SEED,
    Command,
    Parser,
    archive_option,
    check_outputs,
    command_line,
    finite_number,
    json_flag,
    path_argument,
    print_json,
    run_cli,
    text_path_argument,
    whole_number,
)
from metaevents.cli.benchmark import METHOD_OPTIONS, evaluate_and_write, evaluation_arguments
from metaevents.errors import UsageError
from metaevents.specs import CLASS_SPLITS, PAIRINGS

if TYPE_CHECKING:
    from baselines.learners import Baseline


def main(arguments: Sequence[str] | None = None, program: str = "python -m baselines") -> int:
    """Run one command.

    Args:
        arguments: Words of the command line; `sys.argv[1:]` if None.
        program: What the user typed before these words, for help and messages.

    Returns:
        The exit status.
    """
    parser = Parser(
        prog=program,
        description="The reference models of metaevents: train, evaluate, reproduce.",
    )
    parser.add_argument("--version", action="version", version=f"metaevents {__version__}")
    return run_cli(parser, commands(), arguments)


def commands() -> Iterable[Command]:
    """Return all commands, in the order of `--help`."""
    yield Command(
        "train", "train a baseline on the train split of an archive", _train_arguments, _train
    )
    yield Command(
        "evaluate",
        "evaluate a trained baseline and write a leaderboard entry",
        _evaluate_arguments,
        _evaluate,
    )
    yield Command(
        "reproduce", "reproduce the paper's tables and figures", _reproduce_arguments, _reproduce
    )
    yield Command(
        "deals",
        "train and evaluate baselines in the ten deals of novel components, and write a table",
        _deals_arguments,
        _deals,
    )
    yield Command(
        "export",
        "write a trained spiking network as a graph of NIR, for other simulators and chips",
        _export_arguments,
        _export,
    )
    yield Command(
        "publish",
        "copy the weights of a run to where `baselines.load` finds them",
        _publish_arguments,
        _publish,
        for_maintainers=True,
    )
    yield Command(
        "measure",
        "measure what the baselines cost, and write it into their entries",
        _measure_arguments,
        _measure,
        for_maintainers=True,
    )
    yield Command(
        "cards",
        "write the model cards and the table of results",
        _cards_arguments,
        _cards,
        for_maintainers=True,
    )


def _device_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--device`."""
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 ..."
    )


# --- train ---------------------------------------------------------------------------------------

_WITHOUT_OPTION = ("model", "recipe", "dataset")  # fields that other arguments choose

# Type of a configuration field -> settings of its option. `RunConfig` checks the values.
_FIELD_TYPES: Mapping[type, dict[str, Any]] = {
    int: {"type": whole_number(0, MAX_SEED), "metavar": "N"},
    float: {"type": finite_number, "metavar": "X"},
    str: {"type": str, "metavar": "NAME"},
}


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", choices=tuple(MODELS), help="name of the baseline")
    archive_option(parser)
    parser.add_argument(
        "--out", type=path_argument, required=True, metavar="DIR", help="the run's folder"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in the folder, if there is one"
    )
    parser.add_argument(
        "--start-from",
        type=path_argument,
        metavar="RUN",
        help="start from the convolutions of these weights, in place of pre-training",
    )
    _device_option(parser)
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write scalars for TensorBoard into the run's folder",
    )
    recipes = sorted({name for table in RECIPES.values() for name in table})
    parser.add_argument("--recipe", default="best", choices=recipes, help="named configuration")
    json_flag(parser)
    group = parser.add_argument_group("fields of the configuration")
    for field in fields(RunConfig):
        if field.name in _WITHOUT_OPTION:
            continue
        option = f"--{field.name.replace('_', '-')}"
        default: Any = field.default
        settings: dict[str, Any] = {"help": f"{field.metadata['help']} (default: the recipe's)"}
        if isinstance(default, bool):
            settings |= {"action": argparse.BooleanOptionalAction, "default": None}
        elif isinstance(default, tuple):
            settings |= {"type": whole_number(0), "nargs": "+", "metavar": "N"}
        else:
            settings |= _FIELD_TYPES[type(default)]
        group.add_argument(option, **settings)


def _train(args: argparse.Namespace) -> None:
    from baselines.training.loop import train
    from metaevents.datasets import archive_dataset
    from metaevents.distributed import is_first_process
    from metaevents.files import require_writable_folder

    is_first_process()  # refuses an environment that announces an impossible group
    require_writable_folder(args.out)  # checked before the work, which takes long
    given = {field.name: getattr(args, field.name, None) for field in fields(RunConfig)}
    changes = {
        name: value
        for name, value in given.items()
        if value is not None and name not in _WITHOUT_OPTION
    }
    config = recipe(args.model, args.recipe, dataset=archive_dataset(args.archive), **changes)
    result = train(
        config,
        args.archive,
        args.out,
        start_from=args.start_from,
        resume=args.resume,
        device=args.device,
        tensorboard=args.tensorboard,
    )
    if result is None:  # not the first process
        return
    if args.json:
        print_json(result)
        return
    print(
        f"{result['weights']}: step {result['step']}, validation accuracy "
        f"{result['val_accuracy']:.1%}"
    )


# --- evaluate ------------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights",
        type=_weights_argument,
        metavar="RUN",
        nargs="+",
        help="a run's folder, a weights file or a baseline of the release (snn-maml ...); several "
        "are trainings of one method with different seeds",
    )
    evaluation_arguments(parser)
    parser.add_argument(
        "--ways",
        type=whole_number(2),
        metavar="N",
        help="ways of the baseline of the release (default: the protocol's)",
    )
    parser.add_argument(
        "--recipe",
        default="best",
        metavar="NAME",
        help="recipe of the baseline of the release",
    )
    parser.add_argument(
        "--training-pairing",
        choices=PAIRINGS,
        default="all",
        help="pairing with which the baseline of the release was trained",
    )
    parser.add_argument(
        "--training-seeds",
        type=whole_number(0, MAX_SEED),
        nargs="+",
        default=[0],
        metavar="N",
        help="seeds of the trainings of the baseline of the release; the entry has the predictions "
        "of the first one, and mean and deviation over all",
    )
    _device_option(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="evaluate also on data that the weights have seen; the report is then marked",
    )


def _weights_argument(text: str) -> str | Path:
    """The name of a baseline as it is; the path of a run or of weights with `~` expanded."""
    return text if text in MODELS else text_path_argument(text)


def _weights_word(weights: str | Path) -> str:
    """Return the word of a command line that names weights: `./snn-maml` for a folder here."""
    text = str(weights)
    return f"./{text}" if isinstance(weights, Path) and text in MODELS else text


def _weights_files(weights: Iterable[str | Path]) -> list[Path]:
    """Return the files of weights that are no baselines of the release."""
    from baselines.weights_file import weights_path

    return [weights_path(each) for each in weights if isinstance(each, Path)]


def _evaluate(args: argparse.Namespace) -> None:
    import platform

    import torch

    from baselines.learners import load
    from metaevents.benchmark.protocols import bind
    from metaevents.benchmark.report import check_method
    from metaevents.datasets import ComposedDataset
    from metaevents.distributed import available_processors, pick_device

    device = pick_device(args.device)
    given = {name: value for name in METHOD_OPTIONS if (value := getattr(args, name)) is not None}
    check_method(given)
    processor = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"torch on {torch.get_num_threads()} thread(s)"
    )
    hardware = f"{available_processors()} CPU cores, {platform.machine()}; {processor}"
    method: dict[str, Any] = {"hardware": hardware}

    def make(dataset: ComposedDataset) -> list[Baseline]:
        """Return the learners, and complete the method fields of the entry."""
        ways = args.ways or bind(args.protocol, dataset, args.episodes, args.queries).ways
        learners = [
            load(
                name,
                dataset.name,
                classes=dataset.class_split,
                ways=ways,
                recipe=args.recipe,
                pairing=args.training_pairing,
                seed=seed,
                device=str(device),
                force=args.force,
            )
            for name in args.weights
            for seed in (args.training_seeds if isinstance(name, str) else [0])
        ]
        _require_trainings_of_one_method(learners)
        method.update({**_method_fields(learners), **given})
        return learners

    weights = [_weights_word(each) for each in args.weights]
    words = ["python", "-m", "baselines", "evaluate", *weights]
    words += ["--recipe", args.recipe] if args.recipe != "best" else []
    words += ["--training-pairing", args.training_pairing] * (args.training_pairing != "all")
    words += ["--training-seeds", *map(str, args.training_seeds)] * (args.training_seeds != [0])
    words += ["--force"] if args.force else []
    inputs = _weights_files(args.weights)
    evaluate_and_write(args, make, f"baselines:{weights[0]}", words, method, inputs)


def _require_trainings_of_one_method(learners: Sequence[Baseline]) -> None:
    """Refuse learners that are not trainings of one configuration with different seeds."""
    first, *others = (vars(learner.config) for learner in learners)
    for other in others:
        if differing := [name for name in first if name != "seed" and first[name] != other[name]]:
            name = differing[0]
            raise UsageError(
                f"the trainings are of different methods ({name} {first[name]} and "
                f"{other[name]}); give trainings that differ by their seed alone, or evaluate each "
                "by itself"
            )
    seeds = [learner.config.seed for learner in learners]
    if len(set(seeds)) < len(seeds):
        raise UsageError(
            f"the seeds of the trainings are {', '.join(map(str, seeds))}; give every seed once"
        )


def _method_name(config: RunConfig) -> str:
    """Return the name of a baseline on the leaderboard: "SNN-MAML", "SNN-MAML (paper)"."""
    name = config.model.upper()
    marks = [config.recipe] if config.recipe != "best" else []
    marks += [f"trained with pairing {config.pairing}"] if config.pairing != "all" else []
    return f"{name} ({', '.join(marks)})" if marks else name


def _method_fields(learners: Sequence[Baseline]) -> dict[str, Any]:
    """Return the method fields of an entry about one or several trainings of a baseline."""
    config, record = learners[0].config, learners[0].record
    recordings, classes = len(record.trained.recordings), len(record.trained.classes)
    training = (
        f"{config.steps} outer steps of {config.meta_batch_size} task(s), "
        f"{config.ways}-way {config.shots}-shot"
        if config.kind.method == "maml"
        else f"{config.steps} supervised steps of {config.batch_size} samples"
    )
    if config.pretrain_steps:
        training += f" after {config.pretrain_steps} steps of supervised pre-training"
    seeds = ", ".join(str(learner.config.seed) for learner in learners)
    steps = ", ".join(str(learner.record.step) for learner in learners)
    return {
        "name": _method_name(config),
        "authors": ["The metaevents authors"],
        "citation": "doi:10.1088/2634-4386/ac8828 "
        f"({'network' if config.kind.method == 'components' else 'method'})",
        "code": "metaevents",
        "commit": __version__,
        "other_data": "none",
        "notes": f"Recipe of {'the paper' if config.recipe == 'paper' else 'this package'}, seed "
        f"{seeds}: {training}; trained on "
        f"{recordings:,} recordings of {classes} classes ({record.source}); chosen at step {steps} "
        "on validation episodes.",
    }


# --- reproduce -----------------------------------------------------------------------------------


def _reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "experiment", choices=(*EXPERIMENT_MODULES, "all"), help="which table or figure"
    )
    archive_option(parser, text_path_argument)
    parser.add_argument(
        "--out",
        type=text_path_argument,
        required=True,
        metavar="DIR",
        help="folder for results (DATASET/CLASSES/PAIRING/), trained runs and cached results",
    )
    parser.add_argument(
        "--budget",
        choices=("quick", "full"),
        default="quick",
        help="quick: ten minutes each on two cores; full: the paper's setting",
    )
    parser.add_argument(
        "--runs",
        type=text_path_argument,
        nargs="+",
        default=[],
        metavar="DIR",
        help="trained runs to use if their configuration fits; missing ones are trained",
    )
    parser.add_argument(
        "--pairing", choices=PAIRINGS, default="all", help="pairing of runs and episodes"
    )
    parser.add_argument(
        "--classes",
        choices=CLASS_SPLITS,
        default="published",
        metavar="NAME",
        help="class split: published, or a deal, novel-components to novel-components-10",
    )
    parser.add_argument(
        "--episodes",
        type=whole_number(1),
        metavar="N",
        help="episodes per trial (default: the budget's)",
    )
    parser.add_argument(
        "--trials",
        type=whole_number(1),
        metavar="N",
        help="streams of episodes per number (default: the budget's)",
    )
    parser.add_argument(
        "--models",
        choices=tuple(MODELS),
        nargs="+",
        metavar="NAME",
        help="models to measure, of an experiment that measures several (default: all)",
    )
    parser.add_argument(
        "--tuning",
        type=whole_number(0),
        metavar="N",
        help="outer steps for experiments that train a run further (default: the budget's)",
    )
    _device_option(parser)
    json_flag(parser)


def _reproduce(args: argparse.Namespace) -> None:
    from baselines.experiments.reproduction import reproduce
    from metaevents.distributed import launched_process
    from metaevents.files import require_writable_folder

    if launched_process() is not None:
        raise UsageError(
            "WORLD_SIZE announces several processes, but `reproduce` runs in one; unset WORLD_SIZE"
        )
    require_writable_folder(args.out)  # checked before the work, which takes long
    names = ("budget", "pairing", "classes", "episodes", "trials", "models", "tuning", "device")
    options = {name: getattr(args, name) for name in names}
    words = ["--archive", args.archive, "--out", args.out]
    words += ["--runs", *args.runs] if args.runs else []
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", *(value if isinstance(value, list) else [value])]
    experiments = tuple(EXPERIMENT_MODULES) if args.experiment == "all" else (args.experiment,)
    for name in experiments:
        command = command_line("python", "-m", "baselines", "reproduce", name, *words)
        paths = reproduce(name, args.archive, args.out, runs=args.runs, command=command, **options)
        if args.json:
            print_json({"experiment": name, "files": [str(path) for path in paths]})
            continue
        print(next(path for path in paths if path.suffix == ".md").read_text("utf-8"))


# --- deals ---------------------------------------------------------------------------------------


def _deals_arguments(parser: argparse.ArgumentParser) -> None:
    archive_option(parser)
    parser.add_argument(
        "--out",
        type=path_argument,
        required=True,
        metavar="DIR",
        help="folder for runs, results and the table; what is there is taken up",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="floor:NAME, MODEL or MODEL:RECIPE, such as cnn-components:own (default: all of the "
        "table)",
    )
    parser.add_argument(
        "--deals",
        nargs="+",
        type=whole_number(1),
        metavar="N",
        help="numbers of the deals (default: 1 to 10)",
    )
    parser.add_argument(
        "--steps",
        type=whole_number(1),
        default=2000,
        metavar="N",
        help="training steps of every model, pre-training among them (default: 2000)",
    )
    parser.add_argument(
        "--protocol", default="sample-5way-1shot", metavar="NAME", help="protocol of the results"
    )
    parser.add_argument(
        "--pairing", choices=PAIRINGS, default="all", help="pairing of runs and episodes"
    )
    parser.add_argument(
        "--episodes",
        type=whole_number(1),
        metavar="N",
        help="episodes per result (default: the protocol's)",
    )
    parser.add_argument(
        "--jobs", type=whole_number(1), default=1, metavar="N", help="number of processes"
    )
    _device_option(parser)
    json_flag(parser)


def _deals(args: argparse.Namespace) -> None:
    from baselines import deals
    from metaevents.files import require_writable_folder

    require_writable_folder(args.out)  # checked before the work, which takes long
    names = ("archive", "out", "steps", "protocol", "pairing", "device", "episodes")
    setting = deals.Setting(**{name: getattr(args, name) for name in names})
    given = {name: value for name in ("deals",) if (value := getattr(args, name)) is not None}
    paths = deals.run(setting, args.models or deals.METHODS, jobs=args.jobs, **given)
    if args.json:
        print_json({"files": [str(path) for path in paths]})
    else:
        print(next(path for path in paths if path.suffix == ".md").read_text("utf-8"))


# --- export --------------------------------------------------------------------------------------


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights",
        type=_weights_argument,
        metavar="RUN",
        help="a run's folder, a weights file or a baseline of the release (snn-maml ...)",
    )
    parser.add_argument(
        "--out", type=path_argument, required=True, metavar="FILE.nir", help="the file to write"
    )
    parser.add_argument(
        "--dataset",
        default="double-nmnist",
        metavar="NAME",
        help="dataset of the baseline",
    )
    parser.add_argument(
        "--classes",
        choices=CLASS_SPLITS,
        default="published",
        metavar="NAME",
        help="class split of the baseline of the release",
    )
    parser.add_argument(
        "--ways",
        type=whole_number(2),
        default=5,
        metavar="N",
        help="ways of the baseline of the release",
    )
    parser.add_argument(
        "--recipe",
        default="best",
        metavar="NAME",
        help="recipe of the baseline of the release",
    )
    parser.add_argument(
        "--dt",
        type=finite_number,
        metavar="SECONDS",
        help="time step that a reader takes for granted (default: the network's)",
    )


def _export(args: argparse.Namespace) -> None:
    from baselines.learners import load
    from baselines.networks import SpikingNet
    from baselines.nir_export import export

    check_outputs([args.out], _weights_files([args.weights]))
    options = {name: getattr(args, name) for name in ("dataset", "classes", "ways", "recipe")}
    net = load(args.weights, **options).model.net
    if not isinstance(net, SpikingNet):
        raise UsageError(
            f"{args.weights} has no spiking network, and NIR is for those; give snn-maml, "
            "snn-fomaml, snn-transfer or a run of one of them"
        )
    export(net, args.out, dt=args.dt)
    print(f"{args.out}: written")


# --- publish, measure, cards ---------------------------------------------------------------------


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=path_argument, metavar="RUN", help="the run's folder, or published weights"
    )
    parser.add_argument(
        "--archive",
        type=path_argument,
        metavar="FILE",
        help="select the inner steps at test on the val split of this archive first",
    )
    parser.add_argument(
        "--to",
        type=path_argument,
        metavar="DIR",
        help="folder to write to (default: that of the package)",
    )
    _device_option(parser)


def _publish(args: argparse.Namespace) -> None:
    from baselines.publish import publish
    from metaevents.distributed import pick_device
    from metaevents.files import require_writable_folder

    if args.to:
        require_writable_folder(args.to)
    device = str(pick_device(args.device))
    print(f"{publish(args.run, args.archive, args.to, device=device)}: written")


def _measure_arguments(parser: argparse.ArgumentParser) -> None:
    archive_option(parser)
    parser.add_argument(
        "--entries",
        type=path_argument,
        default=Path("cards/entries"),
        metavar="DIR",
        help="folder of the entries",
    )


def _measure(args: argparse.Namespace) -> None:
    from baselines.entry_costs import fill

    for path in fill(args.entries, args.archive):
        print(f"{path}: written")


def _cards_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cards",
        type=path_argument,
        default=Path("cards"),
        metavar="DIR",
        help="folder of the cards",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if a card is out of date",
    )


def _cards(args: argparse.Namespace) -> None:
    from baselines.model_cards import check, write

    for path in (check if args.check else write)(args.cards):
        print(f"{path}: {'up to date' if args.check else 'written'}")
