"""Entries with invented scores that pass every check that needs no archive."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaevents._version import __version__
from metaevents.benchmark import statistics
from metaevents.benchmark.episode_files import episode_file, list_digest, write_episode_file
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import EpisodeList, Protocol, protocols
from metaevents.benchmark.validation import read_entry
from metaevents.errors import UsageError
from metaevents.specs import class_name, get_spec

SOURCES = {"double-nmnist": ("n-mnist", 70_000), "double-asl-dvs": ("asl-dvs", 100_800)}
"""Dataset -> source and number of the recordings of its full archive."""

VERIFIED = {"by": "Hanna Other", "how": "reran the released weights", "date": "2026-01-12"}


def find_protocol(
    name: str = "5way-1shot",
    dataset: str = "double-nmnist",
    pairing: str = "all",
    classes: str = "published",
    version: int | None = None,
) -> Protocol:
    """Return the registered protocol with these settings, of the newest version by default."""
    wanted = (name, dataset, pairing, classes)
    found = [
        p
        for p in protocols(all_versions=True)
        if (p.name, p.dataset, p.pairing, p.classes) == wanted and version in (None, p.version)
    ]
    return max(found, key=lambda protocol: protocol.version)


MADE_IDS = [f"made/{number:05d}" for number in range(4000)]
"""Recording ids of the invented episodes."""


@cache
def made_episodes(run: Protocol, names: tuple[str, ...], identity: str) -> EpisodeList:
    """Return invented episodes of a protocol: random classes, labels and recordings."""
    rng = np.random.default_rng([1, *identity.encode()])
    n_support = run.ways * run.shots
    labels = rng.integers(0, run.ways, (run.episodes, run.n_queries)).astype(np.int16)
    classes = rng.random((run.episodes, len(names))).argsort(axis=1)[:, : run.ways]
    queries = rng.integers(0, len(MADE_IDS), (run.episodes, run.n_queries, 2)).astype(np.int32)
    support = rng.integers(0, len(MADE_IDS), (run.episodes, n_support, 2)).astype(np.int32)
    digest = list_digest(run, names, MADE_IDS, labels, classes, queries, support)
    return EpisodeList(labels, classes.astype(np.int16), queries, support, digest)


def write_entry(
    folder: Path,
    stem: str = "method",
    accuracy: float = 0.8,
    *,
    protocol: Protocol | None = None,
    source: str | None = None,
    method: dict[str, Any] | None = None,
    seed: int = 0,
    **report: Any,
) -> Path:
    """Write an entry and its prediction file; `method` and `report` replace single fields.

    An episode is equally hard for all entries, so that their scores are correlated.
    """
    run = protocol or find_protocol()
    official, recordings = SOURCES[run.dataset]
    source = source or (f"{official}-subset" if run.name.startswith("sample") else official)
    identity = json.dumps([run.to_dict(), source])
    hardness = np.random.default_rng(0).normal(0, 0.04, run.episodes)
    rng = np.random.default_rng([seed, *stem.encode()])
    right = rng.random((run.episodes, run.n_queries)) < np.clip(accuracy + hardness, 0, 1)[:, None]
    splits = get_spec(run.dataset).rules(simulated=False).class_splits
    names = sorted(class_name(components) for components in splits[run.classes][run.split])
    episodes = made_episodes(run, tuple(names), identity)
    labels = np.where(right, episodes.labels, (episodes.labels + 1) % run.ways).astype(np.int16)
    fingerprint = hashlib.sha256(f"archive {identity}".encode()).hexdigest()
    episodes_digest = episodes.digest
    per_episode = right.mean(axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    if not episode_file(folder, episodes_digest).exists():
        write_episode_file(folder, episodes, names, MADE_IDS)
    digest = Predictions(run, fingerprint, episodes_digest, labels).save(folder / f"{stem}.npz")
    mean, half = float(right.mean()), statistics.episode_ci95(per_episode)
    document = {
        "format": "metaevents-entry",
        "format_version": 1,
        "method": {
            "name": stem,
            "authors": ["Ada Example", "Grace Sample"],
            "citation": "A. Example and G. Sample, Learning from few events, 2025",
            "code": "https://example.org/ada/few-events",
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "command": (
                "metaevents evaluate few_events:learner --archive double-nmnist.h5 "
                "--protocol 5way-1shot"
            ),
            "other_data": "none",
            "hardware": "1 NVIDIA H100",
            "notes": None,
            **(method or {}),
        },
        "report": {
            "metaevents_version": __version__,
            "protocol": run.to_dict(),
            "is_protocol": True,
            "deviations": [],
            "archive": {
                "fingerprint": fingerprint,
                "source": source,
                "simulated": source == "simulated",
                "recordings": 1000 if source.endswith("-subset") else recordings,
            },
            "episodes_digest": episodes_digest,
            "accuracy": mean,
            "ci95": min(1.0, 2.3 * half),
            "episode_ci95": half,
            "unshared_accuracy": mean,
            "unshared_queries": 1.0,
            "trials": None,
            "training_seeds": None,
            "per_class": {name: float(np.clip(rng.normal(mean, 0.08), 0, 1)) for name in names},
            "per_episode": per_episode.tolist(),
            "transductive": False,
            "transductive_evidence": None,
            "stateful": False,
            "stateful_evidence": None,
            "deterministic": True,
            "time": {"adapt_ms": 12.5, "classify_ms": 3.25, "probe_s": 1.5, "total_s": 9.5},
            "peak_memory_mb": 812.5,
            "parameters": 262_949,
            "spikes_per_sample": None,
            "synaptic_operations_per_sample": None,
            "learner": "few_events:learner",
            "seen": None,
            "overlap": None,
            **report,
        },
        "predictions": {"file": f"{stem}.npz", "sha256": digest},
    }
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return path


def change(path: Path, *steps: str | int, to: Any = None, drop: bool = False) -> Path:
    """Set or drop one field of an entry on disk; `steps` is the path to the field."""
    document = json.loads(path.read_text("utf-8"))
    node = document
    for step in steps[:-1]:
        node = node[step]
    if drop:
        del node[steps[-1]]
    else:
        node[steps[-1]] = to
    path.write_text(json.dumps(document), "utf-8")
    return path


def refusal(path: Path, *words: str) -> str:
    """Return the error with which an entry is refused: one line with its path and `words`."""
    with pytest.raises(UsageError) as caught:
        read_entry(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    return message
