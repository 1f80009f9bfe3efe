"""Sentences and number formats that both renderings of the leaderboard share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import Standing, Table
from metaevents.errors import printable

TITLE = "Few-shot learning on event cameras"

READING = (
    "Accuracy is the mean over the episodes in percent, ± half of its 95 % interval over fresh "
    "recordings and episodes: where the accuracy on other test recordings is expected. "
    "cards/statistics.md explains it.",
    "Unshared queries: the accuracy on the queries none of whose recordings is in the support of "
    "another class of the episode, and their share.",
    "“Tied”: a paired test over recordings and episodes does not distinguish the entry from the "
    "best one, rank 1. The level is 5 % for all pairs of a table together (Holm's correction).",
    "“Trivial baseline”: a method without meta-learning that every method should beat.",
    "“Transductive”: the scores of a query were found to depend on the other queries. All other "
    "methods are “inductive”, or “not probed” if that was not measured.",
    "“Stateful”: the same queries, asked twice without adapting anew, got other scores.",
    "“Verified”: somebody other than the authors has rerun the entry. “Claimed”: only the authors "
    "have run it. For both, `metaevents validate --archive` recomputes the score from the "
    "predictions.",
)
"""How to read the tables."""

COSTS = (
    "MACs (multiply-accumulations) and ACs (accumulations) are the effective synaptic operations "
    "of one sample, as NeuroBench defines them: those of which no factor is zero. “Adaptation” are "
    "both together for one support, and “footprint” is the memory of the parameters. The methods "
    "report these numbers themselves."
)
"""How to read the columns about operations and memory."""

PLOT = (
    "Plots: a dot is an entry's accuracy against its operations per sample, MACs and ACs together. "
    "Filled dots have ACs, as spiking networks do. The light line is the 95 % interval over fresh "
    "recordings and episodes, the dark one is that over episodes of these recordings."
)
"""How to read the plots of the HTML page."""

BARS = (
    "Bars: the light line is the 95 % interval over fresh recordings and episodes, the dark block "
    "is the one over episodes of these recordings only, and the dashed line is chance. The scale "
    "is logistic: halving the errors is about the same distance at 80 % as at 98 %."
)
"""How to read the bars of the HTML page."""

OVERVIEW = (
    "Accuracy in %, ± half of its 95 % interval over fresh recordings and episodes. Bold: rank 1 "
    "of the column, or tied with it."
)
"""How to read the overview at the top of the leaderboard."""

OVERVIEW_LINKS = "A number leads to its entry, the head of a column to its table."
"""Where the overview of the HTML page leads."""

DEALS_NOTE = (
    "Each deal divides the digits or letters anew among training, validation and test. Mean and "
    "deviation are those of the accuracies over the deals, in percent; the deviation says how much "
    "depends on which labels are dealt to test, and is no interval of the mean."
)
"""How to read a table over the deals of `novel-components`."""

OLDER_TITLE = "Older versions of the protocols"

OLDER_NOTE = (
    "Other episodes than those of the newest versions, so no number here may be compared with one "
    "there. In version 1 of the sample protocols a recording of a query could be in the support of "
    "another class of its episode, which made trivial baselines up to 16 points worse. In version "
    "2 it cannot."
)
"""What to know about the tables of older versions."""

SUBSET_NOTE = (
    "Scores on a subset of the recordings. They show that the methods run and what trivial "
    "baselines reach. Do not compare them with scores on the whole dataset."
)

FOOTER = (
    "Written by `metaevents leaderboard` from cards/entries. To add an entry, read "
    "cards/SUBMITTING.md."
)

_SEEN_ELSEWHERE = ("fingerprint", "config")
"""Fields of what weights have seen that the page leaves to the entry's file."""

_MAX_TEXT = 4000  # characters of a text in an entry

DASH = "\N{EN DASH}"
"""Shown in place of a missing rank."""

_PROTOCOL_NOTES: Mapping[tuple[str, str], str] = {
    ("classes", "novel-components"): (
        "The test classes consist of digits or letters that do not occur in training. This is the "
        "first of ten deals."
    ),
    ("pairing", "published"): (
        "With this pairing, the left recording alone gives the class away, so that trivial "
        "baselines score high. It is listed only for comparison with published figures."
    ),
}
"""(field, value) of a protocol -> what a reader of its table should know."""

_VERSIONS = {
    1: "Queries can share recordings with the support of other classes.",
    2: "The recordings of a label are divided between support and query once per episode.",
}
"""Version of a sample protocol -> how its episodes are drawn."""


def empty_note(tables: Sequence[Table]) -> str:
    """Return a note if there is no entry, or none on a whole dataset; else ""."""
    if any(not table.is_subset for table in tables):
        return ""
    missing = "No entry on a whole dataset yet" if tables else "No entry yet"
    return f"{missing}; cards/SUBMITTING.md explains how to submit one."


def table_terms(table: Table) -> str:
    """Return what the numbers of a table mean, in one or more sentences."""
    protocol = table.protocol
    terms = (
        f"Protocol {protocol['name']}, version {protocol['version']}: {protocol['episodes']} "
        f"episodes of the {protocol['split']} split, {protocol['queries']} queries per class; "
        f"chance is {100 * table.chance:g} %."
    )
    if table.is_subset and protocol["name"].startswith("sample-"):
        terms += f" {_VERSIONS[min(protocol['version'], 2)]}"
    notes = [note for (field, value), note in _PROTOCOL_NOTES.items() if protocol[field] == value]
    return " ".join([terms, *notes])


