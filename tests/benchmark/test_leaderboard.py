"""The leaderboard: tables, ranks, ties, Markdown, and the command that writes and checks it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.made_entries import change, find_protocol, write_entry

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import holm, paired_tests, standings, tables
from metaevents.benchmark.markdown import escape_markdown
from metaevents.benchmark.render_markdown import markdown
from metaevents.benchmark.validation import admit
from metaevents.cli import main

VERIFIED = {"by": "Hanna Other", "how": "reran the released weights", "date": "2026-01-12"}


def admitted(folder: Path) -> dict[str, Entry]:
    return {entry.id: entry for entry in admit(folder)}


# --- comparing ----------------------------------------------------------------------------------------------------------


def test_the_paired_test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    best = rng.binomial(75, 0.80, 600)
    others = [np.clip(best + rng.integers(-4, 4 + shift, 600), 0, 75) for shift in (1, 1, 2)]
    for p, other in zip(paired_tests(best, others), others, strict=True):
        expected = stats.permutation_test(
            (best, other),
            lambda a, b: float(np.mean(a - b)),
            permutation_type="samples",
            vectorized=False,
            n_resamples=1999,
        )
        assert p == pytest.approx(float(expected.pvalue), abs=0.04)
        assert p == pytest.approx(float(stats.ttest_rel(best, other).pvalue), abs=0.02)


def test_the_paired_test_is_the_same_every_time() -> None:
    """Golden, computed once: signs are bits of numpy's Philox(key=600), which never change; all else is whole numbers."""
    i = np.arange(600)
    best, other = 60 + i % 7, 60 + (i // 2) % 7 - (i % 3 == 0) * (i % 2)
    assert paired_tests(best, [other, best]) == [0.0439, 1.0]
    assert stats.ttest_rel(best, other).pvalue == pytest.approx(0.0439, abs=0.002)


def test_the_paired_test_keeps_its_level() -> None:
    """Two methods that are alike are told apart in about 5 % of trials at p <= 0.05."""
    rng = np.random.default_rng(11)
    best = rng.binomial(50, 0.7, 100)
    flips = rng.integers(0, 2, (400, 100)) * 2 - 1
    difference = rng.integers(0, 6, 100)
    p = np.array(paired_tests(best, [best - row * difference for row in flips]))
    assert 0.02 < np.mean(p <= 0.05) < 0.09


def test_holm_corrects_for_the_number_of_comparisons() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_entries_alike_are_tied_with_the_best_and_worse_ones_behind(tmp_path: Path) -> None:
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
    assert "overlaps the test" in markdown(tables(admit(tmp_path)))


def test_each_setting_has_a_best_of_its_own(tmp_path: Path) -> None:
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


# --- tables -------------------------------------------------------------------------------------------------------------


def test_there_is_a_table_a_dataset_protocol_pairing_and_class_split_with_the_sample_last(
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
        (t.sample, t.dataset, t.title, t.protocol["pairing"], t.protocol["classes"]) for t in found
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


def test_a_full_protocol_on_a_part_of_the_recordings_stands_with_the_sample(tmp_path: Path) -> None:
    write_entry(tmp_path, "whole", 0.7)
    write_entry(tmp_path, "part", 0.9, source="n-mnist-subset")
    assert [(t.sample, [row.entry.id for row in t.rows]) for t in tables(admit(tmp_path))] == [
        (False, ["whole"]),
        (True, ["part"]),
    ]


# --- Markdown -----------------------------------------------------------------------------------------------------------


def test_markdown_shows_what_a_reader_needs(tmp_path: Path) -> None:
    change(write_entry(tmp_path, "snn", 0.9, method={"name": "SNN-MAML"}), "verified", to=VERIFIED)
    write_entry(
        tmp_path,
        "other",
        0.5,
        method={"other_data": "N-Caltech101"},
        deterministic=False,
        parameters=None,
    )
    text = markdown(tables(admit(tmp_path)))
    (first, second) = (line for line in text.splitlines() if line.startswith(("| 1 ", "| 2 ")))
    assert "[SNN-MAML](https://example.org/ada/few-events)" in first
    assert "Ada Example, Grace Sample" in first
    assert "best" in first
    assert "verified by Hanna Other, 2026-01-12" in first
    assert "262,949" in first
    assert " ± " in first
    assert "behind, p < 0.001" in second
    assert "claimed; not deterministic; other data" in second
    assert "## Double N-MNIST, 5-way 1-shot" in text


def test_the_sample_has_a_part_of_its_own_in_markdown(tmp_path: Path) -> None:
    write_entry(tmp_path, "sampled", 0.7, protocol=find_protocol("sample-5way-1shot"))
    text = markdown(tables(admit(tmp_path)))
    assert (
        text.index("No entry on a whole dataset yet") < text.index("# Sample") < text.index("| 1 |")
    )


def test_an_empty_leaderboard_says_how_to_begin() -> None:
    assert "No entry yet" in markdown([])


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "a | b", "[x](javascript:alert(1))", "**bold** _it_ `code`", "![i](https://example.org/i.png)",
     "https://evil.example", "www.evil.example", "@somebody", "$x^2$", "&lt;", "\\| end \\", "two\nlines", "~~gone~~"],
)  # fmt: skip
def test_no_text_of_an_entry_becomes_markup(text: str) -> None:
    markdown_it = pytest.importorskip(
        "markdown_it", reason="the Markdown parser markdown-it-py is not installed"
    )
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    rendered = parser.render(f"| a | b |\n|---|---|\n| {escape_markdown(text)} | second |\n")
    from html import unescape

    assert rendered.count("<td>") == 2
    cell = rendered.split("<td>")[1].split("</td>")[0]
    assert "<" not in cell
    assert unescape(cell) == " ".join(text.split())
    assert "://" not in escape_markdown(text)
    assert "www." not in escape_markdown(text)


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stem, accuracy in (("one", 0.9), ("two", 0.8)):
        write_entry(tmp_path / "cards" / "entries", stem, accuracy)
    return tmp_path


