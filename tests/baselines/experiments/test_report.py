"""The files of a result: the same numbers in each, and what they were made on."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
from support.experiment_runs import document, results, tables

import metaevents as me
from baselines.experiments import EXPERIMENTS, reproduce
from metaevents.errors import UsageError


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_writes_the_same_numbers_everywhere(name: str, outputs: Path) -> None:
    rows = document(outputs, name)["rows"]
    assert rows
    with (results(outputs) / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [{n: v for n, v in row.items() if v} for row in table] == [
        {n: as_text(v) for n, v in row.items() if v is not None} for row in rows
    ]
    shown = [{n: v for n, v in row.items() if v} for row in tables(results(outputs) / f"{name}.md")]
    for row in rows:
        assert {n: as_text(v) for n, v in row.items() if v is not None and n != "panel"} in shown


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_output_says_what_it_was_made_on(name: str, outputs: Path, archive: Path) -> None:
    from PIL import Image

    fingerprint = me.load("double-nmnist", archive, "test").fingerprint
    found = document(outputs, name)
    assert (found["data"], found["source"], found["fingerprint"]) == (
        "SIMULATED",
        "simulated",
        fingerprint,
    )
    assert found["command"] == f"reproduce {name} here"
    assert found["episodes"] == 2
    assert found["seeds"] == ([0, 1] if name == "table2" else [0])
    assert {run["model"] for run in found["runs"]} >= {"snn-maml"}
    with Image.open(results(outputs) / f"{name}.png") as image:
        described = image.info["Description"]
    for text in (
        described,
        *(
            (results(outputs) / f"{name}.{kind}").read_text("utf-8")
            for kind in ("csv", "md", "svg")
        ),
    ):
        for fact in ("SIMULATED", fingerprint[:16], "2 episodes of seed", f"reproduce {name} here"):
            assert fact in text


def test_the_published_values_stand_beside_the_measured_ones(outputs: Path) -> None:
    table2 = {
        (row["model"], row["phase"]): row
        for row in document(outputs, "table2")["rows"]
        if row["evaluation pairing"] == "published"
    }
    assert table2["snn-maml", "meta-test"]["published"] == 0.9823
    assert table2["cnn-maml", "meta-validation"]["published_deviation"] == 0.0053
    table3 = {
        row["loop"]: row
        for row in document(outputs, "table3")["rows"]
        if row["thresholded"] == "no"
    }
    assert [table3[loop]["published_maximum"] for loop in ("outer", "inner", "non-meta")] == [
        0.002,
        0.1548,
        0.0011,
    ]
    needed = [row for row in document(outputs, "fig6")["rows"] if "shots needed" in row]
    assert [row.get("published") for row in needed] == ["9 to 10", None]


def test_without_matplotlib_the_error_comes_before_the_work(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="figures need matplotlib; run `pip install matplotlib`"):
        reproduce("fig3", archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
