"""Metrics of a learner: those that it reports, and those that are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.simple_learners import ClassMeans, OnSums, evaluate, first_cells
from torch import nn

import metaevents as me
from metaevents.benchmark.learner_metrics import LearnerMetrics, merge_metrics
from metaevents.errors import UsageError


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


def test_a_learner_whose_metric_fails_is_an_error_that_names_it(digits: me.DoubleNMNIST) -> None:
    class Forgetful(OnSums):
        def parameters(self) -> int:
            raise RuntimeError("none left")

    with pytest.raises(
        UsageError, match="the learner's parameters failed: RuntimeError: none left"
    ):
        evaluate(Forgetful(first_cells), digits, episodes=1)


def test_time_and_memory_are_measured(digits: me.DoubleNMNIST) -> None:
    report = evaluate(ClassMeans(), digits)
    assert min(report.time["adapt_ms"], report.time["classify_ms"]) > 0
    assert report.time["total_s"] * 1000 > report.time["adapt_ms"]
    assert report.peak_memory_mb is not None
    assert report.peak_memory_mb > 10


def metrics(episodes: int, spikes: float | None, peak: float | None = None) -> LearnerMetrics:
    return LearnerMetrics(episodes, peak, 7, spikes, None, {"rank": episodes})


def test_metrics_of_several_processes_are_weighted_by_their_episodes() -> None:
    merged = merge_metrics([metrics(3, 2.0, 10.0), metrics(1, 6.0, 20.0), metrics(0, None, None)])
    assert merged == {
        "peak_memory_mb": 20.0, "parameters": 7, "seen": {"rank": 3}, "spikes_per_sample": 3.0,
        "synaptic_operations_per_sample": None,
    }  # fmt: skip
    assert merge_metrics([metrics(3, 2.0), metrics(1, None)])["spikes_per_sample"] is None


class Counting(OnSums):
    """Counts how many times it adapts."""

    adapted = 0

    def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
        self.adapted += 1
        return super().adapt(x, y, ways)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("parameters", "1.2M", "parameters='1.2M'; offer their number"),
        ("parameters", b"12", "parameters="),
        ("parameters", -3, "parameters=-3 is out of range"),
        ("parameters", 1.2e6, "parameters=1200000.0; offer their number"),
        ("parameters", True, "parameters=True"),
        ("parameters", 10**20, "out of range"),
        ("parameters", {"a": "b"}, "parameters='b'"),
        ("seen", "everything", "seen='everything' is str; offer a dictionary"),
        ("seen", [1], "is list; offer a dictionary"),
        ("seen", {"loss": float("nan")}, r"seen\.loss is nan"),
        ("seen", {"net": object()}, r"seen\.net is object"),
        ("spikes_per_sample", "many", "spikes_per_sample='many' is no finite number"),
        ("spikes_per_sample", float("nan"), "spikes_per_sample=nan"),
        ("synaptic_operations_per_sample", -1.0, "synaptic_operations_per_sample=-1.0 is out"),
        ("synaptic_operations_per_sample", [1, 2], "synaptic_operations_per_sample="),
    ],
)
def test_what_cannot_be_reported_is_refused_before_the_work(
    digits: me.DoubleNMNIST, name: str, value: Any, message: str
) -> None:
    learner = Counting(first_cells)
    setattr(learner, name, value)
    with pytest.raises(UsageError, match=message):
        evaluate(learner, digits)
    assert learner.adapted == 0


def test_values_of_numpy_and_torch_are_reported_as_plain_ones(digits: me.DoubleNMNIST) -> None:
    learner = OnSums(first_cells)
    vars(learner).update(
        parameters=np.int64(12),
        seen={"labels": {"b", "a"}, "n": np.int32(3), "mean": np.zeros(2), "lr": torch.tensor(0.5)},
        spikes_per_sample=np.float32(1.5),
        synaptic_operations_per_sample=torch.tensor(2),
    )
    report = evaluate(learner, digits, episodes=1)
    assert report.seen == {"labels": ["a", "b"], "n": 3, "mean": [0.0, 0.0], "lr": 0.5}
    assert (report.parameters, report.spikes_per_sample) == (12, 1.5)
    assert report.synaptic_operations_per_sample == 2.0


def test_a_learner_that_makes_its_network_when_it_adapts_can_report_it(
    digits: me.DoubleNMNIST,
) -> None:
    class Lazy(OnSums):
        network: Any = None

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            self.network = nn.Linear(3, 4)
            return super().adapt(x, y, ways)

        def parameters(self) -> Any:
            return self.network.parameters()

    assert evaluate(Lazy(first_cells), digits, episodes=2).parameters == 16


def test_layers_that_get_their_size_from_the_first_samples_are_counted(
    digits: me.DoubleNMNIST,
) -> None:
    class LazyLayer(OnSums):
        parameters = nn.LazyLinear(5, bias=False)

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            return lambda query_x: self.parameters(query_x.flatten(1)[:, :7].float())

    assert evaluate(LazyLayer(first_cells), digits, episodes=2).parameters == 35


def test_parameters_that_can_be_read_once_are_counted(digits: me.DoubleNMNIST) -> None:
    learner = OnSums(first_cells)
    learner.parameters = nn.Linear(3, 4).parameters()  # type: ignore[attr-defined]
    assert evaluate(learner, digits, episodes=2).parameters == 16


def test_a_metric_that_fails_after_the_first_episode_ends_the_run_there(
    digits: me.DoubleNMNIST,
) -> None:
    class Forgetful(Counting):
        def seen(self) -> Any:
            raise RuntimeError("lost")

    learner = Forgetful(first_cells)
    with pytest.raises(UsageError, match="the learner's seen failed: RuntimeError: lost"):
        evaluate(learner, digits)
    assert learner.adapted == 1


@pytest.mark.parametrize("value", [RuntimeError("lost"), "many", float("nan"), -1])
def test_no_run_is_lost_for_a_metric_that_fails_at_its_end(
    digits: me.DoubleNMNIST, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Counted(OnSums):
        def spikes_per_sample(self) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

    report = evaluate(Counted(first_cells), digits)
    assert report.spikes_per_sample is None
    assert report.accuracy > 0
    assert "spikes_per_sample" in caplog.text
    assert "the report is written without it" in caplog.text
