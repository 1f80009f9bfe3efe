"""ASL-DVS files as recordings: upright images, and the repair of every known defect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import LITTER, asl_columns, random_events, write_mat

from metaevents.errors import MissingError, RecordingError
from metaevents.events import Events
from metaevents.sources import ASLDVS


def read(folder: Path, **columns: Any) -> tuple[Events, dict[str, int]]:
    write_mat(folder / "a" / "a_0001.mat", **columns)
    source = ASLDVS(folder)
    return source.read(source.recordings()[0])


def test_a_recording_comes_back_upright(tmp_path: Path) -> None:
    events = random_events(3, 200, 240, 180)
    repaired, repairs = read(tmp_path, **asl_columns(events))
    assert np.array_equal(repaired, events)
    assert repairs == {"recordings_over_200_ms": 1}


def test_both_axes_are_flipped_not_one(tmp_path: Path) -> None:
    events, _ = read(tmp_path, ts=[0, 1], x=[0, 239], y=[0, 10], pol=[1, 0])
    assert events[["x", "y"]].tolist() == [(239, 179), (0, 169)]


@pytest.mark.parametrize(
    ("ts", "x", "y", "pol", "kept", "repairs"),
    [
        ([0, 1, 2], [5, 240, 6], [5, 5, 180], [1, 1, 1], 1, {"events_out_of_range": 2}),
        ([0, 1], [5, 6], [5, 5], [-1, 1], 2, {"events_off_as_minus_one": 1}),
        ([5, 0, 9], [1, 2, 3], [5, 5, 5], [1, 1, 1], 3, {"recordings_unsorted": 1}),
        ([5, 6, 9], [1, 2, 3], [5, 5, 5], [1, 1, 1], 3, {"recordings_not_from_zero": 1}),
        ([0, 200_001], [5, 6], [5, 5], [0, 1], 2, {"recordings_over_200_ms": 1}),
        ([], [], [], [], 0, {"recordings_empty": 1}),
        ([3], [300], [5], [1], 0, {"events_out_of_range": 1, "recordings_empty": 1}),
    ],
)
def test_defects_are_repaired_and_counted(
    tmp_path: Path,
    ts: list[int],
    x: list[int],
    y: list[int],
    pol: list[int],
    kept: int,
    repairs: dict[str, int],
) -> None:
    events, counted = read(tmp_path, ts=ts, x=x, y=y, pol=pol)
    assert len(events) == kept
    assert counted == repairs
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
        ({"ts": [0.0, 1.0, np.inf]}, "no numbers"),
        ({"ts": [0.0, 0.01, 0.02]}, "ts has values such as 0.01; give whole microseconds"),
        ({"ts": [0.0, 1.5, 2.0]}, "multiply seconds by 1,000,000 or milliseconds by 1,000"),
        ({"ts": [0.0, 1.0, 1e19]}, "ts spans 0.0 to 1e.19, beyond the type int64"),
        ({"ts": np.array([0, 1, 2**63], np.uint64)}, "ts spans 0 to 9223372036854775808, beyond"),
        ({"ts": [-(2**63), 0, 2**63 - 1]}, "times span .* beyond 64 bits"),
        ({"x": [1.0, 1.5, 2.0]}, "x has values such as 1.5; give whole pixels"),
        ({"pol": [0.0, 0.5, 1.0]}, "pol has values such as 0.5"),
        ({"pol": [2**63 - 1, 0, 1]}, "polarities"),
    ],
)
def test_values_that_are_no_events_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    columns: dict[str, Any] = {"ts": [0, 1, 2], "x": [1, 1, 1], "y": [1, 1, 1], "pol": [1, 1, 1]}
    with pytest.raises(RecordingError, match=message):
        read(tmp_path, **{**columns, **change})


def test_two_columns_are_refused(tmp_path: Path) -> None:
    from scipy.io import savemat

    (tmp_path / "a").mkdir()
    columns = {"ts": np.zeros((2, 2)), "x": np.zeros((4, 1)), "y": np.zeros((4, 1))}
    savemat(tmp_path / "a" / "a_0001.mat", {**columns, "pol": np.zeros((4, 1))})
    source = ASLDVS(tmp_path)
    with pytest.raises(RecordingError, match=r"a_0001\.mat .* \(2, 2\), expected \(N, 1\)"):
        source.read(source.recordings()[0])


def test_a_file_that_ends_the_process_of_scipys_reader_is_named(tmp_path: Path) -> None:
    # One byte is changed: the class of ts says that it is a sparse matrix.
    path = write_mat(tmp_path / "a" / "a_0001.mat", **asl_columns(random_events(1, 50, 240, 180)))
    content = bytearray(path.read_bytes())
    content[128 + 16] = 5
    path.write_bytes(content)
    source = ASLDVS(tmp_path)
    with pytest.raises(RecordingError, match=r"a_0001\.mat is no readable MATLAB file"):
        source.read(source.recordings()[0])


def test_a_matlab_7_3_file_says_how_to_save_it_again(tmp_path: Path) -> None:
    import h5py

    (tmp_path / "a").mkdir()
    with h5py.File(tmp_path / "a" / "a_0001.mat", "w", userblock_size=512) as file:
        file["ts"] = [[1, 2]]
    source = ASLDVS(tmp_path)
    with pytest.raises(RecordingError, match=r"MATLAB 7\.3 .*save\(\.\.\., '-v7'\)"):
        source.read(source.recordings()[0])


def test_endings_in_upper_case_are_read_and_litter_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = asl_columns(random_events(1, 50, 240, 180))
    written = write_mat(tmp_path / "a" / "written.mat", **columns)
    written.rename(tmp_path / "a" / "a_0001.MAT")
    (tmp_path / "@eaDir").mkdir()
    for name in LITTER:
        (tmp_path / "a" / name).touch()
        (tmp_path / name).touch()
    source = ASLDVS(tmp_path)
    (ref,) = source.recordings()
    assert ref.id == "a/a_0001"
    assert len(source.read(ref)[0]) == 50
    assert not caplog.records


def test_a_folder_stays_valid_when_the_process_changes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mat(tmp_path / "data" / "a" / "a_0001.mat", **asl_columns(random_events(1, 9, 240, 180)))
    monkeypatch.chdir(tmp_path)
    source = ASLDVS("data")
    monkeypatch.chdir("/")
    assert len(source.read(source.recordings()[0])[0]) == 9


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
