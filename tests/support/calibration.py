"""Simulated benchmarks with known truth: do intervals cover, and do tests keep their level?

Recordings are Gaussian vectors around the mean of their digit. A method is a 1-nearest neighbor on
features of its own, which it shares in part with the other methods. All methods are equally good by
construction. Episodes come from the real sampler, so recordings recur as in the benchmark. Every
data set has fresh recordings. Run this file for the table of `cards/statistics.md`:

    PYTHONPATH=tests python -m support.calibration
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from metaevents.benchmark.markdown import table
from metaevents.benchmark.protocols import EpisodeList
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.significance import holm, holm_over_pairs, pairwise_tests
from metaevents.benchmark.statistics import ci95, episode_ci95, half_width
from metaevents.sampling import EpisodeSampler
from metaevents.specs import class_name, get_spec

ALPHA = 0.05
_DIMENSIONS = 6


@dataclass(frozen=True)
class Setting:
    """One simulated benchmark.

    Attributes:
        name: Name in the table.
        pool: Test recordings per digit.
        shots: Support samples per class.
        ways: Classes per episode.
        classes: Class split.
        pairing: Pairing.
        episodes: Episodes.
        queries: Queries per class.
        methods: Number of equally good methods.
        separation: Distance of the digits' means; larger gives a higher accuracy.
        lists: Lists of episodes, used in turn.
        bootstraps: Data sets on which the two bootstraps are computed too, which takes long.
    """

    name: str
    pool: int
    shots: int = 1
    ways: int = 5
    classes: str = "published"
    pairing: str = "all"
    episodes: int = 600
    queries: int = 10
    methods: int = 2
    separation: float = 1.3
    lists: int = 10
    bootstraps: int = 0


@dataclass
class Calibration:
    """What a simulation found.

    Attributes:
        accuracy: Mean accuracy over all data sets.
        deviation: Standard deviation of a method's accuracy between data sets.
        coverage: Interval -> share of (data set, method) whose interval holds the true accuracy.
        rejections: Test -> share of pairs (or of data sets) with a wrong claim of a difference.
    """

    accuracy: float = 0.0
    deviation: float = 0.0
    coverage: dict[str, float] = field(default_factory=dict)
    rejections: dict[str, float] = field(default_factory=dict)


class _Dataset(SimpleNamespace):
    """What the sampler needs of a dataset."""

    def __len__(self) -> int:
        return len(self.classes)


def made_dataset(setting: Setting) -> Any:
    """Return a stand-in for the test split of Double N-MNIST, with recordings of known number."""
    rules = get_spec("double-nmnist").rules(simulated=False)
    components = {class_name(c): c for c in rules.splits[setting.classes]["test"]}
    labels = [label for label in rules.labels if any(label in c for c in components.values())]
    pools = {
        label: np.arange(i * setting.pool, (i + 1) * setting.pool) for i, label in enumerate(labels)
    }
    return _Dataset(
        fingerprint=f"calibration {setting.pool}",
        split="test",
        pairing=setting.pairing,
        class_split=setting.classes,
        classes=tuple(sorted(components)),
        components=components,
        labels=labels,
        rules=rules,
        name="double-nmnist",
        min_gap=0,
        pool=pools.__getitem__,
        n_recordings=lambda c: tuple(setting.pool for _ in components[c]),
        archive=SimpleNamespace(
            table={"number": np.arange(setting.pool * len(labels))}, path="simulated"
        ),
    )


def draw_list(dataset: Any, setting: Setting, seed: int) -> EpisodeList:
    """Draw the episodes of a setting with the real sampler."""
    draw = EpisodeSampler(dataset, setting.ways, setting.shots, setting.queries, seed)
    place = {name: index for index, name in enumerate(dataset.classes)}
    draws = [draw(index) for index in range(setting.episodes)]
    return EpisodeList(
        labels=np.array([d.query_y for d in draws], np.int16),
        classes=np.array([[place[name] for name in d.classes] for d in draws], np.int16),
        queries=np.array([d.query for d in draws], np.int32),
        support=np.array([d.support for d in draws], np.int32),
        digest="",
    )


def nearest_neighbor(episodes: EpisodeList, features: np.ndarray, shots: int) -> np.ndarray:
    """Return which queries a 1-nearest neighbor on composed features gets right, [episodes, n]."""
    correct = np.empty(episodes.labels.shape, bool)
    for first in range(0, len(correct), 100):
        some = slice(first, first + 100)
        distance: Any = 0
        for side in range(episodes.queries.shape[2]):
            query = features[episodes.queries[some, :, side]]
            support = features[episodes.support[some, :, side]]
            distance = distance + (
                (query**2).sum(-1)[:, :, None]
                + (support**2).sum(-1)[:, None, :]
                - 2 * query @ support.transpose(0, 2, 1)
            )
        correct[some] = distance.argmin(axis=2) // shots == episodes.labels[some]
    return correct


def simulate(setting: Setting, datasets: int, seed: int = 1) -> Calibration:
    """Simulate data sets, and count how often intervals cover and tests claim a difference.

    Args:
        setting: The benchmark.
        datasets: Number of data sets, each with fresh recordings.
        seed: Seed of the recordings.
    """
    dataset = made_dataset(setting)
    lists = [draw_list(dataset, setting, k) for k in range(min(setting.lists, datasets))]
    designs = [RecordingDesign.of(episodes, setting.pairing) for episodes in lists]
    n_labels = len(dataset.labels)
    centers = setting.separation * np.random.default_rng(5).normal(size=(10, _DIMENSIONS))
    center = np.repeat(centers[:n_labels], setting.pool, axis=0)
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(6).normal(size=(setting.methods + 1, *center.shape))
    means, widths = [], {"episodes": [], "recordings": [], "query": [], "quadrature": []}
    wrong: dict[str, list[float]] = {}
    for index in range(datasets):
        episodes, design = lists[index % len(lists)], designs[index % len(lists)]
        noise = rng.normal(size=(setting.methods + 1, *center.shape))
        if setting.pairing == "published":  # its left recordings are part of its definition
            left = np.unique(episodes.queries[..., 0])
            noise[0, left], noise[1:, left] = fixed[0, left], fixed[1, left]  # for all methods
        noise *= np.sqrt(0.5)
        correct = np.stack(
            [
                nearest_neighbor(episodes, center + noise[0] + own, setting.shots)
                for own in noise[1:]
            ]
        )
        means.append(correct.mean(axis=(1, 2)))
        variance = design.mean_variance(correct)
        over_episodes = [episode_ci95(each.mean(axis=1)) for each in correct]
        widths["episodes"].append(over_episodes)
        widths["recordings"].append(
            [half_width(variance, i) for i in range(setting.methods)]
            if index
            else [ci95(each, design) for each in correct]
        )
        pairs = np.triu_indices(setting.methods, 1)
        p_values = pairwise_tests(correct, design)
        wrong.setdefault("recordings", []).append(float((p_values[pairs] < ALPHA).mean()))
        difference = correct[0].mean(axis=1) - correct[1].mean(axis=1)
        wrong.setdefault("episodes", []).append(
            float(abs(difference.mean()) > episode_ci95(difference))
        )
        if index < setting.bootstraps:
            query, both, of_difference = _bootstraps(correct, episodes, center, setting.pool, rng)
            widths["query"].append(query)
            widths["quadrature"].append(both)
            wrong.setdefault("quadrature", []).append(float(abs(difference.mean()) > of_difference))
        if setting.methods > 2:
            for name, claim in _selections(p_values, means[-1], variance, rng):
                wrong.setdefault(name, []).append(float(claim))
    accuracies = np.array(means)
    truth = accuracies.mean()
    return Calibration(
        float(truth),
        float(accuracies.std(axis=0).mean()),
        {
            name: float((np.abs(accuracies[: len(width)] - truth) <= np.array(width)).mean())
            for name, width in widths.items()
            if width
        },
        {name: float(np.mean(values)) for name, values in wrong.items()},
    )


def _selections(
    p_values: np.ndarray, means: np.ndarray, variance: Any, rng: np.random.Generator
) -> Iterator[tuple[str, bool]]:
    """Yield whether a procedure calls any equally good method worse than the best."""
    best = int(means.argmax())
    others = [i for i in range(len(means)) if i != best]
    yield "Holm, all pairs", bool((holm_over_pairs(p_values)[best] < ALPHA).any())
    against = holm([p_values[best, i] for i in others])
    yield "Holm, with the best", bool(min(against) < ALPHA)
    identity = np.eye(len(means))
    spread = np.array([[variance.of(a - b)[0] for b in identity] for a in identity])
    alone = np.array([variance.of(a)[0] for a in identity])
    values, vectors = np.linalg.eigh((alone[:, None] + alone - spread) / 2)
    normal = rng.normal(size=(2000, len(means))) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    scale = np.sqrt(spread + identity)
    scaled = (normal[:, :, None] - normal[:, None, :]) / scale
    excluded = False
    for i in range(len(means)):
        limit = np.quantile(np.delete(scaled[:, :, i], i, axis=1).max(axis=1), 1 - ALPHA)
        excluded |= bool(np.delete((means - means[i]) / scale[i], i).max() > limit)
    yield "Hsu", excluded


def _bootstraps(
    correct: np.ndarray,
    episodes: EpisodeList,
    center: np.ndarray,
    pool: int,
    rng: np.random.Generator,
    replicates: int = 200,
) -> tuple[list[float], list[float], float]:
    """Return half-widths of the bootstraps: query recordings alone, and both roles in quadrature.

    Returns:
        For every method the first; for every method the second; and the second for the difference
        of the first two methods.
    """
    values = np.concatenate([correct, correct[:1].astype(float) - correct[1:2]])
    halves = []
    for recordings in (episodes.queries, episodes.support.reshape(len(episodes.support), 1, -1)):
        means = []
        for _ in range(replicates):
            multiplicity = np.concatenate(
                [
                    np.bincount(rng.integers(0, pool, pool), minlength=pool)
                    for _ in range(len(center) // pool)
                ]
            )
            weight = np.broadcast_to(
                multiplicity[recordings].prod(axis=2, dtype=float), episodes.labels.shape
            )
            if total := weight.sum():
                means.append((values * weight).sum(axis=(1, 2)) / total)
        low, high = np.percentile(means, [2.5, 97.5], axis=0)
        halves.append((high - low) / 2)
    both = np.hypot(*halves)
    return halves[0][:-1].tolist(), both[:-1].tolist(), float(both[-1])


SETTINGS = (
    (Setting("pool of 16", 16, bootstraps=100), 200),
    (Setting("pool of 446", 446, bootstraps=100), 200),
    (Setting("pool of 16, 5 shots", 16, shots=5), 200),
    (Setting("pool of 16, novel components", 16, classes="novel-components"), 200),
    (Setting("pool of 16, novel components, 5 shots", 16, 5, classes="novel-components"), 200),
    (Setting("pool of 446, 20 ways", 446, ways=20, episodes=300, lists=6), 100),
    (Setting("pool of 16, 60 episodes", 16, episodes=60), 200),
    (Setting("pool of 32, pairing published", 32, pairing="published"), 200),
    (Setting("pool of 16, 99 % accuracy", 16, separation=3.0), 200),
    (Setting("pool of 16, 99.9 % accuracy", 16, separation=4.0), 200),
    (Setting("pool of 16, 6 methods", 16, methods=6), 200),
    (Setting("pool of 16, 12 methods", 16, methods=12), 200),
    (Setting("pool of 446, 6 methods", 446, methods=6), 200),
)
"""The settings of the table, and the number of data sets of each."""


def main(show: Callable[[str], object] = sys.stdout.write) -> None:
    """Simulate all settings and write the two tables as Markdown."""
    intervals, choices = [], []
    for setting, datasets in SETTINGS:
        found = simulate(setting, datasets)
        print(setting.name, found, file=sys.stderr, flush=True)
        percent = {
            **{f"cover {name}": value for name, value in found.coverage.items()},
            **found.rejections,
        }
        cells = {name: f"{100 * value:.0f}" for name, value in percent.items()}
        start = [setting.name, datasets]
        if setting.methods == 2:
            intervals.append(
                [
                    *start,
                    f"{100 * found.accuracy:.1f}",
                    *(cells.get(f"cover {n}") for n in ("recordings", "episodes", "query")),
                    cells.get("cover quadrature"),
                    *(cells.get(n) for n in ("recordings", "episodes", "quadrature")),
                ]
            )
        else:
            names = ("Holm, all pairs", "Holm, with the best", "Hsu")
            choices.append([*start, *(cells[name] for name in names)])
    header = [
        "Setting", "Data sets", "Accuracy", "**Covers: `ci95`**", "Covers: `episode_ci95`",
        "Covers: bootstrap, queries", "Covers: bootstrap, quadrature", "**Rejects: paired test**",
        "Rejects: paired, episodes", "Rejects: quadrature",
    ]  # fmt: skip
    show(table(header, intervals, "l" + "r" * 9) + "\n\n")
    header = ["Setting", "Data sets", "**Holm, all pairs**", "Holm, with the best", "Hsu"]
    show(table(header, choices, "lrrrr") + "\n")


if __name__ == "__main__":
    main()
