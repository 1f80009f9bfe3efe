"""Leaderboard entries: the documents that people send in, and every check that they must pass.

The form is a JSON Schema (`metaevents/data/entry.schema.json`, published with the package); what a schema cannot say is checked
here: the protocol is the protocol, the numbers follow from each other, the prediction file is the one that was meant, a rerun
was somebody else's. With the archive everything is recomputed from the predictions. Entries come from strangers: nothing in
them is trusted, run or fetched. Ranking is left to `metaevents.benchmark.leaderboard`.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from metaevents.benchmark import statistics
from metaevents.benchmark.entries import Entry, brief, printable, read_json, schema
from metaevents.benchmark.episode_digests import published_digest
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import Protocol
from metaevents.benchmark.scoring import score
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike
from metaevents.specs import class_name, get_spec

_SHOWN = 5  # problems that one message names

_ROUNDING = 1e-6  # what reports may have been rounded to


@dataclass(frozen=True)
class Validation:
    """What `validate` found.

    Attributes:
        entry: the entry.
        checked: a line for each thing that was checked.
        remarks: what a reader of the entry should know: where it may stand, what was not checked.
    """

    entry: Entry
    checked: tuple[str, ...]
    remarks: tuple[str, ...]


def validate(path: PathLike, archive: PathLike | None = None) -> Validation:
    """Check an entry: its form, its numbers, its prediction file and, with the archive, the score that these give.

    Args:
        path: the entry, with its prediction file beside it.
        archive: the archive that it was made on; without it nothing is recomputed.

    Raises:
        MissingError: no entry, prediction file or archive at that place.
        UsageError: an entry that does not hold, with what is wrong with it.
    """
    entry = read_entry(path)
    checked = [
        f"form: agrees with schema {schema()['$id']}",
        "numbers: accuracy and intervals follow from the episodes",
    ]
    check_predictions(entry)
    checked.append(f"predictions: {entry.predictions.name} has the digest that the entry names")
    if archive is not None:
        recompute(entry, archive)
        checked.append(
            f"score: recomputed from predictions and {Path(archive).name}, it is the report's"
        )
    return Validation(entry, tuple(checked), tuple(_remarks(entry, recomputed=archive is not None)))


def _remarks(entry: Entry, *, recomputed: bool) -> Iterator[str]:
    if not recomputed:
        yield "not recomputed: pass --archive to score the predictions again"
    if entry.simulated:
        yield "simulated: made on simulated recordings, so it never enters the leaderboard"
    elif entry.sample:
        yield "sample: made on a sample of the recordings, so it stands in a table of its own"
    if entry.report["transductive"]:
        yield f"transductive: {entry.report['transductive_evidence'] or 'scores of a query depend on the other queries'}"
    if not entry.report["deterministic"]:
        yield "not deterministic: adapting twice gave other scores"
    if entry.overlap:
        yield f"not ranked: its weights overlap the test ({entry.overlap})"
    if entry.verified:
        yield f"verified by {entry.verified['by']} on {entry.verified['date']}"
    else:
        yield "claimed: nobody but its authors has rerun it yet"


def read_entry(path: PathLike) -> Entry:
    """Read an entry and check its form and its numbers; the prediction file is left to `check_predictions`.

    Raises:
        MissingError: no such file.
        UsageError: not JSON, not the schema's form, or numbers that contradict each other.
    """
    path = Path(path)
    document = read_json(path)
    for check in (_schema_problems, _meaning_problems):
        problems = list(check(document))
        if problems:
            problems = list(
                dict.fromkeys(problems)
            )  # a field may fail several keywords of the schema
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise UsageError(f"{path}: {'; '.join(problems[:_SHOWN])}{more}")
    return Entry(path, document)


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema())


def _schema_problems(document: Any) -> Iterator[str]:
    errors = _validator().iter_errors(document)
    for error in sorted(errors, key=lambda error: [str(step) for step in error.absolute_path]):
        steps = list(error.absolute_path)
        if error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield f"{_name([*steps, name])} is missing, expected {_expected([*steps, name])}"
            continue
        if error.validator == "additionalProperties" and error.validator_value is False:
            known = error.schema["properties"]
            for name in error.instance:
                if name not in known:
                    yield f"{_name([*steps, name])} is unknown; {_name(steps)} has {', '.join(known)}"
            continue
        yield f"{_name(steps)} is {brief(error.instance)}, expected {_expected(steps)}"


def _name(steps: Sequence[str | int]) -> str:
    said = ""
    for step in steps:
        said += f"[{step}]" if isinstance(step, int) else f".{printable(step)}"
    return said.lstrip(".") or "the entry"


def _expected(steps: Sequence[str | int]) -> str:
    """The schema's description of what is at a place."""
    root = schema()
    node: Any = root
    said = "an object as the schema describes it"
    for step in steps:
        node = _resolved(node, root)
        below = node.get("properties", {})
        node = (
            node["items"]
            if isinstance(step, int)
            else below.get(step) or node["additionalProperties"]
        )
        said = {**_resolved(node, root), **node}["description"]
    return str(said)


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[name]
    return value


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in node:
        return node
    target: Mapping[str, Any] = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return target


