"""The leaderboard: entries grouped into tables, ranked, and compared with the best.

Entries must have passed `metaevents.benchmark.validation`. Sentences and number formats are left to
`metaevents.benchmark.wording`, documents to `render_markdown` and `render_html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metaevents.benchmark.deals import OverDeals
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.episode_files import (
    episode_file,
    read_episode_file,
    write_episode_file,
)
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import Protocol, episode_list, newest_version
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.significance import holm_over_pairs, pairwise_tests
from metaevents.component_deals import DEALS, deal_number
from metaevents.datasets import BUILT_IN, archive_dataset, load
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike
from metaevents.specs import CLASS_SPLITS, PAIRINGS, get_spec

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
            of the best entry; "uncompared" if the folder of the entries has no episode file;
            "unranked" if its weights overlap the test.
        p: p-value of the paired test against the best, corrected for all pairs; None if there was
            no test.
    """

    rank: int | None
    against_best: str
    p: float | None = None


@dataclass(frozen=True)
class Tests:
    """Paired tests between entries over the same episodes.

    Attributes:
        places: id of an entry -> its place in `p_values`.
        p_values: [m, m] uncorrected p-values.
    """

    places: Mapping[str, int]
    p_values: np.ndarray


def run_tests(entries: Sequence[Entry]) -> Mapping[str, Tests]:
    """Compare all entries of a table with each other.

    Args:
        entries: Entries of one protocol, each with its prediction file beside it. The folder of the
            entries has the episode files; see `metaevents.benchmark.episode_files`.

    Returns:
        Digest of the episodes -> the tests between the entries over them. Episodes of a single
        entry, or without an episode file, are left out.

    Raises:
        UsageError: An episode file is damaged, or the predictions of an entry do not give the
            accuracies that it states.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.overlap:
            groups.setdefault(entry.report["episodes_digest"], []).append(entry)
    tests = {}
    for digest, group in groups.items():
        protocol = Protocol.from_dict(group[0].protocol)
        if len(group) < 2 or protocol.episodes < 2:
            continue
        try:
            episodes = read_episode_file(group[0].path.parent, protocol, digest)
        except MissingError:
            continue
        correct = np.stack([_correct(entry, episodes.labels) for entry in group])
        places = {entry.id: place for place, entry in enumerate(group)}
        design = RecordingDesign.of(episodes, protocol.pairing)
        tests[digest] = Tests(places, pairwise_tests(correct, design))
    return tests


def _correct(entry: Entry, labels: np.ndarray) -> np.ndarray:
    """Return [episodes, n] which queries an entry answers correctly, checked against its report."""
    correct = np.asarray(Predictions.load(entry.predictions).labels == labels)
    if np.abs(correct.mean(axis=1) - entry.report["per_episode"]).max() > 1e-6:
        raise UsageError(
            f"{entry.path}: report.per_episode does not follow from {entry.predictions.name}; "
            "restore the report that `metaevents evaluate` wrote"
        )
    return correct


def write_missing_episodes(entries: Iterable[Entry], archive: PathLike) -> list[Path]:
    """Write the episode files that the folder of the entries lacks, as far as an archive has them.

    Args:
        entries: Entries in their folder.
        archive: An archive. Entries made on another one are passed over.

    Returns:
        The files that were written.

    Raises:
        MissingError: There is no such archive.
        ArchiveError: The archive is corrupt.
        UsageError: An entry states other episodes than its protocol has on the archive.
    """
    written: list[Path] = []
    for entry in entries:
        folder, digest = entry.path.parent, entry.report["episodes_digest"]
        protocol = Protocol.from_dict(entry.protocol)
        if episode_file(folder, digest).is_file() or protocol.dataset != archive_dataset(archive):
            continue
        dataset = load(
            protocol.dataset,
            archive,
            protocol.split,
            pairing=protocol.pairing,
            classes=protocol.classes,
        )
        if dataset.fingerprint != entry.report["archive"]["fingerprint"]:
            continue
        episodes = episode_list(dataset, protocol)
        if episodes.digest != digest:
            raise UsageError(
                f"{entry.path}: report.episodes_digest is {digest[:16]}..., the episodes of "
                f"{protocol.name} on {archive} have {episodes.digest[:16]}...; evaluate again with "
                "this release"
            )
        written.append(write_episode_file(folder, episodes, dataset.classes, dataset.archive.ids))
    return written


def standings(entries: Sequence[Entry], tests: Mapping[str, Tests] | None = None) -> list[Standing]:
    """Return the standing of each entry among `entries`, in their order.

    Args:
        entries: Entries of one table.
        tests: The tests between them, and perhaps others, if `run_tests` has run already.
    """
    tests = run_tests(entries) if tests is None else tests
    ranked = [entry for entry in entries if not entry.overlap]
    if not ranked:
        return [Standing(None, "unranked")] * len(entries)
    best = min(ranked, key=_order)
    digest = best.report["episodes_digest"]
    compared = [entry for entry in ranked if entry.report["episodes_digest"] == digest]
    p_of: dict[str, float] = {}
    if digest in tests:
        places = [tests[digest].places[entry.id] for entry in compared]
        corrected = holm_over_pairs(tests[digest].p_values[np.ix_(places, places)])
        row = corrected[[entry is best for entry in compared].index(True)]
        p_of = {entry.id: float(p) for entry, p in zip(compared, row, strict=True)}

    def standing(entry: Entry) -> Standing:
        if entry.overlap:
            return Standing(None, "unranked")
        rank = 1 + sum(other.accuracy > entry.accuracy for other in ranked)
        if entry is best:
            return Standing(rank, "best")
        if entry.report["episodes_digest"] != digest:
            return Standing(rank, "incomparable")
        p = p_of.get(entry.id)
        if p is None:
            return Standing(rank, "uncompared")
        return Standing(rank, "tied" if p > ALPHA else "behind", p)

    return [standing(entry) for entry in entries]


def _order(entry: Entry) -> tuple[bool, float, str, str]:
    """Sort key: best first, entries without a rank last."""
    return bool(entry.overlap), -entry.accuracy, entry.name.casefold(), entry.id


@dataclass(frozen=True)
class Row:
    """An entry, and its standing in each of `SETTINGS` that it belongs to."""

    entry: Entry
    standings: Mapping[str, Standing]


@dataclass(frozen=True)
class Table:
    """All entries of one protocol on one dataset, with one pairing and one class split.

    Datasets of a user's own are told apart by name and fingerprint.

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
        """The dataset's title: "Double N-MNIST"; of a user's own its name and fingerprint."""
        name = self.protocol["dataset"]
        return get_spec(name).title if name in BUILT_IN else f"{name} (fingerprint {self._short})"

    @property
    def _short(self) -> str:
        """The first digits of the fingerprint of the archive, which all rows share."""
        return str(self.rows[0].entry.report["archive"]["fingerprint"])[:12]

    @property
    def title(self) -> str:
        """Ways and shots: "5-way 1-shot"."""
        return f"{self.protocol['ways']}-way {self.protocol['shots']}-shot"

    @property
    def subtitle(self) -> str:
        """Class split and pairing, named as in the options of the datasets."""
        return f"{self.protocol['classes']} classes, pairing “{self.protocol['pairing']}”"

    @property
    def is_newest(self) -> bool:
        """Whether this is the newest version of its protocol."""
        name, dataset = self.protocol["name"], self.protocol["dataset"]
        return bool(self.protocol["version"] == newest_version(name, dataset))

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / float(self.protocol["ways"])

    @property
    def id(self) -> str:
        """Identifier of the table, for URLs."""
        protocol = self.protocol
        words = [protocol[name] for name in ("dataset", "name", "classes", "pairing")]
        words += [] if protocol["dataset"] in BUILT_IN else [self._short]
        version = "" if protocol["version"] == 1 else f"-v{protocol['version']}"
        return "-".join(words) + version


