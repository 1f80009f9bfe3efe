"""Simulated N-Omniglot: official form, read like real files, the same everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaevents.errors import UsageError
from metaevents.simulation import n_omniglot as writer
from metaevents.simulation import write_n_omniglot
from metaevents.simulation.characters import character_recordings
from metaevents.simulation.n_omniglot import aedat4_bytes
from metaevents.sources import NOmniglot
from metaevents.specs import get_spec

GOLDEN = "d9dd24aeb81c6f12fd6edf00cde021e3b7017c8b016bfc2ec3cb3ac1d007a875"
"""SHA-256 of the AEDAT4 file of three drawings of Greek/character01, seed 0; made once."""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two alphabets with two drawings each, in place of 50 with 20."""
    alphabets = {"background": {"Greek": 24}, "evaluation": {"Keble": 26}}
    monkeypatch.setattr(writer, "ALPHABETS", alphabets)
    monkeypatch.setattr(writer, "DRAWINGS", 2)


@pytest.mark.usefixtures("few")
def test_the_source_reads_the_files_like_real_ones(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")
    root = write_n_omniglot(tmp_path / "new", characters=2, seed=5)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.aedat4"))
    assert names == [
        "dvs_background/Greek/character01/0001.aedat4",
        "dvs_background/Greek/character02/0002.aedat4",
        "dvs_evaluation/Keble/character01/0025.aedat4",
        "dvs_evaluation/Keble/character02/0026.aedat4",
    ]
    source = NOmniglot(root)
    assert source.name == "simulated"
    for ref in source.recordings():
        events, repairs = source.read(ref)
        if ref.number > 2:
            assert repairs == {"recordings_without_row": 1}
            continue
        simulated = character_recordings(5, ref.label, 2)[ref.number - 1]
        assert repairs == {}
        kept = simulated["t"] < simulated["t"][-1]  # the last timestamp is left out
        assert np.array_equal(events["x"], simulated["x"][kept])
        assert np.array_equal(events["t"], (simulated["t"] - simulated["t"][0])[kept])


def test_drawings_of_a_character_are_alike_and_those_of_two_are_not() -> None:
    def image(events: Any) -> Any:
        counts = np.zeros((25, 25))
        np.add.at(counts, (events["y"] // 10, events["x"] // 10), 1)
        return counts / np.linalg.norm(counts)

    first, second = (
        [image(events) for events in character_recordings(0, label, 4)]
        for label in ("Greek/character01", "Latin/character01")
    )
    within = np.mean([np.sum(first[0] * other) for other in first[1:]])
    between = np.mean([np.sum(first[0] * other) for other in second])
    assert within > between + 0.2


def test_events_are_on_the_writing_area_in_both_polarities_and_sorted() -> None:
    for events in character_recordings(1, "Tengwar/character02", 3):
        assert 300 < len(events) < 5_000
        for axis in ("x", "y"):
            assert events[axis].min() >= 0
            assert events[axis].max() < 250
        assert 0.1 < events["p"].mean() < 0.9
        assert (np.diff(events["t"]) >= 0).all()
        assert 2_000_000 < events["t"][-1] < 4_000_000


def test_the_same_seed_gives_the_same_bytes_on_every_platform() -> None:
    events = np.concatenate(character_recordings(0, "Greek/character01", 3))
    assert hashlib.sha256(aedat4_bytes(events)).hexdigest() == GOLDEN


@pytest.mark.usefixtures("few")
def test_a_second_call_replaces_the_files_and_other_arguments_are_refused(tmp_path: Path) -> None:
    root = write_n_omniglot(tmp_path / "new")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    write_n_omniglot(root)
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="holds other simulated recordings than"):
        write_n_omniglot(root, seed=1)
    real = tmp_path / "real" / "dvs_background" / "Greek" / "character01"
    real.mkdir(parents=True)
    (real / "0001.aedat4").touch()
    with pytest.raises(UsageError, match="were not simulated by metaevents"):
        write_n_omniglot(tmp_path / "real")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"characters": 0}, "characters="),
        ({"characters": 15}, "characters="),
        ({"jobs": 0}, "jobs"),
    ],
)
def test_impossible_arguments_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_n_omniglot(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_classes_of_simulated_archives_are_the_characters_that_are_simulated() -> None:
    rules = get_spec("n-omniglot").rules(simulated=True)
    classes = {name for split in rules.splits["published"].values() for (name,) in split}
    assert classes == {label for label in NOmniglot.labels if label.endswith("/character01")}
