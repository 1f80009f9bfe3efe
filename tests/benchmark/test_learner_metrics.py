"""Metrics of a learner: those that it reports, and those that are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.simple_learners import ClassMeans, OnSums, evaluate, first_cells
from torch import nn

import metaevents as me
from metaevents.benchmark.evaluation import measure
from metaevents.benchmark.learner_metrics import (
    MEASURED_EPISODES,
    MEASURED_QUERIES,
    LearnerMetrics,
    check_costs,
    mean_costs,
    merge_metrics,
)
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
        "synaptic_operations_per_sample": None, "costs": None,
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


# --- costs ---------------------------------------------------------------------------------------

COSTS: dict[str, Any] = {
    "footprint_bytes": 400,
    "activation_sparsity": 0.75,
    "spikes_per_sample": 30.0,
    "spikes_per_layer": {"one": 20.0, "two": 10.0},
    "effective_macs": 100.0,
    "effective_acs": 50.0,
    "dense_operations": 1000.0,
    "adaptation": {
        "footprint_bytes": 800,
        "activation_sparsity": 0.5,
        "spikes": 90.0,
        "spikes_per_layer": {"one": 60.0, "two": 30.0},
        "effective_macs": 300.0,
        "effective_acs": 200.0,
        "dense_operations": 2000.0,
    },
}


@pytest.mark.parametrize("as_method", [False, True])
def test_costs_are_reported_as_offered(digits: me.DoubleNMNIST, as_method: bool) -> None:
    learner = OnSums(first_cells)
    learner.costs = (lambda: COSTS) if as_method else COSTS  # type: ignore[attr-defined]
    report = evaluate(learner, digits, episodes=1)
    assert report.costs is not None
    assert report.costs.pop("episodes") is None
    assert {"spikes_per_sample": 30.0, **report.costs} == COSTS
    assert report.spikes_per_sample == 30.0
    assert report.synaptic_operations_per_sample == 150.0
    text = str(report)
    assert "30 spikes; 100 MACs, 50 ACs of 1.00 k dense operations; 75.0 %" in text
    assert "to adapt      90 spikes; 300 MACs, 200 ACs of 2.00 k dense operations" in text


def test_some_costs_are_enough(digits: me.DoubleNMNIST) -> None:
    learner = OnSums(first_cells)
    learner.costs = {"effective_macs": np.int64(7)}  # type: ignore[attr-defined]
    report = evaluate(learner, digits, episodes=1)
    assert report.costs is not None
    assert report.costs["effective_macs"] == 7
    assert report.costs["adaptation"] is None
    assert (report.spikes_per_sample, report.synaptic_operations_per_sample) == (None, 7)
    assert evaluate(OnSums(first_cells), digits, episodes=1).costs is None


class Measuring(OnSums):
    """Reports as operations what it was asked with."""

    def __init__(self) -> None:
        super().__init__(first_cells)
        self.asked: list[tuple[int, ...]] = []

    def costs(self, support_x: Any, support_y: Any, query_x: Any, ways: int) -> dict[str, Any]:
        self.asked.append((len(support_x), len(support_y), len(query_x), ways))
        return {"effective_acs": float(support_x.sum()), "footprint_bytes": 8}


def test_costs_are_measured_on_the_first_episodes_before_the_work(digits: me.DoubleNMNIST) -> None:
    learner = Measuring()
    episodes = list(
        me.EpisodeLoader(
            digits, 5, 1, 10, episodes=MEASURED_EPISODES, representation="sum", division="episode"
        )
    )
    report = evaluate(learner, digits, episodes=5 * MEASURED_EPISODES)
    assert learner.asked == [(5, 5, MEASURED_QUERIES, 5)] * MEASURED_EPISODES
    assert report.costs is not None
    assert report.costs["episodes"] == MEASURED_EPISODES
    assert report.costs["footprint_bytes"] == 8
    mean = np.mean([float(episode.support_x.sum()) for episode in episodes])
    assert report.costs["effective_acs"] == pytest.approx(mean)
    alone = measure(Measuring(), digits, "sample-5way-1shot")
    assert alone["costs"]["effective_acs"] == pytest.approx(mean)
    short = Measuring()
    assert evaluate(short, digits, episodes=2).costs["episodes"] == 1  # type: ignore[index]
    assert len(short.asked) == 1


def test_a_learner_that_measures_nothing_cannot_be_asked_to(digits: me.DoubleNMNIST) -> None:
    with pytest.raises(UsageError, match="does not measure what it costs; offer a method costs"):
        measure(ClassMeans(), digits, "sample-5way-1shot")


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        ([1, 2], "costs is list; offer a dictionary with some of footprint_bytes"),
        ({"joules": 3}, "costs has 'joules'; choose among footprint_bytes"),
        ({"effective_macs": -1}, r"costs\['effective_macs'\]=-1 is out of range"),
        ({"effective_acs": float("nan")}, r"costs\['effective_acs'\]=nan is no finite number"),
        ({"dense_operations": 1e16}, "is out of range"),
        ({"footprint_bytes": 1.5}, "is no whole number"),
        ({"activation_sparsity": 1.1}, "is out of range"),
        ({"spikes_per_layer": {}}, "offer a dictionary of 1 to 100 layers"),
        ({"spikes_per_layer": dict.fromkeys(map(str, range(101)), 1)}, "1 to 100 layers"),
        ({"spikes_per_layer": {"a\x1b": 1}}, "name a layer in 1 to 60 visible characters"),
        ({"spikes_per_layer": {"a" * 61: 1}}, "name a layer in 1 to 60 visible characters"),
        ({"spikes_per_layer": {"a": "many"}}, "is no finite number"),
        ({"spikes_per_layer": {"a": 1}, "spikes_per_sample": 2}, "the layers add up to 1 and"),
        (
            {"effective_macs": 2, "effective_acs": 2, "dense_operations": 3},
            "4 effective operations",
        ),
        ({"adaptation": 3}, "costs.adaptation is int"),
        ({"adaptation": {"spikes_per_sample": 3}}, "costs.adaptation has 'spikes_per_sample'"),
    ],
)
def test_costs_that_cannot_be_written_are_refused_before_the_work(
    digits: me.DoubleNMNIST, offered: Any, problem: str
) -> None:
    class Wrong(Measuring):
        adapted = 0

        def costs(self, support_x: Any, support_y: Any, query_x: Any, ways: int) -> Any:
            return offered

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            self.adapted += 1
            return super().adapt(x, y, ways)

    measuring, plain = Wrong(), OnSums(first_cells)
    plain.costs = offered  # type: ignore[attr-defined]
    for learner in (measuring, plain):
        with pytest.raises(UsageError, match=problem):
            evaluate(learner, digits, episodes=1)
    assert not measuring.adapted


def test_costs_of_processes_are_weighted_and_unknown_ones_stay_unknown() -> None:
    one, other = check_costs(COSTS), check_costs({**COSTS, "effective_macs": 400.0})
    other["adaptation"] = {**one["adaptation"], "spikes": None}
    mean = mean_costs([(one, 1), (other, 3)])
    assert mean["effective_macs"] == 325
    assert mean["spikes_per_layer"] == COSTS["spikes_per_layer"]
    assert mean["adaptation"]["spikes"] is None
    assert mean["adaptation"]["effective_acs"] == 200
    assert mean["footprint_bytes"] == 400
    other["spikes_per_layer"] = {"three": 30.0}
    assert mean_costs([(one, 1), (other, 1)])["spikes_per_layer"] is None
