"""Prediction files from strangers: damaged, forged and oversized ones.

Each is read as it was written, or refused with one error that names the file.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.made_entries import find_protocol

from metaevents.benchmark.predictions import Predictions
from metaevents.errors import UsageError

PROTOCOL = replace(find_protocol("sample-5way-1shot"), episodes=8)


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (8, PROTOCOL.n_queries)).astype(np.int16)
    scores = rng.random((*labels.shape, 5)).astype(np.float32)
    return Predictions(PROTOCOL, "a" * 64, "b" * 64, labels, scores)


def read(content: bytes, original: Predictions) -> bool:
    """Return whether a file is accepted; it is then the same as the original."""
    try:
        loaded = Predictions.from_bytes(content, "odd.npz")
    except UsageError as error:
        message = str(error)
        if not message.startswith("odd.npz") or "\n" in message:
            pytest.fail(message)
        return False
    np.testing.assert_array_equal(loaded.labels, original.labels)
    assert (loaded.protocol, loaded.fingerprint, loaded.episodes_digest) == (
        original.protocol,
        original.fingerprint,
        original.episodes_digest,
    )
    return True


def damage(content: bytes, seed: int) -> bytes:
    """Return a file with a flipped bit, a lost part, a repeated part or random bytes."""
    rng = np.random.default_rng([7, seed])
    data = bytearray(content)
    place = int(rng.integers(len(data)))
    kind = seed % 8
    if kind == 0:
        return bytes(data[:place])
    if kind == 1:
        length = int(rng.integers(1, 60))
        return bytes(data[:place] + data[place + length :])
    if kind == 2:
        length = int(rng.integers(1, 60))
        return bytes(data[:place] + data[place : place + length] + data[place:])
    if kind == 3:
        length = int(rng.integers(1, 9))
        data[place : place + length] = rng.bytes(length)
        return bytes(data)
    data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def check_damage(predictions: Predictions, seeds: range) -> None:
    for with_scores in (False, True):
        content = predictions.to_bytes(with_scores)
        assert read(content, predictions)
        n_accepted = sum(read(damage(content, seed), predictions) for seed in seeds)
        assert n_accepted < 0.2 * len(seeds)


def test_damaged_files_are_read_as_written_or_refused(predictions: Predictions) -> None:
    check_damage(predictions, range(250))


@pytest.mark.attack
def test_many_damaged_files_are_read_as_written_or_refused(predictions: Predictions) -> None:
    check_damage(predictions, range(250, 10_250))


@pytest.mark.attack
def test_every_flipped_bit_is_read_as_written_or_refused(predictions: Predictions) -> None:
    content = predictions.to_bytes()
    for place in range(len(content)):
        for bit in range(8):
            data = bytearray(content)
            data[place] ^= 1 << bit
            read(bytes(data), predictions)


# --- forged files --------------------------------------------------------------------------------


def npy(descr: Any = "|u1", shape: Any = (8, 50), data: bytes = bytes(400)) -> bytes:
    """Return a .npy array with a header of the caller's choice."""
    text = descr if isinstance(descr, bytes) else repr(
        {"descr": descr, "fortran_order": False, "shape": shape}
    ).encode("latin-1")  # fmt: skip
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def header(**changes: Any) -> bytes:
    """Return the array `header` with changed fields."""
    document = {
        "format": "metaevents-predictions",
        "format_version": 1,
        "metaevents_version": "0",
        "protocol": PROTOCOL.to_dict(),
        "fingerprint": "a" * 64,
        "episodes_digest": "b" * 64,
        **changes,
    }
    return text_array(json.dumps(document))


def text_array(text: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(text))
    return stream.getvalue()


