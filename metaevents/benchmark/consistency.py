"""Contradictions within an entry that agrees with the schema: what a schema cannot express.

The protocol is the published one, the archive is one of its dataset, the numbers follow from the
accuracies of the episodes, and whoever verified the entry is not an author. Neither the prediction
file nor the archive is read: that is left to `metaevents.benchmark.validation`.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from metaevents.benchmark import statistics
from metaevents.benchmark.amounts import operations
from metaevents.benchmark.episode_digests import published_archive, published_digest
from metaevents.benchmark.learner_metrics import cost_problem
from metaevents.benchmark.protocols import Protocol
from metaevents.errors import UsageError
from metaevents.json_schema import brief
from metaevents.specs import class_name, get_spec, specs

_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

_TOLERANCE = 1e-6
"""Numbers of a report may have been rounded to this."""


def consistency_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield each contradiction, as a sentence.

    Args:
        document: an entry that agrees with the schema.
    """
    report = document["report"]
    yield from _protocol_problems(report)
    yield from _archive_problems(report)
    yield from _accuracy_problems(report)
    yield from _repetition_problems(report)
    yield from _cost_problems(report)
    if report["transductive"] and report["transductive_evidence"] is None:
        yield (
            "report.transductive is true without report.transductive_evidence, give the report as "
            "`metaevents evaluate` wrote it"
        )
    if report["stateful"] and report["stateful_evidence"] is None:
        yield (
            "report.stateful is true without report.stateful_evidence, give the report as "
            "`metaevents evaluate` wrote it"
        )
    if report["transductive"] is None and not (
        report["deterministic"] is None and report["stateful"] is None
    ):
        yield (
            "report.transductive is null, as in a run without the probe, but report.deterministic "
            "or report.stateful is not, give the report as `metaevents evaluate` wrote it"
        )
    yield from _verification_problems(document)


def agree(computed: Any, stated: Any) -> bool:
    """Return whether two JSON values are equal, numbers to within rounding.

    Args:
        computed: a value computed here; decides which parts are compared as numbers.
        stated: the value of the report.
    """
    if isinstance(computed, dict):
        same_keys = isinstance(stated, dict) and computed.keys() == stated.keys()
        return same_keys and all(agree(computed[key], stated[key]) for key in computed)
    if isinstance(computed, (list, tuple)):
        same_length = isinstance(stated, list) and len(computed) == len(stated)
        return same_length and all(map(agree, computed, stated))
    if isinstance(computed, float):
        return math.isclose(computed, stated, rel_tol=0, abs_tol=_TOLERANCE)
    return bool(computed == stated)


