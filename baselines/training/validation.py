"""The episodes that a training run validates on: drawn from the val split, the same every time."""

from __future__ import annotations

import logging

from baselines.config import RunConfig
from metaevents.datasets import ComposedDataset
from metaevents.episodes import EpisodeLoader
from metaevents.sampling import EpisodeSampler

logger = logging.getLogger(__name__)


def validation_episodes(
    dataset: ComposedDataset, config: RunConfig, representation: str
) -> EpisodeLoader:
    """Return the validation episodes of a configuration.

    They have the ways and queries of training, or fewer where the split has fewer classes or
    recordings. Their seed is `config.seed + 1`.

    Args:
        dataset: The val split.
        config: Gives ways, shots, queries, seed and the number of episodes.
        representation: What the learner takes: "frames" or "sum".

    Raises:
        UsageError: The split has too few recordings for one query per class.
    """
    ways = min(config.ways, len(dataset))
    if ways < config.ways:
        logger.warning(
            "validation has %d ways, not %d, because its split has no more classes; a prediction "
            "of one of the other outputs counts as wrong",
            ways,
            config.ways,
        )
    queries = EpisodeSampler.max_queries(dataset, ways, config.shots, config.queries)
    return EpisodeLoader(
        dataset,
        ways,
        config.shots,
        queries or 1,  # where not even one fits, the loader says why
        episodes=config.val_episodes,
        seed=config.seed + 1,
        representation=representation,
    )
