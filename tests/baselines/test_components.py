"""Component matching: aligned distances, relations to the whole support, one query at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import metaevents as me
from baselines.components import ComponentMatching, MatchingConfig
from baselines.config import recipe
from baselines.learners import Baseline, from_weights
from baselines.models import build_matching, build_network
from baselines.networks import ConvNet, SpikingConfig, SpikingNet, StackConfig
from baselines.provenance import Record
from baselines.weights_file import Weights
from metaevents.benchmark.alignment import Versions
from metaevents.errors import UsageError

_SIDE = (100, 2, 16, 16)
_FEW = Versions(shifts=(-1, 0), turns=(0.0, 15.0), scales=(1.0,))


def conv_net() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(StackConfig(frame_shape=_SIDE, channels=(4, 6, 8)))


def matching(
    aligned: int = 2, sharing: float = 0.0, versions: Versions = _FEW
) -> ComponentMatching:
    return ComponentMatching(conv_net(), MatchingConfig(aligned, versions, sharing))


def samples(n: int, sides: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.rand(n, 2, 16, 16 * sides, generator=generator) * 3, generator)


def reference(learner: ComponentMatching, support: torch.Tensor, y: torch.Tensor, ways: int,
              queries: torch.Tensor) -> np.ndarray:  # fmt: skip
    """The scores, one pair of sides after another."""
    params = dict(learner.net.named_parameters())
    aligned, sharing = learner.config.aligned, learner.config.sharing

    def features(side: torch.Tensor) -> list[torch.Tensor]:
        outputs = learner.net.activities(params, side[None], 3)
        return [normalize(each.flatten(1), dim=1)[0] for each in outputs]

    def distances(one: torch.Tensor, other: torch.Tensor) -> list[float]:
        first, same = features(one), features(other)
        versions = [features(version[0]) for version in learner.config.versions.of(other[None])]
        return [
            min(1 - float(first[layer] @ each[layer]) for each in versions)
            if layer < aligned
            else 1 - float(first[layer] @ same[layer])
            for layer in range(3)
        ]

    def cut(x: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        return [sample.chunk(x.shape[-1] // 16, dim=-1) for sample in x]

    owners = [(int(label), side) for label, x in zip(y, cut(support), strict=True)
              for side in range(len(x))]  # fmt: skip
    kept = [side for sample in cut(support) for side in sample]
    n = len(kept)
    off = ~np.eye(n, dtype=bool)
    apart = np.array([[distances(a, b) for b in kept] for a in kept])
    by_layer = (apart + apart.transpose(1, 0, 2)) / 2
    units = by_layer[off].std(axis=0)
    between = (by_layer / units).sum(axis=2)
    deviation = between[off].std()
    np.fill_diagonal(between, 0)
    usual = between.sum(axis=1) / (n - 1)
    relative = between - usual
    np.fill_diagonal(relative, 0)
    scores = np.zeros((len(queries), ways))
    for q, query in enumerate(cut(queries)):
        for place, side in enumerate(query):
            away = np.array([distances(side, other) / units for other in kept]).sum(axis=1)
            for k in range(ways):
                own = [i for i, owner in enumerate(owners) if owner == (k, place)]
                scores[q, k] -= away[own].mean() / deviation
                agreement = np.corrcoef(away - usual, relative[own].mean(axis=0))[0, 1]
                scores[q, k] += sharing * agreement
    return scores


@torch.no_grad()
@pytest.mark.parametrize("sharing", [0.0, 2.5])
@pytest.mark.parametrize(("sides", "shots"), [(1, 2), (2, 1), (2, 2), (3, 1)])
def test_scores_are_what_the_description_says(sides: int, shots: int, sharing: float) -> None:
    support, y = samples(3 * shots, sides), torch.arange(3).repeat(shots)
    queries, learner = samples(4, sides, seed=1), matching(sharing=sharing)
    scores = learner.adapt(support, y, 3)(queries)
    expected = reference(learner, support, y, 3, queries)
    np.testing.assert_allclose(scores.numpy(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("aligned", [0, 1, 3])
def test_a_support_sample_is_of_its_own_class(aligned: int) -> None:
    support, y = samples(4), torch.tensor([2, 0, 3, 1])
    scores = matching(aligned, 2.5).adapt(support, y, 4)(support)
    assert scores.argmax(dim=1).tolist() == y.tolist()


def test_other_classes_tell_which_components_are_alike() -> None:
    # The query is as far from both classes' own sides. But it is near to the side of a third class
    # that is near to that of class 0.
    support = torch.zeros(3, 2, 16, 32)
    support[0, 0, 2:8, 2:8] = 1
    support[1, 1, 2:8, 2:8] = 1
    support[2, 0, 2:8, 2:8] = support[2, 0, 8:14, 8:14] = 1
    support[..., 16:] = samples(1)[..., 16:]  # the right sides say nothing
    query = torch.zeros(1, 2, 16, 32)
    query[0, 0, 8:14, 8:14] = 1
    query[..., 16:] = support[:1, ..., 16:]
    still = Versions((0,), (0.0,), (1.0,))
    y = torch.arange(3)
    own, shared = (
        matching(1, sharing, still).adapt(support, y, 3)(query)[0] for sharing in (0.0, 5.0)
    )
    assert shared[0] - shared[1] > own[0] - own[1] + 0.1


@pytest.mark.parametrize("sharing", [0.0, 2.5])
def test_one_query_at_a_time_gives_the_same_answer(sharing: float) -> None:
    classifier = matching(sharing=sharing).adapt(samples(5), torch.arange(5), 5)
    queries = samples(6, seed=2)
    alone = torch.cat([classifier(query[None]) for query in queries])
    torch.testing.assert_close(classifier(queries), alone, atol=1e-5, rtol=1e-5)


def test_what_is_remembered_changes_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, y = matching(sharing=2.5), torch.arange(4)
    support = torch.cat([samples(3), samples(3)[:1]])  # a sample that comes twice
    queries = torch.cat([samples(3, seed=1), support[:1]])
    expected = learner.adapt(support, y, 4)(queries)
    passes: list[int] = []
    activities = learner.net.activities

    def counted(params: Any, x: torch.Tensor, layers: int) -> list[torch.Tensor]:
        passes.append(len(x))
        return activities(params, x, layers)

    monkeypatch.setattr(learner.net, "activities", counted)
    with learner.remembering():
        for _ in range(2):
            scores = learner.adapt(support, y, 4)(queries)
            torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
        first = sum(passes)
        learner.adapt(support.flip(0), y, 4)(queries)
        assert sum(passes) == first
    learner.adapt(support, y, 4)
    assert sum(passes) > first


@pytest.mark.parametrize("model", ["cnn-components", "snn-components"])
def test_learners_are_inductive_and_take_any_number_of_ways(model: str, nmnist_root: Path) -> None:
    archive = nmnist_root / "double-nmnist.h5"
    config = recipe(model, channels=(4, 4, 8), norm_groups=0, time_stride=10, burn_in=50,
                    match_turn=0.0, match_scale=1.0, classes="novel-components")  # fmt: skip
    train, val, test = (
        me.load("double-nmnist", archive, split, classes="novel-components")
        for split in ("train", "val", "test")
    )
    net = build_network(config, _SIDE, 28)
    record = Record.of(train, val, _SIDE)
    learner = from_weights(Weights(net.state_dict(), config, record), "weights")
    assert isinstance(learner, Baseline)
    report = me.evaluate(learner, test, "sample-5way-1shot", episodes=2, queries=2, progress=False)
    assert not report.transductive
    assert report.deterministic
    costs = report.costs
    assert costs["dense_operations"] > costs["effective_macs"] + costs["effective_acs"] > 0
    assert (costs["spikes_per_layer"] is not None) == (model == "snn-components")
    # All versions of the support go through the network.
    assert costs["adaptation"]["dense_operations"] > 5 * costs["dense_operations"]
    ep = me.EpisodeLoader(test, 3, 1, 1, 1, representation=learner.representation)[0]
    assert learner.adapt(ep.support_x, ep.support_y, 3)(ep.query_x).shape == (3, 3)


def test_spiking_features_are_the_rates_that_a_layer_sends() -> None:
    torch.manual_seed(0)
    net = SpikingNet(SpikingConfig(frame_shape=_SIDE, channels=(4, 4, 8), time_stride=10,
                                   burn_in=0))  # fmt: skip
    x = torch.poisson(torch.full((2, *_SIDE), 0.3), torch.Generator().manual_seed(0))
    with torch.no_grad():
        params = dict(net.named_parameters())
        trace = net.trace(params, x)
        for layer, rates in enumerate(net.activities(params, x, 2)):
            sent = trace.layers[layer].sent
            assert sent is not None
            # The last steps do not reach the read-out, so a trace leaves them out.
            assert rates.shape == sent.shape[1:]
            assert 0 < rates.max() <= 1
            steps = 10
            torch.testing.assert_close((rates * steps).round(), rates * steps)
            assert bool((rates * steps >= sent.sum(0) - 1e-4).all())


def test_configurations_say_what_is_tried() -> None:
    config = recipe("cnn-components", match_shift=2, match_turn=10.0, match_scale=1.25)
    versions = build_matching(config, conv_net()).config.versions
    assert versions == Versions((-2, -1, 0, 1, 2), (-10.0, 0.0, 10.0), (0.8, 1.0, 1.25))
    still = recipe("cnn-components", match_shift=0, match_turn=0.0, match_scale=1.0)
    assert build_matching(still, conv_net()).config.versions == Versions((0,), (0.0,), (1.0,))


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="40 columns, and the network takes sides of 16"):
        matching().adapt(torch.zeros(2, 2, 16, 40), torch.arange(2), 2)
    with pytest.raises(UsageError, match="match_aligned=4; the network has 3 convolutions"):
        matching(aligned=4)
    with pytest.raises(UsageError, match="match_aligned=4"):
        recipe("cnn-components", match_aligned=4)