def tables(entries: Iterable[Entry]) -> list[Table]:
    """Return the tables in the order in which they are shown: those on a subset last.

    Entries of the second and further deals of `novel-components` have no table of their own; see
    `deal_tables`. Different versions of a protocol have different episodes, so each has a table.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        if entry.protocol["classes"] not in DEALS[1:]:
            groups.setdefault(_table_key(entry), []).append(entry)
    return [_table(groups[key]) for key in sorted(groups)]


@dataclass(frozen=True)
class DealRow:
    """A method, with its entries over the deals.

    Attributes:
        name: Its name.
        entries: Number of a deal -> its entry, in order of the numbers.
    """

    name: str
    entries: Mapping[int, Entry]

    @property
    def accuracies(self) -> OverDeals:
        """The accuracies, with their mean and deviation."""
        return OverDeals({number: entry.accuracy for number, entry in self.entries.items()})


@dataclass(frozen=True)
class DealTable:
    """All methods of one protocol and pairing over the deals of `novel-components`.

    Attributes:
        protocol: As in a report, of one of the deals.
        is_subset: Whether the scores are on a subset of the recordings.
        dataset: The dataset's title.
        numbers: Numbers of the deals that have entries.
        rows: Methods with the most deals first; of these the one with the highest mean.
    """

    protocol: Mapping[str, Any]
    is_subset: bool
    dataset: str
    numbers: tuple[int, ...]
    rows: tuple[DealRow, ...]

    @property
    def title(self) -> str:
        """Ways and shots, and what the table is about."""
        protocol = self.protocol
        published = ", published pairing" if protocol["pairing"] == "published" else ""
        return (
            f"{protocol['ways']}-way {protocol['shots']}-shot, deals of novel components{published}"
        )


def deal_tables(entries: Iterable[Entry]) -> list[DealTable]:
    """Return the tables over the deals, in the order in which they are shown.

    Entries belong to one method if they have the same name and authors. Of several entries of one
    method in a deal, the one with the highest accuracy is shown. Entries whose weights overlap the
    test are left out, and so are protocols with entries of the first deal alone and older versions.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        protocol = entry.protocol
        newest = newest_version(protocol["name"], protocol["dataset"])
        if protocol["classes"] in DEALS and protocol["version"] == newest and not entry.overlap:
            key = (
                entry.is_subset,
                list(BUILT_IN).index(protocol["dataset"]),
                PAIRINGS.index(protocol["pairing"]),
                *(protocol[name] for name in ("ways", "shots", "name")),
            )
            groups.setdefault(key, []).append(entry)
    return [
        _deal_table(groups[key])
        for key in sorted(groups)
        if any(entry.protocol["classes"] != DEALS[0] for entry in groups[key])
    ]


