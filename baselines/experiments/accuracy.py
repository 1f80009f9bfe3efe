"""Accuracies of several classifiers on the same episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from baselines.accuracy import Classifier, episode_answers
from baselines.experiments.rows import Row
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.statistics import (
    ci95,
    difference_half_width,
    episode_ci95,
    repeated,
)
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
        answers: [trials * episodes, queries] which queries are answered correctly; None if only
            accuracies were kept.
        design: Makes the design of all episodes; see `baselines.accuracy.recording_design`.
        trainings: The mean accuracy of every training, this one first, if the same was measured
            with weights that were trained from other seeds.
    """

    trials: tuple[tuple[float, ...], ...]
    answers: npt.NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)
    design: Callable[[], RecordingDesign] | None = field(default=None, repr=False, compare=False)
    trainings: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, trials: Sequence[Sequence[Any]], design: Callable[[], RecordingDesign]
    ) -> EpisodeAccuracies:
        """Return the accuracies of kept results.

        Args:
            trials: [trials][episodes] answers as `variant_answers` returns them; or accuracies,
                where earlier results kept no answers.
            design: Makes the design of all episodes.
        """
        if not all(isinstance(value, str) for value in chain(*trials)):
            return cls(tuple(tuple(map(_share, trial)) for trial in trials))
        answers = np.array([[sign == "1" for sign in text] for text in chain(*trials)])
        means = iter(answers.mean(axis=1).tolist())
        accuracies = tuple(tuple(next(means) for _ in trial) for trial in trials)
        return cls(accuracies, answers, design)

    @property
    def accuracy(self) -> float:
        """The mean over all episodes of all trials."""
        return fmean(chain(*self.trials))

    def row(self) -> Row:
        """Return the columns of a result.

        Returns:
            The mean accuracy; half of its 95 % interval over fresh recordings and episodes (None if
            no answers were kept) and of that over episodes of these recordings; the standard
            deviation of the trials' means if there are several trials; the numbers of trials and
            episodes; and, if there are several trainings, their number and the mean and the
            standard deviation of their accuracies.
        """
        means = [fmean(trial) for trial in self.trials]
        seeds = repeated(self.trainings) if len(self.trainings) > 1 else {}
        known = self.answers is not None and self.design is not None
        return {
            "accuracy": self.accuracy,
            "ci95": ci95(self.answers, self.design()) if known else None,  # type: ignore[misc, arg-type]
            "episode_ci95": episode_ci95(list(chain(*self.trials))),
            "deviation": repeated(means)["deviation"] if len(means) > 1 else None,
            "trials": len(self.trials),
            "episodes": len(self.trials[0]),
            "trainings": len(self.trainings) or None,
            "trainings_mean": seeds.get("mean"),
            "trainings_deviation": seeds.get("deviation"),
        }

    def change(self, reference: EpisodeAccuracies) -> Row:
        """Return the mean difference from a reference on the same episodes, and its intervals."""
        differences = [
            a - b for a, b in zip(chain(*self.trials), chain(*reference.trials), strict=True)
        ]
        change_ci95 = None
        if self.answers is not None and reference.answers is not None and self.design is not None:
            pair = np.stack([self.answers, reference.answers])
            change_ci95 = difference_half_width(pair, self.design())
        return {
            "change": fmean(differences),
            "change_ci95": change_ci95,
            "change_episode_ci95": episode_ci95(differences),
        }


def variant_answers(
    loader: EpisodeLoader, variants: Variants, description: str = "", progress: bool | None = None
) -> dict[str, list[str]]:
    """Return which queries of every episode every variant answers correctly.

    Args:
        loader: The episodes.
        variants: The classifiers to compare.
        description: Text beside the progress bar.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        Name of a variant -> a text per episode, in their order, with "1" for each query that is
        answered correctly and "0" for each other one.
    """
    answers: dict[str, list[str]] = {}
    episodes = progress_bar(description, None, "ep", progress, iterable=loader, leave=False)
    for episode in episodes:
        for name, classifier in variants(episode):
            correct = episode_answers(classifier, episode).tolist()
            answers.setdefault(name, []).append("".join("01"[right] for right in correct))
    return answers


def variant_accuracies(
    loader: EpisodeLoader, variants: Variants, description: str = "", progress: bool | None = None
) -> dict[str, list[float]]:
    """Return the accuracy of every variant on every episode; see `variant_answers`."""
    answers = variant_answers(loader, variants, description, progress)
    return {name: list(map(_share, texts)) for name, texts in answers.items()}


def _share(answers: str | float) -> float:
    """Return the share of correct answers in a text of `variant_answers`; a share stays one."""
    return answers.count("1") / len(answers) if isinstance(answers, str) else answers


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
