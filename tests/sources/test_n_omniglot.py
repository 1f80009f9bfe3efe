"""N-Omniglot: the official layout, how a drawing is cut out of its file, and what is repaired."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.omniglot import GAP, SPAN, START, drawing, write_character, write_n_omniglot
from support.recordings import LITTER

from metaevents.errors import MissingError, RecordingError
from metaevents.events import Events
from metaevents.sources import NOmniglot, RecordingRef, Source
from metaevents.sources.base import SIMULATED_MARK
from metaevents.sources.n_omniglot import ALPHABETS
from metaevents.specs import get_spec

pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")

LABEL = "Greek/character03"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """The folder of the background part."""
    return tmp_path / "dvs_background"


def ref_of(source: NOmniglot, number: int) -> RecordingRef:
    return source.recordings()[number - 1]


def test_a_recording_is_one_drawing_of_a_character(tmp_path: Path) -> None:
    write_n_omniglot(tmp_path, {"background": [LABEL], "evaluation": ["ULOG/character26"]})
    source = NOmniglot(tmp_path)
    assert isinstance(source, Source)
    refs = source.recordings()
    assert len(refs) == 40
    assert (refs[2].id, refs[2].label) == ("background/Greek/character03/03", LABEL)
    assert (refs[2].folder, refs[2].number) == ("background", 3)
    assert refs[-1].id == "evaluation/ULOG/character26/20"
    assert source.name == "n-omniglot-subset"
    for ref in (refs[0], refs[2], refs[-1]):
        events, repairs = source.read(ref)
        expected = drawing(ref.label, ref.number)
        assert repairs == {}
        assert np.array_equal(events["x"], expected["x"] - 54)
        assert np.array_equal(events["y"], expected["y"] - 4)
        assert np.array_equal(events["t"], expected["t"] - expected["t"][0])
        assert np.array_equal(events["p"], expected["p"])


def test_labels_and_numbers_are_those_of_the_package_file() -> None:
    recordings = get_spec("n-omniglot").recordings
    assert list(NOmniglot.labels) == recordings["labels"]
    assert len(set(NOmniglot.labels)) == 1_623
    assert NOmniglot.official_count == sum(recordings["counts"].values()) == 32_460
    assert list(NOmniglot.sensor_size) == recordings["sensor_size"]
    for part, count in recordings["counts"].items():
        assert 20 * sum(ALPHABETS[part].values()) == count


def test_the_published_archives_unpacked_side_by_side_are_read(tmp_path: Path) -> None:
    write_character(tmp_path / "dvs_background_1", LABEL)
    write_character(tmp_path / "dvs_background_2", "Latin/character01")
    ids = [ref.id for ref in NOmniglot(tmp_path).recordings()]
    assert len(ids) == 40
    assert all(id.startswith("background/") for id in ids)


def test_a_character_in_two_folders_is_refused(tmp_path: Path) -> None:
    for folder in ("dvs_background", "dvs_background_1"):
        write_character(tmp_path / folder, LABEL)
    with pytest.raises(RecordingError, match="are the same character; move one"):
        NOmniglot(tmp_path)


def test_a_marked_folder_is_simulated(tmp_path: Path, part: Path) -> None:
    write_character(part, LABEL)
    (tmp_path / SIMULATED_MARK).touch()
    assert NOmniglot(tmp_path).name == "simulated"


def test_the_source_goes_to_other_processes_without_decoded_events(
    tmp_path: Path, part: Path
) -> None:
    write_character(part, LABEL)
    source = NOmniglot(tmp_path)
    before = len(pickle.dumps(source))
    first = source.read(ref_of(source, 1))[0]
    assert len(pickle.dumps(source)) == before
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy.read(ref_of(copy, 1))[0], first)


def test_a_file_is_decoded_once_for_its_twenty_drawings(
    tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metaevents.sources import n_omniglot

    read: list[Path] = []
    original = n_omniglot.read_events

    def counted(path: Path) -> Any:
        read.append(path)
        return original(path)

    monkeypatch.setattr(n_omniglot, "read_events", counted)
    write_character(part, LABEL)
    source = NOmniglot(tmp_path)
    for ref in source.recordings():
        source.read(ref)
    assert len(read) == 1


def with_rows(part: Path, *rows: str | tuple[int, int, int], drawings: int = 2) -> NOmniglot:
    write_character(part, LABEL, drawings, rows=rows)
    return NOmniglot(part.parent)


def test_the_last_timestamp_is_not_part_of_a_drawing(part: Path) -> None:
    times = drawing(LABEL, 1)["t"]
    first, last = int(times[3]), int(times[-1])
    events, _ = (source := with_rows(part, (0, first, last))).read(ref_of(source, 1))
    assert len(events) == np.count_nonzero((times >= first) & (times < last))
    assert events["t"][0] == 0


@pytest.mark.parametrize(
    ("rows", "number", "repairs"),
    [
        ([(0, START, START + SPAN)], 2, {"recordings_without_row": 1}),
        ([], 1, {"recordings_without_row": 1}),
        ([(0, START + 9, START)], 1, {"recordings_reversed": 1}),
        ([(0, 5, 9)], 1, {"recordings_empty": 1}),
        ([(0, START, START)], 1, {"recordings_empty": 1}),
    ],
)
def test_rows_without_a_drawing_are_counted_and_left_out(
    part: Path, rows: list[tuple[int, int, int]], number: int, repairs: dict[str, int]
) -> None:
    source = with_rows(part, *rows)
    events, counted = source.read(ref_of(source, number))
    assert (len(events), counted) == (0, repairs)


def test_rows_that_overlap_and_rows_beyond_twenty_are_counted(part: Path) -> None:
    second = START + SPAN + GAP
    source = with_rows(
        part, (0, START, second + 9_000), (1, second, second + SPAN), *[(2, 0, 1)] * 20
    )
    assert source.read(ref_of(source, 1))[1] == {"rows_beyond_20": 2}
    assert source.read(ref_of(source, 2))[1] == {"recordings_overlapping": 1}


def test_rows_that_only_touch_do_not_overlap(part: Path) -> None:
    second = START + SPAN + GAP
    source = with_rows(part, (0, START, second), (1, second, second + SPAN))
    assert source.read(ref_of(source, 2))[1] == {}


def test_numbers_with_a_point_and_blank_lines_are_read(part: Path) -> None:
    source = with_rows(part, f"0, {START}.0 ,{START + SPAN + 1}.00", "", ",,")
    assert len(source.read(ref_of(source, 1))[0]) == 30


@pytest.mark.parametrize(
    "row", ["0,1", "0,a,b", "0,1.5,2", "0,-4,2", f"0,0,{1 << 63}", "0,nan,1", "x" * 300]
)
def test_a_row_of_another_form_is_named(part: Path, row: str) -> None:
    source = with_rows(part, (0, START, START + SPAN), row)
    with pytest.raises(RecordingError, match=r"line 3 of .*expected index, first and last"):
        source.read(ref_of(source, 1))


def moved(**changes: Any) -> Events:
    """A drawing whose first events have other coordinates."""
    events = drawing(LABEL, 1)
    for name, values in changes.items():
        events[name][: len(values)] = values
    return events


def test_events_elsewhere_are_dropped_and_counted(part: Path) -> None:
    events = moved(x=[346, -1, 53, 304, 54, 303], y=[100, 100, 100, 100, 260, 3])
    write_character(part, LABEL, events=[events])
    source = NOmniglot(part.parent)
    read, repairs = source.read(ref_of(source, 1))
    assert repairs == {"events_out_of_range": 3, "events_outside_writing_area": 3}
    assert len(read) == len(events) - 6
    assert read["t"][0] == 0


def test_unsorted_events_are_sorted_and_counted(part: Path) -> None:
    events = drawing(LABEL, 1)
    order = np.arange(len(events))[::-1]
    rows = [(0, int(events["t"][0]), int(events["t"][-1]) + 1)]
    write_character(part, LABEL, events=[events[order]], rows=rows)
    source = NOmniglot(part.parent)
    read, repairs = source.read(ref_of(source, 1))
    assert repairs == {"recordings_unsorted": 1}
    assert np.array_equal(read["t"], events["t"] - events["t"][0])


def test_long_drawings_are_counted_and_kept(part: Path) -> None:
    source = with_rows(part, (0, START, START + 3 * SPAN))
    events, repairs = source.read(ref_of(source, 1))
    assert repairs == {"recordings_over_4800_ms": 1}
    assert len(events) == 60


def test_litter_and_other_files_are_passed_over(part: Path) -> None:
    folder = write_character(part, LABEL)
    for name in LITTER:
        (folder / name).touch()
    (folder / "notes.txt").touch()
    (part / "README.md").touch()
    assert len(NOmniglot(part.parent).recordings()) == 20


def test_several_files_are_matched_by_their_four_digits(part: Path) -> None:
    folder = write_character(part, LABEL, name="0412")
    (folder / "0412_old.csv").write_text("wrong")
    source = NOmniglot(part.parent)
    assert len(source.read(ref_of(source, 1))[0]) == 30
    (folder / "0413.csv").write_text("wrong")
    (folder / "0413.aedat4").write_bytes(b"wrong")
    with pytest.raises(RecordingError, match=r"has 2 \.aedat4 and 3 \.csv files, expected one"):
        NOmniglot(part.parent)


@pytest.mark.parametrize("suffix", [".csv", ".aedat4"])
def test_a_missing_file_is_named(part: Path, suffix: str) -> None:
    folder = write_character(part, LABEL)
    (folder / f"0001{suffix}").unlink()
    with pytest.raises(RecordingError, match=rf"character03 has no {re.escape(suffix)} file"):
        NOmniglot(part.parent)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("Klingon/character01", "is no alphabet of the background part"),
        ("ULOG/character01", "is no alphabet of the background part"),
        ("Greek/character25", "expected character01 to character24"),
        ("Greek/character1", "expected character01 to character24"),
    ],
)
def test_a_folder_that_is_no_character_is_refused(part: Path, folder: str, message: str) -> None:
    write_character(part, LABEL)
    (part / folder).mkdir(parents=True)
    with pytest.raises(RecordingError, match=message):
        NOmniglot(part.parent)


def test_what_is_no_folder_of_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        NOmniglot(tmp_path / "none")
    with pytest.raises(RecordingError, match="has none of dvs_background, "):
        NOmniglot(tmp_path)
    (tmp_path / "dvs_evaluation").mkdir()
    with pytest.raises(MissingError, match="no character below"):
        NOmniglot(tmp_path)


def test_files_that_cannot_be_read_are_named(part: Path) -> None:
    folder = write_character(part, LABEL)
    source = NOmniglot(part.parent)
    aedat4, rows = folder / "0001.aedat4", folder / "0001.csv"
    content = aedat4.read_bytes()
    aedat4.write_bytes(content[:-5])
    with pytest.raises(RecordingError, match=r"0001\.aedat4 is no readable AEDAT4 file"):
        source.read(ref_of(source, 1))
    aedat4.unlink()
    with pytest.raises(RecordingError, match=r"cannot read .*0001\.aedat4 \(No such file"):
        source.read(ref_of(source, 1))
    aedat4.write_bytes(content)
    rows.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordingError, match="is no CSV file"):
        source.read(ref_of(source, 1))
    rows.write_bytes(b"," * (1 << 20) + b"\n")
    with pytest.raises(RecordingError, match="more than the limit"):
        source.read(ref_of(source, 1))
    rows.unlink()
    with pytest.raises(RecordingError, match=r"cannot read .*0001\.csv"):
        source.read(ref_of(source, 1))


def test_without_the_package_the_extra_is_named(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metaevents.sources import aedat4

    write_character(part, LABEL)
    source = NOmniglot(part.parent)
    monkeypatch.setattr(aedat4, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"metaevents\[omniglot\]"):
        source.read(ref_of(source, 1))