def _protocol_problems(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the run differs from the protocol that it names."""
    if not report["is_protocol"] or report["deviations"]:
        reason = "; ".join(report["deviations"][:5]) or "is_protocol is false"
        yield (
            f"the run is not the protocol ({reason}), run `metaevents evaluate` without "
            "--episodes and --queries"
        )
        return
    try:
        protocol = Protocol.from_dict(report["protocol"])
        deviations = protocol.deviations()
    except UsageError as error:
        yield str(error)
        return
    if deviations:
        yield (
            f"report.protocol is not the protocol {protocol.name!r} ({', '.join(deviations)}), run "
            "that protocol unchanged"
        )
        return
    digest = report["episodes_digest"]
    published = published_digest(report["archive"]["fingerprint"], protocol)
    if published not in (None, digest):
        yield (
            f"report.episodes_digest is {digest[:16]}..., the episodes of {protocol.name} on this "
            f"archive have {published[:16]}..., run the protocol with this release"
        )
    if protocol.dataset not in specs():  # only its archive knows the classes
        return
    splits = get_spec(protocol.dataset).rules(simulated=False).class_splits
    classes = {class_name(components) for components in splits[protocol.classes][protocol.split]}
    unknown = sorted(set(report["per_class"]) - classes)
    if unknown:
        yield (
            f"report.per_class names {brief(unknown[0])}, which is not a class of the "
            f"{protocol.split} split, give only classes of that split"
        )


def _archive_problems(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the stated source of the recordings."""
    archive, dataset = report["archive"], report["protocol"]["dataset"]
    if archive["simulated"] != (archive["source"] == "simulated"):
        yield (
            "report.archive.simulated and report.archive.source contradict each other, give the "
            "report as `metaevents evaluate` wrote it"
        )
    if dataset not in specs():  # only its archive knows source and number of recordings
        if not _OWN_NAME.fullmatch(dataset) or dataset.casefold() in specs():
            yield (
                f"report.protocol.dataset is {brief(dataset)}, expected {', '.join(specs())}, or "
                "for a dataset of your own a name of at most 80 letters, digits, dots, hyphens "
                "and underscores, so build its archive under such a name"
            )
        return
    spec = get_spec(dataset)
    original = spec.recordings["title"].lower()
    sources = (original, f"{original}-subset", "simulated")
    if archive["source"] not in sources:
        yield (
            f"report.archive.source is {brief(archive['source'])}, expected one of "
            f"{', '.join(sources)} for {dataset}"
        )
    published = published_archive(archive["fingerprint"])
    if published is not None:
        stated = {name: archive[name] for name in published}
        if not agree(published, stated):
            yield (
                f"report.archive states {brief(stated)}, the archive of this fingerprint has "
                f"{brief(published)}, give the report as `metaevents evaluate` wrote it"
            )
    most = sum(spec.recordings["counts"].values())
    if archive["recordings"] > most:
        yield (
            f"report.archive.recordings is {archive['recordings']}, but {dataset} has at most "
            f"{most}"
        )


def _accuracy_problems(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield which numbers do not follow from the accuracies of the episodes."""
    protocol, scores = report["protocol"], report["per_episode"]
    if len(scores) != protocol["episodes"]:
        yield (
            f"report.per_episode has {len(scores)} accuracies, expected one for each of "
            f"{protocol['episodes']} episodes"
        )
        return
    n_queries = protocol["ways"] * protocol["queries"]
    for index, score in enumerate(scores):
        if abs(score * n_queries - round(score * n_queries)) > 1e-3:
            yield (
                f"report.per_episode[{index}] is {score}, which is not a whole number of "
                f"{n_queries} queries"
            )
            break
    mean = math.fsum(scores) / len(scores)
    if not agree(mean, report["accuracy"]):
        yield (
            f"report.accuracy is {report['accuracy']}, but the mean of report.per_episode is "
            f"{mean:.6f}"
        )
    half_width = statistics.episode_ci95(scores)
    if not agree(half_width, report["episode_ci95"]):
        yield (
            f"report.episode_ci95 is {report['episode_ci95']}, but report.per_episode gives "
            f"{half_width:.6f}"
        )
    if report["ci95"] < half_width - _TOLERANCE:
        yield (
            f"report.ci95 is {report['ci95']}, expected at least the {half_width:.6f} over "
            "episodes of the same recordings"
        )
    per_class = report["per_class"].values()
    lowest, highest = min(per_class, default=0.0), max(per_class, default=1.0)
    if not lowest - _TOLERANCE <= report["accuracy"] <= highest + _TOLERANCE:
        yield (
            f"report.accuracy is {report['accuracy']}, but report.per_class has values from "
            f"{lowest} to {highest}"
        )
    share, unshared = report["unshared_queries"], report["unshared_accuracy"]
    if (share == 0) != (unshared is None):
        yield (
            f"report.unshared_accuracy is {unshared} and report.unshared_queries is {share}, "
            "expected null exactly where no query is unshared"
        )
    elif unshared is not None:
        least = share * unshared
        if not least - _TOLERANCE <= report["accuracy"] <= least + 1 - share + _TOLERANCE:
            yield (
                f"report.accuracy is {report['accuracy']}, which {unshared} on {share} of the "
                "queries excludes"
            )


def _repetition_problems(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield which statistics over trials and training seeds do not follow from their accuracies."""
    for name in ("trials", "training_seeds"):
        if runs := report[name]:
            stated = {key: runs[key] for key in ("seeds", "mean", "deviation")}
            summary = statistics.repeated(runs["accuracies"])
            computed = {key: summary[key] for key in stated}
            if not agree(computed, stated):
                yield (
                    f"report.{name} states {brief(stated)}, but its accuracies give "
                    f"{brief(computed)}"
                )
    trials = report["trials"]
    if trials and not agree(float(trials["accuracies"][0]), report["accuracy"]):
        yield (
            f"report.trials begins with {trials['accuracies'][0]}, but trial 0 is the report "
            f"itself, {report['accuracy']}"
        )


def _cost_problems(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield which costs contradict each other."""
    costs = report.get("costs")
    if costs is None:
        return
    groups = [("costs", {**costs, "spikes": report["spikes_per_sample"]})]
    if adaptation := costs.get("adaptation"):
        groups.append(("costs.adaptation", adaptation))
    for name, group in groups:
        if problem := cost_problem(group, "spikes"):
            yield f"report.{name}: {problem}"
    stated, counted = report["synaptic_operations_per_sample"], operations(costs)
    if (
        stated is not None
        and counted is not None
        and not math.isclose(stated, counted, rel_tol=_TOLERANCE)
    ):
        yield (
            f"report.synaptic_operations_per_sample is {stated:g}, but report.costs has "
            f"{counted:g} effective operations"
        )


def _verification_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the statement that somebody else reran the entry."""
    verified = document.get("verified")
    if verified is None:
        return
    authors = {_normalize_name(author) for author in document["method"]["authors"]}
    names = [verified["by"], *re.split(r",|;|&|\band\b", verified["by"])]
    verifiers = {_normalize_name(name) for name in names}
    if "" in authors or _normalize_name(verified["by"]) == "":
        yield "verified.by and method.authors must be names with letters, to be compared"
    elif authors & verifiers:
        yield (
            f"verified.by is {brief(verified['by'])}, an author; only a rerun by somebody else "
            "verifies an entry"
        )
    try:
        datetime.date.fromisoformat(verified["date"])
    except ValueError:
        yield f"verified.date is {brief(verified['date'])}, not a date, expected YYYY-MM-DD"


def _normalize_name(name: str) -> str:
    """Return a name without accents, case, spaces and dots: "José  Núñez" equals "jose nunez"."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in letters if letter.isalnum())
