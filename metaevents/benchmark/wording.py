"""Sentences and number formats that both renderings of the leaderboard share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import Standing, Table

TITLE = "Few-shot learning on event cameras"

READING = (
    "Accuracy is the mean over the episodes in percent, ± half of its 95 % confidence interval. "
    "The second interval is a bootstrap over recordings; it accounts for the limited pool of "
    "recordings that all episodes share.",
    "“Tied”: a paired permutation test on the shared episodes (Holm-corrected, 5 % level) does not "
    "distinguish the entry from the best one.",
    "“Transductive”: the scores of a query were found to depend on the other queries. All other "
    "methods are “inductive”.",
    "“Verified”: somebody other than the authors has rerun the entry. “Claimed”: only the authors "
    "have run it. For both, `metaevents validate --archive` recomputes the score from the "
    "predictions.",
)
"""How to read the tables."""

BARS = (
    "Bars: the dark block is the 95 % interval over episodes, the light line is the one over "
    "recordings, and the dashed line is chance. The scale is logistic: halving the errors is about "
    "the same distance at 80 % as at 98 %."
)
"""How to read the bars of the HTML page."""

SUBSET_NOTE = (
    "Scores on a subset of the recordings. They show that the methods run and what trivial "
    "baselines reach. Do not compare them with scores on the whole dataset."
)

FOOTER = (
    "Written by `metaevents leaderboard` from cards/entries. To add an entry, read "
    "cards/SUBMITTING.md."
)

DASH = "\N{EN DASH}"
"""Shown in place of a missing rank."""

_PROTOCOL_NOTES: Mapping[tuple[str, str], str] = {
    ("classes", "novel-components"): (
        "The test classes consist of digits or letters that do not occur in training."
    ),
    ("pairing", "published"): (
        "With this pairing, the left recording alone gives the class away, so that trivial "
        "baselines score high. It is listed only for comparison with published figures."
    ),
}
"""(field, value) of a protocol -> what a reader of its table should know."""


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
    notes = [note for (field, value), note in _PROTOCOL_NOTES.items() if protocol[field] == value]
    return " ".join([terms, *notes])


def describe_standing(standing: Standing) -> str:
    """Return a standing in words: "tied, p = 0.310"."""
    words = {"incomparable": "other episodes", "unranked": "not ranked"}
    text = words.get(standing.against_best, standing.against_best)
    return text if standing.p is None else f"{text}, {p_value(standing.p)}"


def flags(entry: Entry) -> list[str]:
    """Return the remarks on an entry that a reader has to see beside its numbers."""
    holds = {
        "overlaps the test": bool(entry.overlap),
        "not deterministic": not entry.report["deterministic"],
        "other data": entry.method["other_data"].strip().casefold() != "none",
    }
    return [flag for flag, applies in holds.items() if applies]


def is_url(code: str) -> bool:
    """Return whether a method's code is given as a URL, not as the name of a package."""
    return code.startswith("https://")


def percent(fraction: float) -> str:
    """Return a fraction as a percentage with two decimals: "98.23" for 0.98231."""
    return f"{100 * fraction:.2f}"


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
