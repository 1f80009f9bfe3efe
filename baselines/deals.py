"""Baselines over the deals of `novel-components`: train, evaluate, and write a table.

Which labels a deal gives to test decides much of the accuracy, so a method is judged by its mean
over ten deals. Every trained model takes the same number of training steps in every deal; steps of
pre-training count. A run, a result or a table that exists is taken up, so that a table can be made
in parts, on several machines, and from results that are still incomplete.

    OUT/runs/<model>.<steps>steps.<deal>/            training runs
    OUT/rows/<method>.<steps>steps.<deal>.json       one result each
    OUT/deals.json, OUT/deals.md                     the table of all results in OUT/rows
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from baselines.config import MODELS, RECIPES, SAME_WEIGHTS, RunConfig, recipe
from metaevents._version import __version__
from metaevents.benchmark.deals import OverDeals
from metaevents.benchmark.markdown import table
from metaevents.benchmark.protocols import bind
from metaevents.benchmark.trivial import TITLES, TRIVIAL_BASELINES
from metaevents.component_deals import DEALS
from metaevents.datasets import ComposedDataset, archive_dataset, load
from metaevents.distributed import available_processors
from metaevents.errors import UsageError
from metaevents.files import PathLike, user_path, write_atomic
from metaevents.hashing import readable_json
from metaevents.untrusted import describe, parse_json, read_bytes

logger = logging.getLogger(__name__)

METHODS = (
    "floor:nearest-neighbour", "floor:aligned-matching", "cnn-components:own", "cnn-components",
    "snn-components:own", "snn-components", "cnn-maml", "snn-maml", "cnn-fomaml", "snn-fomaml",
    "cnn-transfer", "snn-transfer",
)  # fmt: skip
"""The methods of the table: trivial baselines, and models, each with a recipe other than "best"."""

_FORMAT = "metaevents-deals"
_MAX_FILE = 1 << 20  # bytes of a row


@dataclass(frozen=True)
class Setting:
    """What all results of a table share.

    Attributes:
        archive: Path of the archive.
        out: Folder of runs, rows and tables.
        steps: Training steps of every model; steps of pre-training count.
        protocol: Name of the protocol.
        pairing: Pairing of training and episodes.
        device: Where models are trained and evaluated.
        episodes: Episodes in place of the protocol's; None for the protocol's.
        changes: Fields of the configurations to change.
    """

    archive: Path
    out: Path
    steps: int
    protocol: str = "sample-5way-1shot"
    pairing: str = "all"
    device: str = "auto"
    episodes: int | None = None
    changes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """A method of the table.

    Attributes:
        name: Its name, as in `METHODS`.
        model: A key of `MODELS`; None for a trivial baseline.
        recipe: The model's recipe.
    """

    name: str
    model: str | None = None
    recipe: str = "best"

    @classmethod
    def of(cls, name: str) -> Method:
        """Return the method with a name.

        Args:
            name: "floor:NAME", "MODEL" or "MODEL:RECIPE".

        Raises:
            UsageError: There is no such method.
        """
        first, _, second = name.partition(":")
        if first == "floor" and second in TRIVIAL_BASELINES:
            return cls(name)
        if first in MODELS and (second or "best") in RECIPES[first]:
            return cls(name, first, second or "best")
        raise UsageError(
            f"no method {name!r}; give floor:NAME, a model or MODEL:RECIPE, such as "
            f"{', '.join(METHODS[1:4])}"
        )

    @property
    def title(self) -> str:
        """Its name for readers."""
        if self.model is None:
            return TITLES[self.name.partition(":")[2]]
        return self.model.upper() + (f" ({self.recipe})" if self.recipe != "best" else "")

    @property
    def weights(self) -> str:
        """A name that methods with the same weights share."""
        if self.model is None:
            return self.name
        shared = MODELS[self.model].method == "components" and self.recipe in SAME_WEIGHTS
        return f"{self.model}.{SAME_WEIGHTS[0] if shared else self.recipe}"


def run(
    setting: Setting,
    methods: Sequence[str] = METHODS,
    deals: Sequence[int] = tuple(range(1, len(DEALS) + 1)),
    jobs: int = 1,
) -> list[Path]:
    """Train and evaluate methods in deals, and write the table of all results there are.

    Args:
        setting: What all results share.
        methods: Names as in `METHODS`.
        deals: Numbers of deals, from 1.
        jobs: Number of processes.

    Returns:
        The JSON and the Markdown file of the table.

    Raises:
        UsageError: A method or a deal is unknown, the archive has no deals, or the folder holds
            results of another setting.
    """
    chosen = [Method.of(name) for name in dict.fromkeys(methods)]
    test = load(archive_dataset(setting.archive), setting.archive, "test")
    known = [number for number, name in enumerate(DEALS, 1) if name in test.rules.class_splits]
    for deal in deals:
        if deal not in known:
            there = f"give numbers from 1 to {len(known)}" if known else "give another archive"
            raise UsageError(f"{setting.archive} has no deal {deal}; {there}")
    _require_same_setting(setting, deals)
    work: dict[tuple[str, int], list[Method]] = {}
    for deal in dict.fromkeys(deals):
        for method in chosen:
            if not _row_path(setting, method, deal).is_file():
                work.setdefault((method.weights, deal), []).append(method)
    tasks = [(setting, same, deal) for (_, deal), same in work.items()]
    if jobs == 1:
        for task in tasks:
            _work(*task)
    else:
        threads = max(1, available_processors() // jobs)
        with ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=_limit_threads, initargs=(threads,)
        ) as pool:
            results = [pool.submit(_work, *task) for task in tasks]
            try:
                for result in results:
                    result.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return write_tables(setting.out)


def _require_same_setting(setting: Setting, deals: Sequence[int]) -> None:
    """Refuse a folder that holds results of another setting, before the work."""
    rows = sorted((setting.out / "rows").glob("*.json"))
    if not rows or not deals:
        return
    name, classes = archive_dataset(setting.archive), DEALS[deals[0] - 1]
    test = load(name, setting.archive, "test", pairing=setting.pairing, classes=classes)
    protocol = bind(setting.protocol, test, setting.episodes)
    wanted = {
        "dataset": test.name,
        "protocol": protocol.name,
        "version": protocol.version,
        "pairing": setting.pairing,
        "episodes": protocol.episodes,
        "fingerprint": test.fingerprint,
    }
    for path in rows:
        row = _read(path)
        if differing := [name for name in wanted if row[name] != wanted[name]]:
            name = differing[0]
            raise UsageError(
                f"{path} has {name} {row[name]}, this command {wanted[name]}; put each setting "
                "into a folder of its own"
            )


def _limit_threads(threads: int) -> None:
    """Give a process some of the threads."""
    import torch

    torch.set_num_threads(threads)


def run_config(setting: Setting, method: Method, deal: int) -> RunConfig:
    """Return the configuration of the run that a method's weights are from.

    Pre-training keeps the share of the steps that the recipe gives it.

    Args:
        setting: Gives steps, archive, pairing and changes.
        method: A method with a model.
        deal: Number of the deal.
    """
    model, name = method.weights.split(".")
    base = recipe(
        model,
        name,
        dataset=archive_dataset(setting.archive),
        pairing=setting.pairing,
        classes=DEALS[deal - 1],
        **(setting.changes or {}),
    )
    whole = base.pretrain_steps + base.steps
    before = min(round(setting.steps * base.pretrain_steps / whole), setting.steps - 1)
    steps = setting.steps - before
    return replace(base, steps=steps, pretrain_steps=before, val_every=min(base.val_every, steps))


def _work(setting: Setting, methods: Sequence[Method], deal: int) -> None:
    """Train what methods share, evaluate each, and write their rows."""
    from baselines.components import ComponentMatching
    from metaevents.benchmark.evaluation import evaluate

    name = archive_dataset(setting.archive)
    test = load(name, setting.archive, "test", pairing=setting.pairing, classes=DEALS[deal - 1])
    learners = _learners(setting, methods, deal, test)
    for method, learner, validated in learners:
        model = getattr(learner, "model", None)
        memory = model.remembering() if isinstance(model, ComponentMatching) else nullcontext()
        with memory:
            report = evaluate(learner, test, setting.protocol, episodes=setting.episodes)
        protocol = report.protocol
        row = {
            "format": _FORMAT,
            "method": method.name,
            "title": method.title,
            "steps": None if method.model is None else setting.steps,
            "deal": deal,
            "dataset": name,
            "protocol": protocol.name,
            "version": protocol.version,
            "pairing": protocol.pairing,
            "episodes": protocol.episodes,
            "fingerprint": test.fingerprint,
            "source": test.archive.source,
            "simulated": test.simulated,
            "metaevents": __version__,
            "accuracy": report.accuracy,
            "ci95": report.ci95,
            "unshared_accuracy": report.unshared_accuracy,
            "transductive": report.transductive,
            "val_accuracy": validated,
        }
        path = _row_path(setting, method, deal)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, readable_json(row) + "\n")
        logger.info("%s, deal %d: %.1f %%", method.name, deal, 100 * report.accuracy)


def _learners(
    setting: Setting, methods: Sequence[Method], deal: int, test: ComposedDataset
) -> Iterator[tuple[Method, Any, float | None]]:
    """Yield each method, its learner, and the validation accuracy of its training."""
    if methods[0].model is None:
        for method in methods:
            yield method, TRIVIAL_BASELINES[method.name.partition(":")[2]](test), None
        return

    from baselines.learners import from_weights
    from baselines.training.loop import train
    from baselines.weights_file import read_weights, weights_path

    folder = setting.out / "runs" / f"{methods[0].weights}.{setting.steps}steps.{DEALS[deal - 1]}"
    config = run_config(setting, methods[0], deal)
    train(config, setting.archive, folder, resume=True, device=setting.device)
    path = weights_path(folder)
    weights = read_weights(path)
    for method in methods:
        chosen = replace(weights, config=weights.config.variant(method.recipe))
        # It was validated under the recipe that it was trained with.
        measured = weights.record.measured or {}
        same = method.recipe == weights.config.recipe
        yield (
            method,
            from_weights(chosen, path, device=setting.device),
            measured.get("val_accuracy") if same else None,
        )


def _row_path(setting: Setting, method: Method, deal: int) -> Path:
    """Return the file of a result."""
    steps = "" if method.model is None else f".{setting.steps}steps"
    name = method.name.replace(":", "-")
    return setting.out / "rows" / f"{name}{steps}.{DEALS[deal - 1]}.json"


def write_tables(out: PathLike) -> list[Path]:
    """Write the table of all results in a folder.

    Args:
        out: The folder, with the results in `rows`.

    Returns:
        The JSON and the Markdown file.

    Raises:
        UsageError: There is no result, a result is damaged, or results are of several settings.
    """
    folder = user_path(out)
    rows = [_read(path) for path in sorted((folder / "rows").glob("*.json"))]
    if not rows:
        raise UsageError(f"{folder / 'rows'} has no results; run `python -m baselines deals` first")
    settings = {tuple(row[name] for name in _SHARED) for row in rows}
    if len(settings) > 1:
        raise UsageError(
            f"{folder / 'rows'} has results of {len(settings)} settings (dataset, protocol, "
            "pairing, number of episodes or archive); put each setting into a folder of its own"
        )
    methods = _summaries(rows)
    document = {
        "format": _FORMAT,
        **{name: rows[0][name] for name in _SHARED},
        "methods": [{k: v for k, v in each.items() if k != "deals"} for each in methods],
        "rows": rows,
    }
    contents = {"json": readable_json(document) + "\n", "md": _markdown(rows[0], methods)}
    paths = [folder / f"deals.{kind}" for kind in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomic(path, content)
    return paths


_SHARED = (
    "dataset", "protocol", "version", "pairing", "episodes", "fingerprint", "source", "simulated",
)  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    """Return the result in a file."""
    try:
        row = parse_json(read_bytes(path, _MAX_FILE, "result", "remove it").decode())
        if row["format"] != _FORMAT or not 0 <= row["accuracy"] <= 1 or row["deal"] < 1:
            raise ValueError("it has another form")
        for name in ("title", "steps", "ci95", "val_accuracy", *_SHARED):
            row[name]
        Method.of(row["method"])
    except Exception as error:  # whatever a damaged file leads to
        reason = f"no field {error}" if isinstance(error, KeyError) else describe(error)
        raise UsageError(
            f"{path} holds no result of a deal ({reason}); remove it to measure again"
        ) from error
    return dict(row)


def _summaries(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and deviation of each method, in the order of `METHODS`."""
    groups: dict[tuple[str, int | None], dict[int, float]] = {}
    titles = {}
    for row in rows:
        groups.setdefault((row["method"], row["steps"]), {})[row["deal"]] = row["accuracy"]
        titles[row["method"]] = row["title"]

    def place(key: tuple[str, int | None]) -> tuple[int, str, int]:
        name, steps = key
        return METHODS.index(name) if name in METHODS else len(METHODS), name, steps or 0

    reference = groups.get((METHODS[0], None), {})
    summaries = []
    for key in sorted(groups, key=place):
        over = OverDeals(dict(sorted(groups[key].items())))
        both = over.accuracies.keys() & reference.keys()
        summaries.append(
            {
                "method": key[0],
                "title": titles[key[0]],
                "steps": key[1],
                "mean": over.mean,
                "deviation": over.deviation,
                "deals": over.accuracies,
                "above_nearest_neighbor": sum(over.accuracies[d] > reference[d] for d in both),
                "compared": len(both),
            }
        )
    return summaries


