"""The variance over recordings, against matrices of all pairs of queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.calibration import Setting, draw_list, made_dataset

from metaevents.benchmark import recording_variance
from metaevents.benchmark.protocols import EpisodeList
from metaevents.benchmark.recording_variance import RecordingDesign


def brute_force(episodes: EpisodeList, first: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the five matrices [N, N] of the model, and the projection off the classes."""
    n = episodes.labels.size
    episode = np.repeat(np.arange(len(episodes.labels)), episodes.labels.shape[1])
    size = int(max(episodes.queries.max(), episodes.support.max())) + 1
    query, support = np.zeros((n, size)), np.zeros((n, size))
    recordings = episodes.queries[..., first:].reshape(n, -1)
    np.add.at(query, (np.arange(n)[:, None], recordings), 1)
    given = episodes.support[..., first:].reshape(len(episodes.labels), -1)[episode]
    np.add.at(support, (np.arange(n)[:, None], given), 1)
    same = episode[:, None] == episode
    mixed = query @ support.T
    matrices = [np.where(same, 0, m) for m in (query @ query.T, support @ support.T)]
    matrices += [np.where(same, 0, mixed + mixed.T), same.astype(float), np.eye(n)]
    own = episodes.query_classes.reshape(-1, 1) == np.arange(episodes.classes.max() + 1)
    present = np.array([own[episode == e].any(axis=0) for e in range(len(episodes.labels))])
    present = present & (len(present) >= 3 * own.shape[1])
    columns = np.hstack([own, present[episode]]).astype(float)
    return matrices, np.eye(n) - columns @ np.linalg.pinv(columns)


CASES: list[dict[str, Any]] = [
    {"pool": 16, "classes": "novel-components", "episodes": 30, "queries": 3},
    {"pool": 16, "classes": "novel-components", "episodes": 30, "queries": 2, "shots": 3},
    {"pool": 16},
    {"pool": 16, "classes": "novel-components", "shots": 2},
    {"pool": 16, "classes": "novel-components", "ways": 9},
    {"pool": 40, "pairing": "published"},
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_components_solve_the_moment_equations_of_all_pairs(options: dict[str, Any]) -> None:
    setting = Setting("", **{"episodes": 12, "queries": 4, **options})
    episodes = draw_list(made_dataset(setting), setting, 0)
    design = RecordingDesign.of(episodes, setting.pairing)
    matrices, off = brute_force(episodes, first=int(setting.pairing == "published"))
    rng = np.random.default_rng(0)
    correct = rng.random((2, *episodes.labels.shape)) < 0.6
    values = off @ correct.reshape(2, -1).T
    equations = np.array([[np.sum(off @ a @ off * b) for a in matrices] for b in matrices])
    moments = np.array([values.T @ m @ values for m in matrices])
    expected = np.linalg.solve(equations, moments.reshape(5, 4)).reshape(5, 2, 2)[:3]
    found = design.mean_variance(correct)
    assert found.components == pytest.approx(expected)
    n = episodes.labels.size
    between = setting.episodes / (setting.episodes - 1)
    totals = np.array([m.sum() for m in matrices[:3]]) / n**2 * between
    assert found.shares.sum(axis=1) == pytest.approx(totals)
    spread = np.cov(correct.mean(axis=2)) / setting.episodes
    assert found.between_episodes == pytest.approx(spread)


def test_small_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("", 16, episodes=20, queries=4)
    episodes = draw_list(made_dataset(setting), setting, 0)
    correct = np.random.default_rng(0).random((1, *episodes.labels.shape)) < 0.6
    whole = RecordingDesign.of(episodes, "all").mean_variance(correct)
    monkeypatch.setattr(recording_variance, "_CHUNK", 1)
    parts = RecordingDesign.of(episodes, "all").mean_variance(correct)
    assert parts.components == pytest.approx(whole.components)
    assert parts.shares == pytest.approx(whole.shares)


def test_many_episodes_are_modeled_by_some_and_all_count_for_the_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording_variance, "_MODEL_EPISODES", 30)
    setting = Setting("", 16, episodes=90, queries=4)
    episodes = draw_list(made_dataset(setting), setting, 0)
    hard = np.random.default_rng(0).random(160) < 0.2
    correct = ~hard[episodes.queries].any(axis=2)[None]
    some = RecordingDesign.of(episodes, "all").mean_variance(correct)
    monkeypatch.undo()
    whole = RecordingDesign.of(episodes, "all").mean_variance(correct)
    assert some.shares == pytest.approx(whole.shares)
    assert some.of([1.0])[0] == pytest.approx(whole.of([1.0])[0], rel=0.5)


def test_the_variance_is_at_least_that_over_independent_episodes() -> None:
    setting = Setting("", 16, episodes=30, queries=4)
    episodes = draw_list(made_dataset(setting), setting, 0)
    design = RecordingDesign.of(episodes, "all")
    for seed in range(20):
        correct = np.random.default_rng(seed).random((1, *episodes.labels.shape)) < 0.5
        found = design.mean_variance(correct)
        value, freedom = found.of([1.0])
        assert value >= found.between_episodes[0, 0]
        assert 1 <= freedom <= 29


def test_one_side_and_three_sides_are_modeled_too() -> None:
    rng = np.random.default_rng(0)
    for sides in (1, 3):
        classes = np.tile(np.arange(3), (20, 1)).astype(np.int16)
        labels = np.tile(np.repeat(np.arange(3), 2), (20, 1)).astype(np.int16)
        queries = rng.integers(0, 12, (20, 6, sides)).astype(np.int32)
        support = rng.integers(0, 12, (20, 3, sides)).astype(np.int32)
        design = RecordingDesign.of(EpisodeList(labels, classes, queries, support, ""), "all")
        found = design.mean_variance(rng.random((1, 20, 6)) < 0.5)
        assert np.isfinite(found.of([1.0])).all()
