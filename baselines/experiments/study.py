"""Running one experiment on one archive: budget, data, trained runs, measurements.

A `Study` gives an experiment all that it needs. What is measured is left to the modules of the
experiments, how it is written to `baselines.experiments.report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from baselines.accuracy import recording_design
from baselines.experiments.accuracy import EpisodeAccuracies, Variants, variant_answers
from baselines.experiments.results_cache import ResultsCache
from baselines.experiments.rows import Row, rounded
from baselines.experiments.runs import Trained, TrainedRuns
from metaevents._version import __version__
from metaevents.arguments import whole_number
from metaevents.datasets import ComposedDataset, archive_dataset, load
from metaevents.distributed import pick_device
from metaevents.episodes import EpisodeLoader
from metaevents.errors import UsageError
from metaevents.files import PathLike, progress_bar, user_path
from metaevents.sampling import EpisodeSampler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Item = TypeVar("Item")
Result = TypeVar("Result")

NO_NUMBERS = "The paper shows this as a figure and gives no numbers to compare with."
"""Claim of experiments whose published numbers are unknown."""

_QUICK_CELLS = 16 * 32  # cells per frame of Double N-MNIST, for which the quick budget is made


@dataclass(frozen=True)
class Budget:
    """How much an experiment computes.

    Attributes:
        episodes: Episodes per trial.
        trials: Number of trials; trial k has the episodes of seed k.
        queries: Queries per class; fewer where the split has too few recordings.
        tuning: Outer steps where an experiment trains a run further.
        recipe: Recipe of the runs that it trains itself.
        training: Fields of their configuration to change.
    """

    episodes: int
    trials: int
    queries: int
    tuning: int
    recipe: str
    training: Mapping[str, int] = field(default_factory=dict)

    def shrunk(self, factor: float) -> Budget:
        """Return the budget that takes about the same time on larger samples.

        Args:
            factor: How many times as large the samples are; below 1 counts as 1.
        """

        def fewer(n: int, least: int) -> int:
            """Return n divided by the factor, but at least `least`."""
            return max(least, round(n / max(1.0, factor)))

        training = {name: fewer(value, 5) for name, value in self.training.items()}
        return replace(
            self, episodes=fewer(self.episodes, 5), tuning=fewer(self.tuning, 3), training=training
        )


BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "quick": Budget(
            episodes=100,
            trials=1,
            queries=5,
            tuning=30,
            recipe="best",
            training={"steps": 100, "pretrain_steps": 150, "val_every": 50, "val_episodes": 20},
        ),
        "full": Budget(episodes=600, trials=10, queries=15, tuning=2000, recipe="paper"),
    }
)
"""The budgets by name: "quick" takes ten minutes on two cores, "full" is the paper's setting."""


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes:
        name: Name of the files.
        title: Headline.
        rows: Runs the experiment; returns one flat row per number or point. A column "panel"
            divides the rows into several tables.
        plot: Draws the rows that are no verdicts into an empty figure.
        claim: What the paper says about it, beyond the published values.
        published: Rows of the paper: columns that identify a row of the experiment, and columns
            "published..." to add to it.
        quick: Fields of the quick budget to change.
    """

    name: str
    title: str
    rows: Callable[[Study], list[Row]]
    plot: Callable[[Figure, Sequence[Row]], None]
    claim: str = ""
    published: tuple[Mapping[str, Any], ...] = ()
    quick: Mapping[str, Any] = field(default_factory=dict)

    def beside_published(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows with the paper's values added, floats with four significant digits."""
        completed = []
        for row in rows:
            for paper in self.published:
                identity = {
                    name: value for name, value in paper.items() if not name.startswith("published")
                }
                if identity.items() <= row.items():
                    row = {**row, **{n: v for n, v in paper.items() if n not in identity}}
            completed.append({name: rounded(value) for name, value in row.items()})
        return completed


