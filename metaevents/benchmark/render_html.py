"""The leaderboard as one HTML page, which loads nothing and can be read without its script.

The HTML is in the Jinja templates `metaevents/data/templates/leaderboard*.html.j2`. This module
turns tables into what the templates show: text, numbers and positions, without any HTML. The
templates escape every value, so no text of an entry becomes markup. As a second defense, the page's
content security policy forbids every script but its own. Grouping and ranking are left to
`metaevents.benchmark.leaderboard`, positions in charts to `metaevents.benchmark.charts`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaevents.benchmark.amounts import amount, describe_operations, operations, size
from metaevents.benchmark.charts import (
    AccuracyScale,
    Bar,
    Column,
    OperationsPlot,
    class_columns,
    episode_histogram,
    operations_plot,
)
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.inline_markup import Piece, pieces
from metaevents.benchmark.leaderboard import SETTINGS, DealTable, Row, Standing, Table
from metaevents.benchmark.overview import Method, overview
from metaevents.benchmark.wording import (
    BARS,
    COSTS,
    DASH,
    DEALS_NOTE,
    FOOTER,
    OLDER_NOTE,
    OVERVIEW,
    OVERVIEW_LINKS,
    PLOT,
    READING,
    SUBSET_NOTE,
    TITLE,
    counted,
    describe_standing,
    empty_note,
    flags,
    is_url,
    percent,
    quantity,
    relative_address,
    short_title,
    table_condition,
    table_terms,
    trained_on,
    unshared,
)

if TYPE_CHECKING:
    from jinja2 import Template


def render_html(
    tables: Sequence[Table], folder: Path | None = None, deals: Sequence[DealTable] = ()
) -> str:
    """Return the whole page; equal tables give equal pages.

    Tables of older versions of the protocols come last.

    Args:
        tables: the tables.
        folder: where the page will lie. Links to the entries, their predictions and the documents
            in the folder above the entries are relative to it. None makes no such links.
        deals: the tables over the deals of `novel-components`.
    """
    return _template().render(page=_page(tables, folder, deals)) + "\n"


@cache
def _template() -> Template:
    """The page's template: it escapes all values, and a name that does not exist is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("metaevents", "data/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pieces"] = pieces
    return environment.get_template("leaderboard.html.j2")


# --- what the templates show ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Heading:
    """Heading of a column.

    Attributes:
        key: what the script sorts by; also the class of the column's cells.
        title: its text.
        descending: whether the first click sorts in descending order.
    """

    key: str
    title: str
    descending: bool = False


@dataclass(frozen=True)
class _Fact:
    """A labeled line of an entry's details.

    Attributes:
        label: its label.
        value: its text; None leaves the line out.
        style: "code", "marked" for text with Markdown, a class of the style sheet, or "" for plain
            text.
        url: where the text links to.
        suffix: text behind the value.
    """

    label: str
    value: str | None
    style: str = ""
    url: str | None = None
    suffix: str = ""


@dataclass(frozen=True)
class _Section:
    """A titled list of facts."""

    title: str
    facts: list[_Fact]


@dataclass(frozen=True)
class _Chart:
    """A column chart, with a caption and a label below either end.

    Attributes:
        columns: each column, with its tooltip or "".
    """

    columns: list[tuple[Column, str]]
    left: str
    right: str
    caption: str


@dataclass(frozen=True)
class _StandingView:
    """A standing as text; the script shows the one that belongs to the chosen setting."""

    rank: str
    badge: str
    words: str


@dataclass(frozen=True)
class _CostView:
    """A cell about what an entry costs.

    Attributes:
        key: its column.
        number: what the script sorts by; "" where it is unknown.
        text: the same, for reading; "" where it is unknown.
        unit: what the number counts, shown where the column has no heading.
    """

    key: str
    number: float | str
    text: str
    unit: str


