"""Measure what the baselines cost, and write it into their leaderboard entries.

An evaluation does it by itself. This is for entries that exist already, and for counts that have
changed: only the first episodes are run, and nothing else of an entry changes. Predictions and
scores stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from baselines.config import RunConfig
from baselines.learners import load as load_baseline
from metaevents.benchmark.entries import Entry, read_json
from metaevents.benchmark.evaluation import measure
from metaevents.benchmark.resolve import load_learner
from metaevents.benchmark.validation import read_entry
from metaevents.datasets import ComposedDataset, archive_dataset, load
from metaevents.errors import UsageError
from metaevents.files import PathLike, progress_bar, user_path, write_atomic
from metaevents.hashing import readable_json

_PREFIXES = ("baselines:", "floor:")
_AFTER = "synaptic_operations_per_sample"  # field of a report that the costs follow


def fill(entries: PathLike, archive: PathLike) -> list[Path]:
    """Measure the costs of the baselines, and write them into the entries of an archive.

    Args:
        entries: Folder of the entries.
        archive: The archive; entries that were made on another one are left alone.

    Returns:
        The entries that were written: those of baselines with weights in the release, and of
        trivial baselines.

    Raises:
        UsageError: There is no entry of that archive, the weights of the release are not those of
            an entry, or an entry is damaged.
    """
    fingerprint = load(archive_dataset(archive), archive, "test").fingerprint
    found = [
        entry
        for path in sorted(user_path(entries).glob("*.json"))
        if (entry := read_entry(path)).report["learner"].startswith(_PREFIXES)
        and entry.report["archive"]["fingerprint"] == fingerprint
    ]
    if not found:
        raise UsageError(
            f"{entries} has no entry of a baseline that was made on {archive}; give the archive of "
            "the entries"
        )
    learners: dict[Any, Any] = {}
    bar = progress_bar("measure", len(found), "entry", None, iterable=found)
    return [_fill(entry, archive, learners) for entry in bar]


def _fill(entry: Entry, archive: PathLike, learners: dict[Any, Any]) -> Path:
    """Measure the costs of one entry's learner, and write them into its file."""
    protocol = entry.protocol
    dataset = load(
        protocol["dataset"],
        archive,
        protocol["split"],
        pairing=protocol["pairing"],
        classes=protocol["classes"],
    )
    config = (entry.report["seen"] or {}).get("config")
    key = entry.report["learner"], protocol["classes"], str(config)
    if key not in learners:
        learners[key] = _learner(entry, dataset)
    measured = measure(learners[key], dataset, f"{protocol['name']}-v{protocol['version']}")
    document = read_json(entry.path)  # as it is now, if it changed meanwhile
    document["report"] = dict(_merged(document["report"], measured))
    write_atomic(entry.path, readable_json(document) + "\n")
    return entry.path


def _learner(entry: Entry, dataset: ComposedDataset) -> Any:
    """Return the learner of an entry."""
    name, seen = entry.report["learner"], entry.report["seen"]
    if not name.startswith("baselines:"):
        return load_learner(name, dataset)
    config = RunConfig.from_dict(seen["config"])
    learner = load_baseline(
        config.model,
        config.dataset,
        classes=config.classes,
        ways=config.ways,
        recipe=config.recipe,
        force=True,
    )
    if learner.config != config or learner.record.step != seen["step"]:
        raise UsageError(
            f"{entry.path} is the result of other weights than those of the release; evaluate the "
            "baseline again"
        )
    return learner


def _merged(report: Mapping[str, Any], measured: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a report with what was measured, in the order of a new report."""
    for name, value in report.items():
        if name == "costs":
            continue
        yield name, measured.get(name, value)
        if name == _AFTER:
            yield "costs", measured["costs"]
