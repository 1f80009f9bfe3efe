"""Transduction: dependence on other queries is found, and nothing else is taken for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.simple_learners import OnSums, evaluate, first_cells
from torch import nn

import metaevents as me
from metaevents.benchmark.transduction import EPISODES, SCREENED
from metaevents.errors import UsageError


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


# --- state between calls -------------------------------------------------------------------------


class Stateful(OnSums):
    """Adds something to the scores that depends on what was asked before.

    Args:
        state: The state after so many calls of the classifier -> factor of the scores.
        lasting: Whether adapting anew leaves the state.
    """

    def __init__(self, state: Any, lasting: bool) -> None:
        super().__init__(first_cells)
        self.state, self.lasting, self.calls = state, lasting, 0

    def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
        self.calls = self.calls if self.lasting else 0

        def classify(query_x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            factor = self.state(self.calls) * torch.linspace(1, 2, ways)
            return first_cells(query_x, ways) * (1 + factor)

        return classify


STATES: list[Any] = [
    lambda calls: 2.3e-4 * calls,
    lambda calls: 0.05 * min(calls, 2),
    lambda calls: 3e-2 * (-1) ** calls,
    lambda calls: 1e-2 / calls,
]


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_state_between_calls_is_a_case_of_its_own(
    digits: me.DoubleNMNIST, state: Any, lasting: bool
) -> None:
    report = evaluate(Stateful(state, lasting), digits)
    if not (lasting and state is STATES[1]):  # constant by the time of the probe
        assert report.stateful
        assert "asked twice without adapting anew" in (report.stateful_evidence or "")
        assert "stateful      yes: asked twice" in str(report)
    assert not report.transductive, report.transductive_evidence


def test_state_that_only_many_calls_show_is_no_transduction(digits: me.DoubleNMNIST) -> None:
    report = evaluate(Stateful(lambda calls: 2e-5 * calls, lasting=False), digits)
    assert report.stateful
    assert not report.transductive, report.transductive_evidence
    assert report.deterministic


def test_a_stateful_learner_can_be_transductive_too(digits: me.DoubleNMNIST) -> None:
    class Both(Stateful):
        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            classify = super().adapt(x, y, ways)
            return lambda query_x: classify(query_x - query_x.mean(dim=0))

    report = evaluate(Both(lambda calls: 1e-3 * calls, lasting=False), digits)
    assert report.stateful
    assert report.transductive


def test_state_that_adapting_anew_leaves_is_no_transduction(digits: me.DoubleNMNIST) -> None:
    class Drifting(OnSums):
        adapted = 0

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            self.adapted += 1
            factor = 1 + 2.3e-4 * self.adapted * torch.linspace(1, 2, ways)
            return lambda query_x: first_cells(query_x, ways) * factor

    report = evaluate(Drifting(first_cells), digits)
    assert not report.deterministic
    assert not report.stateful, "asked twice without adapting anew, it answers the same"
    assert not report.transductive, report.transductive_evidence


def test_what_is_kept_from_earlier_episodes_is_not_deterministic(digits: me.DoubleNMNIST) -> None:
    class Remembering(OnSums):
        """The label of the nearest support sample of all episodes."""

        def __init__(self) -> None:
            super().__init__(first_cells)
            self.x: list[torch.Tensor] = []
            self.y: list[torch.Tensor] = []

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            self.x.append(x.flatten(1))
            self.y.append(y)
            seen, labels = torch.cat(self.x), torch.cat(self.y)

            def classify(query_x: torch.Tensor) -> torch.Tensor:
                nearest = torch.cdist(query_x.flatten(1), seen).argmin(dim=1)
                return torch.nn.functional.one_hot(labels[nearest], ways).float()

            return classify

    report = evaluate(Remembering(), digits, episodes=20)
    assert not report.deterministic
    assert not report.stateful
    assert not report.transductive, report.transductive_evidence


def test_statistics_of_the_first_batch_are_transductive_and_no_state(
    digits: me.DoubleNMNIST,
) -> None:
    class FitsOnFirst(OnSums):
        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            means: list[torch.Tensor] = []

            def classify(query_x: torch.Tensor) -> torch.Tensor:
                if not means:
                    means.append(query_x.mean(dim=0))
                return first_cells(query_x - means[0], ways)

            return classify

    report = evaluate(FitsOnFirst(first_cells), digits)
    assert report.transductive
    assert not report.stateful


def test_a_classifier_that_answers_once_is_stateful(digits: me.DoubleNMNIST) -> None:
    class Once(OnSums):
        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            answers = iter([lambda query_x: first_cells(query_x, ways)])
            return lambda query_x: next(answers)(query_x)

    report = evaluate(Once(first_cells), digits)
    assert report.stateful
    assert "did not answer the second time" in (report.stateful_evidence or "")
    assert not report.transductive, report.transductive_evidence


def test_random_numbers_are_no_state(digits: me.DoubleNMNIST) -> None:
    assert not evaluate(OnSums(noisy), digits).stateful
    unseeded = np.random.default_rng(0)
    report = evaluate(
        OnSums(
            lambda x, ways: first_cells(x, ways) + torch.from_numpy(unseeded.random((len(x), ways)))
        ),
        digits,
    )
    assert report.stateful, "a private generator is state"
    assert not report.transductive, report.transductive_evidence


def test_a_learner_that_changes_its_input_is_neither(digits: me.DoubleNMNIST) -> None:
    class InPlace(OnSums):
        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            scale = x.mul_(0.5).add_(1).mean()
            return lambda query_x: first_cells(query_x.mul_(0.25).add_(1), ways) * scale

    report = evaluate(InPlace(first_cells), digits)
    assert (report.transductive, report.stateful, report.deterministic) == (False, False, True)


# --- what the probe costs ------------------------------------------------------------------------


class Counting(OnSums):
    def __init__(self, classify: Any) -> None:
        super().__init__(classify)
        self.adapted = self.asked = self.queries = 0

    def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
        self.adapted += 1

        def classify(query_x: torch.Tensor) -> Any:
            self.asked += 1
            self.queries += len(query_x)
            return self.classify(query_x, ways)

        return classify


def test_an_ordinary_learner_is_probed_with_few_calls(digits: me.DoubleNMNIST) -> None:
    learner = Counting(first_cells)
    evaluate(learner, digits, episodes=10)
    probes, queries = learner.adapted - 10, learner.queries - 10 * 50
    assert probes == SCREENED
    assert learner.asked - 10 == 5 * SCREENED
    assert queries <= 2.5 * 50 * SCREENED
    suspicious = Counting(batch_norm)
    evaluate(suspicious, digits, episodes=10)
    assert suspicious.adapted - 10 <= SCREENED + 8 * EPISODES


def test_without_the_probe_nothing_is_asked_again(digits: me.DoubleNMNIST) -> None:
    learner = Counting(batch_norm)
    report = evaluate(learner, digits, probe=False)
    assert (learner.adapted, learner.asked) == (4, 4)
    assert (report.transductive, report.stateful, report.deterministic) == (None, None, None)
    assert report.time["probe_s"] is None
    assert "setting       not probed" in str(report)
    assert "to probe" not in str(report)
    probed = evaluate(OnSums(first_cells), digits)
    assert probed.time["probe_s"] is not None
    assert 0 < probed.time["probe_s"] < (probed.time["total_s"] or 0)
    assert " s to probe, " in str(probed)
    with pytest.raises(UsageError, match="probe='no'; give True or False"):
        evaluate(OnSums(first_cells), digits, probe="no")


def test_the_probe_has_a_bar_of_its_own(
    digits: me.DoubleNMNIST, capsys: pytest.CaptureFixture[str]
) -> None:
    me.evaluate(OnSums(first_cells), digits, "sample-5way-1shot", episodes=4, progress=True)
    bars = capsys.readouterr().err
    assert "evaluate" in bars
    assert "ms to adapt" in bars
    assert f"{SCREENED}/{SCREENED}" in bars.split("probe")[-1]


def test_a_report_does_not_depend_on_the_probe(digits: me.DoubleNMNIST) -> None:
    class Spiking(OnSums):
        spikes = 0

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            self.spikes += len(x)
            return lambda query_x: first_cells(query_x, ways)

        def spikes_per_sample(self) -> float:
            return self.spikes

    reports = [evaluate(Spiking(first_cells), digits, probe=probe) for probe in (True, False)]
    assert reports[0].per_episode == reports[1].per_episode
    assert reports[0].spikes_per_sample == reports[1].spikes_per_sample == 4 * 5