@dataclass(frozen=True)
class _RowView:
    """An entry: its row and its details.

    Attributes:
        place: 0 for the first row of the table; the order that ranks give.
        n_parameters: number of parameters; "" where it is unknown.
        parameters: the same, for reading.
        costs: the cells of the columns about operations and memory.
        fact_columns: sections of facts, by column of the details.
    """

    id: str
    place: int
    name: str
    sort_name: str
    authors: str
    flags: list[str]
    setting: str
    status: str
    accuracy: float
    accuracy_percent: str
    ci95_percent: str
    bar: Bar
    n_parameters: int | str
    parameters: str
    costs: list[_CostView]
    standing: _StandingView
    standings_json: str
    fact_columns: list[list[_Section]]
    charts: list[_Chart]


@dataclass(frozen=True)
class _TableView:
    """A table.

    Attributes:
        ticks: (accuracy, position) of each mark on the scale.
        chance: position of chance on the scale.
        plot: accuracy against operations; None where too few entries say what they need.
    """

    id: str
    title: str
    short_title: str
    subtitle: str
    terms: str
    ticks: list[tuple[float, float]]
    chance: float
    rows: list[_RowView]
    plot: OperationsPlot | None


@dataclass(frozen=True)
class _MatrixCell:
    """An accuracy in the overview.

    Attributes:
        row_id: identifier of the entry's row.
        leading: whether the entry has rank 1 or is tied with it.
    """

    row_id: str
    accuracy_percent: str
    ci95_percent: str
    leading: bool


@dataclass(frozen=True)
class _MatrixView:
    """Methods against the tables of a part.

    Attributes:
        groups: (condition, number of columns) of neighboring tables of one condition.
        rows: name, whether it is a trivial baseline, and cells of each method.
    """

    groups: list[tuple[str, int]]
    rows: list[tuple[str, bool, list[_MatrixCell | None]]]


@dataclass(frozen=True)
class _PartView:
    """The tables of one dataset, or those of its subset.

    Attributes:
        matrix: overview of the tables; None where there is only one.
    """

    title: str
    note: str
    tables: list[_TableView]
    matrix: _MatrixView | None


@dataclass(frozen=True)
class _DealRowView:
    """A method over the deals.

    Attributes:
        mean: mean accuracy in percent.
        deviation: standard deviation over the deals in percent; "" for one deal.
        cells: (accuracy in percent, address of the entry) of each deal; "" where there is none.
    """

    name: str
    mean: str
    deviation: str
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class _DealsView:
    """A table over the deals of novel components."""

    id: str
    title: str
    note: str
    headings: list[str]
    rows: list[_DealRowView]


@dataclass(frozen=True)
class _PageView:
    """The page.

    Attributes:
        policy: the content security policy.
        mark: (x, y, color) of each dot of the page's mark.
        count: how many entries and tables there are.
        overview: how to read the overview.
        empty_note: what to say where entries are missing; empty if there is nothing to say.
        deals: the tables over the deals of novel components.
        older: the tables of older versions of the protocols.
    """

    policy: str
    style: str
    script: str
    mark: list[tuple[int, int, str]]
    title: str
    count: str
    reading: list[list[Piece]]
    show_contents: bool
    overview: str
    settings: list[str]
    empty_note: list[Piece]
    columns: list[_Heading]
    parts: list[_PartView]
    deals: list[_DealsView]
    older: list[_PartView]
    footer: list[Piece]


# --- the page ------------------------------------------------------------------------------------

_COLUMNS = [
    _Heading("rank", "Rank"),
    _Heading("method", "Method"),
    _Heading("accuracy", "Accuracy, %", descending=True),
    _Heading("setting", "Setting"),
    _Heading("parameters", "Parameters"),
    _Heading("macs", "Effective MACs"),
    _Heading("acs", "ACs"),
    _Heading("adaptation", "Adaptation"),
    _Heading("footprint", "Footprint"),
    _Heading("status", "Status", descending=True),
]


