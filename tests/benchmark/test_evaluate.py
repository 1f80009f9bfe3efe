"""evaluate: what a learner gets, what it may answer, and what the report says of it."""
# ruff: noqa: NPY002  the global generators are what some of these tests are about

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import metaevents as me
from metaevents.benchmark import Report, over_training_seeds
from metaevents.benchmark.protocols import bind
from metaevents.errors import UsageError

PROTOCOL = "sample-5way-1shot"


class ClassMeans:
    representation = "sum"
    numpy = True

    def adapt(
        self, support_x: np.ndarray, support_y: np.ndarray, ways: int
    ) -> Callable[[np.ndarray], np.ndarray]:
        support = support_x.reshape(len(support_x), -1).astype(np.float64)
        means = np.stack([support[support_y == k].mean(axis=0) for k in range(ways)])
        return lambda query_x: -((query_x.reshape(len(query_x), 1, -1) - means) ** 2).sum(axis=-1)


class OnSums:
    """A learner in torch whose classifier is given."""

    representation = "sum"

    def __init__(self, classify: Callable[[torch.Tensor, int], Any]) -> None:
        self.classify = classify

    def adapt(
        self, support_x: torch.Tensor, support_y: torch.Tensor, ways: int
    ) -> Callable[[torch.Tensor], Any]:
        return lambda query_x: self.classify(query_x, ways)


def evaluate(learner: Any, ds: me.DoubleNMNIST, episodes: int | None = 4, **options: Any) -> Report:
    return me.evaluate(
        learner, ds, options.pop("protocol", PROTOCOL), episodes=episodes, progress=False, **options
    )


def first_cells(query_x: torch.Tensor, ways: int) -> torch.Tensor:
    """Scores that follow from each query alone."""
    return query_x.flatten(1)[:, :1000].unflatten(1, (ways, -1)).sum(dim=-1)


# --- accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracy_is_that_of_the_loaders_episodes(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits, episodes=6)
    loader = me.EpisodeLoader(digits, 5, 1, 10, episodes=6, seed=0, representation="sum")
    per_episode, of_class = [], {}
    for ep in loader:
        arrays = ep.numpy()
        scores = ClassMeans().adapt(arrays["support_x"], arrays["support_y"], 5)(arrays["query_x"])
        right = scores.argmax(axis=1) == arrays["query_y"]
        per_episode.append(right.mean())
        for label, hit in zip(arrays["query_y"], right, strict=True):
            of_class.setdefault(ep.classes[label], []).append(hit)
    assert report.per_episode == per_episode
    assert report.accuracy == pytest.approx(np.mean(per_episode))
    assert report.per_class == {
        name: pytest.approx(np.mean(hits)) for name, hits in sorted(of_class.items())
    }
    assert report.accuracy > 0.3
    low, high = report.bootstrap95
    assert low < report.accuracy < high


def test_the_protocol_itself_has_no_deviations(digits: me.DoubleNMNIST) -> None:
    report = evaluate(OnSums(first_cells), digits, episodes=None)
    assert report.is_protocol
    assert report.deviations == []
    assert len(report.per_episode) == 600
    assert report.protocol == bind(PROTOCOL, digits)
    assert report.archive == {
        "fingerprint": digits.fingerprint, "source": "n-mnist-subset", "simulated": False, "recordings": 440
    }  # fmt: skip


def test_smaller_runs_and_other_splits_say_that_they_are_not_the_protocol(
    digits_root: Path,
) -> None:
    val = me.DoubleNMNIST(digits_root, split="val")
    report = evaluate(OnSums(first_cells), val, queries=3)
    assert not report.is_protocol
    assert set(report.deviations) == {
        "split=val instead of test", "queries=3 instead of 10", "episodes=4 instead of 600"
    }  # fmt: skip
    assert report.predictions is not None
    assert report.predictions.labels.shape == (4, 15)


def test_an_archive_too_small_for_a_protocol_is_told_which_one_fits(
    digits: me.DoubleNMNIST,
) -> None:
    with pytest.raises(
        UsageError,
        match=r"queries=14 would fit.*'sample-5way-1shot' \(10 queries a class\) fits this archive",
    ):
        me.evaluate(ClassMeans(), digits, protocol="5way-1shot")


