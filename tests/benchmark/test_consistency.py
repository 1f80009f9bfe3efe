"""Contradictions within an entry are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.made_entries import change, find_protocol, refusal, write_entry

from metaevents.benchmark.protocols import DATA
from metaevents.benchmark.validation import read_entry

RUNS = {"seeds": 2, "mean": 0.55, "deviation": 0.0707106781, "accuracies": [0.5, 0.6]}


def test_a_run_that_is_not_the_protocol_is_refused(tmp_path: Path) -> None:
    path = write_entry(tmp_path, is_protocol=False, deviations=["episodes=20 instead of 600"])
    refusal(path, "not the protocol (episodes=20 instead of 600)", "without --episodes")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("queries", 5, "queries=5 instead of 15"),
        ("seed", 7, "seed=7 instead of 0"),
        ("split", "train", "split=train instead of test"),
        ("name", "7way-1shot", "no protocol '7way-1shot'"),
        ("version", 9, "upgrade metaevents"),
        ("dataset", "my gestures", "for a dataset of your own a name of at most 80 letters"),
        ("dataset", "Double-NMNIST", "report.protocol.dataset is"),
        ("classes", "novel-components", "not a class of the test split"),
    ],
)
def test_a_report_that_claims_the_protocol_but_differs_from_it_is_refused(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    refusal(change(write_entry(tmp_path), "report", "protocol", field, to=value), words)


def test_an_entry_of_a_dataset_of_ones_own_is_checked_as_far_as_it_goes(tmp_path: Path) -> None:
    path = change(write_entry(tmp_path), "report", "protocol", "dataset", to="my-gestures")
    read_entry(change(path, "report", "archive", "source", to="my-gestures"))  # only the archive
    refusal(change(path, "report", "archive", "source", to="simulated"), "contradict each other")
    change(path, "report", "archive", "source", to="my-gestures")
    refusal(change(path, "report", "protocol", "pairing", to="published"), "pairing=published")
    change(path, "report", "protocol", "pairing", to="all")
    change(path, "report", "protocol", "classes", to="novel-components")
    refusal(path, "classes=novel-components")


def test_episodes_other_than_the_published_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "metaevents.benchmark.consistency.published_digest", lambda fingerprint, protocol: "0" * 64
    )
    refusal(write_entry(tmp_path), "report.episodes_digest", "0000")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("accuracy", 0.99, "the mean of report.per_episode is"),
        ("episode_ci95", 0.0001, "report.per_episode gives"),
        ("ci95", 0.0001, "over episodes of the same recordings"),
        ("unshared_accuracy", None, "null exactly where no query is unshared"),
        ("unshared_accuracy", 0.1, "of the queries excludes"),
        ("per_episode", [0.5], "one for each of 600 episodes"),
        ("trials", {**RUNS, "mean": 0.9}, "its accuracies give"),
        ("training_seeds", {**RUNS, "seeds": 3}, "its accuracies give"),
        ("trials", RUNS, "trial 0 is the report itself"),
        ("transductive", True, "without report.transductive_evidence"),
        ("transductive", None, "but report.deterministic or report.stateful is not"),
        ("stateful", True, "without report.stateful_evidence"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    refusal(change(write_entry(tmp_path), "report", field, to=value), words)


def test_an_accuracy_that_no_number_of_queries_gives_is_refused(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    refusal(
        change(path, "report", "per_episode", 3, to=0.123456),
        "report.per_episode[3]",
        "not a whole number of 75 queries",
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("source", "n-caltech101", "expected one of n-mnist, n-mnist-subset, simulated"),
        ("source", "simulated", "contradict each other"),
        ("simulated", True, "contradict each other"),
    ],
)
def test_an_archive_that_is_not_of_the_dataset_is_refused(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    refusal(change(write_entry(tmp_path), "report", "archive", field, to=value), words)


@pytest.mark.parametrize(
    "by",
    [
        "Ada Example",
        "ada  example",
        "ADA EXAMPLE",
        "Áda Exámple",
        "Hanna Other and Ada Example",
        "Hanna Other; Grace Sample",
    ],
)
def test_authors_cannot_verify_their_own_entry(tmp_path: Path, by: str) -> None:
    verified = {"by": by, "how": "reran the released weights", "date": "2026-01-12"}
    refusal(
        change(write_entry(tmp_path), "verified", to=verified),
        "verified.by",
        "only a rerun by somebody else",
    )


def test_a_rerun_by_somebody_else_verifies_an_entry(tmp_path: Path) -> None:
    verified = {"by": "Anderson Other", "how": "reran the released weights", "date": "2026-01-12"}
    entry = read_entry(change(write_entry(tmp_path), "verified", to=verified))
    assert entry.verified == verified


def test_the_date_of_a_rerun_must_exist(tmp_path: Path) -> None:
    verified = {"by": "Hanna Other", "how": "reran it", "date": "2026-02-30"}
    refusal(change(write_entry(tmp_path), "verified", to=verified), "verified.date", "not a date")


def published(name: str) -> tuple[str, dict[str, Any]]:
    """Fingerprint and facts of a published archive of a source."""
    archives = json.loads((DATA / "episode-digests.json").read_text("utf-8"))["archives"]
    return next((key, value) for key, value in archives.items() if value["source"] == name)


@pytest.mark.parametrize(
    "claim",
    [{"source": "n-mnist"}, {"recordings": 999}, {"source": "simulated", "simulated": True}],
)
def test_the_facts_of_a_published_archive_are_known(tmp_path: Path, claim: dict[str, Any]) -> None:
    """A subset cannot pass for the whole dataset, or simulated recordings for real ones."""
    fingerprint, facts = published("n-mnist-subset")
    path = write_entry(tmp_path, protocol=find_protocol("sample-5way-1shot"))
    archive = {
        "fingerprint": fingerprint,
        "source": facts["source"],
        "simulated": facts["simulated"],
        "recordings": facts["recordings"],
    }
    change(path, "report", "archive", to={**archive, **claim})
    refusal(path, "report.archive states", "the archive of this fingerprint has")


def test_a_dataset_has_no_more_recordings_than_its_source(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    change(path, "report", "archive", "recordings", to=70_001)
    refusal(path, "report.archive.recordings is 70001, but double-nmnist has at most 70000")


def test_the_accuracy_lies_within_those_of_the_classes(tmp_path: Path) -> None:
    path = write_entry(tmp_path, accuracy=0.8)
    classes = read_entry(path).report["per_class"]
    change(path, "report", "per_class", to=dict.fromkeys(classes, 0.99))
    refusal(path, "report.per_class has values from 0.99 to 0.99")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"effective_macs": 900.0}, "report.costs: 950 effective operations are more than"),
        ({"spikes_per_layer": {"a": 1.0}}, "report.costs: the spikes of the layers add up to 1"),
        (
            {"adaptation": {"effective_acs": 3.0, "dense_operations": 2.0}},
            "report.costs.adaptation: 3 effective operations",
        ),
        (
            {"effective_acs": 51.0},
            "synaptic_operations_per_sample is 150, but report.costs has 151",
        ),
        ({"joules": 1.0}, "joules"),
        ({"activation_sparsity": 2.0}, "activation_sparsity"),
        ({"spikes_per_layer": {"a" * 61: 30.0}}, "spikes_per_layer"),
    ],
)
def test_costs_that_contradict_each_other_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    costs = {
        "effective_macs": 100.0,
        "effective_acs": 50.0,
        "dense_operations": 901.0,
        "spikes_per_layer": {"a": 10.0, "b": 20.0},
    }
    numbers = {"spikes_per_sample": 30.0, "synaptic_operations_per_sample": 150.0}
    read_entry(write_entry(tmp_path, costs=costs, **numbers))
    if "effective_macs" in changes:
        numbers["synaptic_operations_per_sample"] = 950.0
    refusal(write_entry(tmp_path, costs={**costs, **changes}, **numbers), words)
