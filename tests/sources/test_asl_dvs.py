"""ASL-DVS files as recordings: the upright image, and every known piece of repairs mended and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import asl_columns, random_events, write_mat

from metaevents.errors import MissingError, RecordingError
from metaevents.events import Events
from metaevents.sources import ASLDVS


def read(folder: Path, **columns: Any) -> tuple[Events, dict[str, int]]:
    write_mat(folder / "a" / "a_0001.mat", **columns)
    source = ASLDVS(folder)
    return source.read(source.recordings()[0])


def test_a_recording_comes_back_upright(tmp_path: Path) -> None:
    events = random_events(3, 200, 240, 180)
    mended, repairs = read(tmp_path, **asl_columns(events))
    assert np.array_equal(mended, events)
    assert repairs == {"recordings_over_200_ms": 1}


def test_both_axes_are_flipped_not_one(tmp_path: Path) -> None:
    events, _ = read(tmp_path, ts=[0, 1], x=[0, 239], y=[0, 10], pol=[1, 0])
    assert events[["x", "y"]].tolist() == [(239, 179), (0, 169)]


@pytest.mark.parametrize(
    ("columns", "kept", "repairs"),
    [
        ({"ts": [0, 1, 2], "x": [5, 240, 6], "y": [5, 5, 180], "pol": [1, 1, 1]}, 1, {"events_out_of_range": 2}),
        ({"ts": [0, 1], "x": [5, 6], "y": [5, 5], "pol": [-1, 1]}, 2, {"events_off_as_minus_one": 1}),
        ({"ts": [5, 0, 9], "x": [1, 2, 3], "y": [5, 5, 5], "pol": [1, 1, 1]}, 3, {"recordings_unsorted": 1}),
        ({"ts": [5, 6, 9], "x": [1, 2, 3], "y": [5, 5, 5], "pol": [1, 1, 1]}, 3, {"recordings_not_from_zero": 1}),
        ({"ts": [0, 200_001], "x": [5, 6], "y": [5, 5], "pol": [0, 1]}, 2, {"recordings_over_200_ms": 1}),
        ({"ts": [], "x": [], "y": [], "pol": []}, 0, {"recordings_empty": 1}),
        ({"ts": [3], "x": [300], "y": [5], "pol": [1]}, 0, {"events_out_of_range": 1, "recordings_empty": 1}),
    ],
)  # fmt: skip
def test_dirt_is_mended_and_counted(
    tmp_path: Path, columns: dict[str, list[int]], kept: int, repairs: dict[str, int]
) -> None:
    events, found = read(tmp_path, **columns)
    assert len(events) == kept
    assert found == repairs
    assert not kept or (events["t"][0] == 0 and np.all(np.diff(events["t"]) >= 0))


def test_minus_one_is_off(tmp_path: Path) -> None:
    events, _ = read(tmp_path, ts=[0, 1, 2], x=[1, 1, 1], y=[1, 1, 1], pol=[-1, 0, 1])
    assert events["p"].tolist() == [False, False, True]


def test_unsigned_coordinates_do_not_wrap_when_flipped(tmp_path: Path) -> None:
    columns = asl_columns(random_events(4, 50, 240, 180))
    events, _ = read(
        tmp_path,
        **{**columns, "x": columns["x"].astype(np.uint8), "y": columns["y"].astype(np.uint8)},
    )
    assert np.array_equal(events, random_events(4, 50, 240, 180))


def test_a_zero_byte_file_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a_0001.mat").write_bytes(b"")
    source = ASLDVS(tmp_path)
    assert source.read(source.recordings()[0])[1] == {"recordings_empty": 1}


@pytest.mark.parametrize("missing", ["ts", "x", "y", "pol"])
def test_a_missing_variable_is_named(tmp_path: Path, missing: str) -> None:
    columns = asl_columns(random_events(5, 10, 240, 180))
    del columns[missing]
    with pytest.raises(RecordingError, match=f"lacks {missing}"):
        read(tmp_path, **columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": [1, 2]}, "one length"),
        ({"pol": [7, 7, 7]}, r"polarities \[7\]"),
        ({"ts": [0.0, np.nan, 1.0]}, "no numbers"),
    ],
)
def test_values_that_are_no_events_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    columns: dict[str, Any] = {"ts": [0, 1, 2], "x": [1, 1, 1], "y": [1, 1, 1], "pol": [1, 1, 1]}
    with pytest.raises(RecordingError, match=message):
        read(tmp_path, **{**columns, **change})


def test_a_file_that_is_no_matlab_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a_0001.mat").write_bytes(b"not a MATLAB file, whatever its name says" * 10)
    source = ASLDVS(tmp_path)
    with pytest.raises(RecordingError, match=r"a_0001\.mat is no readable MATLAB file"):
        source.read(source.recordings()[0])


def test_folders_of_another_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        ASLDVS(tmp_path / "nowhere")
    with pytest.raises(MissingError, match=r"no \.mat file"):
        ASLDVS(tmp_path)
    (tmp_path / "j").mkdir()
    with pytest.raises(RecordingError, match="without j"):
        ASLDVS(tmp_path)
