"""The leaderboard's page: one HTML file without anything from outside, to be read on any screen and without a script too.

Elements are made by `_el`, which escapes whatever is not markup already, so no text of an entry can become any. The page also
tells the browser to load nothing and to run no script but its own. Grouping and ranking come from
`metaevents.benchmark.leaderboard`; style and script lie in `metaevents/data/`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any
from urllib.parse import quote

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import SETTINGS, Row, Table
from metaevents.benchmark.wording import (
    DASH,
    EMPTY,
    FOOTER,
    NOTHING_WHOLE,
    READING,
    SAMPLE_NOTE,
    TITLE,
    flags,
    is_address,
    percent,
    said_of,
)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def _el(
    tag: str, /, *children: str | None, **attributes: str | int | float | bool | None
) -> Markup:
    """An element; text is escaped, None left out. Attribute names: `class_` is class, `aria_sort` is aria-sort."""
    opening = tag
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        opening += f" {key}" if value is True else f' {key}="{escape(str(value))}"'
    if tag in ("meta", "link", "input"):
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{_join(children)}</{tag}>")


def _join(children: Iterable[str | None], between: str = "") -> Markup:
    parts = (
        child if isinstance(child, Markup) else escape(child)
        for child in children
        if child is not None
    )
    return Markup(between.join(parts))


def page(found: Sequence[Table]) -> str:
    """The whole page; equal tables give equal pages."""
    style, script = (_data(f"leaderboard.{kind}") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = _el(
        "head",
        _el("meta", charset="utf-8"),
        _el("meta", http_equiv="Content-Security-Policy", content=policy),
        _el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _el("meta", name="color-scheme", content="light dark"),
        _el("meta", name="referrer", content="no-referrer"),
        _el("title", f"{TITLE}: leaderboard"),
        _el("link", rel="icon", href=f"data:image/svg+xml,{quote(_mark())}"),
        _el("style", Markup(style)),
        _el("script", Markup(script)),
    )
    parts = [
        _part(list(tables))
        for _, tables in groupby(found, key=lambda table: (table.sample, table.dataset))
    ]
    empty = EMPTY if not found else NOTHING_WHOLE if all(table.sample for table in found) else None
    main = _el("main", _el("p", empty, class_="empty") if empty else None, *parts)
    body = _el("body", _top(found), main, _el("footer", _el("p", FOOTER)))
    return f"<!doctype html>\n{_el('html', head, body, lang='en')}\n"


def _data(name: str) -> str:
    return (files("metaevents") / "data" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_THREE = ("xxx", "  x", "xxx", "  x", "xxx")

_FIVE = ("xxx", "x  ", "xxx", "  x", "xxx")


def _mark(**attributes: str) -> Markup:
    """The sign of the page: a sample of Double N-MNIST, the digits 3 and 5 side by side, as events of either polarity."""
    dots = [
        _el("circle", cx=4 + 6 * (4 * side + column), cy=4 + 6 * row, r=2.4, fill=fill)
        for side, (glyph, fill) in enumerate(((_THREE, "#d2553f"), (_FIVE, "#3b78b8")))
        for row, line in enumerate(glyph)
        for column, dot in enumerate(line)
        if dot == "x"
    ]
    return _el("svg", *dots, xmlns="http://www.w3.org/2000/svg", viewBox="0 0 44 32", **attributes)


BARS = (
    "Bars: the dark block is the interval over episodes, the light line the one over recordings, the dashed line chance. The "
    "scale is logistic: halving the errors is one and the same step, at 80 % as at 98 %."
)


def _top(found: Sequence[Table]) -> Markup:
    entries = sum(len(table.rows) for table in found)
    count = f"{entries} {'entry' if entries == 1 else 'entries'} in {len(found)} {'table' if len(found) == 1 else 'tables'}"
    return _el(
        "header",
        _el(
            "p", _mark(class_="mark", aria_hidden="true"), _el("span", "metaevents"), class_="brand"
        ),
        _el("h1", "Leaderboard"),
        _el("p", f"{TITLE}. {count}, each with its predictions.", class_="lede"),
        _el(
            "details",
            _el("summary", "How to read the tables"),
            _el("ul", *(_el("li", line) for line in (*READING, BARS))),
            class_="reading",
        ),
        _contents(found) if len(found) > 1 else None,
        _filter() if found else None,
        class_="top",
    )


def _contents(found: Sequence[Table]) -> Markup:
    groups = groupby(found, key=lambda table: (table.sample, table.dataset))
    rows = []
    for (sample, dataset), members in groups:
        rows.append(_el("dt", _part_title(dataset, sample)))
        rows.append(
            _el("dd", *(_el("a", _short(table), href=f"#{_table_id(table)}") for table in members))
        )
    return _el("nav", _el("dl", *rows), aria_label="Tables")


def _short(table: Table) -> str:
    """What tells a table from its neighbors: "5-way 1-shot", "5-way 1-shot, novel"."""
    protocol = table.protocol
    words = [table.title, *(["novel classes"] if protocol["classes"] != "published" else [])]
    return ", ".join(
        [*words, *(["published pairing"] if protocol["pairing"] == "published" else [])]
    )


def _filter() -> Markup:
    labels = {"all": "All", "inductive": "Inductive", "transductive": "Transductive"}
    choices = [
        _el(
            "label",
            _el("input", type="radio", name="setting", value=value, checked=value == "all"),
            _el("span", labels[value]),
        )
        for value in SETTINGS
    ]
    return _el(
        "form",
        _el("fieldset", _el("legend", "Setting"), *choices),
        _el("p", "", role="status", class_="shown"),
        class_="filter",
    )


@dataclass(frozen=True)
class _Column:
    key: str  # what the script sorts by, and the cell's class
    title: str
    descending: bool = False  # the first click sorts so


_COLUMNS = (
    _Column("rank", "Rank"),
    _Column("method", "Method"),
    _Column("accuracy", "Accuracy, %", descending=True),
    _Column("setting", "Setting"),
    _Column("parameters", "Parameters"),
    _Column("status", "Status", descending=True),
)


def _part(tables: Sequence[Table]) -> Markup:
    first = tables[0]
    return _el(
        "section",
        _el("h2", _part_title(first.dataset, first.sample)),
        _el("p", SAMPLE_NOTE, class_="terms") if first.sample else None,
        *map(_table, tables),
        class_="part",
    )


def _part_title(dataset: str, sample: bool) -> str:
    return f"{dataset}, sample" if sample else dataset


def _table_id(table: Table) -> str:
    return f"table-{table.id}"


def _table(table: Table) -> Markup:
    name = _table_id(table)
    scale = _Scale.of(table)
    return _el(
        "section",
        _el(
            "header",
            _el("h3", table.title, id=f"{name}-title"),
            _el("p", table.subtitle, class_="subtitle"),
            _el("p", table.terms, class_="terms"),
        ),
        _el(
            "table",
            _el(
                "thead",
                _el("tr", *(_heading(column, scale) for column in _COLUMNS), role="row"),
                role="rowgroup",
            ),
            *(_row(table, row, place, scale) for place, row in enumerate(table.rows)),
            role="table",
            aria_labeledby=f"{name}-title",
        ),
        _el("p", "No entry of this setting.", class_="none", hidden=True),
        class_="table",
        id=name,
    )


def _heading(column: _Column, scale: _Scale) -> Markup:
    button = _el(
        "button",
        column.title,
        type="button",
        data_key=column.key,
        data_descending=column.descending,
    )
    axis = scale.axis() if column.key == "accuracy" else None
    sorted_by = "ascending" if column.key == "rank" else "none"
    return _el(
        "th", button, axis, scope="col", role="columnheader", aria_sort=sorted_by, class_=column.key
    )


def _row(table: Table, row: Row, place: int, scale: _Scale) -> Markup:
    entry, report = row.entry, row.entry.report
    name = f"{_table_id(table)}-{entry.id}"
    standings = {
        setting: {
            "rank": DASH if standing.rank is None else str(standing.rank),
            "badge": _BADGES.get(standing.against_best, ""),
            "words": said_of(standing),
        }
        for setting, standing in row.standings.items()
    }
    now = standings["all"]
    parameters = report["parameters"]
    status = "verified" if entry.verified else "claimed"
    opener = _el(
        "button",
        entry.name,
        type="button",
        class_="opener",
        aria_expanded="false",
        aria_controls=f"{name}-details",
    )
    badges = [
        _el("span", now["badge"], class_="badge standing", hidden=not now["badge"]),
        *(
            _el("span", flag, class_=f"badge {_FLAG_CLASSES.get(flag, 'plain')}")
            for flag in flags(entry)
        ),
    ]
    cells = {
        "rank": (_el("span", now["rank"], class_="number"),),
        "method": (
            opener,
            _el("span", ", ".join(entry.method["authors"]), class_="authors"),
            _el("span", *badges, class_="badges"),
        ),
        "accuracy": (
            _el(
                "span",
                _el("b", percent(entry.accuracy)),
                _el("span", f" ± {percent(report['ci95'])}", class_="margin"),
                class_="value",
            ),
            scale.bar(entry),
        ),
        "setting": (_el("span", entry.setting, class_=f"setting {entry.setting}"),),
        "parameters": (
            _el("span", DASH, class_="nothing") if parameters is None else f"{parameters:,}",
        ),
        "status": (_el("span", status, class_=status),),
    }
    return _el(
        "tbody",
        _el(
            "tr",
            *(_cell(column, *cells[column.key]) for column in _COLUMNS),
            role="row",
            class_="entry",
        ),
        _el(
            "tr",
            _el("td", _details(entry, now["words"]), colspan=len(_COLUMNS), role="cell"),
            role="row",
            class_="details",
            id=f"{name}-details",
        ),
        role="rowgroup",
        id=name,
        data_setting=entry.setting,
        data_rank=place,
        data_method=entry.name.casefold(),
        data_accuracy=repr(entry.accuracy),
        data_parameters="" if parameters is None else parameters,
        data_status=1 if entry.verified else 0,
        data_standings=json.dumps(standings, ensure_ascii=False, sort_keys=True),
    )


_BADGES = {"best": "best", "tied": "tied with best", "incomparable": "other episodes"}

_FLAG_CLASSES = {"overlaps the test": "warning"}


def _cell(column: _Column, *children: str) -> Markup:
    scope = {"scope": "row", "role": "rowheader"} if column.key == "method" else {"role": "cell"}
    return _el("th" if column.key == "method" else "td", *children, class_=column.key, **scope)


_TICKS = (0.5, 0.99, 0.9, 0.2, 0.999, 0.8, 0.95, 0.98, 0.05, 0.01, 0.7, 0.3)
"""Accuracies marked on a scale where there is room, the first ones first."""

_ROOM = 13.0  # percent of the width between two ticks


@dataclass(frozen=True)
class _Scale:
    """Where accuracies lie on a table's bars: on a logit scale, which opens up the crowded ends.

    Attributes:
        low, high: logits at the bar's ends, around all intervals and chance.
        chance: an accuracy.
    """

    low: float
    high: float
    chance: float

    @classmethod
    def of(cls, table: Table) -> _Scale:
        reports = [row.entry.report for row in table.rows]
        values = [
            value
            for r in reports
            for value in (r["accuracy"] - r["ci95"], r["accuracy"] + r["ci95"], *r["bootstrap95"])
        ]
        return cls(
            _logit(min(*values, table.chance)) - 0.25,
            _logit(max(*values, table.chance)) + 0.25,
            table.chance,
        )

    def at(self, accuracy: float) -> float:
        """Where an accuracy is, percent of the width."""
        return round(100 * (_logit(accuracy) - self.low) / (self.high - self.low), 2)

    def ticks(self) -> list[float]:
        chosen: list[float] = []
        for tick in _TICKS:
            if 3 <= self.at(tick) <= 97 and all(
                abs(self.at(tick) - self.at(other)) >= _ROOM for other in chosen
            ):
                chosen.append(tick)
        return sorted(chosen)

    def axis(self) -> Markup:
        labels = [
            _el("text", f"{100 * tick:g}", x=f"{self.at(tick)}%", y=12, text_anchor="middle")
            for tick in self.ticks()
        ]
        return _el("svg", *labels, class_="axis", height=16, aria_hidden="true")

    def bar(self, entry: Entry) -> Markup:
        report = entry.report
        accuracy, half = report["accuracy"], report["ci95"]
        start, end = self.at(accuracy - half), self.at(accuracy + half)
        low, high = map(self.at, report["bootstrap95"])
        ticks = [(self.at(tick), "tick") for tick in self.ticks()] + [
            (self.at(self.chance), "chance")
        ]
        line = {"y1": 9, "y2": 9}
        return _el(
            "svg",
            _el("line", x1="0%", x2="100%", class_="track", **line),
            *(_el("line", x1=f"{x}%", x2=f"{x}%", y1=0, y2=18, class_=kind) for x, kind in ticks),
            _el("line", x1=f"{low}%", x2=f"{high}%", class_="recordings", **line),
            _el(
                "rect",
                x=f"{start}%",
                width=f"{round(end - start, 2)}%",
                y=4,
                height=10,
                rx=1.5,
                class_="episodes",
            ),
            _el(
                "line",
                x1=f"{self.at(accuracy)}%",
                x2=f"{self.at(accuracy)}%",
                y1=1,
                y2=17,
                class_="mean",
            ),
            class_="bar",
            height=18,
            aria_hidden="true",
        )


def _logit(accuracy: float) -> float:
    inside = min(0.9995, max(0.0005, accuracy))
    return math.log(inside / (1 - inside))


def _histogram(scores: Sequence[float]) -> Markup:
    """How the episodes' accuracies are spread, in twenty bins from 0 to 1."""
    bins = [0] * 20
    for score in scores:
        bins[min(19, int(score * 20 + 1e-9))] += 1
    bars = [
        _el(
            "rect",
            x=f"{5 * i + 0.4:g}%",
            width="4.2%",
            y=f"{round(100 - 100 * n / max(bins), 1):g}%",
            height="100%",
            rx=1,
        )
        for i, n in enumerate(bins)
        if n
    ]
    caption = f"Accuracy of single episodes: {percent(min(scores))} to {percent(max(scores))} %"
    return _figure(bars, "0 %", "100 %", caption)


