"""Runs that were trained further."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from baselines.experiments import Study, tuning, variant
from baselines.experiments.runs import Trained
from baselines.experiments.tuning import tuned
from baselines.maml import MAML
from metaevents.errors import UsageError


def tune(study: Study, run: Trained, label: str) -> MAML:
    return tuned(study, run, label, lambda net: variant(run.maml, net))


def test_a_tuned_run_is_kept(study: Study) -> None:
    run = study.runs.get("snn-maml")
    first, again = (tune(study, run, "test") for _ in range(2))
    for a, b, before in zip(
        first.parameters(), again.parameters(), run.maml.net.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert not torch.equal(a, before)
    assert len([*(study.out / "tuned").iterdir()]) == 1


def equal(a: MAML, b: MAML) -> bool:
    states = a.state_dict(), b.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture
def kept(study: Study, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, MAML]]:
    """The file of a tuned run and the learner in it; from now on training takes no step."""
    run, before = study.runs.get("snn-maml"), set((study.out / "tuned").glob("*"))
    learner = tune(study, run, "kept")
    (path,) = set((study.out / "tuned").glob("*")) - before
    monkeypatch.setattr(tuning, "outer_steps", lambda *_: iter(()))
    yield path, learner
    path.unlink()


def check_damage(
    study: Study, kept: tuple[Path, MAML], n: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged file is read as it was written, or made again with a warning that names it."""
    path, learner = kept
    run, content, draw = study.runs.get("snn-maml"), path.read_bytes(), random.Random(5)
    size = int.from_bytes(content[:8], "little")
    again = 0
    for number in range(n):
        data = bytearray(content)
        if number % 4 == 0:
            del data[draw.randrange(len(data)) :]
        else:
            place = draw.randrange(8 + size if number % 4 == 1 else len(data))
            data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        caplog.clear()
        result = tune(study, run, "kept")
        if caplog.messages:
            again += 1
            assert f"{path} is damaged" in caplog.messages[0]
            assert path.read_bytes() != bytes(data)
        else:
            assert equal(result, learner)
    assert again > 0.9 * n
    path.write_bytes(content)
    assert equal(tune(study, run, "kept"), learner)


def test_a_damaged_file_is_made_again(
    study: Study, kept: tuple[Path, MAML], caplog: pytest.LogCaptureFixture
) -> None:
    check_damage(study, kept, 24, caplog)


@pytest.mark.attack
def test_many_damaged_files_are_made_again(
    study: Study, kept: tuple[Path, MAML], caplog: pytest.LogCaptureFixture
) -> None:
    check_damage(study, kept, 2000, caplog)


def test_forged_files_are_made_again(
    study: Study, kept: tuple[Path, MAML], caplog: pytest.LogCaptureFixture
) -> None:
    path, learner = kept
    tensors = load_file(path)
    name, first = next(iter(tensors.items()))
    forged = (
        {**tensors, name: first.reshape(1, -1)},
        {**tensors, "other": first.clone()},
        {key: value for key, value in tensors.items() if key != name},
    )
    run = study.runs.get("snn-maml")
    for case in forged:
        digests = ({}, {"sha256": "0" * 64}, {"sha256": tuning.tensors_digest(case)})
        for metadata in digests:
            save_file(case, path, metadata)
            caplog.clear()
            assert not equal(tune(study, run, "kept"), learner)
            assert f"{path} is damaged" in caplog.text
    for content in (b"", json.dumps([]).encode(), b"\xff" * 64, b"[" * 5000):
        path.write_bytes(content)
        caplog.clear()
        tune(study, run, "kept")
        assert f"{path} is damaged" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused_before_the_work(
    kind: str, study: Study, kept: tuple[Path, MAML]
) -> None:
    path, _ = kept
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    try:
        with pytest.raises(UsageError, match=rf"{path.name}.*remove it, and it is made again"):
            tune(study, study.runs.get("snn-maml"), "kept")
    finally:
        path.rmdir() if kind == "folder" else path.unlink()
        path.touch()
