"""N-MNIST files, read through tonic, as recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.recordings import nmnist_bytes, random_events, write_nmnist

from metaevents.errors import MissingError, RecordingError
from metaevents.events import make_events
from metaevents.sources import NMNIST, Source


def one_recording(folder: Path, content: bytes) -> NMNIST:
    path = folder / "Train" / "3" / "00012.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return NMNIST(folder)


def test_a_recording_comes_back_event_by_event(tmp_path: Path) -> None:
    events = random_events(1, n=500)
    source = one_recording(tmp_path, nmnist_bytes(events))
    (ref,) = source.recordings()
    assert (ref.id, ref.label, ref.folder, ref.number) == ("Train/3/00012", "3", "Train", 12)
    read, repairs = source.read(ref)
    assert np.array_equal(read, events)
    assert repairs == {}
    assert isinstance(source, Source)


def test_time_starts_at_the_first_event(tmp_path: Path) -> None:
    source = one_recording(tmp_path, nmnist_bytes(random_events(1, start=1234)))
    read, repairs = source.read(source.recordings()[0])
    assert np.array_equal(read, random_events(1))
    assert repairs == {"recordings_not_from_zero": 1}


def test_an_overflow_marker_is_time_and_no_event(tmp_path: Path) -> None:
    raw = make_events([1, 0, 2], [1, 240, 2], [10, 0, 20], [1, 0, 1])
    source = one_recording(tmp_path, nmnist_bytes(raw))
    read, repairs = source.read(source.recordings()[0])
    assert read["x"].tolist() == [1, 2]
    assert read["t"].tolist() == [0, 20 + 8192 - 10]
    assert repairs["overflow_markers"] == 1


def test_events_off_the_sensor_are_dropped_and_counted(tmp_path: Path) -> None:
    source = one_recording(
        tmp_path, nmnist_bytes(make_events([1, 40, 33], [1, 1, 33], [0, 1, 2], [1, 1, 1]))
    )
    read, repairs = source.read(source.recordings()[0])
    assert read["x"].tolist() == [1, 33]
    assert repairs == {"events_out_of_range": 1}


def test_recordings_are_found_in_order_of_number_whatever_the_directory_order(
    tmp_path: Path,
) -> None:
    write_nmnist(tmp_path, train=3, test=2, digits="01")
    (tmp_path / "Train" / "0" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    numbers = [ref.number for ref in NMNIST(tmp_path).recordings() if ref.id.startswith("Train/0")]
    assert numbers == [1, 3, 5]


def test_names_say_whether_the_set_is_complete(tmp_path: Path) -> None:
    assert NMNIST(write_nmnist(tmp_path, 1, 1)).name == "n-mnist-subset"


def test_simulated_files_stay_simulated_whoever_reads_them(tmp_path: Path) -> None:
    write_nmnist(tmp_path, 1, 1)
    (tmp_path / "SIMULATED.md").write_text("made by a camera model")
    assert NMNIST(tmp_path).name == "simulated"


def test_the_real_sample_has_the_published_statistics(sample: Path) -> None:
    source = NMNIST(sample)
    assert len(source.recordings()) == 1000
    counts = [len(source.read(ref)[0]) for ref in source.recordings()[::20]]
    assert 3500 < np.mean(counts) < 4700


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "0 bytes"), (b"1234567", "7 bytes, expected a whole number of 5-byte events")],
)
def test_a_file_that_is_no_whole_number_of_events_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    source = one_recording(tmp_path, content)
    with pytest.raises(RecordingError, match=message):
        source.read(source.recordings()[0])


def test_folders_of_another_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        NMNIST(tmp_path / "nowhere")
    with pytest.raises(RecordingError, match="neither Train nor Test"):
        NMNIST(tmp_path)
    (tmp_path / "Train" / "3").mkdir(parents=True)
    with pytest.raises(MissingError, match=r"no \.bin file"):
        NMNIST(tmp_path)
    (tmp_path / "Train" / "ten").mkdir()
    with pytest.raises(RecordingError, match="no digit's folder"):
        NMNIST(tmp_path)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    write_nmnist(tmp_path, 1, 1)
    (tmp_path / "Train" / "0" / "1.bin").write_bytes(b"12345")
    with pytest.raises(RecordingError, match="both number 1"):
        NMNIST(tmp_path)