def _classes(per_class: Mapping[str, float]) -> Markup:
    """The accuracy of every class, lowest first."""
    ordered = sorted(per_class.items(), key=lambda item: (item[1], item[0]))
    width = 100 / max(1, len(ordered))
    bars = [
        _el(
            "rect",
            _el("title", f"{name}: {percent(value)} %"),
            x=f"{round(i * width + 0.1 * width, 2):g}%",
            width=f"{round(0.8 * width, 2):g}%",
            y=f"{round(100 - 100 * value, 1):g}%",
            height="100%",
            rx=1,
        )
        for i, (name, value) in enumerate(ordered)
    ]
    (worst, low), (best, high) = ordered[0], ordered[-1]
    return _figure(
        bars,
        f"{worst}: {percent(low)}",
        f"{best}: {percent(high)}",
        f"Accuracy of the {len(ordered)} classes, %",
    )


def _figure(bars: Iterable[Markup], left: str, right: str, caption: str) -> Markup:
    return _el(
        "figure",
        _el("figcaption", caption),
        _el("svg", *bars, class_="columns", height=72, aria_hidden="true"),
        _el("p", _el("span", left), _el("span", right), class_="ends"),
    )


def _details(entry: Entry, standing: str) -> Markup:
    columns = (
        (("Method", _method(entry)), ("Cost", _cost(entry))),
        (("Result", _result(entry, standing)), ("Evidence", _evidence(entry))),
    )
    lists = [
        _el("div", *(_el("section", _el("h4", title), _list(facts)) for title, facts in column))
        for column in columns
    ]
    report = entry.report
    figures = [
        _histogram(report["per_episode"]),
        *([_classes(report["per_class"])] if report["per_class"] else []),
    ]
    return _el("div", *lists, _el("div", *figures, class_="figures"), class_="sheet")


