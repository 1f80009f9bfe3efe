"""Accuracies of several classifiers on the same episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Any, TypeAlias

import torch

from baselines.accuracy import Classifier, episode_accuracy
from baselines.experiments.rows import Row
from metaevents.benchmark.statistics import ci95, repeated
from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode, EpisodeLoader
from metaevents.files import progress_bar

Variants: TypeAlias = Callable[[Episode], Iterable[tuple[str, Classifier]]]
"""An episode -> the classifiers to compare on it, each with its name, one after the other."""


@dataclass(frozen=True)
class EpisodeAccuracies:
    """The accuracy of one variant on every episode.

    Attributes:
        trials: [trials][episodes]; trial k has the episodes of seed k.
    """

    trials: tuple[tuple[float, ...], ...]

    @property
    def accuracy(self) -> float:
        """The mean over all episodes of all trials."""
        return fmean(chain(*self.trials))

    def row(self) -> Row:
        """Return the columns of a result.

        Returns:
            The mean accuracy, half of its 95 % interval over episodes, the standard deviation of
            the trials' means if there are several trials, and the numbers of trials and episodes.
        """
        means = [fmean(trial) for trial in self.trials]
        return {
            "accuracy": self.accuracy,
            "ci95": ci95(list(chain(*self.trials))),
            "deviation": repeated(means)["deviation"] if len(means) > 1 else None,
            "trials": len(self.trials),
            "episodes": len(self.trials[0]),
        }

    def change(self, reference: EpisodeAccuracies) -> Row:
        """Return the mean difference from a reference on the same episodes, and its interval."""
        differences = [
            a - b for a, b in zip(chain(*self.trials), chain(*reference.trials), strict=True)
        ]
        return {"change": fmean(differences), "change_ci95": ci95(differences)}


def variant_accuracies(
    loader: EpisodeLoader, variants: Variants, description: str = "", progress: bool | None = None
) -> dict[str, list[float]]:
    """Return the accuracy of every variant on every episode.

    Args:
        loader: The episodes.
        variants: The classifiers to compare.
        description: Text beside the progress bar.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        Name of a variant -> accuracies, in the order of the episodes.
    """
    accuracies: dict[str, list[float]] = {}
    episodes = progress_bar(description, None, "ep", progress, iterable=loader, leave=False)
    for episode in episodes:
        for name, classifier in variants(episode):
            accuracies.setdefault(name, []).append(episode_accuracy(classifier, episode))
    return accuracies


def learner_accuracies(
    learner: Any,
    dataset: ComposedDataset,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
) -> list[float]:
    """Return the accuracy of one learner on every episode of a stream.

    Args:
        learner: Has `adapt`, and `representation` if it takes anything but frames.
        dataset: The split.
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class.
        episodes: Number of episodes.
        seed: Seed of the stream.
    """
    representation = getattr(learner, "representation", "frames")
    loader = EpisodeLoader(
        dataset, ways, shots, queries, episodes, seed, representation=representation
    )
    return variant_accuracies(loader, adapting(lambda: {"": learner}), progress=False)[""]


def adapting(
    make: Callable[[], Mapping[str, Any]], generator: torch.Generator | None = None
) -> Variants:
    """Return variants that are learners, each of which adapts to the episode.

    Args:
        make: Makes the learners, by name; called when the first episode comes.
        generator: Source of what the learners draw. It is seeded from the episode for each learner,
            so all learners draw the same.
    """
    learners: dict[str, Any] = {}

    def variants(episode: Episode) -> Iterator[tuple[str, Classifier]]:
        """Yield the name and the classifier of each learner."""
        if not learners:
            learners.update(make())
        for name, learner in learners.items():
            if generator is not None:
                generator.manual_seed(int(episode.digest()[:15], 16))
            yield name, learner.adapt(episode.support_x, episode.support_y, len(episode.classes))

    return variants
