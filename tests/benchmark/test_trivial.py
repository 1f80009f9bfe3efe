"""Trivial baselines: each computes what it says and sees nothing that it should not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.command_line import run

import metaevents as me
from metaevents.augmentation import shift_cells
from metaevents.benchmark import trivial
from metaevents.benchmark.alignment import Versions, blur
from metaevents.benchmark.report import Report
from metaevents.errors import UsageError


def evaluate(
    learner: Any, ds: me.DoubleNMNIST, protocol: str = "sample-5way-1shot", episodes: int = 30
) -> Report:
    return me.evaluate(learner, ds, protocol, episodes=episodes, progress=False)


@pytest.fixture(scope="module")
def recognizer(digits: me.DoubleNMNIST) -> trivial.ComponentRecognizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trivial, "_TRAIN_STEPS", 150)  # the archive's digits are easy
        return trivial.ComponentRecognizer(digits)


def flat_episode(digits: me.DoubleNMNIST, shots: int) -> dict[str, Any]:
    return me.EpisodeLoader(digits, 5, shots, 10, episodes=1, representation="sum")[0].numpy()


def test_chance_is_one_in_ways(digits: me.DoubleNMNIST) -> None:
    report = evaluate(trivial.TRIVIAL_BASELINES["chance"](digits), digits, episodes=200)
    assert report.accuracy == pytest.approx(0.2, abs=0.02)
    assert not report.transductive
    assert report.deterministic


@pytest.mark.parametrize("shots", [1, 5])
def test_nearest_neighbor_takes_the_class_of_the_nearest(
    digits: me.DoubleNMNIST, shots: int
) -> None:
    ep = flat_episode(digits, shots)
    scores = trivial.NearestNeighbor().adapt(ep["support_x"], ep["support_y"], 5)(ep["query_x"])
    for query, row in zip(ep["query_x"], scores, strict=True):
        distances = [float(((query - support) ** 2).sum()) for support in ep["support_x"]]
        assert row.max() == -min(distances)
        assert row.argmax() == ep["support_y"][int(np.argmin(distances))]


def test_costs_are_products_of_what_is_not_zero(
    digits: me.DoubleNMNIST, recognizer: trivial.ComponentRecognizer
) -> None:
    ep = flat_episode(digits, 2)
    arguments = ep["support_x"], ep["support_y"], ep["query_x"], 5
    costs = trivial.NearestNeighbor().costs(*arguments)
    products = sum(
        int(((query != 0) & (support != 0)).sum())
        for query in ep["query_x"]
        for support in ep["support_x"]
    )
    assert costs["effective_macs"] == products / len(ep["query_x"])
    assert costs["dense_operations"] == ep["support_x"].size
    assert trivial.Prototypes().costs(*arguments)["dense_operations"] == ep["support_x"].size / 2
    assert trivial.LogisticRegression().costs(*arguments)["effective_macs"] > 0
    assert trivial.Chance().costs(*arguments)["adaptation"]["effective_macs"] == 0

    x = torch.as_tensor(ep["query_x"][:1])
    empty = recognizer.costs(torch.zeros_like(x), torch.zeros(1), torch.zeros_like(x), 5)
    full = recognizer.costs(torch.ones_like(x), torch.zeros(1), torch.ones_like(x), 5)
    # With ones as input, the first of the layers has all of its operations; with zeros, none.
    first = next(each for each in recognizer.parameters.modules() if hasattr(each, "weight"))
    polarities, height, width = x.shape[1:]
    taps = sum(  # of a 3 x 3 kernel within the frame of each side
        (3 - (y in (0, height - 1))) * (3 - (u in (0, width // 2 - 1)))
        for y in range(height)
        for u in range(width // 2)
    )
    of_first = 2 * taps * polarities * first.weight.shape[0]
    assert empty["dense_operations"] == full["dense_operations"] > of_first
    assert full["effective_macs"] >= of_first
    assert empty["effective_macs"] <= full["dense_operations"] - of_first
    assert full["adaptation"]["effective_macs"] == full["effective_macs"]


@pytest.mark.parametrize("shots", [1, 5])
def test_prototypes_take_the_class_of_the_nearest_mean(digits: me.DoubleNMNIST, shots: int) -> None:
    ep = flat_episode(digits, shots)
    scores = trivial.Prototypes().adapt(ep["support_x"], ep["support_y"], 5)(ep["query_x"])
    for query, row in zip(ep["query_x"], scores, strict=True):
        for k in range(5):
            mean = ep["support_x"][ep["support_y"] == k].mean(axis=0, dtype=np.float64)
            assert row[k] == pytest.approx(-float(((query - mean) ** 2).sum()))


def test_logistic_regression_learns_the_support(digits: me.DoubleNMNIST) -> None:
    ep = flat_episode(digits, 5)
    scores = trivial.LogisticRegression().adapt(ep["support_x"], ep["support_y"], 5)(
        ep["support_x"]
    )
    assert (scores.argmax(axis=1) == ep["support_y"]).all()
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1)


def test_logistic_regression_has_one_column_per_class_for_two_ways(digits: me.DoubleNMNIST) -> None:
    ep = me.EpisodeLoader(digits, 2, 1, 3, episodes=1, representation="sum")[0].numpy()
    assert trivial.LogisticRegression().adapt(ep["support_x"], ep["support_y"], 2)(
        ep["query_x"]
    ).shape == (6, 2)


@pytest.mark.parametrize(
    "name", ["nearest-neighbour", "prototypes", "logistic-regression", "aligned-matching"]
)
def test_baselines_on_sums_beat_chance_inductively(digits: me.DoubleNMNIST, name: str) -> None:
    report = evaluate(trivial.TRIVIAL_BASELINES[name](digits), digits)
    assert report.accuracy > 0.4
    assert not report.transductive
    assert report.deterministic
    assert report.parameters == 0


# --- aligned matching ---------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 5])
def test_aligned_matching_takes_the_class_of_the_nearest_version(
    digits: me.DoubleNMNIST, shots: int
) -> None:
    ep = me.EpisodeLoader(digits, 5, shots, 2, episodes=1, representation="sum")[0]
    scores = trivial.AlignedMatching(2).adapt(ep.support_x, ep.support_y, 5)(ep.query_x)

    def blurred_sides(x: torch.Tensor) -> list[torch.Tensor]:
        return [blur(side.double()[None], 0.7) for side in x.chunk(2, dim=-1)]

    def distance(query: torch.Tensor, support: torch.Tensor) -> float:
        return sum(
            min(
                1 - float(torch.cosine_similarity(one.flatten(), version.flatten(), dim=0))
                for version in Versions().of(other)
            )
            for one, other in zip(blurred_sides(query), blurred_sides(support), strict=True)
        )

    for query, row in zip(ep.query_x[:3], scores, strict=False):
        distances = torch.tensor([distance(query, support) for support in ep.support_x])
        nearest = [float(distances[ep.support_y == k].min()) for k in range(5)]
        assert row.tolist() == pytest.approx([-each for each in nearest])


def test_aligned_matching_forgives_a_shift_that_another_side_does_not_share() -> None:
    generator = torch.Generator().manual_seed(0)
    support = torch.zeros(3, 2, 16, 32)
    support[:, :, 4:12, 4:12] = torch.rand(3, 2, 8, 8, generator=generator)
    support[:, :, 4:12, 20:28] = torch.rand(3, 2, 8, 8, generator=generator)
    left, right = support.chunk(2, dim=-1)
    query = torch.cat([shift_cells(left, 1, -1), shift_cells(right, -1, 0)], dim=-1)
    learner = trivial.AlignedMatching(2)
    scores = learner.adapt(support, torch.arange(3), 3)(query)
    assert scores.argmax(dim=1).tolist() == [0, 1, 2]
    # Both sides are laid on another, up to what the blur spreads beyond the edge.
    assert scores.diagonal().abs().max() < 1e-5


@pytest.mark.parametrize(("sides", "shape"), [(1, (1, 1, 24)), (3, (2, 8, 24)), (2, (1, 1, 24))])
def test_aligned_matching_takes_any_arity_and_one_dimensional_sensors(
    sides: int, shape: tuple[int, ...]
) -> None:
    support = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    support[3] = 0  # a sample without events
    scores = trivial.AlignedMatching(sides).adapt(support, torch.arange(4), 4)(support)
    assert scores.shape == (4, 4)
    assert bool(scores.isfinite().all())
    assert scores[:3].argmax(dim=1).tolist() == [0, 1, 2]


def test_costs_of_aligned_matching_are_products_with_all_versions(digits: me.DoubleNMNIST) -> None:
    ep = me.EpisodeLoader(digits, 5, 2, 10, episodes=1, representation="sum")[0]
    costs = trivial.AlignedMatching(2).costs(ep.support_x, ep.support_y, ep.query_x, 5)
    versions = 3 * 3 * 9
    assert costs["dense_operations"] == versions * ep.support_x.numel()
    assert 0 < costs["effective_macs"] < costs["dense_operations"]
    assert costs["footprint_bytes"] == versions * ep.support_x.numel() * 8


def test_on_real_recordings_aligned_matching_is_ahead_on_novel_components(
    sample_root: Path,
) -> None:
    ds = me.DoubleNMNIST(sample_root, split="test", classes="novel-components")
    names = "nearest-neighbour", "aligned-matching"
    plain, aligned = (evaluate(trivial.TRIVIAL_BASELINES[name](ds), ds) for name in names)
    assert aligned.accuracy > plain.accuracy + 0.05


# --- the component recognizer -------------------------------------------------------------------


def test_the_recognizer_recognizes_known_components(
    recognizer: trivial.ComponentRecognizer, digits: me.DoubleNMNIST
) -> None:
    report = evaluate(recognizer, digits)
    assert report.accuracy > 0.9
    assert not report.transductive
    assert report.deterministic
    assert report.parameters == sum(p.numel() for p in recognizer.parameters.parameters())
    assert report.seen is not None
    assert (report.seen["partition"], report.seen["labels"]) == ("train", list("0123456789"))


@pytest.mark.parametrize("classes", ["published", "novel-components"])
@pytest.mark.parametrize("pairing", ["all", "published"])
def test_the_recognizer_reads_training_recordings_of_train_components_alone(
    digits_root: Path, monkeypatch: pytest.MonkeyPatch, classes: str, pairing: str
) -> None:
    read: set[int] = set()
    ds = me.DoubleNMNIST(digits_root, split="test", classes=classes, pairing=pairing)
    monkeypatch.setattr(trivial, "_TRAIN_STEPS", 2)
    for name in ("stack_sums", "stack_frames", "sample_events"):
        original = getattr(ds, name)

        def spy(samples: Any, *rest: Any, original: Any = original, **options: Any) -> Any:
            read.update(int(i) for i in np.ravel(samples))
            return original(samples, *rest, **options)

        monkeypatch.setattr(ds, name, spy)
    trivial.ComponentRecognizer(ds)
    ids = [ds.archive.ids[i] for i in sorted(read)]
    assert {id.split("/")[0] for id in ids} == {"Train"}
    assert {id.split("/")[1] for id in ids} == set(
        "0123456789" if classes == "published" else "0123"
    )
    assert len(ids) == 12 * (10 if classes == "published" else 4)


def test_training_depends_on_its_seed_alone(
    digits: me.DoubleNMNIST, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trivial, "_TRAIN_STEPS", 10)

    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in trivial.train_recognizer(digits, seed).parameters()])

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


def test_an_archive_without_training_recordings_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from support.recordings import write_nmnist

    from metaevents.building import build_archive, open_source

    folder = write_nmnist(tmp_path_factory.mktemp("test-only"), train=1, test=8)
    for file in (folder / "Train" / "3").iterdir():
        file.unlink()
    build_archive(
        "double-nmnist", tmp_path / "double-nmnist.h5", open_source("double-nmnist", folder)
    )
    with pytest.raises(UsageError, match="has no training recording of '3'"):
        trivial.ComponentRecognizer(me.DoubleNMNIST(tmp_path, split="test"))


def test_on_real_recordings_known_components_are_recognized_and_novel_ones_are_not(
    sample_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        trivial, "_TRAIN_STEPS", 200
    )  # a fifth of a full training is enough to tell
    accuracy = {}
    for classes in ("published", "novel-components"):
        ds = me.DoubleNMNIST(sample_root, split="test", classes=classes)
        accuracy[classes] = evaluate(trivial.ComponentRecognizer(ds), ds, episodes=60).accuracy
    assert accuracy["published"] > 0.8
    assert accuracy["novel-components"] < 0.5


def test_on_real_recordings_the_published_pairing_flatters(sample_root: Path) -> None:
    accuracy = {
        pairing: evaluate(
            trivial.Prototypes(),
            me.DoubleNMNIST(sample_root, split="test", pairing=pairing),
            episodes=200,
        ).accuracy
        for pairing in ("all", "published")
    }
    assert accuracy["published"] > accuracy["all"] + 0.15


def test_the_command_names_them_floor(digits_root: Path) -> None:
    done = run("evaluate", "floor:nearest-neighbour", "--archive", digits_root,
               "--protocol", "sample-5way-5shot", "--episodes", 3, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["learner"] == "floor:nearest-neighbour"
