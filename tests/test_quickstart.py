"""The quick start runs from simulated recordings to a table of scores."""

from __future__ import annotations

import re
import shlex
import tempfile
from pathlib import Path

import pytest

import metaevents as me
from metaevents import cache, quickstart
from metaevents.cli import main
from metaevents.errors import UsageError


def test_it_prints_a_table_and_keeps_archive_figure_and_reports(
    simulated_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(quickstart, "_EPISODES", 3)
    (tmp_path / "double-nmnist.h5").symlink_to(simulated_root / "double-nmnist.h5")
    quickstart.quickstart(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert "SIMULATED" in lines[0]
    (chance,) = (line for line in lines if line.startswith("chance"))
    assert chance.count("%") == 4, "two protocols, each with an accuracy and an interval"
    assert (tmp_path / "samples.png").is_file()
    steps = lines[next(i for i, line in enumerate(lines) if line.endswith(" s. Next:")) + 1 :]
    assert len(steps) >= 3
    assert all(line.startswith("  metaevents ") for line in steps)
    paths = [word for line in lines for word in line.split() if word.startswith("/")]
    assert len(paths) >= 4
    assert all(Path(path).exists() for path in paths)
    (evaluate,) = (line for line in steps if " evaluate " in line)
    words = shlex.split(evaluate, comments=True)[1:]
    assert main([*words, "--episodes", "2", "-q"]) == 0
    assert len(list(tmp_path.glob("*-sample-5way-*shot.json"))) == 6


def test_without_a_folder_nothing_is_left(
    simulated_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import metaevents.simulation.writers as writers

    (recordings,) = (path for path in simulated_root.iterdir() if path.is_dir())
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(quickstart, "_EPISODES", 1)
    monkeypatch.setattr(writers, "simulate_recordings", lambda name, root: recordings)
    quickstart.quickstart()
    fingerprint = me.Archive(simulated_root / "double-nmnist.h5").fingerprint
    assert cache.side_files(fingerprint) == []
    printed = capsys.readouterr().out
    assert "metaevents quickstart --out data" in printed
    assert tempfile.gettempdir() not in printed
    assert not re.search(r"\s/\w", printed), "a path would be gone when it is read"


def test_it_never_scores_real_recordings_as_simulated(
    nmnist_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "double-nmnist.h5").symlink_to(nmnist_root / "double-nmnist.h5")
    with pytest.raises(
        UsageError, match=r"holds recordings of n-mnist-subset, but .* give another"
    ):
        quickstart.quickstart(tmp_path)
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["double-nmnist.h5"]
