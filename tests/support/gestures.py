"""A made-up dataset in a folder per label, with a rules file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

LABELS = tuple(f"g{i}" for i in range(10))

RULES: dict[str, Any] = {
    "format": "metaevents-rules",
    "format_version": 1,
    "name": "gestures",
    "title": "Gestures",
    "source": {"kind": "folders", "sensor_size": [16, 16]},
    "arity": 1,
    "downsample": 2,
    "bins": 10,
    "partition": "by-class",
    "splits": {
        "train": ["g0", "g1", "g2"],
        "val": ["g3", "g4"],
        "test": ["g5", "g6", "g7", "g8", "g9"],
    },
}


def recording(label: int, take: int, n: int = 40) -> np.ndarray:
    """Events around a place of the label's own, as a structured array."""
    rng = np.random.default_rng([label, take])
    events = np.zeros(n, [("x", "<u2"), ("y", "<u2"), ("t", "<u8"), ("on", "?")])
    events["x"] = np.clip(rng.normal(2 + 4 * (label % 4), 1, n), 0, 15)
    events["y"] = np.clip(rng.normal(3 + 5 * (label // 4), 1, n), 0, 15)
    events["t"] = np.sort(rng.integers(0, 90_000, n))
    events["on"] = rng.integers(0, 2, n)
    return events


def write_gestures(root: Path, takes: int = 20) -> Path:
    """Write `root/raw/<label>/take_<n>.npy` and `root/rules.json`, and return `root`."""
    for number, label in enumerate(LABELS):
        folder = root / "raw" / label
        folder.mkdir(parents=True)
        for take in range(takes):
            np.save(folder / f"take_{take}.npy", recording(number, take))
    write_rules(root / "rules.json")
    return root


def write_rules(path: Path, **changes: Any) -> Path:
    """Write a rules file; a changed field of None is left out."""
    fields = {**RULES, **changes}
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}), "utf-8")
    return path