@dataclass(frozen=True)
class _Addresses:
    """Addresses of files, relative to the page.

    Attributes:
        folder: where the page lies; None gives no address.
    """

    folder: Path | None

    def of(self, path: Path) -> str | None:
        """Return the address of a file, None if the page cannot link to it."""
        return relative_address(path, self.folder)

    def documents(self, tables: Sequence[Table]) -> dict[str, str]:
        """Return the addresses of the documents that the page's own sentences name."""
        if not tables:
            return {}
        above = tables[0].rows[0].entry.path.parent.parent
        found = {f"cards/{name}": self.of(above / name) for name in _DOCUMENTS}
        return {
            name: address
            for name, address in found.items()
            if address and (above / Path(name).name).is_file()
        }


_DOCUMENTS = ("SUBMITTING.md", "statistics.md", "LEADERBOARD.md")
"""Documents that sentences of the page may name, in the folder above the entries."""


def _page(tables: Sequence[Table], folder: Path | None, deals: Sequence[DealTable]) -> _PageView:
    addresses = _Addresses(folder)
    documents = addresses.documents(tables)
    style, script = (_data(f"leaderboard.{kind}") for kind in ("css", "js"))
    n_entries = sum(len(table.rows) for table in tables)
    return _PageView(
        policy=(
            f"default-src 'none'; style-src '{_csp_hash(style)}'; "
            f"script-src '{_csp_hash(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
        ),
        style=style,
        script=script,
        mark=_mark(),
        title=TITLE,
        count=(
            f"{counted(n_entries, 'entry', 'entries')} in {counted(len(tables), 'table', 'tables')}"
        ),
        reading=[pieces(line, documents) for line in (*READING, COSTS, BARS, PLOT)],
        show_contents=len(tables) + len(deals) > 1,
        overview=f"{OVERVIEW} {OVERVIEW_LINKS}",
        settings=list(SETTINGS),
        empty_note=pieces(empty_note(tables), documents),
        columns=_COLUMNS,
        parts=_parts([table for table in tables if table.is_newest], addresses),
        deals=[_deals(table, addresses) for table in deals],
        older=_parts([table for table in tables if not table.is_newest], addresses),
        footer=pieces(FOOTER, documents),
    )


def _data(name: str) -> str:
    """Return a text file of the package's data folder."""
    return (files("metaevents") / "data" / name).read_text("utf-8")


def _csp_hash(text: str) -> str:
    """Return the source expression by which a content security policy allows an inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_GLYPHS = (
    (("xxx", "  x", "xxx", "  x", "xxx"), "#d2553f"),
    (("xxx", "x  ", "xxx", "  x", "xxx"), "#3b78b8"),
)
"""The digits 3 and 5, like a sample of Double N-MNIST, in the colors of ON and OFF events."""


def _mark() -> list[tuple[int, int, str]]:
    """Return (x, y, color) of each dot of the page's mark, in a box of 44 x 32."""
    return [
        (4 + 6 * (4 * side + column), 4 + 6 * line, color)
        for side, (glyph, color) in enumerate(_GLYPHS)
        for line, dots in enumerate(glyph)
        for column, dot in enumerate(dots)
        if dot == "x"
    ]


def _parts(tables: Sequence[Table], addresses: _Addresses) -> list[_PartView]:
    return [
        _part(list(members), addresses)
        for _, members in groupby(tables, key=lambda table: (table.is_subset, table.dataset))
    ]


def _part(tables: Sequence[Table], addresses: _Addresses) -> _PartView:
    first = tables[0]
    title = f"{first.dataset}, subset" if first.is_subset else first.dataset
    notes = [SUBSET_NOTE] if first.is_subset else []
    if not first.is_newest:
        title += ", older versions of the protocols"
        notes.append(OLDER_NOTE)
    return _PartView(
        title=title,
        note=" ".join(notes),
        tables=[_table(table, addresses) for table in tables],
        matrix=_matrix(tables) if len(tables) > 1 and first.is_newest else None,
    )


