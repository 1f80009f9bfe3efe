"""Statistics of an accuracy: intervals over recordings and episodes, deviations over runs.

Pure functions of arrays, without random draws. The variance over fresh recordings is left to
`metaevents.benchmark.recording_variance`, comparisons to `metaevents.benchmark.significance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from metaevents.benchmark.recording_variance import MeanVariance, RecordingDesign
from metaevents.errors import UsageError


def ci95(correct: np.ndarray, design: RecordingDesign) -> float:
    """Return half the width of the 95 % interval of an accuracy, over recordings and episodes.

    It says where the accuracy on other recordings and other episodes is expected: another draw of
    the test recordings and of the episodes, with the same classes and the same training.

    Args:
        correct: [episodes, n] whether each query is answered correctly.
        design: The recordings of the episodes.

    Returns:
        Half the width, at least that of `episode_ci95` and at most 1; see `half_width`. A single
        episode gives 1, since it says nothing of the spread.
    """
    if len(correct) < 2:
        return 1.0
    return max(half_width(design.mean_variance(correct[None])), episode_ci95(correct.mean(axis=1)))


def half_width(variance: MeanVariance, method: int = 0) -> float:
    """Return half the width of the 95 % interval of one method's mean accuracy.

    It is the distance to the farther end of the score interval (Wilson 1927, "Probable inference,
    the law of succession, and statistical inference", Journal of the American Statistical
    Association 22:209-212) for p (1 - p) / V samples, with p the accuracy, V its variance, and
    Student's quantile in place of the normal one. Near the middle of the scale this is t sqrt(V).
    Near 0 and 1 it is wider, where V rests on few answers. If all answers are correct, or all are
    wrong, V is 0 and the number of samples is `MeanVariance.effective_samples`: about 3.8 by that
    number.

    Args:
        variance: The covariance of the means of m methods.
        method: Which of them.

    Returns:
        Half the width, at most 1.
    """
    from scipy.stats import t

    contrast = np.zeros(len(variance.means))
    contrast[method] = 1
    value, freedom = variance.of(contrast)
    p = float(variance.means[method])
    spread = p * (1 - p)
    samples = spread / value if value > 0 and spread > 0 else variance.effective_samples
    z = float(t.ppf(0.975, freedom))
    weight = z * z / (samples + z * z)
    center = p + weight * (0.5 - p)
    width = z / (samples + z * z) * sqrt(samples * spread + z * z / 4)
    return min(1.0, abs(center - p) + width)


def difference_half_width(correct: np.ndarray, design: RecordingDesign) -> float:
    """Return half the width of the 95 % interval of a paired difference of two accuracies.

    Args:
        correct: [2, episodes, n] whether each of two methods answers each query correctly.
        design: The recordings of the episodes.

    Returns:
        Half the width of Student's interval over fresh recordings and episodes, at most 1. A single
        episode gives 1.
    """
    from scipy.stats import t

    if correct.shape[1] < 2:
        return 1.0
    value, freedom = design.mean_variance(correct).of([1.0, -1.0])
    return min(1.0, float(t.ppf(0.975, freedom)) * sqrt(value))


def episode_ci95(per_episode: Sequence[float] | np.ndarray) -> float:
    """Return half the width of the 95 % interval of a mean over episodes, on these recordings.

    The interval is Student's: t(0.975, n - 1) * s / sqrt(n), with s the standard deviation (n - 1
    in the denominator). It says where the mean over other episodes of the *same recordings* is
    expected. It takes the episodes as independent, which they are not if recordings are few; so it
    says less than `ci95` and never replaces it.

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


def unshared_queries(queries: np.ndarray, labels: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Return which queries share no recording with the support of another class of their episode.

    Pairing "all" guarantees that a recording of one class is not in its support and its query. It
    guarantees nothing across the classes of an episode.

    Args:
        queries: [episodes, ways * queries, sides] recording of every query on each side.
        labels: [episodes, ways * queries] true labels.
        support: [episodes, ways * shots, sides] the same for the support, class by class.

    Returns:
        [episodes, ways * queries] bool.
    """
    episodes, n_support, sides = support.shape
    ways = int(labels.max(initial=0)) + 1
    label_of = np.repeat(np.arange(ways), n_support // ways * sides)
    unshared = np.empty(labels.shape, bool)
    for index in range(episodes):
        given = support[index].reshape(-1)
        same = queries[index][:, :, None] == given  # [queries, sides, support recordings]
        other = labels[index][:, None] != label_of
        unshared[index] = ~(same.any(axis=1) & other).any(axis=1)
    return unshared


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