def _list(facts: Iterable[tuple[str, str | None]]) -> Markup:
    rows = (
        _el("div", _el("dt", name), _el("dd", value)) for name, value in facts if value is not None
    )
    return _el("dl", *rows)


def _method(entry: Entry) -> Iterator[tuple[str, str | None]]:
    method = entry.method
    where = _link(method["code"]) if is_address(method["code"]) else method["code"]
    yield "Authors", ", ".join(method["authors"])
    yield "Citation", _paragraph(method["citation"])
    yield "Code", _join((where, _el("span", f" at {method['commit']}")))
    yield "Command", _el("code", method["command"])
    yield "Learner", _el("code", entry.report["learner"])
    yield "Other data", method["other_data"]
    yield "Trained on", _said(entry.report["seen"])
    yield "Overlap with the test", entry.overlap
    yield "Notes", _paragraph(method["notes"])


def _said(facts: Mapping[str, Any] | None) -> str | None:
    """What a learner says that it has seen, in a line."""
    if facts is None:
        return None
    lines = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in facts.items()
    }
    return "; ".join(f"{name} {value}" for name, value in sorted(lines.items()))


def _link(address: str) -> Markup:
    return _el(
        "a", address.removeprefix("https://"), href=address, rel="nofollow noopener noreferrer"
    )