def _deals(table: DealTable, addresses: _Addresses) -> _DealsView:
    protocol = table.protocol
    rows = []
    for row in table.rows:
        over = row.accuracies
        found = [row.entries.get(number) for number in table.numbers]
        rows.append(
            _DealRowView(
                name=row.name,
                mean=percent(over.mean, 1),
                deviation="" if over.deviation is None else percent(over.deviation, 1),
                cells=[
                    ("", "")
                    if entry is None
                    else (percent(entry.accuracy, 1), addresses.of(entry.path) or "")
                    for entry in found
                ],
            )
        )
    dataset = f"{table.dataset}, subset" if table.is_subset else table.dataset
    words = ("dataset", "name", "version", "pairing")
    return _DealsView(
        id="-".join(["deals", *(str(protocol[word]) for word in words)]),
        title=f"{dataset}: {table.title}",
        note=f"Protocol {protocol['name']}, version {protocol['version']}. {DEALS_NOTE}",
        headings=["Method", "Mean", "Deviation", *(f"Deal {n}" for n in table.numbers)],
        rows=rows,
    )


def _matrix(tables: Sequence[Table]) -> _MatrixView:
    """Return the overview of the tables of a part."""
    conditions = [", ".join(table_condition(table)) or "published classes" for table in tables]
    return _MatrixView(
        groups=[(name.capitalize(), len(list(members))) for name, members in groupby(conditions)],
        rows=[
            (method.name, method.trivial, list(_matrix_cells(method, tables)))
            for method in overview(tables)
        ],
    )


def _matrix_cells(method: Method, tables: Sequence[Table]) -> Iterator[_MatrixCell | None]:
    for row, table in zip(method.rows, tables, strict=True):
        if row is None:
            yield None
            continue
        yield _MatrixCell(
            row_id=f"{_table_id(table)}-{row.entry.id}",
            accuracy_percent=percent(row.entry.accuracy, 1),
            ci95_percent=percent(row.entry.report["ci95"], 1),
            leading=row.standings["all"].against_best in ("best", "tied"),
        )


def _table_id(table: Table) -> str:
    return f"table-{table.id}"


def _table(table: Table, addresses: _Addresses) -> _TableView:
    scale = AccuracyScale.of_table(table)
    table_id = _table_id(table)
    return _TableView(
        id=table_id,
        title=table.title,
        short_title=short_title(table),
        subtitle=table.subtitle,
        terms=table_terms(table),
        ticks=scale.ticks(),
        chance=scale.position(scale.chance),
        rows=[_row(row, place, table_id, scale, addresses) for place, row in enumerate(table.rows)],
        plot=operations_plot(table),
    )


# --- an entry ------------------------------------------------------------------------------------

_BADGES = {"tied": "tied with rank 1", "incomparable": "other episodes"}


def _row(
    row: Row, place: int, table_id: str, scale: AccuracyScale, addresses: _Addresses
) -> _RowView:
    entry, report = row.entry, row.entry.report
    standings = {setting: _standing(standing) for setting, standing in row.standings.items()}
    n_parameters = report["parameters"]
    return _RowView(
        id=f"{table_id}-{entry.id}",
        place=place,
        name=entry.name,
        sort_name=entry.name.casefold(),
        authors=", ".join(entry.method["authors"]),
        flags=flags(entry),
        setting=entry.setting,
        status="verified" if entry.verified else "claimed",
        accuracy=entry.accuracy,
        accuracy_percent=percent(entry.accuracy),
        ci95_percent=percent(report["ci95"]),
        bar=scale.bar(entry.accuracy, report["ci95"], report["episode_ci95"]),
        n_parameters="" if n_parameters is None else n_parameters,
        parameters="" if n_parameters is None else f"{n_parameters:,}",
        costs=list(_cost_cells(entry)),
        standing=standings["all"],
        standings_json=json.dumps(
            {setting: asdict(standing) for setting, standing in standings.items()},
            ensure_ascii=False,
            sort_keys=True,
        ),
        fact_columns=[
            [_section("Method", _method(entry)), _section("Cost", _cost(entry))],
            [
                _section("Result", _result(entry, standings["all"])),
                _section("Evidence", _evidence(entry, addresses)),
            ],
        ],
        charts=_charts(report),
    )


