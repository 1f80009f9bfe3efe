"""Accuracy of learners on episodes: the one loop of validation, publishing and the experiments.

The leaderboard's evaluation, with seeds, transduction and predictions, is in
`metaevents.benchmark.evaluation`. Intervals are in `metaevents.benchmark.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from torch import Tensor

from metaevents.benchmark.protocols import EpisodeList, index_dtype
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.episodes import Episode, EpisodeLoader

Classifier: TypeAlias = Callable[[Tensor], Tensor]
"""Queries [m, ...] -> logits [m, ways]."""


class Learner(Protocol):
    """Anything that learns from a support set."""

    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Classifier:
        """Return a classifier learned from samples [n, ...] and labels [n]."""
        ...


def episode_answers(classifier: Classifier, episode: Episode) -> Tensor:
    """Return which of an episode's queries a classifier labels correctly.

    Args:
        classifier: A function from queries to scores [queries, ways].
        episode: One episode, without a task axis.

    Returns:
        [queries] bool, on the CPU.
    """
    predicted = classifier(episode.query_x).argmax(-1).cpu()
    return predicted == episode.query_y.cpu()


def learner_answers(learner: Learner, episode: Episode, ways: int | None = None) -> Tensor:
    """Return which queries of an episode a learner labels correctly after it adapted.

    Args:
        learner: What adapts.
        episode: One episode, without a task axis.
        ways: Number of outputs; by default the number of the episode's classes. Outputs without a
            class count as wrong.

    Returns:
        [queries] bool.
    """
    ways = len(episode.classes) if ways is None else ways
    return episode_answers(learner.adapt(episode.support_x, episode.support_y, ways), episode)


def learner_accuracy(learner: Learner, episode: Episode, ways: int | None = None) -> float:
    """Return a learner's accuracy on the queries of an episode; see `learner_answers`."""
    return float(learner_answers(learner, episode, ways).double().mean())


def recording_design(
    loaders: Sequence[EpisodeLoader],
    beside: Sequence[EpisodeLoader] = (),
    shots: int | None = None,
) -> RecordingDesign:
    """Return which recordings the episodes of loaders share, for intervals over recordings.

    Args:
        loaders: Loaders of one dataset with equal ways, shots and queries; each loads single
            episodes.
        beside: As many loaders, of the episodes whose support was learned beside that of each
            episode; none by default.
        shots: The first shots of each class that were learned; None for all.

    Returns:
        The design of their episodes, one loader after the other.
    """
    dataset = loaders[0].dataset
    index = {name: place for place, name in enumerate(dataset.classes)}
    draws = [loader.episode_sampler(i) for loader in loaders for i in range(len(loader))]
    others = [loader.episode_sampler(i) for loader in beside for i in range(len(loader))]
    support = np.array([draw.support for draw in draws], np.int32)
    if shots is not None:
        by_class = support.reshape(len(support), loaders[0].ways, -1, support.shape[-1])
        support = by_class[:, :, :shots].reshape(len(support), -1, support.shape[-1])
    if others:
        other = np.array([draw.support for draw in others], np.int32)
        support = np.concatenate([support, other], axis=1)
    episodes = EpisodeList(
        labels=np.array([draw.query_y for draw in draws], np.int16),
        classes=np.array(
            [[index[name] for name in draw.classes] for draw in draws], index_dtype(len(index))
        ),
        queries=np.array([draw.query for draw in draws], np.int32),
        support=support,
        digest="",
    )
    return RecordingDesign.of(episodes, dataset.pairing)
