"""Transduction: dependence on other queries is found, and nothing else is taken for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.simple_learners import OnSums, evaluate, first_cells
from torch import nn

import metaevents as me


def less_query_mean(x: torch.Tensor, ways: int) -> torch.Tensor:
    return first_cells(x - x.mean(dim=0), ways)


def batch_norm(x: torch.Tensor, ways: int) -> torch.Tensor:
    return first_cells(nn.functional.batch_norm(x, None, None, training=True), ways)


def balanced(x: torch.Tensor, ways: int) -> torch.Tensor:
    """Each class may be given to as many queries as there should be of it."""
    scores, left = first_cells(x, ways), [-(-len(x) // ways)] * ways
    answer = torch.zeros_like(scores)
    for query in scores.max(dim=1).values.argsort(descending=True).tolist():
        best = max((k for k in range(ways) if left[k]), key=lambda k: scores[query, k].item())
        left[best] -= 1
        answer[query, best] = 1
    return answer


def by_place(x: torch.Tensor, ways: int) -> torch.Tensor:
    return first_cells(x, ways) + torch.arange(len(x))[:, None] * torch.arange(ways)


def barely(x: torch.Tensor, ways: int) -> torch.Tensor:
    scores = first_cells(x, ways)
    return scores * (1 + 1e-2 * torch.sin(scores.mean()))


@pytest.mark.parametrize("classify", [less_query_mean, batch_norm, balanced, by_place, barely])
def test_dependence_on_other_queries_is_found(digits: me.DoubleNMNIST, classify: Any) -> None:
    report = evaluate(OnSums(classify), digits)
    assert report.transductive
    assert report.transductive_evidence
    assert "queries changed (by up to" in report.transductive_evidence
    assert report.deterministic


def test_prototypes_refined_with_the_queries_are_found(digits: me.DoubleNMNIST) -> None:
    class SoftKMeans:
        representation = "sum"

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            means = torch.stack([x[y == k].flatten(1).mean(dim=0) for k in range(ways)])

            def classify(query_x: torch.Tensor) -> torch.Tensor:
                query = query_x.flatten(1)
                share = (-torch.cdist(query, means)).softmax(dim=1)
                refined = (means + share.T @ query) / (1 + share.sum(dim=0))[:, None]
                return -torch.cdist(query, refined)

            return classify

    assert evaluate(SoftKMeans(), digits).transductive


def test_a_learner_that_cannot_classify_a_query_alone_is_transductive(
    digits: me.DoubleNMNIST,
) -> None:
    def classify(x: torch.Tensor, ways: int) -> torch.Tensor:
        return first_cells(nn.BatchNorm1d(1024)(x.flatten(1)), ways)  # refuses a batch of one

    report = evaluate(OnSums(classify), digits)
    assert report.transductive
    assert "one by one, it did not answer: episode" in (report.transductive_evidence or "")


def test_dependence_hidden_in_the_scale_of_the_scores_is_found(digits: me.DoubleNMNIST) -> None:
    def classify(x: torch.Tensor, ways: int) -> torch.Tensor:
        return 1e9 + less_query_mean(x, ways).double()

    assert evaluate(OnSums(classify), digits).transductive


def test_dependence_behind_random_numbers_is_found(digits: me.DoubleNMNIST) -> None:
    def classify(x: torch.Tensor, ways: int) -> torch.Tensor:
        return less_query_mean(x, ways) + torch.rand(len(x), ways)

    report = evaluate(OnSums(classify), digits)
    assert report.transductive
    assert "frequencies" in (report.transductive_evidence or "")


def per_sample(x: torch.Tensor, ways: int) -> torch.Tensor:
    return first_cells(nn.functional.layer_norm(x, x.shape[1:]), ways)


def rounding(x: torch.Tensor, ways: int) -> torch.Tensor:
    """Float arithmetic that depends on the size of the batch."""
    return first_cells(x, ways) * (1 + 1e-6 * len(x) / 50)


def a_flipped_spike(x: torch.Tensor, ways: int) -> torch.Tensor:
    """Rounding that a threshold makes large, for few queries."""
    scores = first_cells(x, ways)
    few = x.flatten(1).sum(dim=1) % 97 == 0
    return scores + 0.05 * few[:, None] * (len(x) == 1) * torch.arange(ways)


def noise(x: torch.Tensor, ways: int) -> torch.Tensor:
    return torch.rand(len(x), ways)


def noisy(x: torch.Tensor, ways: int) -> torch.Tensor:
    return first_cells(x, ways) + torch.rand(len(x), ways)


def impossible_classes(x: torch.Tensor, ways: int) -> torch.Tensor:
    scores = first_cells(x, ways)
    scores[:, 0] = -torch.inf
    return scores


@pytest.mark.parametrize(
    "classify",
    [first_cells, per_sample, rounding, a_flipped_spike, noise, noisy, impossible_classes],
)
def test_what_does_not_depend_on_other_queries_is_inductive(
    digits: me.DoubleNMNIST, classify: Any
) -> None:
    report = evaluate(OnSums(classify), digits)
    assert not report.transductive, report.transductive_evidence
    assert report.deterministic


def test_non_determinism_is_found(digits: me.DoubleNMNIST) -> None:
    unseeded = np.random.default_rng()

    class Learner(OnSums):
        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            offset = torch.from_numpy(unseeded.normal(size=ways) * 3)
            return lambda query_x: first_cells(query_x, ways) + offset

    report = evaluate(Learner(first_cells), digits)
    assert not report.deterministic
    assert not report.transductive, report.transductive_evidence


def test_seeded_randomness_in_adapt_is_deterministic(digits: me.DoubleNMNIST) -> None:
    class Learner(OnSums):
        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            offset = torch.rand(ways)
            return lambda query_x: first_cells(query_x, ways) + offset

    report = evaluate(Learner(first_cells), digits)
    assert report.deterministic
    assert report.transductive_evidence is None