def _standing(standing: Standing) -> _StandingView:
    return _StandingView(
        rank=DASH if standing.rank is None else str(standing.rank),
        badge=_BADGES.get(standing.against_best, ""),
        words=describe_standing(standing),
    )


def _section(title: str, facts: Iterable[_Fact]) -> _Section:
    """Return a section without the facts that have no value."""
    return _Section(title, [fact for fact in facts if fact.value is not None])


def _method(entry: Entry) -> Iterator[_Fact]:
    method = entry.method
    code = method["code"]
    yield _Fact("Authors", ", ".join(method["authors"]))
    yield _Fact("Citation", method["citation"], "marked")
    yield _Fact(
        "Code",
        code.removeprefix("https://"),
        url=code if is_url(code) else None,
        suffix=f" at {method['commit']}",
    )
    yield _Fact("Command", method["command"], "code")
    yield _Fact("Learner", entry.report["learner"], "code")
    yield _Fact("Other data", method["other_data"], "marked")
    yield _Fact("Trained on", trained_on(entry.report["seen"]))
    yield _Fact("Overlap with the test", entry.overlap)
    yield _Fact("Notes", method["notes"], "marked")


def _cost(entry: Entry) -> Iterator[_Fact]:
    report, time = entry.report, entry.report["time"]
    parameters = report["parameters"]
    yield _Fact("Hardware", entry.method["hardware"])
    yield _Fact("Adapting", quantity(time["adapt_ms"], "ms per episode"))
    yield _Fact("Classifying", quantity(time["classify_ms"], "ms per episode"))
    yield _Fact("Probing", quantity(time["probe_s"], "s"))
    yield _Fact("Total time", quantity(time["total_s"], "s"))
    yield _Fact("Peak memory", quantity(report["peak_memory_mb"], "MiB"))
    yield _Fact("Parameters", None if parameters is None else f"{parameters:,}")
    yield _Fact("Spikes", quantity(report["spikes_per_sample"], "per sample"))
    number = quantity(report["synaptic_operations_per_sample"], "per sample")
    yield _Fact("Synaptic operations", number)
    costs = entry.costs
    adaptation = costs["adaptation"]
    yield _Fact("By kind", describe_operations(costs))
    yield _Fact("Dense operations", _amount(costs.get("dense_operations"), " per sample"))
    sparsity = costs.get("activation_sparsity")
    yield _Fact("Zero activations", None if sparsity is None else f"{100 * sparsity:.1f} %")
    if layers := costs.get("spikes_per_layer"):
        text = ", ".join(f"{name} {amount(value)}" for name, value in layers.items())
        yield _Fact("Spikes by layer", text)
    yield _Fact("One adaptation", describe_operations(adaptation))
    yield _Fact("Its spikes", _amount(adaptation.get("spikes")))
    yield _Fact("Its dense operations", _amount(adaptation.get("dense_operations")))
    yield _Fact("Its memory", _size(adaptation.get("footprint_bytes")))
    if costs.get("episodes"):
        yield _Fact("Measured on", counted(costs["episodes"], "episode", "episodes"))


def _cost_cells(entry: Entry) -> Iterator[_CostView]:
    """Yield the cells of the columns about operations and memory."""
    costs = entry.costs
    adapting = operations(costs["adaptation"])
    for key, number, unit in (
        ("macs", costs.get("effective_macs"), "MACs"),
        ("acs", costs.get("effective_acs"), "ACs"),
        ("adaptation", adapting, "operations to adapt"),
        ("footprint", costs.get("footprint_bytes"), "footprint"),
    ):
        text = _size(number) if key == "footprint" else _amount(number)
        yield _CostView(key, "" if number is None else number, text or "", unit)


