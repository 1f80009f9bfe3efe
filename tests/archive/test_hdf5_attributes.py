"""Attributes are read as h5py reads them, or refused; no flipped bit ends the process."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.archives import NAME, copy_archive, edit_archive

from metaevents.archive.hdf5_attributes import _Reader, read_attributes


def test_attributes_are_those_that_h5py_reads(nmnist_root: Path, asl_root: Path) -> None:
    for path in (nmnist_root / f"{NAME}.h5", asl_root / "double-asl-dvs.h5"):
        with h5py.File(path) as file:
            expected = {
                name: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
                for name, value in file.attrs.items()
            }
        assert read_attributes(path) == expected


def test_attributes_that_were_edited_are_read_too(nmnist_root: Path, tmp_path: Path) -> None:
    path = copy_archive(nmnist_root, tmp_path)
    texts = [f"label {i} \u00e9" for i in range(2000)]
    edit_archive(
        path,
        f"file.attrs.update(citation='x' * 100_000, source='', labels={texts!r}, window_us=-5)\n"
        "file.attrs['sensor_size'] = np.array([1, 2], np.int32)\n"
        "file.attrs['units'] = 1.5\n"
        "file.attrs['licence'] = h5py.Empty('i8')\n"
        "file.attrs['dirt'] = np.zeros((2, 2), int)\n"
        "file.attrs['creator'] = np.array([1, 2], '>i8')\n"
        "file.attrs['format'] = np.uint64(7)\n",
    )
    attributes = read_attributes(path)
    assert attributes["citation"] == "x" * 100_000
    assert attributes["source"] == ""
    assert attributes["labels"] == texts
    assert attributes["window_us"] == -5
    assert attributes["sensor_size"] == [1, 2]
    for name in ("units", "licence", "dirt", "creator", "format"):
        assert attributes[name] is None


def test_many_names_of_one_text_are_no_memory(nmnist_root: Path, tmp_path: Path) -> None:
    """Each entry of `labels` names the same long text in the heap."""
    path = copy_archive(nmnist_root, tmp_path)
    edit_archive(path, "file.attrs['citation'] = 'y' * 50_000; file.attrs['labels'] = ['z'] * 3000")
    with h5py.File(path) as file:
        assert len(file.attrs["labels"]) == 3000
    with path.open("rb") as opened:
        messages = list(_Reader(opened).messages())
    (citation,) = (message for message in messages if b"citation\0" in message)
    (labels,) = (message for message in messages if b"labels\0" in message)
    content, size = path.read_bytes(), 16 * 3000
    place = content.index(labels) + len(labels) // 8 * 8 - size
    while content[place : place + 4] != struct.pack("<I", 1):
        place -= 1
    heap_id = citation[citation.index(struct.pack("<I", 50_000)) :][:16]
    path.write_bytes(content[:place] + heap_id * 3000 + content[place + size :])
    with pytest.raises(ValueError, match="more text than the file has bytes"):
        read_attributes(path)


def test_flipped_bits_and_cut_files_end_with_one_of_few_errors(
    nmnist_root: Path, tmp_path: Path
) -> None:
    good = (nmnist_root / f"{NAME}.h5").read_bytes()
    path = tmp_path / "a.h5"
    first = good.index(b"GCOL")
    places = [*range(512, 3000), *range(first, len(good))]
    rng = random.Random(0)
    for case in range(1500):
        content = bytearray(good)
        if case % 10:
            content[rng.choice(places)] ^= 1 << rng.randrange(8)
        else:
            del content[rng.choice(places) :]
        path.write_bytes(content)
        with suppress(OSError, ValueError, struct.error, LookupError):
            read_attributes(path)