def _meaning_problems(document: Mapping[str, Any]) -> Iterator[str]:
    report = document["report"]
    yield from _protocol_problems(report)
    yield from _archive_problems(report)
    yield from _number_problems(report)
    yield from _people_problems(document)


def _protocol_problems(report: Mapping[str, Any]) -> Iterator[str]:
    if not report["is_protocol"] or report["deviations"]:
        why = "; ".join(report["deviations"]) or "is_protocol is false"
        yield f"the run is not the protocol ({why}), run `metaevents evaluate` without --episodes and --queries"
        return
    try:
        run = Protocol.from_dict(report["protocol"])
        deviations = run.deviations()
    except UsageError as error:
        yield str(error)
        return
    if deviations:
        yield f"report.protocol is not what its name {run.name!r} stands for ({', '.join(deviations)}), run the protocol itself"
        return
    published = published_digest(report["archive"]["fingerprint"], run)
    if published not in (None, report["episodes_digest"]):
        yield (
            f"report.episodes_digest is {report['episodes_digest'][:16]}..., the episodes of {run.name} on this archive have "
            f"{published[:16]}..., run the protocol with this release"
        )
    splits = get_spec(run.dataset).rules(simulated=False).splits
    classes = {class_name(components) for components in splits[run.classes][run.split]}
    strange = sorted(set(report["per_class"]) - classes)
    if strange:
        yield f"report.per_class names {brief(strange[0])}, which is no class of the {run.split} split, give its classes alone"


def _archive_problems(report: Mapping[str, Any]) -> Iterator[str]:
    archive, dataset = report["archive"], report["protocol"]["dataset"]
    try:
        original = get_spec(dataset).recordings["title"].lower()
    except UsageError as error:
        yield str(error)
        return
    known = (original, f"{original}-subset", "simulated")
    if archive["source"] not in known:
        yield f"report.archive.source is {brief(archive['source'])}, expected one of {', '.join(known)} for {dataset}"
    if archive["simulated"] != (archive["source"] == "simulated"):
        yield "report.archive.simulated and report.archive.source contradict each other, give the report as evaluate wrote it"


def _number_problems(report: Mapping[str, Any]) -> Iterator[str]:
    protocol, scores = report["protocol"], report["per_episode"]
    if len(scores) != protocol["episodes"]:
        yield f"report.per_episode has {len(scores)} accuracies, expected one for each of {protocol['episodes']} episodes"
        return
    queries = protocol["ways"] * protocol["queries"]
    for index, value in enumerate(scores):
        if abs(value * queries - round(value * queries)) > 1e-3:
            yield f"report.per_episode[{index}] is {value}, which is no whole number of {queries} queries"
            break
    mean = math.fsum(scores) / len(scores)
    if abs(mean - report["accuracy"]) > _ROUNDING:
        yield f"report.accuracy is {report['accuracy']}, but the mean of report.per_episode is {mean:.6f}"
    width = statistics.ci95(scores)
    if abs(width - report["ci95"]) > _ROUNDING:
        yield f"report.ci95 is {report['ci95']}, but report.per_episode gives {width:.6f}"
    low, high = report["bootstrap95"]
    if low > high:
        yield f"report.bootstrap95 is {report['bootstrap95']}, expected its lower end first"
    for name in ("trials", "training_seeds"):
        if runs := report[name]:
            said = {key: runs[key] for key in ("seeds", "mean", "deviation")}
            if not _agree(
                follows := {key: statistics.repeated(runs["accuracies"])[key] for key in said}, said
            ):
                yield f"report.{name} states {brief(said)}, but its accuracies give {brief(follows)}"
    if (trials := report["trials"]) and not _agree(
        float(trials["accuracies"][0]), report["accuracy"]
    ):
        yield f"report.trials begins with {trials['accuracies'][0]}, but trial 0 is the report itself, {report['accuracy']}"
    if report["transductive"] and report["transductive_evidence"] is None:
        yield "report.transductive is true without report.transductive_evidence, give the report as evaluate wrote it"