def _amount(value: float | None, suffix: str = "") -> str | None:
    """Return a large number in short; None for one that is unknown."""
    return None if value is None else f"{amount(value)}{suffix}"


def _size(value: float | None) -> str | None:
    """Return a number of bytes in short; None for one that is unknown."""
    return None if value is None else size(value)


def _result(entry: Entry, standing: _StandingView) -> Iterator[_Fact]:
    report = entry.report
    interval = f"{percent(entry.accuracy)} ± {percent(report['ci95'])}"
    yield _Fact("Accuracy", f"{interval} % (95 %, over fresh recordings and episodes)")
    yield _Fact("Episodes only", f"± {percent(report['episode_ci95'])} % on these recordings")
    yield _Fact("Unshared queries", f"{unshared(report)}, in %")
    yield _Fact("Trials", _repeated(report["trials"]))
    yield _Fact("Training seeds", _repeated(report["training_seeds"]))
    yield _Fact("Against rank 1", standing.words, "against")
    if report["transductive"] is None:
        yield _Fact("Setting", f"{entry.setting}: evaluated with the option --no-probe")
        return
    evidence = report["transductive_evidence"] or "no score changed with the other queries"
    yield _Fact("Setting", f"{entry.setting}: {evidence}")
    yield _Fact("Stateful", report["stateful_evidence"])
    same = "the same scores" if report["deterministic"] else "other scores"
    yield _Fact("Adapting twice", f"gives {same}")


def _repeated(runs: Mapping[str, Any] | None) -> str | None:
    """Return mean and deviation of repeated runs; None where there were none."""
    if runs is None:
        return None
    return f"{percent(runs['mean'])} %, deviation {percent(runs['deviation'])} over {runs['seeds']}"


def _evidence(entry: Entry, addresses: _Addresses) -> Iterator[_Fact]:
    report, verified, archive = entry.report, entry.verified, entry.report["archive"]
    if verified:
        yield _Fact("Status", f"verified by {verified['by']}, {verified['date']}")
        yield _Fact("How", verified["how"], "marked")
    else:
        yield _Fact("Status", "claimed, not yet rerun by anybody else")
    yield _Fact("Recordings", f"{archive['source']}, {archive['recordings']:,} recordings")
    yield _Fact("Fingerprint", archive["fingerprint"], "code")
    yield _Fact("Episodes", report["episodes_digest"], "code")
    yield _Fact("Entry", entry.path.name, url=addresses.of(entry.path))
    yield _Fact("Predictions", entry.predictions.name, url=addresses.of(entry.predictions))
    yield _Fact("SHA-256", entry.document["predictions"]["sha256"], "code")
    yield _Fact("Written by", f"metaevents {report['metaevents_version']}")


def _charts(report: Mapping[str, Any]) -> list[_Chart]:
    """Return the chart over episodes and, where the report has any, the one over classes."""
    scores = report["per_episode"]
    charts = [
        _Chart(
            columns=[(column, "") for column in episode_histogram(scores)],
            left="0 %",
            right="100 %",
            caption=(
                f"Accuracy of single episodes: {percent(min(scores))} to {percent(max(scores))} %"
            ),
        )
    ]
    classes = sorted(report["per_class"].items(), key=lambda item: (item[1], item[0]))
    if classes:
        labels = [f"{name}: {percent(accuracy)}" for name, accuracy in classes]
        columns = class_columns([accuracy for _, accuracy in classes])
        charts.append(
            _Chart(
                columns=[(col, f"{label} %") for col, label in zip(columns, labels, strict=True)],
                left=labels[0],
                right=labels[-1],
                caption=f"Accuracy of the {len(classes)} classes, %",
            )
        )
    return charts
