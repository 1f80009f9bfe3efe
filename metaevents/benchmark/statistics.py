"""What can be said of an accuracy: intervals over episodes and over recordings, deviations over trials and training runs.

Pure functions of arrays; no generator but the package's own counter-based one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

from metaevents.errors import UsageError
from metaevents.rng import Streams

REPLICATES = 1000
_BLOCK = 256  # words that a stream gives at a time
_CHUNK = 1 << 22  # weights held at a time


def ci95(per_episode: Sequence[float] | np.ndarray) -> float:
    """Half the width of the 95 % confidence interval of the mean over episodes: Student's t, capped at 1.

    A single episode tells nothing of the spread; it gives 1, the widest that an accuracy's interval can be.
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
    """The 95 % percentile interval of the accuracy under resampling of the recordings that the queries are made of.

    Episodes draw again and again from a limited pool, so that they are not independent and an interval over episodes is too
    narrow. Here the recordings are what is random: in each replicate every component label's pool is drawn anew with
    replacement, as many as it has, and a recording's multiplicity counts how often it was drawn (0 included), the same on
    whichever side it stands. A query then counts as often as all its recordings together, the product of their
    multiplicities, and the accuracy is the weighted mean over all queries of all episodes. The classes, the supports
    and what was predicted stay as they are: the interval says what other query recordings could have given, not what other
    support recordings or other training could have.

    Args:
        correct: [n] whether each query's prediction was right.
        recordings: [n, sides] archive indices of each query's recordings.
        pools: component label -> [k] archive indices of its recordings.
        key: anything that JSON can write; names the stream of draws.
        replicates: how often all pools are drawn anew.
    """
    samples, inverse = np.unique(recordings, axis=0, return_inverse=True)
    asked = np.bincount(inverse.ravel())
    right = np.bincount(inverse.ravel(), weights=correct)
    size = 1 + max(int(samples.max()), *(int(pool.max(initial=0)) for pool in pools.values()))
    streams = Streams({"bootstrap": 1, "of": key})
    accuracies: list[np.ndarray] = []
    step = max(1, _CHUNK // max(size, len(samples)))
    for first in range(0, replicates, step):
        drawn = range(first, min(first + step, replicates))
        multiplicity = np.stack([_resample(pools, size, streams, replicate) for replicate in drawn])
        weight = np.ones((len(drawn), len(samples)))
        for side in samples.T:
            weight *= multiplicity[:, side]
        total = weight @ asked
        counted = total > 0  # a replicate in which no query is left says nothing
        accuracies.append((weight @ right)[counted] / total[counted])
    low, high = np.percentile(np.concatenate(accuracies), [2.5, 97.5])
    return float(low), float(high)


def _resample(
    pools: Mapping[str, np.ndarray], size: int, streams: Streams, replicate: int
) -> np.ndarray:
    """How often each recording was drawn, [size] float64."""
    need = sum(map(len, pools.values()))
    blocks = range(-(-need // _BLOCK))
    words = np.array(
        [word for block in blocks for word in streams.words(replicate, block)], np.uint64
    )
    count = np.zeros(size)
    for label in sorted(pools):
        pool, words, own = pools[label], words[len(pools[label]) :], words[: len(pools[label])]
        # Uniform to within len(pool) / 2^32.
        place = ((own >> np.uint64(32)) * np.uint64(len(pool))) >> np.uint64(32)
        np.add.at(count, pool[place.astype(np.int64)], 1)
    return count


def repeated(accuracies: Sequence[float]) -> dict[str, Any]:
    """What repeated runs say together: how many `seeds`, their `accuracies`, `mean` and `deviation` (n - 1 in the denominator).

    Raises:
        UsageError: fewer than two runs.
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