class Study:
    """One experiment that runs on one archive.

    Args:
        experiment: The experiment.
        archive: The archive, or the folder that holds it.
        out: Folder of the results (`<dataset>/<classes>/<pairing>/`), of the runs that are trained
            (`runs/`), of those that are trained further (`tuned/`) and of cached results
            (`cached/`).
        budget: "quick" or "full".
        runs: Folders and weights files of trained runs, to be used before any are trained.
        device: "auto" (a GPU if there is one), "cpu", "cuda" ...
        episodes: Episodes per trial, in place of the budget's.
        tuning: Outer steps where an experiment trains a run further, in place of the budget's.
        trials: Number of trials, in place of the budget's.
        models: Models to measure, of an experiment that measures several; None for all.
        pairing: Pairing of the runs, and of the episodes where the experiment does not compare
            pairings.
        classes: Class split.
        training: Fields of the configuration of runs that are trained, in place of the budget's.
        progress: Whether to show progress bars; None shows them on a terminal.

    Attributes:
        experiment: The experiment.
        out: Folder of all output.
        budget_name: "quick" or "full".
        budget: What the experiment computes.
        device: Where it computes.
        test: The test split.
        runs: The trained runs.
        notes: What a reader of the results should know.

    Raises:
        UsageError: There is no such budget or device, or a number is below 1.
        MissingError: There is no archive, or no run in a folder.
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
        trials: int | None = None,
        models: Sequence[str] | None = None,
        pairing: str = "all",
        classes: str = "published",
        training: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> None:
        if budget not in BUDGETS:
            raise UsageError(f"budget {budget!r}; choose one of {', '.join(BUDGETS)}")
        limits = {"episodes": episodes, "tuning": tuning, "trials": trials}
        limits = {
            name: whole_number(name, value, least=1)
            for name, value in limits.items()
            if value is not None
        }
        self.experiment, self.out = experiment, user_path(out).absolute()
        self.device = pick_device(device)
        self._archive = user_path(archive).absolute()
        self._dataset = archive_dataset(self._archive)
        self._pairing, self._classes, self._progress = pairing, classes, progress
        self.test = self.split("test")
        self.budget_name = budget
        self.budget = replace(_budget(budget, experiment, self.test), **limits)  # type: ignore[arg-type]
        self._models = None if models is None else tuple(models)
        self.notes: list[str] = []
        self.runs = TrainedRuns(
            runs,
            self.test,
            self.out / "runs",
            recipe=self.budget.recipe,
            changes={**self.budget.training, **(training or {})},
            note=self.note,
            device=str(self.device),
            progress=progress,
        )
        self._cache = ResultsCache(self.out / "cached", experiment.name)

    @property
    def results(self) -> Path:
        """The folder of the results."""
        return self.out / self.test.name / self.test.class_split / self.test.pairing

    def split(self, name: str, pairing: str | None = None) -> ComposedDataset:
        """Return a split of the archive.

        Args:
            name: "train", "val" or "test".
            pairing: By default that of the study.
        """
        return load(
            self._dataset,
            self._archive,
            name,
            pairing=pairing or self._pairing,
            classes=self._classes,
        )

    def models(self, names: Sequence[str]) -> list[str]:
        """Return those of an experiment's models that are to be measured.

        Args:
            names: All its models.

        Raises:
            UsageError: None of them is.
        """
        chosen = [name for name in names if self._models is None or name in self._models]
        if not chosen:
            raise UsageError(
                f"{self.experiment.name} measures {', '.join(names)}, and models="
                f"{', '.join(self._models or ())} names none of them"
            )
        return chosen

    def note(self, text: str) -> None:
        """Add a note for readers of the results, unless it is there already."""
        if text not in self.notes:
            self.notes.append(text)

    def cached(self, key: Mapping[str, Any], compute: Callable[[], Result]) -> Result:
        """Return `compute()`, or the result that it gave before.

        Args:
            key: All that the result depends on, apart from archive and release.
            compute: Returns anything that JSON can represent.
        """
        whole = {**key, "fingerprint": self.test.fingerprint, "metaevents": __version__}
        return self._cache.get(whole, compute)

    def measure(
        self,
        label: str,
        variants: Variants,
        runs: Sequence[Trained],
        *,
        dataset: ComposedDataset | None = None,
        ways: int = 5,
        shots: int = 1,
        queries: int | None = None,
        episodes: int | None = None,
        beside: Callable[[EpisodeLoader], EpisodeLoader] | None = None,
        shots_of: Callable[[str], int] | None = None,
    ) -> dict[str, EpisodeAccuracies]:
        """Return the accuracies of variants on the same episodes.

        Args:
            label: Name of the comparison; part of the keys of cached results.
            variants: The classifiers to compare.
            runs: All runs whose weights the result depends on; the first one gives the
                representation of the samples.
            dataset: By default the test split.
            ways: Classes per episode.
            shots: Support samples per class.
            queries: Query samples per class; by default the budget's, or fewer where the split has
                too few recordings.
            episodes: Episodes per trial; by default the budget's.
            beside: Loader -> the loader of the episodes whose support the variants learn beside
                that of each of its episodes; None for none.
            shots_of: Name of a variant -> how many of the first shots it learns; None for all.

        Returns:
            Name of a variant -> accuracies.

        Raises:
            UsageError: A run was trained on what is tested, or the split has too few recordings.
        """
        dataset = dataset or self.test
        for run in runs:
            self._check_unseen(run, dataset)
        if queries is None:
            limit = self.budget.queries
            queries = EpisodeSampler.max_queries(dataset, ways, shots, limit) or 1
        trials: dict[str, list[list[Any]]] = {}
        loaders: list[EpisodeLoader] = []
        representation = runs[0].learner.representation
        episodes = episodes or self.budget.episodes
        for seed in range(self.budget.trials):
            key = {
                "label": label,
                "weights": [run.digest for run in runs],
                "split": dataset.split,
                "pairing": dataset.pairing,
                "classes": dataset.class_split,
                "ways": ways,
                "shots": shots,
                "queries": queries,
                "episodes": episodes,
                "seed": seed,
            }
            loader = EpisodeLoader(
                dataset, ways, shots, queries, episodes, seed, representation=representation
            )
            loaders.append(loader)
            trial = self.cached(key, lambda loader=loader: self._trial(label, loader, variants))  # type: ignore[misc]
            for name, values in trial.items():
                trials.setdefault(name, []).append(values)
        others = [] if beside is None else [beside(loader) for loader in loaders]
        design = cache(partial(recording_design, loaders, others))  # made once, where it is needed
        return {
            name: EpisodeAccuracies.of(
                values, partial(design, shots_of(name) if shots_of is not None else None)
            )
            for name, values in trials.items()
        }

    def measure_trainings(
        self, label: str, variants: Callable[[Trained], Variants], run: Trained, **options: Any
    ) -> dict[str, EpisodeAccuracies]:
        """Return the accuracies of a run's variants, with those of its other trainings beside them.

        Args:
            label: Name of the comparison.
            variants: Makes the classifiers to compare from a run.
            run: The run; see `TrainedRuns.trainings` for the others.
            options: See `measure`.

        Returns:
            Name of a variant -> accuracies of the run.
        """
        measured = [
            self.measure(label, variants(each), [each], **options)
            for each in self.runs.trainings(run)
        ]
        return {
            name: replace(
                accuracy,
                trainings=tuple(each[name].accuracy for each in measured if name in each)
                if len(measured) > 1
                else (),
            )
            for name, accuracy in measured[0].items()
        }

    def _trial(self, label: str, loader: EpisodeLoader, variants: Variants) -> dict[str, list[str]]:
        """Return the answers of variants on one stream of episodes."""
        description = f"{label}, {loader.dataset.split}, seed {loader.seed}"
        return variant_answers(loader, variants, description, self._progress)

    def _check_unseen(self, run: Trained, dataset: ComposedDataset) -> None:
        """Refuse a test that the run's weights have seen; only note it with pairing "published".

        That pairing shares recordings between splits by its definition.
        """
        if dataset.split != "test":
            return
        if dataset.pairing != "published":
            run.learner.overlap(dataset)  # raises
            return
        if phrases := run.learner.record.overlap(dataset):
            self.note(
                f"Test with pairing published of {run.config.model}, trained with pairing "
                f"{run.config.pairing}: {'; '.join(phrases)}."
            )

    def progress(
        self, items: Iterable[Item], description: str, total: int | None = None
    ) -> Iterator[Item]:
        """Yield the items, with a progress bar.

        Args:
            items: What to go through.
            description: Text beside the bar.
            total: Number of items; None asks `items` for its length.
        """
        yield from progress_bar(
            description, total, "it", self._progress, iterable=items, leave=False
        )


def _budget(name: str, experiment: Experiment, test: ComposedDataset) -> Budget:
    """Return the budget of an experiment; "quick" depends on the size of the frames."""
    if name != "quick":
        return BUDGETS[name]
    height, width = test.frame_shape[-2:]
    return replace(BUDGETS[name], **experiment.quick).shrunk(height * width / _QUICK_CELLS)
