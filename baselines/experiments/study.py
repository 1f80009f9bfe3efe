"""What every experiment is made of: an archive's splits, trained runs, cells that survive an interruption, fixed episodes.

A `Study` is one experiment being run. What it computes goes through `Study.cell`, which keeps results on disk under a key that
says all they depend on, so that the same command goes on where it was. What is computed is for the experiments' modules,
how it is written for `report`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from baselines.config import MODELS, RunConfig, recipe
from baselines.experiments.accuracy import (
    EpisodeAccuracies,
    Row,
    Variants,
    accuracies,
    fitting_queries,
    rounded,
)
from baselines.experiments.runs import Trained, weights_files
from baselines.learners import from_weights
from baselines.training.loop import Stopped, archive_dataset, pick_device, train
from baselines.weights_file import read_weights
from metaevents._version import __version__
from metaevents.datasets import ComposedDataset, load
from metaevents.episodes import EpisodeLoader
from metaevents.errors import UsageError
from metaevents.files import PathLike, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = TypeVar("Value")

NO_NUMBERS = "The paper shows this as a figure; no number of it is known to us to set beside ours."


@dataclass(frozen=True)
class Budget:
    """How much is spent.

    episodes, trials: episodes of a trial, and trials; trial k has the episodes of seed k.
    queries: a class, at most; fewer where the split has too few recordings.
    tuning: outer steps where an experiment goes on training a run.
    recipe, training: of the runs that it trains itself, and fields of their configuration to change.
    """

    episodes: int
    trials: int
    queries: int
    tuning: int
    recipe: str
    training: Mapping[str, int] = field(default_factory=dict)

    def shrunk(self, factor: float) -> Budget:
        """For samples `factor` times as large, about the same time."""

        def fewer(n: int, least: int) -> int:
            return max(least, round(n / max(1.0, factor)))

        training = {name: fewer(value, 5) for name, value in self.training.items()}
        return replace(
            self, episodes=fewer(self.episodes, 5), tuning=fewer(self.tuning, 3), training=training
        )


BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "quick": Budget(
            episodes=100, trials=1, queries=5, tuning=30, recipe="best",
            training={"steps": 100, "pretrain_steps": 150, "val_every": 50, "val_episodes": 20},
        ),
        "full": Budget(episodes=600, trials=10, queries=15, tuning=2000, recipe="paper"),
    }
)  # fmt: skip
"""The budgets by name. "quick" is what two cores do in ten minutes; "full" is the paper's setting."""


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    name, title: the files' name and their headline.
    rows: runs it; a row for each number or point, flat. A column "panel" divides them into several tables.
    plot: draws the rows into an empty figure.
    claim: what the paper says about it, beyond the published values.
    published: rows of the paper: columns that name a row of ours, and columns "published..." to stand beside it.
    quick: fields of the quick budget to change.
    """

    name: str
    title: str
    rows: Callable[[Study], list[Row]]
    plot: Callable[[Figure, Sequence[Row]], None]
    claim: str = ""
    published: tuple[Mapping[str, Any], ...] = ()
    quick: Mapping[str, Any] = field(default_factory=dict)

    def beside_published(self, rows: Iterable[Row]) -> list[Row]:
        """`rows` with the paper's values where it has some, floats to four significant digits."""
        found = []
        for row in rows:
            for paper in self.published:
                names = {
                    name: value for name, value in paper.items() if not name.startswith("published")
                }
                if names.items() <= row.items():
                    row = {
                        **row,
                        **{name: value for name, value in paper.items() if name not in names},
                    }
            found.append({name: rounded(value) for name, value in row.items()})
        return found


