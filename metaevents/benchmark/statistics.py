"""Statistics of an accuracy: intervals over episodes and recordings, deviations over runs.

Pure functions of arrays. Random draws come from the counter-based streams of `metaevents.rng`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

from metaevents.errors import UsageError
from metaevents.rng import Streams, scale_words

REPLICATES = 1000
"""Bootstrap replicates of `bootstrap95`."""

_CHUNK = 1 << 22  # weights held in memory at a time


def ci95(per_episode: Sequence[float] | np.ndarray) -> float:
    """Return half the width of the 95 % confidence interval of the mean over episodes.

    The interval is Student's: t(0.975, n - 1) * s / sqrt(n), with s the standard deviation (n - 1
    in the denominator).

    Args:
        per_episode: [n] accuracies, 0 to 1.

    Returns:
        Half the width, at most 1. A single episode gives 1, since it says nothing of the spread.
    """
    from scipy.stats import t

    values = np.asarray(per_episode, np.float64)
    n = len(values)
    if n < 2:
        return 1.0
    return min(1.0, float(t.ppf(0.975, n - 1) * values.std(ddof=1) / sqrt(n)))


def bootstrap95(
    correct: np.ndarray,
    recordings: np.ndarray,
    pools: Mapping[str, np.ndarray],
    key: object,
    replicates: int = REPLICATES,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the accuracy over resampled query recordings.

    Episodes draw from a limited pool of recordings again and again. So they are not independent,
    and an interval over episodes is too narrow. Here the recordings are random instead. In each
    replicate, every component's pool is resampled with replacement to its own size. The
    multiplicity of a recording is how many times it was drawn, 0 included; it is the same on all
    sides. A query weighs the product of the multiplicities of its recordings, and the accuracy is
    the weighted mean over all queries of all episodes.

    Classes, supports and predictions stay fixed. So the interval covers other query recordings, but
    neither other support recordings nor another training.

    Args:
        correct: [n] whether each query's prediction was right.
        recordings: [n, sides] archive indices of each query's recordings.
        pools: Component label to [k] archive indices of its recordings.
        key: Any value that JSON can write; names the random stream.
        replicates: Number of bootstrap replicates.

    Returns:
        The lower and the upper end, 0 to 1.
    """
    samples, inverse = np.unique(recordings, axis=0, return_inverse=True)
    n_queries = np.bincount(inverse.ravel())
    n_correct = np.bincount(inverse.ravel(), weights=correct)
    size = 1 + max(int(samples.max()), *(int(pool.max(initial=0)) for pool in pools.values()))
    streams = Streams({"bootstrap": 1, "of": key})
    accuracies: list[np.ndarray] = []
    step = max(1, _CHUNK // max(size, len(samples)))
    for first in range(0, replicates, step):
        chunk = range(first, min(first + step, replicates))
        multiplicity = np.stack([_resample(pools, size, streams, replicate) for replicate in chunk])
        weight = np.ones((len(chunk), len(samples)))
        for side in samples.T:
            weight *= multiplicity[:, side]
        total = weight @ n_queries
        nonempty = total > 0  # a replicate in which all queries have weight 0 has no accuracy
        accuracies.append((weight @ n_correct)[nonempty] / total[nonempty])
    low, high = np.percentile(np.concatenate(accuracies), [2.5, 97.5])
    return float(low), float(high)


def _resample(
    pools: Mapping[str, np.ndarray], size: int, streams: Streams, replicate: int
) -> np.ndarray:
    """Return how many times each recording was drawn in a replicate, [size] float64."""
    words = streams.first_words(replicate, sum(map(len, pools.values())))
    multiplicity = np.zeros(size)
    for label in sorted(pools):
        pool = pools[label]
        pool_words, words = words[: len(pool)], words[len(pool) :]
        np.add.at(multiplicity, pool[scale_words(pool_words, len(pool))], 1)
    return multiplicity


def repeated(accuracies: Sequence[float]) -> dict[str, Any]:
    """Summarize the accuracies of repeated runs.

    Args:
        accuracies: One per run, 0 to 1.

    Returns:
        `seeds` (the number of runs), `mean`, `deviation` (the standard deviation, n - 1 in the
        denominator) and `accuracies`.

    Raises:
        UsageError: There are fewer than two runs.
    """
    if len(accuracies) < 2:
        raise UsageError(f"{len(accuracies)} run given; a deviation needs at least 2")
    values = np.asarray(accuracies, np.float64)
    return {
        "seeds": len(values),
        "mean": float(values.mean()),
        "deviation": float(values.std(ddof=1)),
        "accuracies": values.tolist(),
    }
