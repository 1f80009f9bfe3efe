"""The leaderboard: entries grouped into tables, ranked, compared with the best, and written as Markdown.

Every number comes from entries that `metaevents.benchmark.entries` let through, and equal entries give equal bytes. The page
is left to `metaevents.benchmark.render_html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metaevents.benchmark.entries import Entry
from metaevents.rng import sign_patterns
from metaevents.specs import CLASS_SPLITS, PAIRINGS, get_spec, specs

ALPHA = 0.05
"""Entries whose corrected p is above it are tied with the best."""

FLIPS = 19_999
"""Random sign patterns of the paired test; with the observed one they make 20,000."""

SETTINGS = ("all", "inductive", "transductive")
"""What a reader may ask for; ranks and ties are worked out for each."""

Counts: TypeAlias = npt.NDArray[np.int64]
"""[episodes]: queries that were classified rightly, an episode."""


def paired_tests(best: Counts, others: Sequence[Counts]) -> list[float]:
    """Two-sided p, for each of the others, of a sign-flip permutation test on the mean difference from the best.

    If two methods were alike, either could have had either score of an episode, so the sign of each difference is arbitrary.
    Whole numbers and a fixed stream of signs make p the same on every platform.

    Args:
        best, others: [episodes] rightly classified queries, in the same order of episodes.
    """
    if not others:
        return []
    # Whole numbers, so that sums are exact in whatever order they are added.
    differences = np.stack([best - other for other in others], axis=1).astype(np.float64)
    observed = np.abs(differences.sum(axis=0))
    extreme = np.zeros(len(others), np.int64)
    for signs in sign_patterns(len(best), FLIPS):
        extreme += np.sum(np.abs(signs.astype(np.float64) @ differences) >= observed, axis=0)
    return [float(value) for value in (1 + extreme) / (1 + FLIPS)]


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for their number, in their order (Holm 1979, Scandinavian Journal of Statistics 6:65)."""
    corrected = [0.0] * len(p)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class Standing:
    """Where an entry stands among those of its setting.

    Attributes:
        rank: 1 + the number of entries with a higher accuracy; None where it is shown without a rank.
        against_best: "best", "tied", "behind"; "incomparable" where its episodes are others than the best's; "unranked".
        p: of the paired test against the best, corrected; None where there was none.
    """

    rank: int | None
    against_best: str
    p: float | None = None


def standings(entries: Sequence[Entry]) -> list[Standing]:
    """The standing of every entry among those given, in their order."""
    ranked = [entry for entry in entries if not entry.overlap]
    if not ranked:
        return [Standing(None, "unranked")] * len(entries)
    best = min(ranked, key=_order)
    others = [entry for entry in ranked if entry is not best and _same_episodes(entry, best)]
    corrected = holm(paired_tests(_counts(best), [_counts(entry) for entry in others]))
    p = {id(entry): value for entry, value in zip(others, corrected, strict=True)}

    def standing(entry: Entry) -> Standing:
        if entry.overlap:
            return Standing(None, "unranked")
        rank = 1 + sum(other.accuracy > entry.accuracy for other in ranked)
        if entry is best:
            return Standing(rank, "best")
        if id(entry) not in p:
            return Standing(rank, "incomparable")
        return Standing(rank, "tied" if p[id(entry)] > ALPHA else "behind", p[id(entry)])

    return [standing(entry) for entry in entries]


def _order(entry: Entry) -> tuple[bool, float, str, str]:
    return bool(entry.overlap), -entry.accuracy, entry.name.casefold(), entry.id


def _same_episodes(a: Entry, b: Entry) -> bool:
    return bool(a.report["episodes_digest"] == b.report["episodes_digest"])


def _counts(entry: Entry) -> Counts:
    protocol = entry.protocol
    counts: Counts = np.rint(
        np.multiply(entry.report["per_episode"], protocol["ways"] * protocol["queries"])
    ).astype(np.int64)
    return counts


@dataclass(frozen=True)
class Row:
    """An entry and its standing in each of `SETTINGS` that it belongs to."""

    entry: Entry
    standings: Mapping[str, Standing]


@dataclass(frozen=True)
class Table:
    """All entries of one protocol on one dataset, pairing and set of classes.

    Attributes:
        protocol: as in a report.
        sample: scores on the sample of the recordings, which rank no method.
        rows: best first; entries without a rank last.
    """

    protocol: Mapping[str, Any]
    sample: bool
    rows: tuple[Row, ...]

    @property
    def dataset(self) -> str:
        return get_spec(self.protocol["dataset"]).title

    @property
    def title(self) -> str:
        """Ways and shots: "5-way 1-shot"."""
        return f"{self.protocol['ways']}-way {self.protocol['shots']}-shot"

    @property
    def subtitle(self) -> str:
        """Which classes and which pairing, as in the loaders' options."""
        return f"{self.protocol['classes']} classes, pairing “{self.protocol['pairing']}”"

    @property
    def terms(self) -> str:
        """What the numbers mean, in a sentence or two."""
        protocol = self.protocol
        said = (
            f"Protocol {protocol['name']}, version {protocol['version']}: {protocol['episodes']} episodes of the "
            f"{protocol['split']} split, {protocol['queries']} queries a class; chance is {100 * self.chance:g} %."
        )
        return " ".join([said, *(NOTES[key] for key in NOTES if protocol[key[0]] == key[1])])

    @property
    def chance(self) -> float:
        return 1 / float(self.protocol["ways"])

    @property
    def id(self) -> str:
        """Names the table in addresses."""
        protocol = self.protocol
        words = ("dataset", "name", "classes", "pairing")
        suffix = "" if protocol["version"] == 1 else f"-v{protocol['version']}"
        return "-".join(str(protocol[word]) for word in words) + suffix


NOTES: Mapping[tuple[str, str], str] = {
    (
        "classes",
        "novel-components",
    ): "The test classes are made of digits or letters that training never saw.",
    ("pairing", "published"): (
        "This pairing tells by its left recording what a sample is, so that a trivial method scores high; it is here for "
        "comparison with published figures alone."
    ),
}


def tables(entries: Iterable[Entry]) -> list[Table]:
    """The tables of the leaderboard, in the order in which they are shown: those of the sample last."""
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_place(entry), []).append(entry)
    return [_table(groups[place]) for place in sorted(groups)]


def _place(entry: Entry) -> tuple[Any, ...]:
    protocol = entry.protocol
    return (
        entry.sample,
        list(specs()).index(protocol["dataset"]) * -1,  # Double N-MNIST first
        PAIRINGS.index(protocol["pairing"]),
        CLASS_SPLITS.index(protocol["classes"]),
        protocol["ways"],
        protocol["shots"],
        protocol["name"],
        -protocol["version"],
    )


def _table(entries: Sequence[Entry]) -> Table:
    ordered = sorted(entries, key=_order)
    found: dict[str, dict[str, Standing]] = {entry.id: {} for entry in ordered}
    worked_out: dict[tuple[str, ...], list[Standing]] = {}  # most tables have no transductive entry
    for setting in SETTINGS:
        members = [entry for entry in ordered if setting in ("all", entry.setting)]
        ids = tuple(entry.id for entry in members)
        if ids not in worked_out:
            worked_out[ids] = standings(members)
        for entry, standing in zip(members, worked_out[ids], strict=True):
            found[entry.id][setting] = standing
    return Table(
        ordered[0].protocol,
        ordered[0].sample,
        tuple(Row(entry, found[entry.id]) for entry in ordered),
    )
