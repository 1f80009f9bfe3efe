"""Damaged recordings of all kinds: our error with the file's name, or events, and quickly.

The ordinary run takes a few inputs of each kind; `-m attack` takes all.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import asl_columns, nmnist_bytes, random_events

from metaevents.errors import MetaeventsError, RecordingError
from metaevents.events import EVENT_DTYPE, as_events
from metaevents.sources import ASLDVS, NMNIST, DatasetSource

FEW = pytest.param(60, id="few")
MANY = pytest.param(5_000, id="many", marks=pytest.mark.attack)


def recording(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def mat_file(path: Path, compressed: bool) -> bytes:
    from scipy.io import savemat

    columns = asl_columns(random_events(1, 50, 240, 180))
    savemat(path, columns, oned_as="column", do_compression=compressed)
    return path.read_bytes()


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with a flipped bit, a changed byte or word, a cut, or a repeated part."""
    data = bytearray(content)
    at = int(rng.integers(len(data)))
    kind = rng.integers(6)
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[at] = int(rng.integers(256))
    elif kind == 2:
        word = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1])).to_bytes(4, "little")
        data[at // 4 * 4 : at // 4 * 4 + 4] = word
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        data += data[at:]
    else:
        data[at : at + int(rng.integers(64))] = rng.bytes(int(rng.integers(64)))
    return bytes(data)


def check(source: Any, path: Path, content: bytes) -> bool:
    """Whether a recording is read; otherwise its error has the file's name."""
    path.write_bytes(content)
    (ref,) = source.recordings()
    start = time.monotonic()
    message = ""
    try:
        events, _ = source.read(ref)
    except RecordingError as error:
        message = str(error)
    assert time.monotonic() - start < 2
    if message:
        assert path.name in message
        assert "\n" not in message
        return False
    width, height = source.sensor_size
    assert events.dtype == EVENT_DTYPE
    assert not len(events) or (events["t"][0] == 0 and np.all(np.diff(events["t"]) >= 0))
    assert np.all((events["x"] >= 0) & (events["x"] < width))
    assert np.all((events["y"] >= 0) & (events["y"] < height))
    return True


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("count", [FEW, MANY])
def test_changed_matlab_files(tmp_path: Path, count: int, compressed: bool) -> None:
    path = recording(tmp_path, "a/a_0001.mat")
    source, content = ASLDVS(tmp_path), mat_file(path, compressed)
    rng = np.random.default_rng(compressed)
    read = sum(check(source, path, changed(content, rng)) for _ in range(count))
    assert check(source, path, content)
    assert 0 < read < count


@pytest.mark.parametrize(
    "step", [pytest.param(97, id="few"), pytest.param(3, id="many", marks=pytest.mark.attack)]
)
def test_every_byte_of_the_headers_with_many_values(tmp_path: Path, step: int) -> None:
    path = recording(tmp_path, "a/a_0001.mat")
    source, content = ASLDVS(tmp_path), mat_file(path, compressed=False)
    names = [content.index(name) for name in (b"x\0\0", b"y\0\0", b"pol")]
    places = [*range(124, 256), *(name + offset for name in names for offset in range(-48, 16))]
    for at in places[::step]:
        for value in range(256):
            data = bytearray(content)
            data[at] = value
            check(source, path, bytes(data))


@pytest.mark.parametrize("count", [FEW, MANY])
def test_changed_nmnist_files(tmp_path: Path, count: int) -> None:
    path = recording(tmp_path, "Train/3/00001.bin")
    source, content = NMNIST(tmp_path), nmnist_bytes(random_events(1, 50))
    rng = np.random.default_rng(0)
    read = sum(check(source, path, changed(content, rng)) for _ in range(count))
    assert 0 < read < count


@pytest.mark.parametrize("count", [FEW, MANY])
def test_random_bytes(tmp_path: Path, count: int) -> None:
    mat = recording(tmp_path / "asl", "a/a_0001.mat")
    head = mat_file(mat, compressed=False)[:128]
    bin_file = recording(tmp_path / "nmnist", "Train/3/00001.bin")
    letters, digits = ASLDVS(tmp_path / "asl"), NMNIST(tmp_path / "nmnist")
    rng = np.random.default_rng(0)
    for _ in range(count):
        content = rng.bytes(int(rng.integers(400)))
        check(letters, mat, content)
        check(letters, mat, head + content)
        check(digits, bin_file, content)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_columns_of_any_type_are_kept_exactly_or_refused(count: int) -> None:
    rng = np.random.default_rng(0)
    types = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "?", "U3", "c8", "O"]
    special = [0, 1, 1, 2, 5, 30, -1, 0.5, 1e-3, 200, 40_000, 2**31, 2**53, 2**63 - 1, 1e300]
    for _ in range(count):
        names = ["x", "y", "t", "p" if rng.random() < 0.8 else "on"]
        dtype = np.dtype([(name, str(rng.choice(types))) for name in rng.permutation(names)])
        array = np.zeros(int(rng.integers(4)), dtype)
        for name in names:
            for i in range(len(array)):
                value = special[int(rng.integers(len(special)))]
                try:
                    with np.errstate(all="ignore"):
                        array[name][i] = value
                except (OverflowError, ValueError):
                    array[name][i] = 1
        source = DatasetSource([(array, 0)], sensor_size=(34, 34), labels="a", name="mine")
        with np.errstate(all="raise"):
            try:
                events = as_events(array)
                read, repairs = source.read(source.recordings()[0])
            except MetaeventsError:
                continue
        for name, ours in (("t", "t"), ("x", "x"), ("y", "y")):
            same = array[name].astype(object) == events[ours].astype(object)
            assert np.all(same | (name != "t") & ((events[ours] < 0) | (events[ours] == 32_767)))
        assert len(read) == len(array) - repairs.get("events_out_of_range", 0)