def _paragraph(text: str | None) -> Markup | None:
    return None if text is None else _el("span", text, class_="paragraph")


def _result(entry: Entry, standing: str) -> Iterator[tuple[str, str | None]]:
    report = entry.report
    low, high = report["bootstrap95"]
    yield (
        "Accuracy",
        f"{percent(entry.accuracy)} ± {percent(report['ci95'])} % (95 %, over episodes)",
    )
    yield "Over recordings", f"{percent(low)} to {percent(high)} % (95 %, bootstrap)"
    yield "Trials", _repeated(report["trials"])
    yield "Training seeds", _repeated(report["training_seeds"])
    yield "Against the best", _el("span", standing, class_="against")
    yield (
        "Setting",
        f"{entry.setting}: {report['transductive_evidence'] or 'no score moved with the other queries'}",
    )
    yield (
        "Adapting twice",
        "gave the same scores" if report["deterministic"] else "gave other scores",
    )


def _repeated(runs: Mapping[str, Any] | None) -> str | None:
    if runs is None:
        return None
    return f"{percent(runs['mean'])} %, deviation {percent(runs['deviation'])} over {runs['seeds']}"


def _cost(entry: Entry) -> Iterator[tuple[str, str | None]]:
    report = entry.report
    yield "Hardware", entry.method["hardware"]
    yield "Adapting", _quantity(report["time"]["adapt_ms"], "ms an episode")
    yield "Classifying", _quantity(report["time"]["classify_ms"], "ms an episode")
    yield "In all", _quantity(report["time"]["total_s"], "s")
    yield "Peak memory", _quantity(report["peak_memory_mb"], "MiB")
    yield "Parameters", None if report["parameters"] is None else f"{report['parameters']:,}"
    yield "Spikes", _quantity(report["spikes_per_sample"], "a sample")
    yield "Synaptic operations", _quantity(report["synaptic_operations_per_sample"], "a sample")


def _quantity(value: float | None, unit: str) -> str | None:
    """A number to three places, without an exponent."""
    if value is None:
        return None
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{places}f} {unit}"


def _evidence(entry: Entry) -> Iterator[tuple[str, str | None]]:
    report, verified = entry.report, entry.verified
    yield (
        "Status",
        f"verified by {verified['by']}, {verified['date']}"
        if verified
        else "claimed, rerun by nobody else yet",
    )
    yield "How", _paragraph(verified["how"]) if verified else None
    yield (
        "Recordings",
        f"{report['archive']['source']}, {report['archive']['recordings']:,} recordings",
    )
    yield "Fingerprint", _el("code", report["archive"]["fingerprint"])
    yield "Episodes", _el("code", report["episodes_digest"])
    yield "Predictions", entry.predictions.name
    yield "SHA-256", _el("code", entry.document["predictions"]["sha256"])
    yield "Written by", f"metaevents {report['metaevents_version']}"