def _markdown(row: Mapping[str, Any], methods: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown."""
    numbers = sorted({deal for each in methods for deal in each["deals"]})
    lines = [
        [
            each["title"],
            "" if each["steps"] is None else f"{each['steps']:,}",
            f"{100 * each['mean']:.1f}",
            "" if each["deviation"] is None else f"{100 * each['deviation']:.1f}",
            ""
            if each["method"] == METHODS[0] or not each["compared"]
            else f"{each['above_nearest_neighbor']} of {each['compared']}",
            *(f"{100 * each['deals'][n]:.1f}" if n in each["deals"] else "" for n in numbers),
        ]
        for each in methods
    ]
    header = ["Method", "Steps", "Mean", "Deviation", "Above nearest neighbor"]
    data = "SIMULATED recordings" if row["simulated"] else f"recordings `{row['source']}`"
    return (
        "# Novel components, over the deals\n\n"
        f"Accuracy in % on {row['dataset']}, {data}, fingerprint `{row['fingerprint'][:16]}`; "
        f"protocol {row['protocol']}, version {row['version']}, pairing {row['pairing']}, "
        f"{row['episodes']} episodes per deal. Deviation: standard deviation between deals (n - 1 "
        "in the denominator). Steps: training steps in all, pre-training among them. An empty cell "
        "was not measured. Mean and deviation are over the deals that were measured.\n\n"
        + table(header + [f"Deal {n}" for n in numbers], lines, "lrrrr" + "r" * len(numbers))
        + "\n"
    )
