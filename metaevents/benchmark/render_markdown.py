"""The leaderboard as one Markdown document, `cards/LEADERBOARD.md`.

No text of an entry can become markup; a URL becomes a link only where this module makes one.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import Row, Table
from metaevents.benchmark.markdown import escape_address, escape_markdown, table
from metaevents.benchmark.wording import (
    DASH,
    READING,
    SUBSET_NOTE,
    TITLE,
    describe_standing,
    empty_note,
    flags,
    is_url,
    percent,
    table_terms,
)

_COLUMNS = (
    ("#", "r"),
    ("Method", "l"),
    ("Authors", "l"),
    ("Accuracy (%)", "l"),
    ("Over recordings (%)", "l"),
    ("Against the best", "l"),
    ("Setting", "l"),
    ("Parameters", "r"),
    ("Status", "l"),
)
"""Title and alignment of each column."""


def render_markdown(tables: Sequence[Table]) -> str:
    """Return the whole document; equal tables give equal documents."""
    sections = [
        "# Leaderboard",
        "<!-- Written by `metaevents leaderboard` from cards/entries; do not edit. -->",
        f"{TITLE}. Every entry comes with its predictions. To add one, see "
        "[SUBMITTING.md](SUBMITTING.md).",
        "\n".join(f"- {line}" for line in READING),
    ]
    if note := empty_note(tables):
        sections.append(note)
    sections += [_section(shown) for shown in tables if not shown.is_subset]
    if on_subset := [_section(shown) for shown in tables if shown.is_subset]:
        sections += ["# Subset of the recordings", SUBSET_NOTE, *on_subset]
    return "\n\n".join(sections) + "\n"


def _section(shown: Table) -> str:
    """Return a table with its heading and its terms."""
    titles, align = zip(*_COLUMNS, strict=True)
    return "\n\n".join(
        [
            f"## {shown.dataset}, {shown.title}: {shown.subtitle}",
            table_terms(shown),
            table(titles, [_cells(row) for row in shown.rows], "".join(align)),
        ]
    )


def _cells(row: Row) -> list[str]:
    """Return the cells of an entry, in the order of `_COLUMNS`."""
    entry, standing = row.entry, row.standings["all"]
    report, method = entry.report, entry.method
    low, high = map(percent, report["bootstrap95"])
    name, code = escape_markdown(entry.name), method["code"]
    parameters = report["parameters"]
    return [
        DASH if standing.rank is None else str(standing.rank),
        f"[{name}]({escape_address(code)})" if is_url(code) else name,
        escape_markdown(", ".join(method["authors"])),
        f"{percent(entry.accuracy)} ± {percent(report['ci95'])}",
        f"{low} to {high}",
        describe_standing(standing),
        entry.setting,
        "" if parameters is None else f"{parameters:,}",
        "; ".join([_status(entry), *flags(entry)]),
    ]


def _status(entry: Entry) -> str:
    verified = entry.verified
    if verified is None:
        return "claimed"
    return f"verified by {escape_markdown(verified['by'])}, {verified['date']}"
