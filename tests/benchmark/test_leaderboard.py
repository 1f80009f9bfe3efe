"""The leaderboard: standings and tables."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from support.made_entries import change, find_protocol, write_entry

import metaevents as me
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.evaluation import evaluate
from metaevents.benchmark.leaderboard import (
    run_tests,
    standings,
    tables,
    write_missing_episodes,
)
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.statistics import episode_ci95
from metaevents.benchmark.validation import admit
from metaevents.errors import UsageError


def admitted(folder: Path) -> dict[str, Entry]:
    return {entry.id: entry for entry in admit(folder)}


def test_similar_entries_are_tied_with_the_best_and_worse_ones_are_behind(tmp_path: Path) -> None:
    for stem, accuracy in (("best", 0.83), ("twin", 0.829), ("worse", 0.75)):
        write_entry(tmp_path, stem, accuracy)
    found = admitted(tmp_path)
    by_stem = dict(zip(found, standings(list(found.values())), strict=True))
    assert {stem: standing.against_best for stem, standing in by_stem.items()} == {
        "best": "best", "twin": "tied", "worse": "behind",
    }  # fmt: skip
    assert {stem: standing.rank for stem, standing in by_stem.items()} == {
        "best": 1,
        "twin": 2,
        "worse": 3,
    }
    assert by_stem["best"].p is None


def test_many_comparisons_make_ties_more_likely(tmp_path: Path) -> None:
    write_entry(tmp_path, "best", 0.83)
    write_entry(tmp_path, "near", 0.8225)
    alone = {s.against_best: s.p for s in standings(admit(tmp_path))}
    for k in range(10):
        write_entry(tmp_path, f"twin{k}", 0.826, seed=k)
    found = admitted(tmp_path)
    crowded = dict(zip(found, standings(list(found.values())), strict=True))
    assert alone["behind"] is not None
    assert alone["behind"] <= 0.05
    assert crowded["near"].p is not None
    assert crowded["near"].p > alone["behind"]


def test_entries_over_other_episodes_are_not_compared(tmp_path: Path) -> None:
    write_entry(tmp_path, "best", 0.83)
    write_entry(tmp_path, "elsewhere", 0.829, protocol=find_protocol(), source="n-mnist-subset")
    found = admitted(tmp_path)
    by_stem = dict(zip(found, standings(list(found.values())), strict=True))
    assert by_stem["elsewhere"].against_best == "incomparable"
    assert by_stem["elsewhere"].p is None


def test_entries_are_not_compared_without_an_episode_file(tmp_path: Path) -> None:
    write_entry(tmp_path, "best", 0.83)
    path = write_entry(tmp_path, "other", 0.75)
    (file,) = (tmp_path / "episodes").iterdir()
    file.unlink()
    found = standings(admit(tmp_path))
    assert [standing.against_best for standing in found] == ["best", "uncompared"]
    assert "not compared (no episode file)" in render_markdown(tables(admit(tmp_path)))
    assert path.exists()


def test_an_entry_whose_predictions_give_other_accuracies_is_refused(tmp_path: Path) -> None:
    write_entry(tmp_path, "best", 0.83)
    path = write_entry(tmp_path, "liar", 0.75)
    report = json.loads(path.read_text())["report"]
    better = [min(1.0, round(75 * score + 1) / 75) for score in report["per_episode"]]
    change(path, "report", "per_episode", to=better)
    change(path, "report", "accuracy", to=fmean(better))
    change(path, "report", "episode_ci95", to=episode_ci95(better))
    change(path, "report", "unshared_accuracy", to=fmean(better))
    with pytest.raises(UsageError, match=r"liar.json: report.per_episode does not follow from"):
        tables(admit(tmp_path))


def test_missing_episode_files_are_written_from_an_archive(
    tmp_path: Path, nmnist_root: Path
) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, split="test")
    for name in ("first", "second"):
        report = evaluate(lambda x, y, ways: lambda q: np.zeros((len(q), ways)), dataset,
                          "sample-5way-1shot", episodes=3, probe=False)  # fmt: skip
        report.save_predictions(tmp_path / f"{name}.npz")
        report.save(tmp_path / f"{name}.json", name=name)
    entries = [
        Entry(path, json.loads(path.read_text())) for path in sorted(tmp_path.glob("*.json"))
    ]
    assert run_tests(entries) == {}
    (written,) = write_missing_episodes(entries, nmnist_root)
    assert written.name == f"{entries[0].report['episodes_digest']}.npz"
    assert write_missing_episodes(entries, nmnist_root) == []
    (tests,) = run_tests(entries).values()
    assert tests.p_values.tolist() == [[1, 1], [1, 1]]


def test_weights_that_overlap_the_test_are_shown_without_a_rank(tmp_path: Path) -> None:
    write_entry(tmp_path, "honest", 0.8)
    write_entry(tmp_path, "leaky", 0.99, overlap="1,000 recordings of the test partition")
    ((honest, leaky),) = (table.rows for table in tables(admit(tmp_path)))
    assert (
        honest.entry.id,
        honest.standings["all"].rank,
        honest.standings["all"].against_best,
    ) == (
        "honest",
        1,
        "best",
    )
    assert (leaky.entry.id, leaky.standings["all"].rank, leaky.standings["all"].against_best) == (
        "leaky",
        None,
        "unranked",
    )
    assert "overlaps the test" in render_markdown(tables(admit(tmp_path)))


def test_each_setting_has_its_own_best_entry(tmp_path: Path) -> None:
    write_entry(
        tmp_path,
        "looks-at-all",
        0.95,
        transductive=True,
        transductive_evidence="one by one, 25 of 25 moved",
    )
    write_entry(tmp_path, "one-by-one", 0.90)
    ((first, second),) = (table.rows for table in tables(admit(tmp_path)))
    assert (first.entry.id, second.entry.id) == ("looks-at-all", "one-by-one")
    assert set(second.standings) == {"all", "inductive"}
    assert (second.standings["all"].rank, second.standings["inductive"].rank) == (2, 1)
    assert second.standings["inductive"].against_best == "best"
    assert first.standings["transductive"].against_best == "best"


def test_each_dataset_protocol_pairing_and_class_split_has_a_table_and_subsets_come_last(
    tmp_path: Path,
) -> None:
    chosen = [
        ("sample-5way-1shot", "double-nmnist", "all", "published"),
        ("5way-1shot", "double-asl-dvs", "all", "published"),
        ("5way-1shot", "double-nmnist", "published", "published"),
        ("5way-1shot", "double-nmnist", "all", "novel-components"),
        ("5way-5shot", "double-nmnist", "all", "published"),
        ("5way-1shot", "double-nmnist", "all", "published"),
        ("20way-1shot", "double-nmnist", "all", "published"),
    ]
    for place, (name, dataset, pairing, classes) in enumerate(chosen):
        protocol = find_protocol(name, dataset, pairing, classes)
        write_entry(tmp_path, f"entry{place}", 0.7, protocol=protocol)
    found = tables(admit(tmp_path))
    order = [
        (t.is_subset, t.dataset, t.title, t.protocol["pairing"], t.protocol["classes"])
        for t in found
    ]
    assert order == [
        (False, "Double N-MNIST", "5-way 1-shot", "all", "published"),
        (False, "Double N-MNIST", "5-way 5-shot", "all", "published"),
        (False, "Double N-MNIST", "20-way 1-shot", "all", "published"),
        (False, "Double N-MNIST", "5-way 1-shot", "all", "novel-components"),
        (False, "Double N-MNIST", "5-way 1-shot", "published", "published"),
        (False, "Double ASL-DVS", "5-way 1-shot", "all", "published"),
        (True, "Double N-MNIST", "5-way 1-shot", "all", "published"),
    ]
    assert len({table.id for table in found}) == len(found)


def test_a_full_protocol_on_a_subset_of_the_recordings_is_listed_with_the_subset(
    tmp_path: Path,
) -> None:
    write_entry(tmp_path, "whole", 0.7)
    write_entry(tmp_path, "part", 0.9, source="n-mnist-subset")
    assert [(t.is_subset, [row.entry.id for row in t.rows]) for t in tables(admit(tmp_path))] == [
        (False, ["whole"]),
        (True, ["part"]),
    ]
