"""The leaderboard: entries grouped into tables, ranked, compared with the best, and written as Markdown.

Every number comes from entries that `metaevents.benchmark.entries` let through, and equal entries give equal bytes. The page
is left to `metaevents.benchmark.render_html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import Table
from metaevents.benchmark.markdown import escape_address, escape_markdown
from metaevents.benchmark.wording import (
    DASH,
    EMPTY,
    NOTHING_WHOLE,
    READING,
    SAMPLE_NOTE,
    TITLE,
    flags,
    is_address,
    percent,
    said_of,
)


def markdown(found: Sequence[Table]) -> str:
    """The leaderboard as Markdown; nothing in an entry can be anything but text or a link."""
    lines = [
        "# Leaderboard",
        "",
        "<!-- Written by `metaevents leaderboard` from cards/entries; do not edit. -->",
        "",
        f"{TITLE}: every entry comes with its predictions. To add one, see [SUBMITTING.md](SUBMITTING.md).",
        "",
        *(f"- {line}" for line in READING),
    ]
    for sample in (False, True):
        shown = [table for table in found if table.sample == sample]
        if sample and shown:
            lines += ["", "# Sample", "", SAMPLE_NOTE]
        if not sample and not shown:
            lines += ["", EMPTY if not found else NOTHING_WHOLE]
        for table in shown:
            lines += [
                "",
                f"## {table.dataset}, {table.title}: {table.subtitle}",
                "",
                table.terms,
                "",
                *_markdown_rows(table),
            ]
    return "\n".join(lines) + "\n"


_COLUMNS = (
    "#", "Method", "Authors", "Accuracy (%)", "Over recordings (%)", "Against the best", "Setting", "Parameters", "Status",
)  # fmt: skip


def _markdown_rows(table: Table) -> Iterable[str]:
    yield "| " + " | ".join(_COLUMNS) + " |"
    yield "|" + "|".join("--:" if name in ("#", "Parameters") else "---" for name in _COLUMNS) + "|"
    for row in table.rows:
        entry, standing = row.entry, row.standings["all"]
        report, method = entry.report, entry.method
        low, high = report["bootstrap95"]
        name = escape_markdown(entry.name)
        cells = (
            DASH if standing.rank is None else str(standing.rank),
            f"[{name}]({escape_address(method['code'])})" if is_address(method["code"]) else name,
            escape_markdown(", ".join(method["authors"])),
            f"{percent(entry.accuracy)} ± {percent(report['ci95'])}",
            f"{percent(low)} to {percent(high)}",
            said_of(standing),
            entry.setting,
            "" if report["parameters"] is None else f"{report['parameters']:,}",
            "; ".join([_status(entry), *flags(entry)]),
        )
        yield "| " + " | ".join(cells) + " |"


def _status(entry: Entry) -> str:
    verified = entry.verified
    return (
        f"verified by {escape_markdown(verified['by'])}, {verified['date']}"
        if verified
        else "claimed"
    )
