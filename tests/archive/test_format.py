"""The archive format, as plain h5py sees it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from support.archives import NAME

from metaevents.archive.reader import Archive


def test_plain_h5py_reads_the_columns(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    with h5py.File(archive.path) as file:
        offset = file["events/offset"][:]
        part = slice(offset[5], offset[6])
        t = np.cumsum(file["events/dt"][part])
        x = file["events/x"][part]
        assert file["recordings/id"][5].decode() == archive.ids[5]
        assert set(file["events"]) == {"offset", "dt", "x", "y", "p"}
    assert np.array_equal(t, archive.read(5)["t"])
    assert np.array_equal(x, archive.read(5)["x"])


def test_attributes_say_what_it_is(nmnist_root: Path) -> None:
    archive = Archive(nmnist_root / f"{NAME}.h5")
    attributes = archive.attributes
    assert (attributes["format"], attributes["format_version"]) == ("metaevents-recordings", 1)
    assert (archive.dataset, archive.protocol_version, archive.source) == (
        NAME,
        1,
        "n-mnist-subset",
    )
    assert archive.sensor_size == (34, 34)
    assert "microseconds" in attributes["units"]
    assert attributes["licence"] == "CC BY-SA 4.0"
    assert "Orchard" in attributes["citation"]
    assert attributes["recordings"] == len(archive) == 360


def test_the_sample_takes_at_most_2_7_bytes_per_event(sample_root: Path) -> None:
    path = sample_root / f"{NAME}.h5"
    assert path.stat().st_size / int(Archive(path).attributes["events"]) <= 2.7