def test_unknown_protocols_are_refused_with_the_known_ones(digits: me.DoubleNMNIST) -> None:
    with pytest.raises(UsageError, match="no protocol '5-way'; choose one of 5way-1shot"):
        me.evaluate(ClassMeans(), digits, protocol="5-way")


# --- what a learner gets ----------------------------------------------------------------------------------------------


def test_functions_learn_too(digits: me.DoubleNMNIST) -> None:
    def learner(x: torch.Tensor, y: torch.Tensor, n: int) -> Callable[[torch.Tensor], torch.Tensor]:
        assert x.shape == (5, 100, 2, 16, 32)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        means = x.sum(dim=1).flatten(1)[y.argsort()]
        return lambda query_x: -torch.cdist(query_x.sum(dim=1).flatten(1), means)

    assert evaluate(learner, digits).accuracy == evaluate(ClassMeans(), digits).accuracy


@pytest.mark.parametrize(
    ("attributes", "kind", "shape", "dtype"),
    [
        ({"representation": "sum"}, torch.Tensor, (2, 16, 32), torch.float32),
        ({"representation": "sum", "dtype": "uint8"}, torch.Tensor, (2, 16, 32), torch.uint8),
        ({"dtype": torch.float16}, torch.Tensor, (100, 2, 16, 32), torch.float16),
        ({"layout": "TPWH", "dtype": np.uint8}, torch.Tensor, (100, 2, 32, 16), torch.uint8),
        ({"numpy": True, "device": "cpu"}, np.ndarray, (100, 2, 16, 32), np.float32),
    ],
)
def test_attributes_say_how_a_learner_wants_its_input(
    digits: me.DoubleNMNIST,
    attributes: dict[str, Any],
    kind: type,
    shape: tuple[int, ...],
    dtype: Any,
) -> None:
    seen = []

    class Learner:
        def adapt(self, support_x: Any, support_y: Any, ways: int) -> Any:
            seen.append((support_x, 5))

            def classify(query_x: Any) -> np.ndarray:
                seen.append((query_x, None))
                return np.zeros((len(query_x), ways))

            return classify

    for name, value in attributes.items():
        setattr(Learner, name, value)
    evaluate(Learner(), digits, episodes=1)
    for x, n in seen:
        assert isinstance(x, kind)
        assert x.dtype == dtype
        assert x.shape == (n or len(x), *shape)


def test_event_lists_reach_the_learner_as_lists(digits: me.DoubleNMNIST) -> None:
    class CountsEvents:
        representation = "events"

        def adapt(self, support_x: list[np.ndarray], support_y: torch.Tensor, ways: int) -> Any:
            counts = np.array([len(events) for events in support_x])
            return lambda query_x: -np.abs(np.array([[len(events)] for events in query_x]) - counts)

    report = evaluate(CountsEvents(), digits)
    assert not report.transductive


def test_unfit_attributes_are_refused(digits: me.DoubleNMNIST) -> None:
    for name, value, message in (
        ("representation", "voxels", "representation='voxels'"),
        ("dtype", "int32", "dtype=torch.int32"),
        ("dtype", "counts", "dtype=.counts."),
        ("device", "abacus", "device='abacus'"),
    ):
        learner = ClassMeans()
        setattr(learner, name, value)
        with pytest.raises(UsageError, match=message):
            evaluate(learner, digits)


@pytest.mark.parametrize("learner", [ClassMeans, 3, "floor:prototypes"])
def test_what_cannot_learn_is_refused(digits: me.DoubleNMNIST, learner: Any) -> None:
    with pytest.raises(
        UsageError, match=r"is no learner; give an object with adapt\(support_x, support_y, ways\)"
    ):
        evaluate(learner, digits)


# --- what a learner may answer ----------------------------------------------------------------------------------------


def nan_for_one(x: torch.Tensor, ways: int) -> torch.Tensor:
    scores = torch.zeros(len(x), ways)
    scores[3, 2] = torch.nan
    return scores


