"""Accuracy of learners on episodes: the one loop of validation, publishing and the experiments.

The leaderboard's evaluation, with seeds, transduction and predictions, is in
`metaevents.benchmark.evaluation`. Intervals are in `metaevents.benchmark.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from torch import Tensor

from metaevents.episodes import Episode

Classifier: TypeAlias = Callable[[Tensor], Tensor]
"""Queries [m, ...] -> logits [m, ways]."""


class Learner(Protocol):
    """Anything that learns from a support set."""

    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Classifier:
        """Return a classifier learned from samples [n, ...] and labels [n]."""
        ...


def episode_accuracy(classifier: Classifier, episode: Episode) -> float:
    """Return the share of an episode's queries that a classifier labels correctly."""
    predicted = classifier(episode.query_x).argmax(-1).cpu()
    return float((predicted == episode.query_y.cpu()).double().mean())


def learner_accuracy(learner: Learner, episode: Episode, ways: int | None = None) -> float:
    """Return a learner's accuracy on the queries of an episode after it adapted to the support.

    Args:
        learner: What adapts.
        episode: One episode, without a task axis.
        ways: Number of outputs; by default the number of the episode's classes. Outputs without a
            class count as wrong.
    """
    ways = len(episode.classes) if ways is None else ways
    return episode_accuracy(learner.adapt(episode.support_x, episode.support_y, ways), episode)