def _deal_table(entries: Sequence[Entry]) -> DealTable:
    """Return the table of entries of one protocol and pairing."""
    methods: dict[tuple[str, ...], dict[int, Entry]] = {}
    for entry in sorted(entries, key=_order):
        number = deal_number(entry.protocol["classes"])
        if number is not None:
            of_method = methods.setdefault((entry.name, *entry.method["authors"]), {})
            of_method.setdefault(number, entry)
    rows = [DealRow(name, dict(sorted(found.items()))) for (name, *_), found in methods.items()]
    rows.sort(key=lambda row: (-len(row.entries), -row.accuracies.mean, row.name.casefold()))
    first = entries[0]
    return DealTable(
        first.protocol,
        first.is_subset,
        get_spec(first.protocol["dataset"]).title,
        tuple(sorted({number for row in rows for number in row.entries})),
        tuple(rows),
    )


def _table_key(entry: Entry) -> tuple[Any, ...]:
    """Sort key of an entry's table; equal for the entries of one table."""
    protocol = entry.protocol
    built_in, name = list(BUILT_IN), protocol["dataset"]
    # A name of a user's own dataset may have several archives, which are datasets of their own.
    own = () if name in built_in else (name, entry.report["archive"]["fingerprint"])
    return (
        entry.is_subset,
        built_in.index(name) if name in built_in else len(built_in),
        own,
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
    tests = run_tests(ordered)
    computed: dict[tuple[str, ...], list[Standing]] = {}  # settings with equal members share it
    for setting in SETTINGS:
        members = [entry for entry in ordered if setting in ("all", entry.setting)]
        ids = tuple(entry.id for entry in members)
        if ids not in computed:
            computed[ids] = standings(members, tests)
        for entry, standing in zip(members, computed[ids], strict=True):
            by_entry[entry.id][setting] = standing
    rows = tuple(Row(entry, by_entry[entry.id]) for entry in ordered)
    return Table(ordered[0].protocol, ordered[0].is_subset, rows)
