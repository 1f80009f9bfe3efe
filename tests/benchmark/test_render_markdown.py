"""The leaderboard as Markdown."""

from __future__ import annotations

from pathlib import Path

from support.made_entries import VERIFIED, change, find_protocol, write_entry

from metaevents.benchmark.leaderboard import tables
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.validation import admit


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
    text = render_markdown(tables(admit(tmp_path)))
    (first, second) = (line for line in text.splitlines() if line.startswith(("| 1 ", "| 2 ")))
    assert "[SNN-MAML](https://example.org/ada/few-events)" in first
    assert "Ada Example, Grace Sample" in first
    assert "| rank 1 |" in first
    assert "verified by Hanna Other, 2026-01-12" in first
    assert "262,949" in first
    assert " ± " in first
    assert "behind, p < 0.001" in second
    assert "claimed; not deterministic; other data" in second
    assert "## Double N-MNIST\n" in text
    assert "### 5-way 1-shot\n" in text
    assert text.count("best") == 1


def test_the_subset_has_its_own_part(tmp_path: Path) -> None:
    write_entry(tmp_path, "sampled", 0.7, protocol=find_protocol("sample-5way-1shot"))
    text = render_markdown(tables(admit(tmp_path)))
    assert (
        text.index("No entry on a whole dataset yet")
        < text.index("# Subset of the recordings")
        < text.index("| 1 |")
    )


def test_an_empty_leaderboard_says_how_to_begin() -> None:
    assert "No entry yet" in render_markdown([])
