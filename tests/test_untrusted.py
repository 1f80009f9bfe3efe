"""Bounded reading of files from strangers: bytes, JSON, arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from metaevents.errors import MissingError, UsageError
from metaevents.untrusted import describe, parse_json, read_arrays, read_bytes


def test_a_file_is_read_up_to_its_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5, "entry", "make it") == b"12345"
    with pytest.raises(UsageError, match="has 5 bytes, the entry may have at most 4; make it"):
        read_bytes(path, 4, "entry", "make it")


def test_what_is_no_regular_file_is_refused_and_not_opened(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no entry .*nothing; make it"):
        read_bytes(tmp_path / "nothing", 4, "entry", "make it")
    with pytest.raises(UsageError, match="is a folder"):
        read_bytes(tmp_path, 4, "entry", "make it")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is no regular file"):
        read_bytes(tmp_path / "pipe", 4, "entry", "make it")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UsageError, match="cannot be read"):
        read_bytes(tmp_path / "circle", 4, "entry", "make it")
    with pytest.raises(UsageError, match="cannot be read"):
        read_bytes(tmp_path / ("x" * 5000), 4, "entry", "make it")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ('{"a": 1, "b": 2, "a": 3}', "duplicate field 'a'"),
        ("NaN", "NaN is not a finite number"),
        ("-1e999", "-1e999 is not a finite number"),
        ("9" * 101, "a number has 101 digits"),
        ("[" * 65 + "]" * 65, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('"\\udc80"', "surrogates not allowed"),
    ],
)
def test_json_is_strict(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_strict_json_is_read_as_usual() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "\\ud83d\\ude00"]}') == {
        "a": [1, 2.5, None, True, "\N{GRINNING FACE}"]
    }


def test_plain_arrays_are_read() -> None:
    arrays = {
        "a": np.arange(6, dtype=">i2").reshape(2, 3),
        "b": np.array("text"),
        "c": np.zeros((0, 4), np.float64),
        "d": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    loaded = read_arrays(stream.getvalue(), [*arrays, "e"], 10_000)
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    with pytest.raises(ValueError, match=r"it unpacks to .* at most 100 are expected"):
        read_arrays(stream.getvalue(), arrays, 100)


def test_an_exception_is_described_in_a_line() -> None:
    assert describe(MemoryError()) == "MemoryError"
    assert describe(ValueError("a\n b")) == "a b"
    assert len(describe(ValueError("x" * 5000))) == 200
