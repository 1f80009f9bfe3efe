"""The generated tables of dataset cards."""

from __future__ import annotations

from pathlib import Path

import pytest

import metaevents as me
from metaevents import dataset_card


def rows(table: str) -> dict[str, str]:
    """First cell -> second cell of a Markdown table with two columns."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {line[0]: line[1] for line in lines}


def test_facts_come_from_the_package_file() -> None:
    facts = rows(dataset_card.facts_table("double-nmnist"))
    assert facts["frames (T, P, H, W)"] == "(100, 2, 16, 32)"
    assert facts["classes, novel-components"] == "train 16, val 9, test 9"
    assert rows(dataset_card.facts_table("double-asl-dvs"))["recordings"].endswith(
        "4,200 per class"
    )


def test_statistics_come_from_the_archive(nmnist_root: Path) -> None:
    archive = me.Archive(nmnist_root / "double-nmnist.h5")
    statistics = rows(dataset_card.statistics_table(archive))
    assert statistics["recordings"].startswith(f"{len(archive):,} (train 120, ")
    assert statistics["recordings per label"] == "train 12 to 12, val 12 to 12, test 12 to 12"
    assert statistics["fingerprint"] == f"`{archive.fingerprint}`"


def test_the_command_takes_an_archive_or_a_name(
    nmnist_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = nmnist_root / "double-nmnist.h5"
    assert dataset_card.main([str(path)]) == 0
    assert capsys.readouterr().out.strip() == dataset_card.statistics_table(me.Archive(path))
    assert dataset_card.main(["double-nmnist"]) == 0
    assert capsys.readouterr().out.strip() == dataset_card.facts_table("double-nmnist")
    assert dataset_card.main(["triple-nmnist"]) == 2
    assert "no dataset 'triple-nmnist'" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["a" * 5000, "~nobody-of-that-name", "", "a/b"])
def test_what_is_neither_archive_nor_dataset_is_one_line(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dataset_card.main([what]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
