"""Small experiments: configurations, options and the files that they leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baselines.config import RunConfig, recipe

SMALL: dict[str, Any] = {
    "channels": (4, 4, 8),
    "time_stride": 10,
    "burn_in": 50,
    "steps": 4,
    "val_every": 4,
    "val_episodes": 2,
    "queries": 2,
    "meta_batch_size": 1,
    "pretrain_steps": 0,
    "batch_size": 4,
    "norm_groups": 0,
}
OPTIONS: dict[str, Any] = {"episodes": 2, "tuning": 2, "device": "cpu", "progress": False}
FILES = ("json", "csv", "md", "png", "svg")


def small(model: str = "snn-maml", **changes: Any) -> RunConfig:
    """A configuration that trains in seconds."""
    return recipe(model, "paper", **{**SMALL, **changes})


def results(out: Path, classes: str = "published") -> Path:
    """The folder of results below the folder of output."""
    return out / "double-nmnist" / classes / "all"


def document(out: Path, name: str, classes: str = "published") -> dict[str, Any]:
    """The JSON document of a result."""
    found: dict[str, Any] = json.loads((results(out, classes) / f"{name}.json").read_text("utf-8"))
    return found


def tables(markdown: Path) -> Iterator[dict[str, str]]:
    """The rows of all tables of a Markdown file."""
    header: list[str] = []
    for line in markdown.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line[1:-1].split("|")] if line.startswith("|") else []
        if cells and header and cells[0] != "---":
            yield dict(zip(header, cells, strict=True))
        elif not header or not cells:
            header = cells