def _people_problems(document: Mapping[str, Any]) -> Iterator[str]:
    verified = document.get("verified")
    if verified is None:
        return
    authors = {_person(author) for author in document["method"]["authors"]}
    reran = {_person(name) for name in re.split(r",|;|&|\band\b", verified["by"])} | {
        _person(verified["by"])
    }
    if "" in authors or _person(verified["by"]) == "":
        yield "verified.by and method.authors need names with letters, to be told apart"
    elif authors & reran:
        yield f"verified.by is {brief(verified['by'])}, an author; only somebody else's rerun verifies an entry"
    try:
        datetime.date.fromisoformat(verified["date"])
    except ValueError:
        yield f"verified.date is {brief(verified['date'])}, which is no day, expected YYYY-MM-DD"


def _person(name: str) -> str:
    """A name without accents, case, spaces and dots: "José  Núñez" and "jose nunez" are one person."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in letters if letter.isalnum())


def check_predictions(entry: Entry) -> None:
    """Check that the prediction file is the one that the entry names, and that it is for the report's episodes.

    Raises:
        MissingError: no prediction file beside the entry.
        UsageError: another file, or one for other episodes.
    """
    path, expected = entry.predictions, entry.document["predictions"]["sha256"]
    if not path.is_file():
        raise MissingError(
            f"no prediction file {path}, which {entry.path.name} names; put it beside the entry"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise UsageError(
            f"{path} has the SHA-256 {found[:16]}..., {entry.path.name} names {expected[:16]}...; give the file that "
            "`metaevents evaluate` wrote with this entry"
        )
    predictions = Predictions.load(path)
    made_for = {
        "protocol": predictions.protocol.to_dict(),
        "archive.fingerprint": predictions.fingerprint,
        "episodes_digest": predictions.episodes_digest,
    }
    for name, made in made_for.items():
        if made != (stated := _at(entry.report, name)):
            raise UsageError(
                f"{path} is for report.{name} {brief(made)}, {entry.path.name} states {brief(stated)}; give the file that "
                "`metaevents evaluate` wrote with this entry"
            )


def recompute(entry: Entry, archive: PathLike) -> None:
    """Score the predictions again and compare all that follows from them with the report.

    Raises:
        MissingError, ArchiveError: no archive, or one that is not whole.
        UsageError: another archive, or a report that states something else than its predictions give.
    """
    for name, given in score(entry.predictions, archive).to_dict().items():
        if not _agree(given, stated := entry.report[name]):
            raise UsageError(
                f"{entry.path}: report.{name} is {brief(stated)}, the predictions give {brief(given)}; put in the report "
                "that `metaevents evaluate` wrote"
            )


def _agree(given: Any, stated: Any) -> bool:
    """Equality, numbers to within rounding."""
    if isinstance(given, dict):
        same_keys = isinstance(stated, dict) and given.keys() == stated.keys()
        return same_keys and all(_agree(given[key], stated[key]) for key in given)
    if isinstance(given, (list, tuple)):
        return (
            isinstance(stated, list)
            and len(given) == len(stated)
            and all(map(_agree, given, stated))
        )
    if isinstance(given, float):
        return math.isclose(given, stated, rel_tol=0, abs_tol=_ROUNDING)
    return bool(given == stated)


def admit(folder: PathLike) -> list[Entry]:
    """All entries (*.json) of a folder, in order of their names, each with its prediction file checked.

    Raises:
        MissingError: no such folder, or a prediction file is missing.
        UsageError: an entry that does not hold, or a simulated one, which never enters.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingError(f"no folder {folder}; give the folder of the entries with --entries")
    entries = [
        read_entry(path) for path in sorted(folder.glob("*.json"), key=lambda path: path.name)
    ]
    for entry in entries:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", entry.id):
            raise UsageError(
                f"{entry.path} needs another name; use small letters, digits, hyphens, dots and underscores"
            )
        if entry.simulated:
            raise UsageError(
                f"{entry.path} was made on simulated recordings, which never enter the leaderboard; take it out, and evaluate "
                "on real ones"
            )
        check_predictions(entry)
    return entries
