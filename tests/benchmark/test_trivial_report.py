"""All trivial baselines run, and their entries and table are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaevents.benchmark import score, trivial_report
from metaevents.benchmark.trivial import TRIVIAL_BASELINES


def test_all_baselines_run_and_entries_and_a_table_are_written(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        trivial_report, "TRIVIAL_BASELINES", {"prototypes": TRIVIAL_BASELINES["prototypes"]}
    )
    out = tmp_path / "entries"
    text = tmp_path / "results" / "trivial.md"
    status = trivial_report.main(
        ["--archive", str(digits_root / "double-nmnist.h5"), "--out", str(out),
         "--markdown", str(text), "--protocol", "sample-5way-1shot"]
    )  # fmt: skip
    assert status == 0
    entries = sorted(out.glob("*.json"))
    assert len(entries) == len(list(out.glob("*.npz"))) == 4
    for path in entries:
        entry = json.loads(path.read_text("utf-8"))
        assert entry["report"]["is_protocol"]
        assert entry["report"]["learner"] == "floor:prototypes"
        assert score(path.with_suffix(".npz"), digits_root).accuracy == entry["report"]["accuracy"]
        assert entry["predictions"]["file"] == path.with_suffix(".npz").name
        assert f"{100 * entry['report']['accuracy']:.1f} ±" in text.read_text("utf-8")
    assert (
        "python -m metaevents.benchmark.trivial_report --archive double-nmnist.h5"
        in text.read_text("utf-8")
    )
