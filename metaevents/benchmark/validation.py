"""Validation of leaderboard entries: form, numbers, prediction file, recomputed score, admission.

The form is a JSON Schema (`metaevents/data/entry.schema.json`, published with the package), whose
violations `metaevents.benchmark.schema_errors` puts into words. Contradictions within an entry are
left to `metaevents.benchmark.consistency`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaevents.benchmark.consistency import agree, consistency_problems
from metaevents.benchmark.entries import Entry, read_json, schema
from metaevents.benchmark.episode_digests import published_archive
from metaevents.benchmark.predictions import MAX_PREDICTIONS_BYTES, Predictions
from metaevents.benchmark.schema_errors import schema_problems
from metaevents.benchmark.scoring import score_predictions
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike, user_path, visible_entries
from metaevents.json_schema import brief
from metaevents.specs import specs
from metaevents.untrusted import read_bytes

_MAX_PROBLEMS = 5
"""Problems that one error message names."""


@dataclass(frozen=True)
class Validation:
    """Result of `validate`.

    Attributes:
        entry: the entry.
        checked: one line for each check that it passed.
        remarks: what a reader of the entry should know: where it is listed, what was not checked.
    """

    entry: Entry
    checked: tuple[str, ...]
    remarks: tuple[str, ...]


def validate(path: PathLike, archive: PathLike | None = None) -> Validation:
    """Check an entry: its form, its numbers, its prediction file and, with the archive, its score.

    Args:
        path: the entry (.json), with its prediction file beside it.
        archive: the archive that it was made on; without it the score is not recomputed.

    Returns:
        What was checked; an entry that fails a check is an error.

    Raises:
        MissingError: if the entry, its prediction file or the archive does not exist.
        ArchiveError: if the archive is damaged.
        UsageError: if the entry fails a check.
    """
    entry = read_entry(path)
    checked = [
        f"form: agrees with schema {schema()['$id']}",
        "numbers: accuracy and intervals follow from the episodes",
    ]
    predictions = check_predictions(entry)
    checked.append(f"predictions: {entry.predictions.name} has the digest that the entry states")
    if archive is not None:
        recompute(entry, predictions, archive)
        checked.append(
            f"score: recomputed from the predictions and {Path(archive).name}, equals the report's"
        )
    return Validation(entry, tuple(checked), tuple(_remarks(entry, recomputed=archive is not None)))


def _remarks(entry: Entry, *, recomputed: bool) -> Iterator[str]:
    if not recomputed:
        yield "not recomputed: pass --archive to recompute the score from the predictions"
        dataset, fingerprint = entry.protocol["dataset"], entry.report["archive"]["fingerprint"]
        if dataset not in specs():
            yield (
                f"not checked: episodes, classes, source and number of recordings of {dataset}, "
                "which only its archive knows; pass it with --archive"
            )
        elif published_archive(fingerprint) is None:
            yield (
                "not checked: the episodes, since none are published for this fingerprint; pass "
                "--archive to check them"
            )
    if entry.simulated:
        yield "simulated: made on simulated recordings, so it never enters the leaderboard"
    elif entry.is_subset:
        yield "subset: made on a subset of the recordings, so it is listed in a separate table"
    if entry.report["transductive"]:
        evidence = entry.report["transductive_evidence"]
        yield f"transductive: {evidence}"
    elif entry.report["transductive"] is None:
        yield (
            "not probed: whether the method is transductive, stateful or deterministic was not "
            "measured"
        )
    if entry.report["stateful"]:
        yield f"stateful: {entry.report['stateful_evidence']}"
    if entry.report["deterministic"] is False:
        yield "not deterministic: adapting twice gave different scores"
    if entry.overlap:
        yield f"not ranked: its weights overlap the test ({entry.overlap})"
    if entry.verified:
        yield f"verified by {entry.verified['by']} on {entry.verified['date']}"
    else:
        yield "claimed: only its authors have run it so far"


def read_entry(path: PathLike) -> Entry:
    """Read an entry and check its form and its numbers, but not its prediction file.

    Raises:
        MissingError: if there is no such file.
        UsageError: if it is not JSON, violates the schema, or has numbers that contradict each
            other.
    """
    path = user_path(path)
    document = read_json(path)
    for find_problems in (schema_problems, consistency_problems):
        # One field may violate several keywords of the schema, with the same sentence.
        problems = list(dict.fromkeys(find_problems(document)))
        if problems:
            n_more = len(problems) - _MAX_PROBLEMS
            more = f"; and {n_more} more" if n_more > 0 else ""
            raise UsageError(f"{path}: {'; '.join(problems[:_MAX_PROBLEMS])}{more}")
    return Entry(path, document)


def check_predictions(entry: Entry) -> Predictions:
    """Check that the prediction file is the one that the entry names, for its episodes.

    Returns:
        The predictions in the file whose digest was checked.

    Raises:
        MissingError: if there is no prediction file beside the entry.
        UsageError: if the file is another one, or is for other episodes.
    """
    path, expected = entry.predictions, entry.document["predictions"]["sha256"]
    content = read_bytes(
        path,
        MAX_PREDICTIONS_BYTES,
        "prediction file",
        f"{entry.path.name} names it, so put it beside the entry",
    )
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise UsageError(
            f"{path} has the SHA-256 {actual[:16]}..., {entry.path.name} states "
            f"{expected[:16]}...; give the file that `metaevents evaluate` wrote with this entry"
        )
    predictions, report = Predictions.from_bytes(content, str(path)), entry.report
    pairs = {
        "protocol": (predictions.protocol.to_dict(), report["protocol"]),
        "archive.fingerprint": (predictions.fingerprint, report["archive"]["fingerprint"]),
        "episodes_digest": (predictions.episodes_digest, report["episodes_digest"]),
    }
    for name, (predicted, stated) in pairs.items():
        if predicted != stated:
            raise UsageError(
                f"{path} is for report.{name} {brief(predicted)}, {entry.path.name} states "
                f"{brief(stated)}; give the file that `metaevents evaluate` wrote with this entry"
            )
    return predictions


def recompute(entry: Entry, predictions: Predictions, archive: PathLike) -> None:
    """Score an entry's predictions and compare every result with its report.

    Args:
        entry: the entry.
        predictions: what `check_predictions` returned for it.
        archive: the archive that it was made on.

    Raises:
        MissingError: if the archive does not exist.
        ArchiveError: if the archive is damaged.
        UsageError: if the archive is another one, or the report does not follow from the
            predictions.
    """
    result = score_predictions(predictions, archive, None, str(entry.predictions))
    for name, computed in result.to_dict().items():
        stated = entry.report[name]
        if not agree(computed, stated):
            raise UsageError(
                f"{entry.path}: report.{name} is {brief(stated)}, the predictions give "
                f"{brief(computed)}; restore the report that `metaevents evaluate` wrote"
            )


def admit(folder: PathLike) -> list[Entry]:
    """Return all entries (*.json) of a folder in order of their names, each checked.

    The checks are those of `validate` without the archive. Simulated entries are refused. What
    operating systems and network storage leave in a folder is passed over; see
    `metaevents.files.is_litter`.

    Raises:
        MissingError: if the folder or a prediction file does not exist.
        UsageError: if an entry fails a check, is simulated, or has a name unfit for URLs.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise MissingError(f"no folder {folder}; give the folder of the entries with --entries")
    try:
        files = [Path(file.path) for file in visible_entries(folder)]
    except OSError as error:
        raise UsageError(f"{folder} cannot be listed ({error.strerror})") from error
    entries = []
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*[.]json", path.name):
            raise UsageError(
                f"{path} needs another name; use lowercase letters, digits, hyphens, dots and "
                "underscores, and the ending .json"
            )
        entries.append(read_entry(path))
    for entry in entries:
        if entry.simulated:
            raise UsageError(
                f"{entry.path} was made on simulated recordings, which never enter the "
                "leaderboard; remove it, and evaluate on real recordings"
            )
        check_predictions(entry)
    return entries
