"""What every experiment is made of: an archive's splits, trained runs, cells that survive an interruption, fixed episodes.

A `Study` is one experiment being run. What it computes goes through `Study.cell`, which keeps results on disk under a key that
says all they depend on, so that the same command goes on where it was. What is computed is for the experiments' modules,
how it is written for `report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from metaevents.benchmark.statistics import ci95, repeated
from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode, EpisodeLoader
from metaevents.errors import UsageError

Row = dict[str, Any]

Classifier = Callable[[Tensor], Tensor]

Variants = Callable[[Episode], Iterable[tuple[str, Classifier]]]
"""An episode -> the classifiers to compare on it, each with its name; made one after the other."""

_QUERIES = (15, 10, 5, 4, 3, 2, 1)


def rounded(value: Any) -> Any:
    return (
        float(f"{round(value, 15):.4g}") if isinstance(value, float) else value
    )  # what is left of 0.1 + 0.2 - 0.3 is 0


@dataclass(frozen=True)
class EpisodeAccuracies:
    """Accuracies of every episode, [trials][episodes]."""

    trials: tuple[tuple[float, ...], ...]

    @property
    def accuracy(self) -> float:
        return fmean(chain(*self.trials))

    def row(self) -> Row:
        """Mean accuracy, the 95 % interval over episodes, and the deviation of the trials' means where there are several."""
        means = [fmean(trial) for trial in self.trials]
        return {
            "accuracy": self.accuracy,
            "ci95": ci95(list(chain(*self.trials))),
            "deviation": repeated(means)["deviation"] if len(means) > 1 else None,
            "trials": len(self.trials),
            "episodes": len(self.trials[0]),
        }

    def change(self, before: EpisodeAccuracies) -> Row:
        """What was gained over `before` on the same episodes, with the interval of the differences."""
        differences = [
            a - b for a, b in zip(chain(*self.trials), chain(*before.trials), strict=True)
        ]
        return {"change": fmean(differences), "change_ci95": ci95(differences)}


def accuracy(
    learner: Any,
    dataset: ComposedDataset,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
) -> list[float]:
    """The accuracy of a learner in every one of a stream's episodes."""
    loader = EpisodeLoader(
        dataset,
        ways,
        shots,
        queries,
        episodes,
        seed,
        representation=getattr(learner, "representation", "frames"),
    )
    return accuracies(loader, learners(lambda: {"": learner}), progress=False)[""]


def accuracies(
    loader: EpisodeLoader, variants: Variants, what: str = "", progress: bool | None = None
) -> dict[str, list[float]]:
    """The accuracy of every variant in every episode."""
    from tqdm import tqdm

    found: dict[str, list[float]] = {}
    for episode in tqdm(
        loader,
        desc=what,
        leave=False,
        unit="ep",
        disable=None if progress is None else not progress,
    ):
        for name, classifier in variants(episode):
            told = classifier(episode.query_x).argmax(-1).cpu()
            found.setdefault(name, []).append(float((told == episode.query_y).double().mean()))
    return found


def learners(
    make: Callable[[], Mapping[str, Any]], generator: torch.Generator | None = None
) -> Variants:
    """Several learners as variants, each adapting for itself; made when the first episode comes.

    What they draw from `generator` is a function of the episode alone, the same for all of them.
    """
    named: dict[str, Any] = {}

    def variants(episode: Episode) -> Iterator[tuple[str, Classifier]]:
        named.update({} if named else make())
        for name, learner in named.items():
            if generator is not None:
                generator.manual_seed(int(episode.digest()[:15], 16))
            yield name, learner.adapt(episode.support_x, episode.support_y, len(episode.classes))

    return variants


def fits(dataset: ComposedDataset, ways: int, shots: int, queries: int) -> bool:
    """Whether a split has recordings for such episodes."""
    try:
        EpisodeLoader(dataset, ways, shots, queries)
    except UsageError:
        return False
    return True


def fitting_queries(dataset: ComposedDataset, ways: int, shots: int, most: int) -> int:
    """Queries a class, at most `most`, for which a split has recordings; 1 where none do, for the loader to complain."""
    return next((n for n in _QUERIES if n <= most and fits(dataset, ways, shots, n)), 1)
