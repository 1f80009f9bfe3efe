"""The leaderboard: entries grouped into tables, ranked, and compared with the best.

Entries must have passed `metaevents.benchmark.validation`. Sentences and number formats are left to
`metaevents.benchmark.wording`, documents to `render_markdown` and `render_html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.significance import Counts, holm, paired_tests
from metaevents.specs import CLASS_SPLITS, PAIRINGS, get_spec, specs

ALPHA = 0.05
"""Entries with a corrected p-value above this are tied with the best."""

SETTINGS = ("all", "inductive", "transductive")
"""Which entries a reader can choose to see; ranks and ties are computed for each choice."""


@dataclass(frozen=True)
class Standing:
    """How an entry compares with the others of a table, or of one setting.

    Attributes:
        rank: 1 + the number of entries with a higher accuracy; None for an entry without a rank.
        against_best: "best", "tied" or "behind"; "incomparable" if its episodes differ from those
            of the best entry; "unranked" if its weights overlap the test.
        p: corrected p-value of the paired test against the best; None if there was no test.
    """

    rank: int | None
    against_best: str
    p: float | None = None


def standings(entries: Sequence[Entry]) -> list[Standing]:
    """Return the standing of each entry among `entries`, in their order."""
    ranked = [entry for entry in entries if not entry.overlap]
    if not ranked:
        return [Standing(None, "unranked")] * len(entries)
    best = min(ranked, key=_order)
    compared = [
        entry
        for entry in ranked
        if entry is not best and entry.report["episodes_digest"] == best.report["episodes_digest"]
    ]
    p_values = holm(paired_tests(_counts(best), [_counts(entry) for entry in compared]))
    p_of = {id(entry): p for entry, p in zip(compared, p_values, strict=True)}

    def standing(entry: Entry) -> Standing:
        if entry.overlap:
            return Standing(None, "unranked")
        rank = 1 + sum(other.accuracy > entry.accuracy for other in ranked)
        if entry is best:
            return Standing(rank, "best")
        p = p_of.get(id(entry))
        if p is None:
            return Standing(rank, "incomparable")
        return Standing(rank, "tied" if p > ALPHA else "behind", p)

    return [standing(entry) for entry in entries]


def _order(entry: Entry) -> tuple[bool, float, str, str]:
    """Sort key: best first, entries without a rank last."""
    return bool(entry.overlap), -entry.accuracy, entry.name.casefold(), entry.id


def _counts(entry: Entry) -> Counts:
    """Return [episodes] correctly classified queries, from the accuracies of the episodes."""
    n_queries = entry.protocol["ways"] * entry.protocol["queries"]
    counts: Counts = np.rint(np.multiply(entry.report["per_episode"], n_queries)).astype(np.int64)
    return counts


@dataclass(frozen=True)
class Row:
    """An entry, and its standing in each of `SETTINGS` that it belongs to."""

    entry: Entry
    standings: Mapping[str, Standing]


@dataclass(frozen=True)
class Table:
    """All entries of one protocol on one dataset, with one pairing and one class split.

    Attributes:
        protocol: as in a report.
        is_subset: whether the scores are on a subset of the recordings.
        rows: best entry first; entries without a rank last.
    """

    protocol: Mapping[str, Any]
    is_subset: bool
    rows: tuple[Row, ...]

    @property
    def dataset(self) -> str:
        """The dataset's title: "Double N-MNIST"."""
        return get_spec(self.protocol["dataset"]).title

    @property
    def title(self) -> str:
        """Ways and shots: "5-way 1-shot"."""
        return f"{self.protocol['ways']}-way {self.protocol['shots']}-shot"

    @property
    def subtitle(self) -> str:
        """Class split and pairing, named as in the options of the datasets."""
        return f"{self.protocol['classes']} classes, pairing “{self.protocol['pairing']}”"

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / float(self.protocol["ways"])

    @property
    def id(self) -> str:
        """Identifier of the table, for URLs."""
        protocol = self.protocol
        words = [protocol[name] for name in ("dataset", "name", "classes", "pairing")]
        version = "" if protocol["version"] == 1 else f"-v{protocol['version']}"
        return "-".join(words) + version


def tables(entries: Iterable[Entry]) -> list[Table]:
    """Return the tables in the order in which they are shown: those on a subset last."""
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_table_key(entry), []).append(entry)
    return [_table(groups[key]) for key in sorted(groups)]


def _table_key(entry: Entry) -> tuple[Any, ...]:
    """Sort key of an entry's table; equal for the entries of one table."""
    protocol = entry.protocol
    return (
        entry.is_subset,
        -list(specs()).index(protocol["dataset"]),  # Double N-MNIST before Double ASL-DVS
        PAIRINGS.index(protocol["pairing"]),
        CLASS_SPLITS.index(protocol["classes"]),
        protocol["ways"],
        protocol["shots"],
        protocol["name"],
        -protocol["version"],
    )


def _table(entries: Sequence[Entry]) -> Table:
    """Return the table of entries that share a table key."""
    ordered = sorted(entries, key=_order)
    by_entry: dict[str, dict[str, Standing]] = {entry.id: {} for entry in ordered}
    computed: dict[tuple[str, ...], list[Standing]] = {}  # settings with equal members share it
    for setting in SETTINGS:
        members = [entry for entry in ordered if setting in ("all", entry.setting)]
        ids = tuple(entry.id for entry in members)
        if ids not in computed:
            computed[ids] = standings(members)
        for entry, standing in zip(members, computed[ids], strict=True):
            by_entry[entry.id][setting] = standing
    rows = tuple(Row(entry, by_entry[entry.id]) for entry in ordered)
    return Table(ordered[0].protocol, ordered[0].is_subset, rows)
