"""The leaderboard: entries grouped into tables, ranked, compared with the best, and written as Markdown.

Every number comes from entries that `metaevents.benchmark.entries` let through, and equal entries give equal bytes. The page
is left to `metaevents.benchmark.render_html`.
"""

from __future__ import annotations

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import Standing

TITLE = "Few-shot learning on event cameras"

READING = (
    "Accuracy is the mean over the episodes, in percent, with half its 95 % confidence interval; the second interval is a "
    "bootstrap over recordings, which counts that episodes share a limited pool of them.",
    "“Tied” is an entry that a paired permutation test on the shared episodes (Holm-corrected, 5 %) cannot tell from the best.",
    "“Transductive” is a method whose score of a query was found to depend on the other queries; “inductive” all others.",
    "“Verified” is what somebody other than the authors has rerun; “claimed” is what the authors alone have run. Of either, "
    "`metaevents validate --archive` scores the predictions again.",
)

SAMPLE_NOTE = (
    "Scores on a sample of the recordings. They show that everything runs and what trivial methods get; no number here may stand "
    "beside one on the whole dataset."
)

EMPTY = "No entry yet; cards/SUBMITTING.md says how to make the first one."

NOTHING_WHOLE = (
    "No entry on a whole dataset yet; cards/SUBMITTING.md says how to make the first one."
)

FOOTER = "Written by `metaevents leaderboard` from cards/entries. To add an entry, read cards/SUBMITTING.md."

DASH = "\N{EN DASH}"


def percent(value: float) -> str:
    """An accuracy for reading: 98.23 for 0.98231."""
    return f"{100 * value:.2f}"


def probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def said_of(standing: Standing) -> str:
    """What a standing is in words: "tied, p = 0.310"."""
    words = {"incomparable": "other episodes", "unranked": "not ranked"}.get(
        standing.against_best, standing.against_best
    )
    return words if standing.p is None else f"{words}, {probability(standing.p)}"


def flags(entry: Entry) -> list[str]:
    """What a reader must know of an entry beside its numbers."""
    report = entry.report
    found = {
        "overlaps the test": bool(entry.overlap),
        "not deterministic": not report["deterministic"],
        "other data": entry.method["other_data"].strip().casefold() != "none",
    }
    return [flag for flag, holds in found.items() if holds]


def is_address(text: str) -> bool:
    return text.startswith("https://")