@pytest.mark.parametrize(
    ("classify", "message"),
    [
        (
            lambda x, ways: torch.zeros(len(x), ways + 1),
            r"gave shape \[50, 6\]; return scores \[50, 5\]",
        ),
        (lambda x, ways: torch.zeros(len(x), ways, 1), r"gave shape \[50, 5, 1\]"),
        (lambda x, ways: torch.zeros(ways), r"gave shape \[5\]"),
        (
            lambda x, ways: torch.zeros(len(x), dtype=torch.int64),
            r"whole numbers \[50\], as if they were class ids",
        ),
        (nan_for_one, "gave NaN for 1 of 50 queries"),
        (
            lambda x, ways: torch.zeros(len(x), ways, device="meta"),
            "are on meta, the queries were on cpu",
        ),
        (lambda x, ways: np.full((len(x), ways), "a"), "gave <U1"),
        (lambda x, ways: torch.zeros(len(x), ways, dtype=torch.complex64), "gave complex64"),
        (lambda x, ways: [[0] * ways, [0]], "gave list that is no array"),
        (lambda x, ways: x.nonsense, "failed in classify: AttributeError"),
    ],
)
def test_unfit_scores_stop_the_run_and_name_the_episode(
    digits: me.DoubleNMNIST, classify: Any, message: str
) -> None:
    calls = []

    def from_the_second_episode_on(x: torch.Tensor, ways: int) -> Any:
        calls.append(1)
        return classify(x, ways) if len(calls) > 1 else first_cells(x, ways)

    with pytest.raises(UsageError, match=f"^episode 1: .*{message}"):
        evaluate(OnSums(from_the_second_episode_on), digits)


