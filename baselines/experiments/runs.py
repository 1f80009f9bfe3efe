"""Trained runs of a study: those that the user gave, and those that are trained when none fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from baselines.config import MODELS, RunConfig, recipe
from baselines.experiments.rows import Row, rounded
from baselines.learners import Baseline, from_weights
from baselines.maml import MAML
from baselines.training.interrupts import Stopped
from baselines.training.loop import train
from baselines.transfer import Transfer
from baselines.weights_file import BEST_WEIGHTS, Weights, read_weights
from metaevents.datasets import ComposedDataset
from metaevents.errors import MissingError
from metaevents.files import PathLike, user_path
from metaevents.hashing import digest_json


@dataclass(frozen=True)
class Trained:
    """A trained run.

    Attributes:
        learner: The learner with the run's best weights.
        digest: Hex SHA-256 of its parameters and configuration; see `weights_file.Weights.digest`.
    """

    learner: Baseline
    digest: str

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self.learner.config

    @property
    def maml(self) -> MAML:
        """The learner of a run that was trained by MAML."""
        return cast(MAML, self.learner.model)

    @property
    def transfer(self) -> Transfer:
        """The learner of a run that was trained for transfer learning."""
        return cast(Transfer, self.learner.model)

    def summary(self) -> Row:
        """Return what results say about the run."""
        config, record = self.config, self.learner.record
        measured = record.measured or {}
        return {
            "model": config.model,
            "recipe": config.recipe,
            "pairing": config.pairing,
            "classes": config.classes,
            "ways": config.ways if config.kind.method == "maml" else None,
            "seed": config.seed,
            "test_steps": config.test_steps or config.inner_steps
            if config.kind.method == "maml"
            else None,
            "step": record.step,
            "steps": config.steps,
            "val_accuracy": rounded(measured.get("val_accuracy")),
            "source": record.source,
            "weights": self.digest[:16],
        }


class TrainedRuns:
    """The trained runs of a study.

    Args:
        sources: Folders and weights files that the user gave.
        test: Test split of the study; gives the archive, the pairing and the class split.
        folder: Where missing runs are trained.
        recipe: Recipe of the runs that are trained.
        changes: Fields of their configuration to change.
        note: Called with what a reader of the results should know.
        device: Where runs are trained and used.
        progress: Whether to show progress bars; None shows them on a terminal.

    Attributes:
        used: All runs that were returned, by digest.

    Raises:
        MissingError: A folder holds no trained run.
        UsageError: A file is no weights file.
    """

    def __init__(
        self,
        sources: Iterable[PathLike],
        test: ComposedDataset,
        folder: Path,
        *,
        recipe: str,
        changes: Mapping[str, Any],
        note: Callable[[str], None],
        device: str = "cpu",
        progress: bool | None = None,
    ) -> None:
        self.used: dict[str, Trained] = {}
        self._given = [(path, read_weights(path)) for path in _weights_files(sources)]
        self._test, self._folder = test, folder
        self._recipe, self._changes = recipe, dict(changes)
        self._note, self._device, self._progress = note, device, progress

    def get(self, model: str, *, pairing: str | None = None, ways: int = 5) -> Trained:
        """Return the run of a model: one that was given, else one that is trained now.

        Args:
            model: Name of the baseline.
            pairing: Pairing of the training. By default that of the study; then a given run with
                pairing "all" is taken if there is no other, and a note says so.
            ways: Ways of the training; not used for transfer learning.
        """
        run = (
            self.find(model, pairing=pairing, ways=ways)
            if pairing
            else self._find_any_pairing(model, ways)
        )
        return run or self._train_missing(model, pairing or self._test.pairing, ways)

    def find(self, model: str, *, pairing: str | None = None, ways: int = 5) -> Trained | None:
        """Return the run of a model that was given, or None.

        Of several, the one with the best validation accuracy is taken; and of its trainings from
        several seeds, the one with the smallest seed, so that no seed is chosen by its result.

        Args:
            model: Name of the baseline.
            pairing: Pairing of the training; by default that of the study.
            ways: Ways of the training; not used for transfer learning.
        """
        wanted: dict[str, Any] = {
            "model": model,
            "dataset": self._test.name,
            "pairing": pairing or self._test.pairing,
            "classes": self._test.class_split,
        }
        if MODELS[model].method == "maml":
            wanted["ways"] = ways
        fitting = [
            weights
            for _, weights in self._given
            if all(getattr(weights.config, name) == value for name, value in wanted.items())
            and weights.record.simulated == self._test.simulated
        ]
        if not fitting:
            return None
        best = max(fitting, key=lambda each: (each.record.measured or {}).get("val_accuracy", 0.0))
        return self._open(*self._trainings_of(best.config)[0])

    def trainings(self, run: Trained) -> list[Trained]:
        """Return a run and the given runs that differ from it only in the seed of the training.

        Args:
            run: A run that this object returned.

        Returns:
            `run`, then the others in the order of their seeds.
        """
        others = [
            self._open(path, weights)
            for path, weights in self._trainings_of(run.config)
            if weights.config.seed != run.config.seed
        ]
        return [run, *others]

    def _trainings_of(self, config: RunConfig) -> list[tuple[Path, Weights]]:
        """Return the given runs of a configuration, one per seed and in the order of the seeds.

        The inner steps at test are selected for each training.
        """
        same = replace(config, seed=0, test_steps=0)
        by_seed: dict[int, tuple[Path, Weights]] = {}
        for path, weights in self._given:
            if replace(weights.config, seed=0, test_steps=0) == same:
                by_seed.setdefault(weights.config.seed, (path, weights))
        return [by_seed[seed] for seed in sorted(by_seed)]

    def available(self, first: str, *others: str) -> list[Trained]:
        """Return the run of `first`, trained if need be, and those of `others` that were given."""
        runs = [self.get(first), *map(self._find_any_pairing, others)]
        return [run for run in runs if run is not None]

    def _find_any_pairing(self, model: str, ways: int = 5) -> Trained | None:
        """Return a given run with the study's pairing, else one with pairing "all", else None."""
        run = self.find(model, ways=ways)
        if run is None and (run := self.find(model, pairing="all", ways=ways)) is not None:
            self._note(
                f"{model} was trained with pairing all, because no run with pairing "
                f"{self._test.pairing} was given."
            )
        return run

    def _open(self, path: Path, weights: Weights) -> Trained:
        """Return the run with the weights of a file."""
        learner = from_weights(weights, path, device=self._device)
        trained = Trained(learner, weights.digest())
        self.used[trained.digest] = trained
        return trained

    def _train_missing(self, model: str, pairing: str, ways: int) -> Trained:
        """Train the run of a model, after its pre-training; a finished run is not trained again."""
        config = self._config(model, pairing, ways)
        start = None
        if config.pretrain_steps:
            start = self._run_folder(config.pretraining)
            self._train(config.pretraining, start)
        folder = self._run_folder(config)
        self._train(config, folder, start)
        self._note(
            f"{model} was trained by this command, with recipe {config.recipe} for {config.steps} "
            "steps."
        )
        path = folder / BEST_WEIGHTS
        return self._open(path, read_weights(path))

    def _config(self, model: str, pairing: str, ways: int) -> RunConfig:
        """Return the configuration of a run to train."""
        fixed = {
            "dataset": self._test.name,
            "pairing": pairing,
            "classes": self._test.class_split,
            "ways": ways,
        }
        if MODELS[model].method == "transfer":
            # The run that MAML starts from serves transfer learning too.
            maml = recipe(
                model.replace("transfer", "maml"), self._recipe, **{**self._changes, **fixed}
            )
            if maml.pretrain_steps:
                return maml.pretraining
        return recipe(model, self._recipe, **{**self._changes, **fixed})

    def _run_folder(self, config: RunConfig) -> Path:
        """Return the folder in which a run is trained."""
        name = f"{config.model}.{config.pairing}.{config.classes}.{config.ways}way"
        return self._folder / f"{name}.{digest_json(config.to_dict())[:8]}"

    def _train(self, config: RunConfig, folder: Path, start_from: Path | None = None) -> None:
        """Train a run, or continue it."""
        try:
            train(
                config,
                self._test.archive.path,
                folder,
                start_from=start_from,
                resume=True,
                device=self._device,
                progress=self._progress,
            )
        except Stopped as stopped:  # its message is about `train`
            message = "interrupted; run the same command to continue"
            raise Stopped(message, stopped.number) from None


def _weights_files(sources: Iterable[PathLike]) -> Iterator[Path]:
    """Yield all weights files among files and in folders."""
    for source in sources:
        path = user_path(source).absolute()
        if path.is_file():
            yield path
            continue
        files = sorted({*path.glob("*.safetensors"), *path.rglob(BEST_WEIGHTS)})
        if not files:
            raise MissingError(
                f"no trained runs in {path}; give the folder of a run that `python -m baselines "
                "train` made"
            )
        yield from files
