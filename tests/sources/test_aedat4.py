"""AEDAT4 files: what is read, and that no damage ends the process or takes memory without bound."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.recordings import random_events

from metaevents.errors import MissingError
from metaevents.events import Events
from metaevents.simulation.n_omniglot import aedat4_bytes
from metaevents.sources import aedat4
from metaevents.sources.aedat4 import Aedat4Error, read_events

pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")

HEADER = 18  # bytes before the FlatBuffer of the header


def sample(n: int = 60) -> Events:
    return random_events(1, n, 346, 260, duration=1_000_000, start=1_600_000_000_000_000)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def packets_start(content: bytes) -> int:
    return HEADER + int.from_bytes(content[HEADER - 4 : HEADER], "little")


def with_compression(kind: int, pack: Callable[[bytes], bytes]) -> bytes:
    """A file whose one packet is packed."""
    content = aedat4_bytes(sample())
    start = packets_start(content)
    head = bytearray(content[:start])
    struct.pack_into("<i", head, HEADER + 24, kind)
    packed = pack(content[start + 8 :])
    return bytes(head) + struct.pack("<II", 0, len(packed)) + packed


def lz4_frame(*blocks: bytes, stored: bool = True) -> bytes:
    """An LZ4 frame with blocks of at most 64 KiB, stored or as they are."""
    body = b"".join(struct.pack("<I", len(b) | stored << 31) + b for b in blocks)
    return b"\x04\x22\x4d\x18\x60\x40\x82" + body + bytes(4)


def zstd_frame(*blocks: tuple[int, int, bytes]) -> bytes:
    """A Zstandard frame with a window of 8 MiB; a block is (type, size, content)."""
    body = b""
    for place, (kind, size, content) in enumerate(blocks):
        header = size << 3 | kind << 1 | (place == len(blocks) - 1)
        body += struct.pack("<I", header)[:3] + content
    return b"\x28\xb5\x2f\xfd\x00\x68" + body


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    events = sample(10_000)  # three packets
    columns = read_events(write(tmp_path / "a.aedat4", aedat4_bytes(events)))
    for name in ("t", "x", "y", "p"):
        assert np.array_equal(columns[name], events[name])
    assert [columns[name].dtype.str[1:] for name in "txyp"] == ["i8", "i2", "i2", "b1"]


def test_packets_that_are_compressed_are_read(tmp_path: Path) -> None:
    frames = [(1, lz4_frame), (2, lz4_frame), (3, lambda body: zstd_frame((0, len(body), body)))]
    for kind, pack in frames:
        columns = read_events(write(tmp_path / "a.aedat4", with_compression(kind, pack)))
        assert np.array_equal(columns["t"], sample()["t"])


def test_a_file_without_packets_has_no_events(tmp_path: Path) -> None:
    content = aedat4_bytes(sample())
    columns = read_events(write(tmp_path / "a.aedat4", content[: packets_start(content)]))
    assert all(not len(column) for column in columns.values())


def damaged(content: bytes, seed: int) -> bytes:
    """A file with a flipped bit, wrong bytes in the header, or a part cut off."""
    rng = random.Random(seed)
    out = bytearray(content)
    match seed % 4:
        case 0:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        case 1:
            for _ in range(6):
                out[rng.randrange(14, HEADER + 60)] = rng.randrange(256)
        case 2:
            start = packets_start(content)
            out[rng.randrange(start, start + 44)] = rng.randrange(256)
        case 3:
            del out[rng.randrange(len(out)) :]
    return bytes(out)


@pytest.mark.parametrize("kind", ["plain", "lz4", "zstd"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    # Without the checks, one in a hundred of these ends the process, and some raise PanicException.
    pack = {"lz4": lz4_frame, "zstd": lambda body: zstd_frame((0, len(body), body))}
    numbers = {"lz4": 1, "zstd": 3}
    content = aedat4_bytes(sample())
    if kind != "plain":
        content = with_compression(numbers[kind], pack[kind])
    refused = 0
    for seed in range(200):
        path = write(tmp_path / "a.aedat4", damaged(content, seed))
        try:
            read_events(path)
        except Aedat4Error:
            refused += 1
    assert 100 < refused < 200


def header_with(offset: int, form: str, value: int) -> bytes:
    out = bytearray(aedat4_bytes(sample()))
    struct.pack_into(form, out, HEADER + offset, value)
    return bytes(out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"#!AER-DAT3.1\r\n" + bytes(20), "does not begin as an AEDAT 4.0 file"),
        (b"#!AER-DAT4.0\r\n\xff\xff\xff\xff", "beyond the file or the limit"),
        (header_with(0, "<I", 1 << 31), "header is damaged"),
        (header_with(4, "<I", 0), "no header of an AEDAT 4.0 file"),
        (header_with(20, "<i", -(1 << 30)), "header is damaged"),
        (header_with(8, "<H", 65_534), "table of its header is damaged"),
        (header_with(16, "<H", 65_000), "header is damaged"),
        (header_with(44, "<I", 1 << 30), "description in its header is damaged"),
        (header_with(24, "<i", 9), "unknown compression 9"),
        (header_with(36, "<q", 1 << 40), "it was cut"),
        (header_with(36, "<q", -7), "it was cut"),
        (aedat4_bytes(sample())[:-1], "cut or damaged"),
        (aedat4_bytes(sample()) + b"1234", "last packet is cut"),
        (with_compression(1, lambda body: body), "no LZ4 frame"),
        (with_compression(3, lambda body: body), "no Zstandard frame"),
        (with_compression(1, lambda body: lz4_frame(body) + b"x"), "does not end where its blocks"),
        (with_compression(0, lambda body: b"x" * len(body)), "cannot be decoded"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(Aedat4Error, match=message):
        read_events(write(tmp_path / "a.aedat4", content))


@pytest.mark.parametrize(
    ("kind", "packed"),
    [
        (3, zstd_frame(*[(1, 1 << 17, b"\0")] * 3_000)),  # 12 kB that unpack to 390 MB
        (1, lz4_frame(*[b"\0" * 300] * 5_000, stored=False)),  # 1.5 MB that may unpack to 330 MB
    ],
)
def test_a_packet_that_unpacks_without_bound_is_refused_before_it_is_unpacked(
    tmp_path: Path, kind: int, packed: bytes
) -> None:
    path = write(tmp_path / "a.aedat4", with_compression(kind, lambda body: packed))
    with pytest.raises(Aedat4Error, match=r"unpacks to up to .* more than the limit"):
        read_events(path)


def test_entities_are_refused(tmp_path: Path) -> None:
    content = aedat4_bytes(sample())
    assert b'<dv version="2.0">' in content
    content = content.replace(b'<dv version="2.0">', b"<!DOCTYPE dv [<dv>".ljust(18))
    with pytest.raises(Aedat4Error, match="declares entities"):
        read_events(write(tmp_path / "a.aedat4", content))


def test_too_many_events_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aedat4, "_EVENT_LIMIT", 50)
    with pytest.raises(Aedat4Error, match="more than 50 events"):
        read_events(write(tmp_path / "a.aedat4", aedat4_bytes(sample())))


class Panic(BaseException):
    """Like the exception of a Rust panic, which is no Exception."""


def fake_decoder(stream: str, error: BaseException | None) -> Any:
    class Decoder:
        def __init__(self, path: Path) -> None:
            pass

        def id_to_stream(self) -> dict[int, dict[str, str]]:
            return {0: {"type": stream}}

        def __iter__(self) -> Iterator[dict[str, Any]]:
            if error is not None:
                raise error
            yield {"frame": None}

    return SimpleNamespace(Decoder=Decoder, __spec__="fake")


def test_a_panic_of_the_decoder_is_an_error_and_an_interrupt_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.aedat4", aedat4_bytes(sample()))
    monkeypatch.setitem(sys.modules, "aedat", fake_decoder("events", Panic("byte index 372")))
    with pytest.raises(Aedat4Error, match="cannot be decoded: byte index 372"):
        read_events(path)
    monkeypatch.setitem(sys.modules, "aedat", fake_decoder("events", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        read_events(path)
    monkeypatch.setitem(sys.modules, "aedat", fake_decoder("frame", None))
    with pytest.raises(Aedat4Error, match="its streams are frame; expected events"):
        read_events(path)


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aedat4, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install 'metaevents\[omniglot\]'"):
        read_events(write(tmp_path / "a.aedat4", aedat4_bytes(sample())))