class Study:
    """One experiment being run on one archive.

    Args:
        experiment: which.
        archive: the archive file, or the folder that holds it.
        out: folder of the outputs, of the runs that are trained here (`runs/`) and of the cells.
        budget: "quick" or "full".
        runs: folders and weights files to take trained runs from, before any are trained.
        device: "auto" takes a GPU if there is one.
        episodes, tuning: in place of the budget's.
        pairing, classes: of the runs, and of the episodes where an experiment does not compare pairings.
        training: fields of the configuration of runs that are trained here, in place of the budget's.
        progress: progress bars; None shows them on a terminal.

    Raises:
        UsageError, MissingError: no such budget, archive, runs or device.
    """

    def __init__(
        self,
        experiment: Experiment,
        archive: PathLike,
        out: PathLike,
        *,
        budget: str = "quick",
        runs: Sequence[PathLike] = (),
        device: str = "auto",
        episodes: int | None = None,
        tuning: int | None = None,
        pairing: str = "all",
        classes: str = "published",
        training: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> None:
        if budget not in BUDGETS:
            raise UsageError(f"budget {budget!r}; choose one of {', '.join(BUDGETS)}")
        given: dict[str, Any] = {
            name: value
            for name, value in (("episodes", episodes), ("tuning", tuning))
            if value is not None
        }
        for name, value in given.items():
            if value < 1:
                raise UsageError(f"{name}={value}; give at least 1")
        self.experiment, self.archive, self.out = (
            experiment,
            Path(archive).expanduser(),
            Path(out).expanduser(),
        )
        self.dataset_name = archive_dataset(self.archive)
        self.pairing, self.classes, self.device = pairing, classes, pick_device(device)
        self.test = self.split("test")
        self.budget_name, self.budget = budget, BUDGETS[budget]
        if budget == "quick":
            height, width = self.test.frame_shape[-2:]
            self.budget = replace(self.budget, **experiment.quick).shrunk(
                height * width / _REFERENCE
            )
        self.budget = replace(self.budget, **given)
        self.notes: list[str] = []
        self.used: dict[str, Trained] = {}
        self._training, self._progress = dict(training or {}), progress
        self._found = [(path, read_weights(path)) for path in weights_files(runs)]
        self._cells_file = self.out / f"{experiment.name}.partial.json"
        self._others = dict(
            chain.from_iterable(
                _cells(path).items() for path in sorted(self.out.glob("*.partial.json"))
            )
        )
        self._cells = _cells(self._cells_file)

    # --- data ------------------------------------------------------------------------------------------------------------------

    def split(self, name: str, pairing: str | None = None) -> ComposedDataset:
        """A split of the archive, with the study's pairing or another."""
        return load(
            self.dataset_name,
            self.archive,
            name,
            pairing=pairing or self.pairing,
            classes=self.classes,
        )

    def note(self, text: str) -> None:
        """Something that a reader of the outputs should know."""
        if text not in self.notes:
            self.notes.append(text)

    # --- trained runs ----------------------------------------------------------------------------------------------------------

    def run(self, model: str, *, pairing: str | None = None, ways: int = 5) -> Trained:
        """The run of a model: that of the best validation among those given, else one that is trained here.

        Where `pairing` is not asked for, a run of pairing all will do for a study of another; a note says so.
        """
        found = (
            self.find(model, pairing=pairing, ways=ways) if pairing else self._nearest(model, ways)
        )
        return found or self._trained_here(model, pairing or self.pairing, ways)

    def _nearest(self, model: str, ways: int = 5) -> Trained | None:
        if (found := self.find(model, ways=ways)) is None and (
            found := self.find(model, pairing="all", ways=ways)
        ):
            self.note(
                f"{model}: trained on pairing all, as no run of pairing {self.pairing} was given."
            )
        return found

    def find(self, model: str, *, pairing: str | None = None, ways: int = 5) -> Trained | None:
        """The run of a model among those given, or None."""
        wanted = {
            "model": model, "dataset": self.dataset_name, "pairing": pairing or self.pairing, "classes": self.classes,
        }  # fmt: skip
        if MODELS[model].method == "maml":
            wanted["ways"] = str(ways)
        fitting = [
            (path, weights)
            for path, weights in self._found
            if all(str(getattr(weights.config, name)) == value for name, value in wanted.items())
            and weights.record.simulated == self.test.simulated
        ]
        if not fitting:
            return None
        # The first of equals; chosen on validation, never on the test.
        path, _ = max(
            fitting, key=lambda each: (each[1].record.measured or {}).get("val_accuracy", 0.0)
        )
        return self._open(path)

    def given(self, first: str, *others: str) -> list[Trained]:
        """The run of `first`, and those of other models as far as they are among the runs given."""
        return [self.run(first), *(run for run in map(self._nearest, others) if run is not None)]

    def _open(self, path: Path) -> Trained:
        weights = read_weights(path)
        learner = from_weights(weights, path, device=str(self.device))
        trained = Trained(learner, hashlib.sha256(path.read_bytes()).hexdigest())
        self.used[trained.digest] = trained
        return trained

    def _config(self, model: str, pairing: str, ways: int) -> RunConfig:
        fixed = {
            "dataset": self.dataset_name,
            "pairing": pairing,
            "classes": self.classes,
            "ways": ways,
        }

        def named(model: str) -> RunConfig:
            return recipe(
                model, self.budget.recipe, **{**self.budget.training, **self._training, **fixed}
            )

        if (
            MODELS[model].method == "transfer"
            and (start := named(model.replace("transfer", "maml"))).pretrain_steps
        ):
            return start.pretraining  # one pre-training for both
        return named(model)

    def _trained_here(self, model: str, pairing: str, ways: int) -> Trained:
        config = self._config(model, pairing, ways)
        start = None
        if config.pretrain_steps:
            self._train(config.pretraining, start := self._folder(config.pretraining))
        out = self._folder(config)
        self._train(config, out, start)
        self.note(
            f"{model} was trained here, by recipe {config.recipe!r} for {config.steps} steps."
        )
        return self._open(out / "best.safetensors")

    def _folder(self, config: RunConfig) -> Path:
        of = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:8]
        return (
            self.out
            / "runs"
            / f"{config.model}.{config.pairing}.{config.classes}.{config.ways}way.{of}"
        )

    def _train(self, config: RunConfig, out: Path, start: Path | None = None) -> None:
        try:
            train(
                config,
                self.archive,
                out,
                start_from=start,
                resume=True,
                device=str(self.device),
                progress=self._progress,
            )
        except Stopped:  # its advice is for `train`; here the same command goes on
            raise KeyboardInterrupt from None

    # --- cells -----------------------------------------------------------------------------------------------------------------

    def cell(self, key: Mapping[str, Any], compute: Callable[[], Value]) -> Value:
        """`compute()`, or what it gave before for an equal key; both what JSON can write."""
        name = json.dumps(
            {**key, "fingerprint": self.test.fingerprint, "metaevents": __version__}, sort_keys=True
        )
        if name not in self._cells:
            self._cells[name] = (
                self._others[name] if name in self._others else json.loads(json.dumps(compute()))
            )
            self.out.mkdir(parents=True, exist_ok=True)
            document = {"format": "metaevents-cells", "cells": self._cells}
            write_atomic(self._cells_file, json.dumps(document).encode())
        return cast(Value, self._cells[name])

    # --- accuracies ------------------------------------------------------------------------------------------------------------

    def measure(
        self,
        what: str,
        variants: Variants,
        runs: Sequence[Trained],
        *,
        dataset: ComposedDataset | None = None,
        ways: int = 5,
        shots: int = 1,
        queries: int | None = None,
    ) -> dict[str, EpisodeAccuracies]:
        """Accuracies of variants on the same episodes, by the variants' names.

        Args:
            what: names what is varied, and how; a part of the cells' keys.
            variants: an episode -> names and classifiers.
            runs: whose weights the result depends on; the first one says how it wants its input.
            dataset: the test split by default.
            queries: a class; by default as many as the budget says and the split has.
        """
        dataset = dataset or self.test
        for run in runs:
            self._check_unseen(run, dataset)
        queries = queries or fitting_queries(dataset, ways, shots, self.budget.queries)
        trials: dict[str, list[tuple[float, ...]]] = {}
        for seed in range(self.budget.trials):
            key = {
                "what": what, "weights": [run.digest for run in runs], "split": dataset.split, "pairing": dataset.pairing,
                "classes": dataset.class_split, "ways": ways, "shots": shots, "queries": queries,
                "episodes": self.budget.episodes, "seed": seed,
            }  # fmt: skip
            loader = EpisodeLoader(
                dataset,
                ways,
                shots,
                queries,
                self.budget.episodes,
                seed,
                representation=runs[0].learner.representation,
            )
            found = self.cell(key, lambda loader=loader: self._accuracies(what, loader, variants))  # type: ignore[misc]
            for name, values in found.items():
                trials.setdefault(name, []).append(tuple(values))
        return {name: EpisodeAccuracies(tuple(each)) for name, each in trials.items()}

    def _check_unseen(self, run: Trained, dataset: ComposedDataset) -> None:
        if dataset.split != "test":
            return
        if dataset.pairing != "published":
            run.learner.overlap(dataset)  # which refuses what the weights have seen
            return
        # That pairing shares recordings between splits by its definition, those of ASL-DVS all of them.
        if seen := run.learner.record.overlap(dataset):
            self.note(
                f"Test with pairing published and {run.config.model} trained on pairing {run.config.pairing}: {'; '.join(seen)}."
            )

    def _accuracies(
        self, what: str, loader: EpisodeLoader, variants: Variants
    ) -> dict[str, list[float]]:
        return accuracies(
            loader, variants, f"{what}, {loader.dataset.split}, seed {loader.seed}", self._progress
        )

    def bar(self, steps: Iterable[Value], what: str, total: int | None = None) -> Iterator[Value]:
        """`steps`, with a progress bar."""
        from tqdm import tqdm

        hidden = None if self._progress is None else not self._progress
        yield from tqdm(steps, desc=what, total=total, leave=False, disable=hidden)


_REFERENCE = 16 * 32  # cells of a Double N-MNIST frame, which the quick budget is made for


def _cells(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        cells: dict[str, Any] = json.loads(path.read_text("utf-8"))["cells"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} is not what an experiment left; remove it, or give another folder"
        ) from None
    return cells
