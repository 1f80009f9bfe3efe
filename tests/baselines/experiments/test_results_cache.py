"""Cached results: an interrupted experiment continues, and another setting is computed."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from support.experiment_runs import document, results, small
from support.training_runs import environment, python_words

from baselines.cli import main
from baselines.experiments import reproduce
from baselines.experiments.results_cache import ResultsCache
from baselines.training import train
from metaevents.errors import UsageError


def test_a_result_is_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> list[int]:
        calls.append(1)
        return [len(calls)]

    cache = ResultsCache(tmp_path / "cached", "a")
    assert cache.get({"x": 1}, compute) == cache.get({"x": 1}, compute) == [1]
    assert cache.get({"x": 2}, compute) == [2]
    assert ResultsCache(tmp_path / "cached", "a").get({"x": 1}, compute) == [1]
    assert ResultsCache(tmp_path / "cached", "b").get({"x": 2}, compute) == [2]
    assert len(calls) == 2


@pytest.mark.parametrize("content", ["[]", "{", '{"format": "other", "results": {}}'])
def test_a_file_that_holds_no_cached_results_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "fig3.json").write_text(content, "utf-8")
    with pytest.raises(UsageError, match=r"fig3\.json holds no cached results"):
        ResultsCache(tmp_path, "fig3")


def test_an_experiment_that_was_killed_continues_where_it_was(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    words = ["reproduce", "table2", "--archive", str(archive), "--out", str(tmp_path)]
    words += ["--runs", str(runs), "--episodes", "3", "--device", "cpu"]
    process = subprocess.Popen(python_words(*words), env=environment(), stdout=subprocess.DEVNULL)
    cached, deadline = tmp_path / "cached" / "table2.json", time.monotonic() + 120
    while not cached.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (results(tmp_path) / "table2.json").exists()
    kept = json.loads(cached.read_text("utf-8"))
    first = next(iter(kept["results"].values()))
    first[""] = [0.125] * 3  # a value that no computation gives
    cached.write_text(json.dumps(kept), "utf-8")
    assert main(words) == 0
    row = document(tmp_path, "table2")["rows"][0]
    whole = tmp_path / "whole"
    reproduce("table2", archive, whole, runs=[runs], episodes=3, device="cpu", progress=False)
    untouched = document(whole, "table2")["rows"]
    second_trial = 2 * untouched[0]["accuracy"] - _first_trial(whole / "cached" / "table2.json")
    assert row["accuracy"] == pytest.approx((0.125 + second_trial) / 2, abs=1e-3)
    assert document(tmp_path, "table2")["rows"][1:] == untouched[1:]


def _first_trial(cached: Path) -> float:
    values = next(iter(json.loads(cached.read_text("utf-8"))["results"].values()))[""]
    return float(sum(values) / len(values))


def test_other_weights_or_episodes_are_computed_anew(
    archive: Path, runs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    train(small(seed=1), archive, other, progress=False, device="cpu")
    run, cached = runs / "snn-maml", tmp_path / "cached" / "fig4.json"
    for episodes, source, number in ((1, run, 1), (1, run, 1), (2, run, 2), (1, other, 3)):
        options = {"episodes": episodes, "device": "cpu", "progress": False}
        reproduce("fig4", archive, tmp_path, runs=[source], **options)
        assert len(json.loads(cached.read_text("utf-8"))["results"]) == number
