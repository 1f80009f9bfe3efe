"""Costs of the baselines are measured anew and written into their entries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from baselines.cli import main
from baselines.energy_card import energy_card
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.validation import read_entry
from metaevents.errors import UsageError

ENTRIES = Path(__file__).parents[2] / "cards" / "entries"
NAMES = (
    "cnn-maml.double-nmnist.sample-5way-1shot.all.published",
    "floor-prototypes.double-nmnist.sample-5way-1shot.all.published",
)
COSTS = ("costs", "spikes_per_sample", "synaptic_operations_per_sample")


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    """Two shipped entries without their costs."""
    for name in NAMES:
        document = json.loads((ENTRIES / f"{name}.json").read_text("utf-8"))
        document["report"].pop("costs", None)
        document["report"].update(spikes_per_sample=None, synaptic_operations_per_sample=None)
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return tmp_path


def report(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document["report"]  # type: ignore[no-any-return]


def test_measuring_gives_the_costs_of_the_shipped_entries_and_changes_nothing_else(
    entries: Path, sample_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = sample_root / "double-nmnist.h5"
    before = {path: report(path) for path in entries.glob("*.json")}
    assert main(["measure", "--archive", str(archive), "--entries", str(entries)]) == 0
    assert capsys.readouterr().out.count("written") == len(NAMES)
    for path, old in before.items():
        new, shipped = report(path), report(ENTRIES / path.name)
        assert {k: v for k, v in new.items() if k not in COSTS} == {
            k: v for k, v in old.items() if k not in COSTS
        }
        # On another processor a value near zero may round to zero.
        for name in ("effective_macs", "dense_operations"):
            assert new["costs"][name] == pytest.approx(shipped["costs"][name], rel=1e-3)
        assert new["costs"]["episodes"] == 5
        read_entry(path)


def test_entries_of_another_archive_are_left_alone(
    entries: Path, nmnist_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = nmnist_root / "double-nmnist.h5"
    before = {path: path.read_bytes() for path in entries.iterdir()}
    assert main(["measure", "--archive", str(archive), "--entries", str(entries)]) == 2
    assert "no entry of a baseline that was made on" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in entries.iterdir()} == before


def test_an_entry_of_other_weights_is_refused(entries: Path, sample_root: Path) -> None:
    from baselines.entry_costs import fill

    path = entries / f"{NAMES[0]}.json"
    document = json.loads(path.read_text("utf-8"))
    document["report"]["seen"]["step"] += 1
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="other weights than those of the release"):
        fill(entries, sample_root / "double-nmnist.h5")


def test_every_shipped_entry_of_a_baseline_says_what_it_costs() -> None:
    for path in ENTRIES.glob("*.json"):
        costs = report(path).get("costs")
        assert costs is not None, path.name
        assert costs["dense_operations"] is not None, path.name
        if path.name.startswith("snn-"):
            assert costs["effective_acs"] > costs["effective_macs"] > 0
            assert costs["spikes_per_layer"]
            assert costs["adaptation"]["spikes"] > 0


def test_the_card_has_a_row_per_baseline_with_costs(tmp_path: Path) -> None:
    name = "snn-maml.double-nmnist.sample-5way-1shot.all.published"
    for suffix in (".json", ".npz"):
        shutil.copy(ENTRIES / f"{name}{suffix}", tmp_path)
    entry = read_entry(tmp_path / f"{name}.json")
    card = energy_card([entry])
    assert "## double-nmnist (sample), published classes: 5-way 1-shot" in card
    assert card.count(f"| {entry.name} |") == 3  # one sample, one adaptation, the layers
    without = {**entry.document, "report": {**entry.report, "costs": None}}
    assert entry.name not in energy_card([Entry(entry.path, without)])
