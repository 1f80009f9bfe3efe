"""Cached results: an interrupted experiment continues, and another setting is computed."""

from __future__ import annotations

import json
import os
import random
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
from metaevents.hashing import digest_json


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


def refusal(folder: Path) -> str | None:
    try:
        ResultsCache(folder, "a")
    except UsageError as error:
        return str(error)
    return None


def check_damage(folder: Path, n: int) -> None:
    """A damaged file of cached results is refused with its name, or holds what was written."""
    results = {"x": [0.25, 0.5], "y": {"": [1.0], "b": ["text"]}}
    for key, value in results.items():
        ResultsCache(folder, "a").get({"key": key}, lambda value=value: value)
    path, draw, refused = folder / "a.json", random.Random(7), 0
    content = path.read_bytes()
    for number in range(n):
        data = bytearray(content)
        if number % 4:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            del data[draw.randrange(len(data)) :]
        path.write_bytes(data)
        message = refusal(folder)
        if message is not None:
            refused += 1
            assert str(path) in message
            assert "\n" not in message
            continue
        cache = ResultsCache(folder, "a")
        for key, value in results.items():
            assert cache.get({"key": key}, lambda value=value: value) == value
    assert refused > 0.9 * n


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    check_damage(tmp_path, 100)


@pytest.mark.attack
def test_many_damaged_results_are_refused(tmp_path: Path) -> None:
    check_damage(tmp_path, 5000)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "other.json")
    with pytest.raises(UsageError, match=r"other\.json is no regular file"):
        ResultsCache(tmp_path, "a")


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
    first[""] = ["1" * len(text) for text in first[""]]  # nothing was trained to be so good
    cached.write_text(json.dumps({**kept, "sha256": digest_json(kept["results"])}), "utf-8")
    assert main(words) == 0
    row = document(tmp_path, "table2")["rows"][0]
    whole = tmp_path / "whole"
    reproduce("table2", archive, whole, runs=[runs], episodes=3, device="cpu", progress=False)
    untouched = document(whole, "table2")["rows"]
    second_trial = 2 * untouched[0]["accuracy"] - _first_trial(whole / "cached" / "table2.json")
    assert row["accuracy"] == pytest.approx((1 + second_trial) / 2, abs=1e-3)
    assert document(tmp_path, "table2")["rows"][1:] == untouched[1:]


def _first_trial(cached: Path) -> float:
    values = next(iter(json.loads(cached.read_text("utf-8"))["results"].values()))[""]
    return sum(text.count("1") / len(text) for text in values) / len(values)


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
