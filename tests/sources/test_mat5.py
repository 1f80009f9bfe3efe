"""MATLAB 5 files: the values of SciPy's reader, and its crashes turned into errors."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import asl_columns, random_events, write_mat

from metaevents.sources import mat5
from metaevents.sources.mat5 import MatError, read_variables

NAMES = ("ts", "x", "y", "pol")
TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?"]


def saved(path: Path, compressed: bool = False, **columns: Any) -> Path:
    from scipy.io import savemat

    savemat(path, columns, do_compression=compressed, oned_as="column")
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 1_000])
def test_values_are_those_of_scipy(
    tmp_path: Path, compressed: bool, dtype: str, count: int
) -> None:
    from scipy.io import loadmat

    rng = np.random.default_rng(count)
    columns = {name: rng.integers(0, 100, count).astype(dtype) for name in NAMES}
    others = {"text": "abc", "cell": np.array([1, "a"], object), "z": 1j, "s": {"x": [1, 2]}}
    path = saved(tmp_path / "a.mat", compressed, **others, **columns)
    read = read_variables(path, NAMES)
    expected = loadmat(path)
    assert list(read) == list(NAMES)
    for name in NAMES:
        assert np.array_equal(read[name], expected[name].ravel())


def test_names_of_one_to_four_letters_and_long_ones_are_read(tmp_path: Path) -> None:
    columns = {name: np.arange(3) for name in ("a", "ab", "abc", "abcd", "a" * 31)}
    assert set(read_variables(saved(tmp_path / "a.mat", **columns), set(columns))) == set(columns)


def test_rows_are_vectors_too_and_matrices_are_not(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.mat", x=np.arange(4).reshape(1, 4))
    assert read_variables(path, ["x"])["x"].tolist() == [0, 1, 2, 3]
    for shape in ((2, 2), (4, 2), (2, 1, 2)):
        path = saved(tmp_path / "a.mat", x=np.zeros(shape))
        with pytest.raises(MatError, match=r"x has the dimensions .* expected \(N, 1\)"):
            read_variables(path, ["x"])


def matrix(order: str, name: bytes, values: bytes, shape: tuple[int, ...], kind: int = 9) -> bytes:
    """An element of class double, as MATLAB writes it."""

    def part(kind: int, data: bytes) -> bytes:
        return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)

    content = part(6, struct.pack(f"{order}II", 6, 0))
    content += part(5, struct.pack(f"{order}{len(shape)}i", *shape)) + part(1, name)
    return part(14, content + part(kind, values))


def header(order: str = "<", version: int = 0x0100) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}HH", version, 0x4D49)


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders_are_read(tmp_path: Path, order: str) -> None:
    values = struct.pack(f"{order}3d", 1, 2, 3)
    path = write(tmp_path / "a.mat", header(order), matrix(order, b"x", values, (3, 1)))
    assert read_variables(path, ["x"])["x"].tolist() == [1, 2, 3]


def packed(data: bytes) -> bytes:
    data = zlib.compress(data)
    return struct.pack("<II", 15, len(data)) + data


X = matrix("<", b"x", struct.pack("<3d", 1, 2, 3), (3, 1))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "shorter than the header"),
        ([b"x" * 200], "not that of a MATLAB 5 file"),
        ([header(version=0x0300)], "version is 0x0300"),
        ([header(version=0x0200).ljust(512), b"\x89HDF\r\n\x1a\n"], r"MATLAB 7\.3 .*'-v7'"),
        ([b"MATLAB 7.3 MAT-file".ljust(512), b"\x89HDF\r\n\x1a\n"], r"MATLAB 7\.3 .*'-v7'"),
        ([b"\x89HDF\r\n\x1a\n".ljust(300)], r"MATLAB 7\.3 .*'-v7'"),
        ([struct.pack("<5i", 0, 9, 1, 0, 3), b"ts\0", bytes(72)], r"perhaps of MATLAB 4.*'-v7'"),
        ([struct.pack(">5i", 1000, 9, 1, 0, 3), b"ts\0", bytes(72)], "perhaps of MATLAB 4"),
        ([header(), X[:-1]], "ends after the end of the file"),
        ([header(), X[:4]], "within the header of an element"),
        ([header(), struct.pack("<II", 14, 0xFFFFFFFF)], "ends after the end of the file"),
        ([header(), struct.pack("<II", 99, 0)], "unknown type 99"),
        ([header(), struct.pack("<II", 14, 0)], "within the header of an element"),
        ([header(), matrix("<", b"x", bytes(24), (3, 2))], r"dimensions \(3, 2\)"),
        ([header(), matrix("<", b"x", bytes(24), (3, -1))], "dimensions of a variable"),
        ([header(), matrix("<", b"x", bytes(24), (3,))], "dimensions of a variable"),
        ([header(), matrix("<", b"x", bytes(24), (2**31 - 1, 1))], "expected 2,147,483,647 values"),
        ([header(), matrix("<", b"x", bytes(24), (3, 1), kind=8)], "unknown type 8"),
        ([header(), X, X], "occurs twice"),
        ([header(), packed(X)[:-1]], "ends after the end of the file"),
        ([header(), struct.pack("<II", 15, 0)], "within the header of an element"),
        ([header(), struct.pack("<II", 15, 8), b"no zlib!"], "damaged"),
        ([header(), packed(X + b"more")], "another length than it announces"),
        ([header(), packed(X[:-8])], "another length than it announces"),
        ([header(), packed(packed(X))], "unknown type 15"),
    ],
)
def test_damage_is_named(tmp_path: Path, parts: list[bytes], reason: str) -> None:
    with pytest.raises(MatError, match=reason):
        read_variables(write(tmp_path / "a.mat", *parts), ["x", "y"])


def test_a_damaged_checksum_is_noticed(tmp_path: Path) -> None:
    element = bytearray(packed(X))
    element[-1] ^= 1
    with pytest.raises(MatError, match="damaged"):
        read_variables(write(tmp_path / "a.mat", header(), bytes(element)), ["x"])


@pytest.mark.parametrize("values", [{"x": "text"}, {"x": 1j}, {"x": np.array([1, "a"], object)}])
def test_variables_that_are_no_numbers_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(MatError, match="no numbers"):
        read_variables(saved(tmp_path / "a.mat", **values), ["x"])


def bomb(name: bytes, size: int) -> bytes:
    """A compressed variable that unpacks to `size` bytes of zeros."""
    start = matrix("<", name, b"", (size // 8, 1))[:-8]
    start = struct.pack("<II", 14, len(start) + size) + start[8:] + struct.pack("<II", 9, size)
    packer = zlib.compressobj(1)
    pieces = [packer.compress(start)]
    zeros = bytes(1 << 20)
    pieces += [packer.compress(zeros) for _ in range(size >> 20)] + [packer.flush()]
    data = b"".join(pieces)
    return struct.pack("<II", 15, len(data)) + data


def test_a_variable_that_unpacks_to_a_gigabyte_is_refused_at_once(tmp_path: Path) -> None:
    import resource
    import time

    path = write(tmp_path / "a.mat", header(), bomb(b"other", 1 << 26), bomb(b"x", 1 << 30))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(MatError, match=r"x unpacks to 1,073,741,8\d\d bytes, more than the limit"):
        read_variables(path, ["x"])
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_variable_that_unpacks_to_more_than_it_announces_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    element = struct.pack("<II", 14, len(X) - 8) + X[8:] + bytes(1 << 26)
    with pytest.raises(MatError, match="another length"):
        read_variables(write(tmp_path / "a.mat", header(), packed(element)), ["x"])


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with path.open("wb") as file:
        file.truncate(mat5._FILE_LIMIT + 1)  # sparse
    with pytest.raises(MatError, match="more than the limit"):
        read_variables(path, ["x"])


def test_every_cut_and_some_changed_bytes_give_an_error_or_the_values(tmp_path: Path) -> None:
    events = random_events(1, 4, 240, 180)
    path = write_mat(tmp_path / "a.mat", **asl_columns(events))
    content = path.read_bytes()
    for end in range(len(content)):
        write(path, content[:end])
        try:
            assert len(read_variables(path, NAMES)) < 4
        except MatError:
            continue
    for at in range(128, len(content)):
        for value in (0, 5, 14, 15, 255):
            changed = bytearray(content)
            changed[at] = value
            try:
                read = read_variables(write(path, bytes(changed)), NAMES)
            except MatError:
                continue
            assert all(len(column) == 4 for column in read.values())
