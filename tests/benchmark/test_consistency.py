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
        ("dataset", "double-dvs-gesture", "dataset=double-dvs-gesture"),
        ("classes", "novel-components", "not a class of the test split"),
    ],
)
def test_a_report_that_claims_the_protocol_but_differs_from_it_is_refused(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    refusal(change(write_entry(tmp_path), "report", "protocol", field, to=value), words)


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
        ("ci95", 0.0001, "report.per_episode gives"),
        ("bootstrap95", [0.9, 0.8], "lower end first"),
        ("per_episode", [0.5], "one for each of 600 episodes"),
        ("trials", {**RUNS, "mean": 0.9}, "its accuracies give"),
        ("training_seeds", {**RUNS, "seeds": 3}, "its accuracies give"),
        ("trials", RUNS, "trial 0 is the report itself"),
        ("transductive", True, "without report.transductive_evidence"),
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
