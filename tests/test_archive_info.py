"""Facts of an archive: attributes, counts, and the episodes that fit."""

from __future__ import annotations

import json
from pathlib import Path

import metaevents as me
from metaevents.archive_info import archive_info, fitting_episodes


def test_the_facts_can_be_written_as_json_and_agree_with_the_archive(asl_root: Path) -> None:
    archive = me.Archive(asl_root / "double-asl-dvs.h5")
    info = archive_info(archive)
    assert json.loads(json.dumps(info)) == info
    assert info["licence"] == archive.attributes["licence"]
    assert info["sensor_size"] == [240, 180]
    assert info["repairs"] == archive.repairs
    counts = info["recordings_per_label"].values()
    assert sum(sum(per_label.values()) for per_label in counts) == len(archive)


def test_settings_that_do_not_fit_have_a_reason(nmnist_root: Path) -> None:
    rows = fitting_episodes(me.Archive(nmnist_root / "double-nmnist.h5"))
    assert {row["classes"] for row in rows} == {"published", "novel-components"}
    assert all(row["fits"] or row["why"] for row in rows)
    assert not any(row["ways"] == 20 for row in rows if row["classes"] == "novel-components"
                   and row["split"] != "train"), "9 classes are too few for 20 ways"  # fmt: skip
