"""The leaderboard: standings and tables."""

from __future__ import annotations

from pathlib import Path

from support.made_entries import find_protocol, write_entry

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import standings, tables
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.validation import admit


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