def short_title(shown: Table) -> str:
    """Return what distinguishes a table from the others of its dataset.

    Example: "5-way 1-shot, novel components, published pairing".
    """
    version = [] if shown.is_newest else [f"version {shown.protocol['version']}"]
    return ", ".join([shown.title, *table_condition(shown), *version])


def table_condition(shown: Table) -> list[str]:
    """Return in words how a table's class split and pairing differ from the usual ones."""
    words = []
    if (classes := shown.protocol["classes"]) != "published":
        words.append(str(classes).replace("-", " "))
    if shown.protocol["pairing"] == "published":
        words.append("published pairing")
    return words


def trained_on(seen: Mapping[str, Any] | None) -> str | None:
    """Return in words what a learner states that its weights were trained on; None for nothing.

    The schema leaves this field open. Fields that are not known are shown by name and value.
    Control characters are made visible, and a long text is cut.

    Example: "680 recordings of 64 classes of double-nmnist (n-mnist-subset); the weights of step
    2,000 were chosen on 160 recordings of 16 other classes".
    """
    if seen is None:
        return None
    rest = {key: value for key, value in seen.items() if key not in _SEEN_ELSEWHERE}
    parts = []
    if isinstance(rest.get("samples"), str) and isinstance(rest.get("partition"), str):
        place = f" of {rest.pop('dataset')}" if isinstance(rest.get("dataset"), str) else ""
        parts.append(f"{rest.pop('samples')} of the {rest.pop('partition')} partition{place}")
    if trained := _amount_seen(rest.get("trained")):
        place = f" of {rest.pop('dataset')}" if isinstance(rest.get("dataset"), str) else ""
        source = f" ({rest.pop('source')})" if isinstance(rest.get("source"), str) else ""
        parts.append(f"{trained}{place}{source}")
        del rest["trained"]
        if chosen := _amount_seen(rest.get("chosen")):
            step = rest.pop("step", None)
            weights = f"the weights of step {step:,}" if type(step) is int else "the weights"
            parts.append(f"{weights} were chosen on {chosen}")
            del rest["chosen"]
    for name, value in sorted(rest.items()):
        items = ", ".join(map(str, value)) if isinstance(value, list) else value
        parts.append(f"{str(name).replace('_', ' ')}: {items}")
    text = printable("; ".join(parts))
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def _amount_seen(part: object) -> str:
    """Return how many recordings and classes something has; "" if it does not say so."""
    if not isinstance(part, Mapping):
        return ""
    n_recordings, n_classes = part.get("recordings"), part.get("classes")
    if type(n_recordings) is not int or type(n_classes) is not int:
        return ""
    return (
        f"{n_recordings:,} {'recording' if n_recordings == 1 else 'recordings'} of "
        f"{counted(n_classes, 'class', 'classes')}"
    )


def describe_standing(standing: Standing) -> str:
    """Return a standing against rank 1 in words: "tied, p = 0.310"."""
    words = {
        "best": "rank 1",
        "incomparable": "other episodes",
        "unranked": "not ranked",
        "uncompared": "not compared (no episode file)",
    }
    text = words.get(standing.against_best, standing.against_best)
    return text if standing.p is None else f"{text}, {p_value(standing.p)}"


def flags(entry: Entry) -> list[str]:
    """Return the remarks on an entry that a reader has to see beside its numbers."""
    holds = {
        "trivial baseline": is_trivial(entry),
        "overlaps the test": bool(entry.overlap),
        "stateful": bool(entry.report["stateful"]),
        "not deterministic": entry.report["deterministic"] is False,
        "other data": entry.method["other_data"].strip().casefold() != "none",
    }
    return [flag for flag, applies in holds.items() if applies]


def is_trivial(entry: Entry) -> bool:
    """Return whether an entry is that of a trivial baseline."""
    return str(entry.report["learner"]).startswith("floor:")


def is_url(code: str) -> bool:
    """Return whether a method's code is given as a URL, not as the name of a package."""
    return code.startswith("https://")


def relative_address(path: Path, folder: Path | None) -> str | None:
    """Return the address of a file for a document in a folder.

    None if there is no folder, or if it lies on another drive.
    """
    if folder is None:
        return None
    try:
        return quote(Path(os.path.relpath(path, folder)).as_posix())
    except ValueError:
        return None


def percent(fraction: float, decimals: int = 2) -> str:
    """Return a fraction as a percentage: "98.23" for 0.98231."""
    return f"{100 * fraction:.{decimals}f}"


def unshared(report: Mapping[str, Any]) -> str:
    """Return the accuracy on unshared queries and their share: "59.06 (on 91 %)"."""
    share = f"{100 * report['unshared_queries']:.0f} %"
    accuracy = report["unshared_accuracy"]
    return "none" if accuracy is None else f"{percent(accuracy)} (on {share})"


def p_value(p: float) -> str:
    """Return a p-value with three decimals: "p = 0.310"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def quantity(value: float | None, unit: str) -> str | None:
    """Return a number with its unit, to about three digits and without an exponent.

    None, for a quantity that was not measured, stays None.
    """
    if value is None:
        return None
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f} {unit}"


def counted(number: int, singular: str, plural: str) -> str:
    """Return a number with its noun: "1 entry", "2 entries"."""
    return f"{number} {singular if number == 1 else plural}"