def test_a_failing_or_empty_adaptation_names_the_episode(digits: me.DoubleNMNIST) -> None:
    def fails(x: Any, y: Any, ways: int) -> Any:
        raise KeyError("weights")

    with pytest.raises(
        UsageError, match="episode 0: the learner failed in adapt: KeyError: 'weights'"
    ) as caught:
        evaluate(fails, digits)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(UsageError, match="episode 0: adapt gave NoneType, expected a classifier"):
        evaluate(lambda x, y, ways: None, digits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_scores_of_any_real_dtype_count(digits: me.DoubleNMNIST, dtype: torch.dtype) -> None:
    def classify(x: torch.Tensor, ways: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(first_cells(x, ways).argmax(dim=1), ways).to(dtype)

    assert (
        evaluate(OnSums(classify), digits).accuracy
        == evaluate(OnSums(first_cells), digits).accuracy
    )


def test_gradients_are_recorded_to_adapt_and_not_to_classify(digits: me.DoubleNMNIST) -> None:
    seen = []

    def learner(x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
        weight = torch.zeros(1, requires_grad=True)
        (gradient,) = torch.autograd.grad((weight * x.mean()).sum(), weight)
        seen.append(gradient)

        def classify(query_x: torch.Tensor) -> torch.Tensor:
            seen.append((weight * 2).requires_grad)
            return torch.zeros(len(query_x), ways)

        return classify

    with torch.no_grad():
        evaluate(learner, digits, episodes=1)
    assert isinstance(seen[0], torch.Tensor)
    assert seen[1] is False


# --- random generators ------------------------------------------------------------------------------------------------


class Draws:
    """Records what the global generators give in each episode."""

    representation = "sum"

    def __init__(self) -> None:
        self.drawn: list[tuple[float, float, float]] = []

    def adapt(self, x: Any, y: Any, ways: int) -> Any:
        self.drawn.append((torch.rand(()).item(), float(np.random.rand()), random.random()))
        return lambda query_x: first_cells(query_x, ways)


def test_generators_are_seeded_for_each_episode_whatever_came_before(
    digits: me.DoubleNMNIST,
) -> None:
    long, short = Draws(), Draws()
    evaluate(long, digits, episodes=6)
    torch.manual_seed(99)
    evaluate(short, digits, episodes=3)
    assert long.drawn[:3] == short.drawn[:3]
    assert len({draw for draws in long.drawn[:6] for draw in draws}) == 18


@pytest.mark.parametrize("fails", [False, True])
def test_generators_are_put_back(digits: me.DoubleNMNIST, fails: bool) -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    def learner(x: Any, y: Any, ways: int) -> Any:
        torch.rand(3), np.random.rand(3), random.random()
        if fails:
            raise RuntimeError
        return lambda query_x: np.zeros((len(query_x), ways))

    before = state()
    if fails:
        with pytest.raises(UsageError):
            evaluate(learner, digits)
    else:
        evaluate(learner, digits)
    assert state() == before


# --- transduction -----------------------------------------------------------------------------------------------------


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
    assert "queries had scores that moved" in report.transductive_evidence
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


# --- what else the report says ----------------------------------------------------------------------------------------


def test_trials_are_runs_on_disjoint_streams(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits, episodes=5, trials=3)
    own = []
    for seed in (0, 1, 2):
        hits = []
        for ep in me.EpisodeLoader(digits, 5, 1, 10, episodes=5, seed=seed, representation="sum"):
            arrays = ep.numpy()
            scores = ClassMeans().adapt(arrays["support_x"], arrays["support_y"], 5)(
                arrays["query_x"]
            )
            hits.append((scores.argmax(axis=1) == arrays["query_y"]).mean())
        own.append(np.mean(hits))
    assert report.trials is not None
    assert report.trials["seeds"] == 3
    assert report.trials["accuracies"] == pytest.approx(own)
    assert report.trials["mean"] == pytest.approx(np.mean(own))
    assert report.trials["deviation"] == pytest.approx(np.std(own, ddof=1))
    assert report.accuracy == pytest.approx(own[0])


def test_reports_of_several_trainings_combine(digits: me.DoubleNMNIST) -> None:
    reports = [
        evaluate(OnSums(lambda x, ways, k=k: first_cells(x.roll(k, dims=-1), ways)), digits)
        for k in range(3)
    ]
    combined = over_training_seeds(reports)
    accuracies = [report.accuracy for report in reports]
    assert combined.training_seeds is not None
    assert combined.training_seeds["mean"] == pytest.approx(np.mean(accuracies))
    assert combined.training_seeds["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert combined.accuracy == reports[0].accuracy
    with pytest.raises(UsageError, match="over different episodes"):
        over_training_seeds([reports[0], evaluate(ClassMeans(), digits, queries=4)])
    with pytest.raises(UsageError, match="at least 2"):
        over_training_seeds(reports[:1])


@pytest.mark.parametrize(
    ("offered", "count"),
    [
        (7, 7),
        (lambda: 8, 8),
        (nn.Linear(3, 4), 16),
        (nn.Linear(3, 4).parameters, 16),
        ([np.zeros((2, 3)), torch.zeros(5)], 11),
        ({"w": torch.zeros(2, 2)}, 4),
        (None, None),
    ],
)
def test_parameters_are_counted_as_offered(
    digits: me.DoubleNMNIST, offered: Any, count: int | None
) -> None:
    learner = OnSums(first_cells)
    learner.parameters = offered  # type: ignore[attr-defined]
    assert evaluate(learner, digits, episodes=1).parameters == count


def test_spikes_operations_and_training_data_are_reported_as_offered(
    digits: me.DoubleNMNIST,
) -> None:
    class Spiking(OnSums):
        samples = 0
        synaptic_operations_per_sample = 12.5
        seen = {"split": "train"}  # noqa: RUF012
        overlap = "none"

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            self.samples += len(x)
            return super().adapt(x, y, ways)

        def spikes_per_sample(self) -> float:
            return self.samples / 2

    report = evaluate(Spiking(first_cells), digits, episodes=3)
    assert report.spikes_per_sample == 7.5  # read before the learner is asked again
    assert report.synaptic_operations_per_sample == 12.5
    assert (report.seen, report.overlap) == ({"split": "train"}, "none")
    plain = evaluate(OnSums(first_cells), digits, episodes=1)
    assert (plain.parameters, plain.spikes_per_sample, plain.seen, plain.overlap) == (
        None,
        None,
        None,
        None,
    )


def test_a_learner_that_fails_to_tell_of_itself_is_named(digits: me.DoubleNMNIST) -> None:
    class Forgetful(OnSums):
        def parameters(self) -> int:
            raise RuntimeError("none left")

    with pytest.raises(
        UsageError, match="the learner's parameters failed: RuntimeError: none left"
    ):
        evaluate(Forgetful(first_cells), digits, episodes=1)


def test_datasets_of_ones_own_can_be_evaluated_and_are_no_protocol(digits_root: Path) -> None:
    triple = me.compose(
        digits_root / "double-nmnist.h5", arity=3, split="test", crop=(32, 32), downsample=2, bins=10,
        splits={"train": ["012"], "test": ["345", "678", "999", "036", "147"]},
    )  # fmt: skip
    report = evaluate(ClassMeans(), triple)
    assert report.deviations[0].startswith("dataset=double-nmnist-x3 instead of double-nmnist")
    assert set(report.per_class) == {"345", "678", "999", "036", "147"}
    assert report.bootstrap95[0] < report.accuracy < report.bootstrap95[1]


def test_time_and_memory_are_measured(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits)
    assert min(report.time["adapt_ms"], report.time["classify_ms"]) > 0
    assert report.time["total_s"] * 1000 > report.time["adapt_ms"]
    assert report.peak_memory_mb is not None
    assert report.peak_memory_mb > 10


def test_entries_hold_the_report_and_the_digest_of_the_predictions(
    digits: me.DoubleNMNIST, tmp_path: Path
) -> None:
    import hashlib

    report = evaluate(ClassMeans(), digits)
    report.save(tmp_path / "entry.json", name="Class means", authors=["A. Author"])
    digest = report.save_predictions(tmp_path / "predictions.npz")
    entry = json.loads((tmp_path / "entry.json").read_text("utf-8"))
    assert (entry["format"], entry["format_version"]) == ("metaevents-entry", 1)
    assert entry["method"]["name"] == "Class means"
    assert entry["method"]["citation"] is None
    assert entry["predictions"] == {"file": "predictions.npz", "sha256": digest}
    assert digest == hashlib.sha256((tmp_path / "predictions.npz").read_bytes()).hexdigest()
    assert Report.from_dict(entry["report"]) == report
    with pytest.raises(UsageError, match="no method field 'nam'"):
        report.save(tmp_path / "entry.json", nam="x")
    with pytest.raises(UsageError, match="missing or unknown are accuracy"):
        Report.from_dict(
            {name: value for name, value in entry["report"].items() if name != "accuracy"}
        )


def test_an_entry_names_the_prediction_file_that_was_written(
    digits: me.DoubleNMNIST, tmp_path: Path
) -> None:
    report = evaluate(ClassMeans(), digits)
    digest = report.save_predictions(tmp_path / "mine.npz", scores=True)
    report.save(tmp_path / "entry.json")
    entry = json.loads((tmp_path / "entry.json").read_text("utf-8"))
    assert entry["predictions"] == {"file": "mine.npz", "sha256": digest}


# --- processes --------------------------------------------------------------------------------------------------------


def test_worker_processes_change_nothing(digits: me.DoubleNMNIST) -> None:
    alone, helped = (
        evaluate(ClassMeans(), digits, episodes=6, workers=workers) for workers in (0, 2)
    )
    assert alone.predictions is not None
    assert helped.predictions is not None
    np.testing.assert_array_equal(alone.predictions.scores, helped.predictions.scores)


MODULE = """
import numpy as np

class ClassMeans:
    representation, numpy = "sum", True

    def adapt(self, support_x, support_y, ways):
        support = support_x.reshape(len(support_x), -1)
        means = np.stack([support[support_y == k].mean(axis=0) for k in range(ways)])
        return lambda query_x: -((query_x.reshape(len(query_x), 1, -1) - means) ** 2).sum(axis=-1)

def factory():
    return ClassMeans()

def fails(support_x, support_y, ways):
    raise RuntimeError("no weights")

ready = ClassMeans()
made_wrong = 3
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "my_method.py").write_text(MODULE, "utf-8")
    return tmp_path


def command(
    *words: object, folder: Path, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    line = (
        [sys.executable, "-m", *launcher, "-m", "metaevents"]
        if launcher
        else [sys.executable, "-m", "metaevents"]
    )
    line += map(str, words)
    return subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node=2")


def test_torchrun_gives_the_predictions_and_accuracies_of_one_process(
    digits_root: Path, work: Path
) -> None:
    options = (
        "evaluate",
        "my_method:ClassMeans",
        "--archive",
        digits_root,
        "--protocol",
        PROTOCOL,
        "--episodes",
        7,
        "--json",
    )
    alone = command(*options, "--predictions", "alone.npz", folder=work)
    sharded = command(*options, "--predictions", "sharded.npz", folder=work, launcher=TORCHRUN)
    assert alone.returncode == 0, alone.stderr
    assert sharded.returncode == 0, sharded.stderr
    assert (work / "alone.npz").read_bytes() == (work / "sharded.npz").read_bytes()
    ours, theirs = json.loads(alone.stdout), json.loads(sharded.stdout)
    for name in ("time", "peak_memory_mb"):
        del ours[name], theirs[name]
    assert ours == theirs


def test_a_process_group_that_is_there_is_used_and_left(digits_root: Path, work: Path) -> None:
    (work / "script.py").write_text(
        "import json, sys\nimport torch.distributed as dist\nimport metaevents as me\nimport my_method\n"
        "dist.init_process_group('gloo')\n"
        "ds = me.DoubleNMNIST(sys.argv[1], split='test')\n"
        "reports = [me.evaluate(my_method.ready, ds, 'sample-5way-1shot', episodes=n) for n in (5, 1)]\n"
        "assert dist.is_initialized()\n"
        "print(json.dumps([report.per_episode for report in reports]))\n",
        "utf-8",
    )
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    line = [sys.executable, "-m", *TORCHRUN, "script.py", str(digits_root)]
    run = subprocess.run(
        line, cwd=work, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    ds = me.DoubleNMNIST(digits_root, split="test")
    expected = [evaluate(ClassMeans(), ds, episodes=n).per_episode for n in (5, 1)]
    assert [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[[")] == [
        expected,
        expected,
    ]


def test_a_failure_in_one_process_ends_all(digits_root: Path, work: Path) -> None:
    (work / "half.py").write_text(
        "import os\nimport my_method\n\nclass Half(my_method.ClassMeans):\n    def adapt(self, *given):\n"
        "        if os.environ['RANK'] == '1':\n            raise RuntimeError('no weights')\n"
        "        return super().adapt(*given)\n",
        "utf-8",
    )
    run = command(
        "evaluate",
        "half:Half",
        "--archive",
        digits_root,
        "--protocol",
        PROTOCOL,
        "--episodes",
        4,
        folder=work,
        launcher=TORCHRUN,
    )
    assert run.returncode != 0
    assert "episode 1: the learner failed in adapt: RuntimeError: no weights" in run.stderr


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_an_entry_and_its_predictions(digits_root: Path, work: Path) -> None:
    run = command(
        "evaluate", "my_method:factory", "--archive", digits_root / "double-nmnist.h5", "--protocol", PROTOCOL, "--episodes", 3,
        "--classes", "novel-components", "--pairing", "published", "--out", "entry.json", "--name", "Class means",
        "--authors", "A. Author", "B. Author", folder=work,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "NOT THE PROTOCOL: episodes=3 instead of 600" in run.stdout
    entry = json.loads((work / "entry.json").read_text("utf-8"))
    assert entry["method"]["authors"] == ["A. Author", "B. Author"]
    assert entry["method"]["command"].startswith("metaevents evaluate my_method:factory --archive ")
    assert entry["report"]["learner"] == "my_method:factory"
    assert entry["report"]["protocol"]["classes"] == "novel-components"
    assert entry["report"]["protocol"]["pairing"] == "published"
    assert (work / "predictions.npz").is_file()


@pytest.mark.parametrize("attribute", ["ClassMeans", "factory", "ready"])
def test_a_class_a_factory_and_an_object_are_the_same_learner(
    digits_root: Path, work: Path, attribute: str
) -> None:
    from metaevents.benchmark.resolve import load_learner

    ds = me.DoubleNMNIST(digits_root, split="test")
    sys.path.insert(0, str(work))
    try:
        report = evaluate(load_learner(f"my_method:{attribute}", ds), ds)
    finally:
        sys.path.remove(str(work))
        sys.modules.pop("my_method", None)
    assert report.accuracy == evaluate(ClassMeans(), ds).accuracy


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ("my_method", "give module:attribute"),
        ("nowhere:Learner", "No module named 'nowhere'"),
        ("my_method:Nothing", "has no attribute 'Nothing'"),
        ("my_method:made_wrong", "is no learner"),
        ("my_method:fails", "episode 0: the learner failed in adapt: RuntimeError: no weights"),
        ("floor:basement", "no floor 'basement'; choose one of chance"),
    ],
)
def test_users_errors_are_one_line_and_status_2(
    digits_root: Path, work: Path, learner: str, message: str
) -> None:
    run = command(
        "evaluate",
        learner,
        "--archive",
        digits_root,
        "--protocol",
        PROTOCOL,
        "--episodes",
        2,
        folder=work,
    )
    assert run.returncode == 2
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert run.stdout == ""


def test_a_missing_folder_for_the_entry_is_told_before_the_work(
    digits_root: Path, work: Path
) -> None:
    run = command(
        "evaluate",
        "my_method:ClassMeans",
        "--archive",
        digits_root,
        "--out",
        "nowhere/entry.json",
        folder=work,
    )
    assert run.returncode == 2
    assert "nowhere" in run.stderr