def pack(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """Return a .npz file with these members, and plain ones for the others."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in {"header": header(), "predictions": npy(), **members}.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def protocol(**changes: Any) -> bytes:
    return header(protocol={**PROTOCOL.to_dict(), **changes})


def twins() -> bytes:
    stream = io.BytesIO(pack())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("predictions.npy", npy(data=bytes([1]) * 400))
    return stream.getvalue()


def encrypted() -> bytes:
    data = bytearray(pack())
    start = 0
    while (start := data.find(b"PK\1\2", start)) >= 0:
        data[start + 8] |= 1
        start += 4
    return bytes(data)


def many_members() -> bytes:
    stream = io.BytesIO(pack())
    with zipfile.ZipFile(stream, "a") as archive:
        for number in range(3000):
            archive.writestr(f"{number}", b"")
    return stream.getvalue()


def claims_size(size: int) -> bytes:
    """Return a file whose table of contents states another size of `predictions`."""
    data = bytearray(pack(zipfile.ZIP_STORED))
    start = data.rfind(b"PK\1\2")
    data[start + 24 : start + 28] = struct.pack("<I", size)
    return bytes(data)


def bomb() -> bytes:
    """Return 1 MB of zeros' deflate that a member of 400 stated bytes holds."""
    return pack(predictions=npy(data=bytes(1 << 20)))


FORGED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"accuracy: 100 %",
    "pickle": lambda: pickle.dumps([1, 2]),
    "a single array": lambda: npy(),
    "an empty zip": lambda: b"PK\5\6" + bytes(18),
    "zip64": lambda: b"PK\6\7" + bytes(16) + b"PK\5\6" + bytes(18),
    "a text that is no array": lambda: pack(predictions=b"1, 2, 3"),
    "a pickled array": lambda: pack(predictions=npy("|O", (1,), pickle.dumps([1]))),
    "a type that is no text": lambda: pack(predictions=npy([("a", "<i4")], (100,))),
    "a type that does not exist": lambda: pack(predictions=npy("<i99")),
    "a date": lambda: pack(predictions=npy("<M8[s]", (50,))),
    "complex numbers": lambda: pack(predictions=npy("<c8", (50,))),
    "a shape beyond memory": lambda: pack(predictions=npy("<i8", (10**12, 50))),
    "a shape beyond 64 bits": lambda: pack(predictions=npy("<i8", (10**30,))),
    "a shape of nothing beyond memory": lambda: pack(predictions=npy("<i8", (10**18, 0), b"")),
    "a negative shape": lambda: pack(predictions=npy("|u1", (-8, -50))),
    "a shape that is a list": lambda: pack(predictions=npy("|u1", [8, 50])),
    "a shape of truth values": lambda: pack(predictions=npy("|u1", (True, 400))),
    "many dimensions": lambda: pack(predictions=npy("|u1", (1,) * 70, bytes(1))),
    "a header that is no dictionary": lambda: pack(predictions=npy(b"[1, 2]")),
    "a header that is code": lambda: pack(predictions=npy(b"__import__('os').getpid()")),
    "a header that does not end": lambda: pack(predictions=npy(b"{'descr': '")),
    "a nested header": lambda: pack(predictions=npy(b"(" * 4000)),
    "a header of signs": lambda: pack(predictions=npy(b"-" * 4000 + b"1")),
    "a header of 60 KB": lambda: pack(predictions=npy(b" " * 60_000)),
    "too few bytes": lambda: pack(predictions=npy(data=bytes(399))),
    "too many bytes": lambda: pack(predictions=npy(data=bytes(401))),
    "two arrays of a name": twins,
    "an encrypted array": encrypted,
    "a compression of other programs": lambda: pack(zipfile.ZIP_BZIP2),
    "lzma": lambda: pack(zipfile.ZIP_LZMA),
    "many members": many_members,
    "a stated size of 4 GB": lambda: claims_size(0xFFFFFFF0),
    "a stated size of nothing": lambda: claims_size(0),
    "a stated size that is too small": bomb,
    "no header": lambda: pack(header=b""),
    "a header of numbers": lambda: pack(header=npy()),
    "a header that is no JSON": lambda: pack(header=text_array("{")),
    "a header that is a list": lambda: pack(header=text_array("[]")),
    "a nested JSON": lambda: pack(header=text_array("[" * 20_000)),
    "a deep JSON": lambda: pack(header=text_array('{"a":' * 500 + "1" + "}" * 500)),
    "twin fields": lambda: pack(header=text_array('{"format": 1, "format": 2}')),
    "NaN": lambda: pack(header=text_array('{"format": NaN}')),
    "a number of 9,000 digits": lambda: pack(header=text_array(f'{{"format": {"9" * 9000}}}')),
    "half a character": lambda: pack(header=text_array('{"format": "\\ud800"}')),
    "a character that is none": lambda: pack(header=npy("<U1", (), b"\xff\xff\xff\xff")),
    "a version that is a list": lambda: pack(header=header(format_version=[1])),
    "a version that is true": lambda: pack(header=header(format_version=True)),
    "a protocol that is a list": lambda: pack(header=header(protocol=[])),
    "a protocol without fields": lambda: pack(header=header(protocol={})),
    "fields that are no text": lambda: pack(header=header(fingerprint=3)),
    "negative ways": lambda: pack(header=protocol(ways=-5)),
    "ways that are a fraction": lambda: pack(header=protocol(ways=5.0)),
    "ways that are true": lambda: pack(header=protocol(ways=True)),
    "huge ways": lambda: pack(header=protocol(ways=10**15, queries=10**15)),
    "ways beyond 64 bits": lambda: pack(header=protocol(ways=10**40)),
    "huge episodes": lambda: pack(header=protocol(episodes=10**15)),
    "a seed beyond 64 bits": lambda: pack(header=protocol(seed=1 << 70)),
    "a long name": lambda: pack(header=protocol(name="x" * 10_000)),
    "an escape in a name": lambda: pack(header=protocol(ways="\x1b[2J\n")),
    "predictions out of range": lambda: pack(predictions=npy(data=bytes([9]) * 400)),
    "scores that are text": lambda: pack(scores=npy("<U1", (8, 50, 5), bytes(8000))),
    "episodes beyond 64 bits": lambda: pack(
        episodes=npy("<u8", (8,), struct.pack("<8Q", *range((1 << 64) - 8, 1 << 64)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused_in_a_sentence(name: str) -> None:
    content = FORGED[name]()
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(UsageError) as caught:
            Predictions.from_bytes(content, "odd.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith("odd.npz")
    assert len(message) < 900
    assert "\n" not in message
    assert "\x1b" not in message
    assert peak < 20_000_000
    assert time.perf_counter() - start < 5


def test_files_of_other_programs_are_read() -> None:
    """Without compression, in Fortran order, in other byte orders, with other members."""
    labels = np.arange(400).reshape(8, 50) % 5
    for array in (labels.astype(">i4"), np.asfortranarray(labels.astype(np.uint16))):
        stream = io.BytesIO()
        np.save(stream, array)
        content = pack(zipfile.ZIP_STORED, predictions=stream.getvalue(), notes=b"mine")
        np.testing.assert_array_equal(Predictions.from_bytes(content, "a.npz").labels, labels)


def test_a_small_file_cannot_name_very_many_episodes() -> None:
    """Scoring draws every episode, which takes 170 microseconds."""
    labels = np.zeros((100_000, 50), np.int16)
    many = Predictions(replace(PROTOCOL, episodes=100_000), "a" * 64, "b" * 64, labels)
    content = many.to_bytes()
    assert len(content) < 400_000
    with pytest.raises(UsageError, match="names 100,000 episodes of 55 samples"):
        Predictions.from_bytes(content, "odd.npz")
    stream = io.BytesIO()
    with np.load(io.BytesIO(content)) as loaded:
        np.savez(stream, **loaded)  # as the message advises
    assert Predictions.from_bytes(stream.getvalue(), "a.npz").labels.shape == labels.shape


def test_a_bomb_is_not_unpacked() -> None:
    """A file of 300 KB that unpacks to 256 MB, in a member that is not read."""
    stream = io.BytesIO(pack())
    packer = zlib.compressobj(9)
    assert len(packer.compress(bytes(1 << 20)) + packer.flush()) < 2000
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("else.npy", bytes(100 << 20))
    tracemalloc.start()
    try:
        assert Predictions.from_bytes(stream.getvalue(), "a.npz").labels.shape == (8, 50)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
