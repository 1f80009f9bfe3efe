"""The leaderboard as one Markdown document, `cards/LEADERBOARD.md`.

No text of an entry can become markup; a URL becomes a link only where this module makes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from metaevents.benchmark.amounts import amount, operations, size
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import DealTable, Row, Table
from metaevents.benchmark.markdown import escape_address, escape_markdown, table
from metaevents.benchmark.overview import overview
from metaevents.benchmark.wording import (
    COSTS,
    DASH,
    DEALS_NOTE,
    OLDER_NOTE,
    OLDER_TITLE,
    OVERVIEW,
    READING,
    SUBSET_NOTE,
    TITLE,
    describe_standing,
    empty_note,
    flags,
    is_url,
    percent,
    relative_address,
    short_title,
    table_terms,
    unshared,
)

_COLUMNS = (
    ("#", "r"),
    ("Method", "l"),
    ("Authors", "l"),
    ("Accuracy (%)", "l"),
    ("Unshared queries (%)", "l"),
    ("Against rank 1", "l"),
    ("Setting", "l"),
    ("Parameters", "r"),
    ("Effective MACs", "r"),
    ("ACs", "r"),
    ("Adaptation", "r"),
    ("Footprint", "r"),
    ("Status", "l"),
    ("Files", "l"),
)
"""Title and alignment of each column."""


def render_markdown(
    tables: Sequence[Table], folder: Path | None = None, deals: Sequence[DealTable] = ()
) -> str:
    """Return the whole document; equal tables give equal documents.

    Tables of older versions of the protocols come last.

    Args:
        tables: the tables.
        folder: where the document will lie. Links to entries and predictions are relative to it.
            None makes no such links.
        deals: the tables over the deals of `novel-components`.
    """
    sections = [
        "# Leaderboard",
        "<!-- Written by `metaevents leaderboard` from cards/entries; do not edit. -->",
        f"{TITLE}. Every entry comes with its predictions. To add one, see "
        "[SUBMITTING.md](SUBMITTING.md).",
        "\n".join(f"- {line}" for line in (*READING, COSTS)),
    ]
    if note := empty_note(tables):
        sections.append(note)
    for on_subset in (False, True):
        shown = [each for each in tables if each.is_subset == on_subset and each.is_newest]
        over_deals = [each for each in deals if each.is_subset == on_subset]
        if on_subset and (shown or over_deals):
            sections += ["# Subset of the recordings", SUBSET_NOTE]
        for dataset, members in groupby(shown, key=lambda each: each.dataset):
            sections += _part(dataset, list(members), folder)
        sections += [_deal_section(each, folder) for each in over_deals]
    older = [each for each in tables if not each.is_newest]
    if older:
        sections += [f"# {OLDER_TITLE}", OLDER_NOTE]
    for dataset, members in groupby(older, key=lambda each: each.dataset):
        sections += _part(dataset, list(members), folder, ", older versions")
    return "\n\n".join(sections) + "\n"


def _deal_section(shown: DealTable, folder: Path | None) -> str:
    """Return a table over the deals, with its heading and what to know about it."""
    rows = []
    for row in shown.rows:
        over = row.accuracies
        cells = [
            escape_markdown(row.name),
            f"{percent(over.mean, 1)}",
            "" if over.deviation is None else percent(over.deviation, 1),
        ]
        for number in shown.numbers:
            entry = row.entries.get(number)
            address = entry and relative_address(entry.path, folder)
            text = "" if entry is None else percent(entry.accuracy, 1)
            cells.append(f"[{text}]({escape_address(address)})" if address else text)
        rows.append(cells)
    header = ["Method", "Mean", "Deviation", *(f"Deal {number}" for number in shown.numbers)]
    title = f"{shown.dataset}, subset" if shown.is_subset else shown.dataset
    return "\n\n".join(
        [
            f"## {title}: {shown.title}",
            f"Protocol {shown.protocol['name']}, version {shown.protocol['version']}. {DEALS_NOTE}",
            table(header, rows, "l" + "r" * (2 + len(shown.numbers))),
        ]
    )


def _part(
    dataset: str, members: Sequence[Table], folder: Path | None, suffix: str = ""
) -> list[str]:
    """Return the tables of one dataset, with an overview if there are several."""
    title = f"{dataset}, subset" if members[0].is_subset else dataset
    sections = [f"## {title}{suffix}"]
    if len(members) > 1:
        sections += [_overview(members), OVERVIEW]
    return sections + [_section(shown, folder) for shown in members]


def _overview(members: Sequence[Table]) -> str:
    """Return all methods against the tables of a dataset."""
    rows = [
        [
            f"{escape_markdown(method.name)} (trivial baseline)"
            if method.trivial
            else escape_markdown(method.name),
            *(None if row is None else _overview_cell(row) for row in method.rows),
        ]
        for method in overview(members)
    ]
    titles = [short_title(shown) for shown in members]
    return table(["Method", *titles], rows, "l" * (1 + len(members)))


def _overview_cell(row: Row) -> str:
    accuracy = percent(row.entry.accuracy, 1)
    if row.standings["all"].against_best in ("best", "tied"):
        accuracy = f"**{accuracy}**"
    return f"{accuracy} ± {percent(row.entry.report['ci95'], 1)}"


def _section(shown: Table, folder: Path | None) -> str:
    """Return a table with its heading and its terms."""
    titles, align = zip(*_COLUMNS, strict=True)
    return "\n\n".join(
        [
            f"### {short_title(shown)}",
            f"{shown.subtitle[0].upper()}{shown.subtitle[1:]}. {table_terms(shown)}",
            table(titles, [_cells(row, folder) for row in shown.rows], "".join(align)),
        ]
    )


def _cells(row: Row, folder: Path | None) -> list[str]:
    """Return the cells of an entry, in the order of `_COLUMNS`."""
    entry, standing = row.entry, row.standings["all"]
    report, method = entry.report, entry.method
    name, code = escape_markdown(entry.name), method["code"]
    parameters = report["parameters"]
    return [
        DASH if standing.rank is None else str(standing.rank),
        f"[{name}]({escape_address(code)})" if is_url(code) else name,
        escape_markdown(", ".join(method["authors"])),
        f"{percent(entry.accuracy)} ± {percent(report['ci95'])}",
        unshared(report),
        describe_standing(standing),
        entry.setting,
        "" if parameters is None else f"{parameters:,}",
        *_costs(entry),
        "; ".join([_status(entry), *flags(entry)]),
        ", ".join(_files(entry, folder)),
    ]


def _files(entry: Entry, folder: Path | None) -> list[str]:
    """Return the files of an entry, as links relative to a folder."""
    shown = []
    for name, path in (("entry", entry.path), ("predictions", entry.predictions)):
        address = relative_address(path, folder)
        link = f"[{name}]({escape_address(address)})" if address else escape_markdown(path.name)
        shown.append(link)
    return shown


def _costs(entry: Entry) -> list[str]:
    """Return the cells about operations and memory; "" where they are unknown."""
    costs, adaptation = entry.costs, entry.costs["adaptation"]
    numbers = costs.get("effective_macs"), costs.get("effective_acs"), operations(adaptation)
    footprint = costs.get("footprint_bytes")
    return [
        *("" if number is None else amount(number) for number in numbers),
        "" if footprint is None else size(footprint),
    ]


def _status(entry: Entry) -> str:
    verified = entry.verified
    if verified is None:
        return "claimed"
    return f"verified by {escape_markdown(verified['by'])}, {verified['date']}"
