"""N-MNIST files as recordings; their events are those of tonic's reader."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from support.packages import import_or_skip
from support.recordings import LITTER, nmnist_bytes, random_events, write_nmnist

from metaevents.errors import MissingError, RecordingError, UsageError
from metaevents.events import EVENT_DTYPE, make_events
from metaevents.sources import NMNIST, Source, nmnist
from metaevents.sources.base import repair_events


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


def test_an_overflow_marker_adds_time_and_is_no_event(tmp_path: Path) -> None:
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


def test_a_recording_of_overflow_markers_alone_is_empty_and_counted(tmp_path: Path) -> None:
    source = one_recording(
        tmp_path, nmnist_bytes(make_events([0] * 3, [240] * 3, [0] * 3, [0] * 3))
    )
    events, repairs = source.read(source.recordings()[0])
    assert len(events) == 0
    assert repairs == {"overflow_markers": 3, "recordings_empty": 1}


def test_a_recording_off_the_sensor_is_empty_and_counted(tmp_path: Path) -> None:
    source = one_recording(tmp_path, nmnist_bytes(make_events([40], [1], [0], [1])))
    assert source.read(source.recordings()[0])[1] == {
        "events_out_of_range": 1,
        "recordings_empty": 1,
    }


@pytest.mark.parametrize("seed", range(20))
def test_events_are_those_of_tonics_reader(tmp_path: Path, seed: int) -> None:
    read_mnist_file = import_or_skip("tonic.io", "pip install 'metaevents[tonic]'").read_mnist_file

    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (500, 5), np.uint8)
    rows[:, 2] &= 0x83  # small times, as those of a camera
    rows[rng.random(500) < 0.1, 1] = 240
    path = tmp_path / "a.bin"
    path.write_bytes(rows.tobytes())
    assert np.array_equal(nmnist.decode_events(rows), read_mnist_file(str(path), dtype=EVENT_DTYPE))


def test_the_real_sample_is_read_as_by_tonic(sample: Path) -> None:
    read_mnist_file = import_or_skip("tonic.io", "pip install 'metaevents[tonic]'").read_mnist_file

    source = NMNIST(sample)
    assert len(source.recordings()) == 1000
    for ref in source.recordings():
        raw = read_mnist_file(str(ref.location), dtype=EVENT_DTYPE)
        expected, _ = repair_events(raw, source.sensor_size)
        assert np.array_equal(source.read(ref)[0], expected)


def test_many_overflow_markers_take_no_time(tmp_path: Path) -> None:
    source = one_recording(tmp_path, bytes([0, 240, 0, 0, 0]) * 1_000_000)
    start = time.monotonic()
    assert source.read(source.recordings()[0])[1]["overflow_markers"] == 1_000_000
    assert time.monotonic() - start < 2


def test_endings_in_upper_case_are_read_and_litter_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = one_recording(tmp_path, nmnist_bytes(random_events(1)))
    digit = tmp_path / "Train" / "3"
    (digit / "00012.bin").rename(digit / "00012.BIN")
    (digit / "@eaDir").mkdir()
    (tmp_path / "Train" / "@eaDir").mkdir()
    for name in LITTER:
        (digit / name).touch()
        (tmp_path / "Train" / name).touch()
    source = NMNIST(tmp_path)
    (ref,) = source.recordings()
    assert ref.id == "Train/3/00012"
    assert np.array_equal(source.read(ref)[0], random_events(1))
    assert not caplog.records
    (digit / "00012.bin").write_bytes(b"12345")
    with pytest.raises(RecordingError, match=r"00012\.(BIN|bin) are both number 12"):
        NMNIST(tmp_path)


def test_what_is_no_file_and_a_huge_file_are_refused_unread(tmp_path: Path) -> None:
    source = one_recording(tmp_path, b"12345")
    path = tmp_path / "Train" / "3" / "00012.bin"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # sparse
    with pytest.raises(RecordingError, match="in at most 67,108,864 bytes"):
        source.read(source.recordings()[0])
    path.unlink()
    with pytest.raises(RecordingError, match="No such file"):
        source.read(source.recordings()[0])
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(RecordingError, match="0 bytes"):
            source.read(source.recordings()[0])


def test_a_number_of_many_digits_and_the_home_of_nobody_are_refused(tmp_path: Path) -> None:
    path = one_recording(tmp_path, b"12345").root / "Train" / "3" / f"{'9' * 100}.bin"
    path.touch()
    with pytest.raises(RecordingError, match="is not named <number>"):
        NMNIST(tmp_path)
    with pytest.raises(UsageError, match="cannot be used as a path"):
        NMNIST("~no-such-user/nmnist")


def test_names_say_whether_the_set_is_complete(tmp_path: Path) -> None:
    assert NMNIST(write_nmnist(tmp_path, 1, 1)).name == "n-mnist-subset"


def test_simulated_files_are_named_so(tmp_path: Path) -> None:
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
