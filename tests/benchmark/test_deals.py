"""Mean and deviation over the deals of novel components, of reports and on the leaderboard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import pytest
from support.made_entries import find_protocol, write_entry
from support.simple_learners import ClassMeans

import metaevents as me
from metaevents.benchmark import Report, over_deals
from metaevents.benchmark.leaderboard import deal_tables, tables
from metaevents.benchmark.render_html import render_html
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.validation import admit
from metaevents.cli import main
from metaevents.component_deals import DEALS
from metaevents.errors import UsageError


@pytest.fixture(scope="module")
def reports(digits_root: Path) -> list[Report]:
    return [
        me.evaluate(
            ClassMeans(),
            me.DoubleNMNIST(digits_root, "test", classes=deal),
            "sample-5way-1shot",
            episodes=6,
            progress=False,
        )
        for deal in (DEALS[3], DEALS[0])
    ]


def test_reports_over_deals_have_a_mean_and_a_deviation(reports: list[Report]) -> None:
    found = over_deals(reports)
    accuracies = [report.accuracy for report in reports]
    assert dict(found.accuracies) == {1: accuracies[1], 4: accuracies[0]}
    assert list(found.accuracies) == [1, 4]
    assert found.mean == pytest.approx(sum(accuracies) / 2)
    assert found.deviation == pytest.approx(stdev(accuracies))
    assert "2 of 10 deals (1: " in str(found)
    assert over_deals(reports[:1]).deviation is None


def test_reports_that_are_not_over_deals_are_refused(reports: list[Report]) -> None:
    first, second = reports
    published = replace(first, protocol=replace(first.protocol, classes="published"))
    with pytest.raises(UsageError, match="classes='published', which is no deal"):
        over_deals([published, second])
    with pytest.raises(UsageError, match="two reports have classes='novel-components-4'"):
        over_deals([first, first])
    for other in (
        replace(second, protocol=replace(second.protocol, version=1)),
        replace(second, archive={**second.archive, "fingerprint": "0" * 64}),
    ):
        with pytest.raises(UsageError, match="got 2 reports of 2 protocols and archives"):
            over_deals([first, other])
    with pytest.raises(UsageError, match="got 0 reports"):
        over_deals([])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods over deals, one of them over all of three; and entries of the first deal."""
    place = tmp_path_factory.mktemp("entries")
    for stem, deals, accuracy in (("alpha", DEALS[:3], 0.6), ("beta", DEALS[1:2], 0.9)):
        for number, deal in enumerate(deals):
            protocol = find_protocol("sample-5way-1shot", classes=deal)
            method = {"name": f"method {stem}"}
            write_entry(
                place, f"{stem}-{deal}", accuracy + number / 20, protocol=protocol, method=method
            )
    write_entry(place, "whole", 0.5, protocol=find_protocol(classes=DEALS[0]))
    return place


def test_the_leaderboard_has_one_table_over_the_deals(folder: Path) -> None:
    entries = admit(folder)
    (table,) = deal_tables(entries)
    assert (table.numbers, table.is_subset) == ((1, 2, 3), True)
    assert [row.name for row in table.rows] == ["method alpha", "method beta"]  # more deals first
    alpha, beta = (row.accuracies for row in table.rows)
    assert list(alpha.accuracies) == [1, 2, 3]
    assert alpha.mean == pytest.approx(0.65, abs=0.02)
    assert beta.deviation is None
    # Only the first deal has a table of its own too.
    assert {each.protocol["classes"] for each in tables(entries)} == {DEALS[0]}


def test_markdown_and_page_show_the_deals(folder: Path, tmp_path: Path) -> None:
    entries = admit(folder)
    text = render_markdown(tables(entries), tmp_path, deal_tables(entries))
    (line,) = (line for line in text.splitlines() if line.startswith("| method alpha | "))
    mean = 100 * deal_tables(entries)[0].rows[0].accuracies.mean
    assert line.startswith(f"| method alpha | {mean:.1f} | ")
    assert line.count("](") == 3
    assert "## Double N-MNIST, subset: 5-way 1-shot, deals of novel components\n" in text
    assert "is no interval of the mean" in text
    html = render_html(tables(entries), tmp_path, deal_tables(entries))
    assert html.count('id="deals-') == html.count('href="#deals-') == 1
    assert "alpha-novel-components-3.json" in html


def test_the_command_lists_the_deals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = folder.parent / "LEADERBOARD.md"
    assert (
        main(["leaderboard", "--entries", str(folder), "--markdown", str(document), "--json"]) == 0
    )
    (deals,) = json.loads(capsys.readouterr().out)["deals"]
    assert "classes" not in deals["protocol"]
    assert [row["method"] for row in deals["rows"]] == ["method alpha", "method beta"]
    assert deals["rows"][0]["entries"]["3"] == "alpha-novel-components-3"
    assert "deals of novel components" in document.read_text("utf-8")


def test_versions_are_never_compared_and_older_ones_come_last(tmp_path: Path) -> None:
    old = find_protocol("sample-5way-1shot", version=1)
    write_entry(tmp_path, "first", 0.9, protocol=old, method={"name": "SNN"})
    write_entry(tmp_path, "worse", 0.5, protocol=old)
    write_entry(tmp_path, "newest", 0.6, protocol=find_protocol("sample-5way-1shot"))
    write_entry(tmp_path, "published", 0.6, protocol=find_protocol("sample-5way-5shot"))
    entries = admit(tmp_path)
    shown = tables(entries)
    assert [(t.protocol["version"], t.is_newest, len(t.rows)) for t in shown] == [
        (2, True, 1), (1, False, 2), (2, True, 1),
    ]  # fmt: skip
    assert shown[0].rows[0].standings["all"].against_best == "best"
    assert shown[0].id != shown[1].id
    text = render_markdown(shown, tmp_path)
    older = text.index("# Older versions of the protocols")
    assert text.index("Protocol sample-5way-1shot, version 2:") < older
    assert older < text.index("Protocol sample-5way-1shot, version 1:")
    assert text.index("[entry](newest.json)") < older < text.index("[entry](first.json)")
    assert "\n### 5-way 1-shot, version 1\n" in text[older:]
    assert "no number here may be compared" in text
    html = render_html(shown, tmp_path)
    assert html.index("version 2: 600") < html.index("older versions of the protocols</h2>")
    assert html.index("older versions of the protocols</h2>") < html.index("version 1: 600")
    # The overview at the top has the newest versions alone.
    assert "SNN" not in html[: html.index("</nav>")]


def test_entries_of_older_deals_versions_have_no_deal_table(tmp_path: Path) -> None:
    for version, classes in ((1, DEALS[0]), (2, DEALS[0])):
        protocol = find_protocol("sample-5way-1shot", classes=classes, version=version)
        write_entry(tmp_path, f"v{version}", 0.6, protocol=protocol)
    assert deal_tables(admit(tmp_path)) == []  # of the first deal alone
    write_entry(
        tmp_path, "more", 0.7, protocol=find_protocol("sample-5way-1shot", classes=DEALS[2])
    )
    (table,) = deal_tables(admit(tmp_path))
    assert sorted(e.id for row in table.rows for e in row.entries.values()) == ["more", "v2"]
