"""The matrix of methods against tables."""

from __future__ import annotations

from pathlib import Path

from support.made_entries import find_protocol, write_entry

from metaevents.benchmark.leaderboard import tables
from metaevents.benchmark.overview import overview
from metaevents.benchmark.render_html import render_html
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.validation import admit


def write(folder: Path) -> None:
    five = find_protocol("5way-5shot")
    novel = find_protocol("5way-1shot", classes="novel-components")
    write_entry(folder, "strong", 0.9, method={"name": "Strong", "citation": "doi:10.1000/182"})
    write_entry(folder, "strong5", 0.95, method={"name": "Strong"}, protocol=five)
    write_entry(folder, "weak", 0.6, method={"name": "Weak"})
    write_entry(folder, "novel", 0.5, method={"name": "Weak"}, protocol=novel)
    write_entry(folder, "top", 0.97, method={"name": "Pixels"}, learner="floor:pixels")


def test_methods_stand_in_the_order_of_the_first_table_with_trivial_ones_last(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    shown = tables(admit(tmp_path))
    methods = overview(shown)
    assert [(method.name, method.trivial) for method in methods] == [
        ("Strong", False),
        ("Weak", False),
        ("Pixels", True),
    ]
    ids = [[row and row.entry.id for row in method.rows] for method in methods]
    assert ids == [["strong", "strong5", None], ["weak", None, "novel"], ["top", None, None]]


def test_both_documents_begin_with_the_overview(tmp_path: Path) -> None:
    write(tmp_path / "entries")
    (tmp_path / "SUBMITTING.md").write_text("how", "utf-8")
    shown = tables(admit(tmp_path / "entries"))
    page, text = render_html(shown, tmp_path / "page"), render_markdown(shown, tmp_path)
    assert 'href="#table-double-nmnist-5way-1shot-published-all-strong"' in page
    assert page.index('class="overview"') < page.index('<section class="part">')
    assert 'href="../SUBMITTING.md"' in page
    assert 'href="../entries/strong.npz"' in page
    assert 'href="../entries/strong.json"' in page
    assert 'href="https://doi.org/10.1000/182"' in page
    assert ">trivial baseline<" in page
    assert "| Method | 5-way 1-shot | 5-way 5-shot | 5-way 1-shot, novel components |" in text
    assert "[predictions](entries/strong.npz)" in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(set(headings)) == len(headings)


def test_the_word_best_stands_in_the_legend_alone(tmp_path: Path) -> None:
    write(tmp_path)
    shown = tables(admit(tmp_path))
    assert render_markdown(shown).count("best") == 1
    body = render_html(shown).split("<body>")[1]
    visible = [word for word in body.replace('"against_best"', "").split() if word == "best"]
    assert len(visible) == 1
