"""All trivial baselines run, and their entries and table are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaevents.benchmark import score, trivial_report
from metaevents.benchmark.trivial import TRIVIAL_BASELINES
from metaevents.component_deals import DEALS


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
         "--markdown", str(text), "--protocol", "sample-5way-1shot",
         "--classes", "published", DEALS[0]]
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


def test_deals_run_under_one_shot_alone_and_have_a_table_of_their_own(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--archive", str(digits_root / "double-nmnist.h5"), "--out", str(tmp_path),
             "--protocol", "sample-5way-1shot", "sample-5way-5shot"]  # fmt: skip
    options = ["--baselines", "chance", "--classes", DEALS[0], DEALS[6]]
    assert trivial_report.main([*words, *options]) == 0
    text = capsys.readouterr().out
    stems = sorted(path.stem.removeprefix("floor-chance.") for path in tmp_path.glob("*.json"))
    one, five = ("double-nmnist.sample-5way-1shot-v2", "double-nmnist.sample-5way-5shot-v2")
    assert stems == sorted(
        [f"{one}.{p}.{deal}" for p in ("all", "published") for deal in (DEALS[0], DEALS[6])]
        + [f"{five}.{p}.{DEALS[0]}" for p in ("all", "published")]
    )
    assert "### sample-5way-1shot, version 2, 2 deals of novel components, pairing `all`" in text
    assert "| Baseline | mean | deviation | deal 1 | deal 7 |" in text
    assert "5-shot, version 2, 2 deals" not in text
    # The tables of entries on disk are those of the run.
    assert trivial_report.main([*words, "--read"]) == 0
    read = capsys.readouterr().out
    assert read.split("###")[1:] == text.split("###")[1:]


def test_a_folder_without_entries_and_unknown_baselines_are_refused(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--archive", str(digits_root / "double-nmnist.h5"), "--out", str(tmp_path),
             "--protocol", "sample-5way-1shot"]  # fmt: skip
    assert trivial_report.main([*words, "--read"]) == 2
    assert "holds no entry of a trivial baseline" in capsys.readouterr().err
    assert trivial_report.main([*words, "--baselines", "luck"]) == 2
    assert "no trivial baseline 'luck'; choose one of chance" in capsys.readouterr().err