def leaderboard(*arguments: str | Path) -> int:
    return main(["leaderboard", *map(str, arguments)])


def test_the_command_writes_markdown_beside_the_entries_and_the_page_where_it_is_told(
    folder: Path,
) -> None:
    assert leaderboard("--entries", folder / "cards" / "entries", "--html", folder / "site") == 0
    assert "| 1 |" in (folder / "cards" / "LEADERBOARD.md").read_text("utf-8")
    assert (folder / "site" / "index.html").read_text("utf-8").startswith("<!doctype html>")


def test_the_entries_of_the_working_folder_are_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert leaderboard() == 0
    assert (folder / "cards" / "LEADERBOARD.md").is_file()


def test_equal_entries_give_equal_bytes(folder: Path) -> None:
    digests = set()
    for place in ("a", "b"):
        out = folder / place
        assert (
            leaderboard(
                "--entries", folder / "cards/entries", "--html", out, "--markdown", out / "board.md"
            )
            == 0
        )
        digests.add(
            tuple(
                hashlib.sha256((out / name).read_bytes()).hexdigest()
                for name in ("index.html", "board.md")
            )
        )
    assert len(digests) == 1


def test_check_passes_on_what_was_written_and_fails_on_any_difference(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--entries", folder / "cards/entries", "--html", folder / "site")
    assert leaderboard(*where) == 0
    assert leaderboard(*where, "--check") == 0
    page = folder / "site" / "index.html"
    written = page.read_text("utf-8")
    page.write_text(written.replace("Leaderboard", "Best methods"), "utf-8")
    capsys.readouterr()
    assert leaderboard(*where, "--check") == 2
    said = capsys.readouterr().err
    assert "index.html" in said
    assert "LEADERBOARD.md" not in said
    assert said.count("\n") == 1
    assert page.read_text("utf-8") != written, "--check writes nothing"
    write_entry(folder / "cards" / "entries", "three", 0.95)
    assert leaderboard(*where, "--check") == 2
    assert leaderboard(*where) == 0
    assert leaderboard(*where, "--check") == 0


def test_check_fails_where_nothing_was_written(folder: Path) -> None:
    assert leaderboard("--entries", folder / "cards/entries", "--check") == 2
    assert not (folder / "cards" / "LEADERBOARD.md").exists()


def test_the_command_refuses_simulated_and_broken_entries(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dream = write_entry(folder / "cards" / "entries", "dream", source="simulated")
    assert leaderboard("--entries", folder / "cards/entries") == 2
    assert "simulated" in capsys.readouterr().err
    dream.write_text("{}")
    assert leaderboard("--entries", folder / "cards/entries") == 2
    said = capsys.readouterr().err
    assert "dream.json" in said
    assert said.count("\n") == 1


def test_the_command_gives_its_tables_as_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    assert leaderboard("--entries", folder / "cards/entries", "--json") == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    rows = [(row["entry"], row["rank"], row["against_best"]) for row in table["rows"]]
    assert rows == [("one", 1, "best"), ("two", 2, "behind")]


# --- validate, as a command ---------------------------------------------------------------------------------------------


def test_validate_says_what_it_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    path = folder / "cards" / "entries" / "one.json"
    assert main(["validate", str(path)]) == 0
    said = capsys.readouterr().out
    assert "ok  form" in said
    assert "not recomputed" in said
    assert main(["validate", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is True
    assert answer["simulated"] is False
    assert answer["verified"] is None


def test_validate_refuses_in_one_line_or_in_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    path = change(folder / "cards" / "entries" / "one.json", "method", "name", to=None)
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "method.name is null" in said.err
    assert main(["validate", str(path), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert "method.name is null" in answer["problem"]


def test_validate_says_that_a_simulated_entry_never_enters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_entry(tmp_path, "dream", source="simulated")
    assert main(["validate", str(path)]) == 0
    assert "never enters the leaderboard" in capsys.readouterr().out
