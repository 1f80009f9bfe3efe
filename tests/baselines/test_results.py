"""The results that are committed: tables are those of their numbers, and numbers are those of weights that ship."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from baselines.experiments import EXPERIMENTS, report
from baselines.learners import SHIPPED

RESULTS = Path(__file__).parents[2] / "cards" / "results"
DOCUMENTS = sorted(path for path in RESULTS.rglob("*.json"))


def identity(path: Path) -> str:
    return str(path.relative_to(RESULTS).with_suffix(""))


def test_every_experiment_has_a_result() -> None:
    assert {path.stem for path in RESULTS.glob("*.json")} == set(EXPERIMENTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=identity)
def test_tables_are_written_from_the_numbers(path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    assert path.with_suffix(".md").read_text("utf-8") == report._markdown(document)
    assert path.with_suffix(".csv").read_text("utf-8") == report._csv(document)
    for figure in (path.with_suffix(".png"), path.with_suffix(".svg")):
        assert figure.stat().st_size > 1000
    assert document["data"] in path.with_suffix(".svg").read_text("utf-8")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=identity)
def test_numbers_are_those_of_weights_that_ship(path: Path) -> None:
    shipped = {
        hashlib.sha256(each.read_bytes()).hexdigest()[:16] for each in SHIPPED.glob("*.safetensors")
    }
    document = json.loads(path.read_text("utf-8"))
    assert document["source"] == "n-mnist-subset"
    assert {run["weights"] for run in document["runs"]} <= shipped


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=identity)
def test_the_published_values_beside_ours_are_the_experiments(path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    ours = [
        {name: value for name, value in row.items() if not name.startswith("published")}
        for row in document["rows"]
    ]
    assert EXPERIMENTS[path.stem].beside_published(ours) == document["rows"]
