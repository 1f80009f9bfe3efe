"""A reader of the events in AEDAT4 files, safe on damaged and hostile files.

AEDAT 4.0 is the format of iniVation's DV software. A file holds a header, then packets; each packet
has a stream's number, a length, and a FlatBuffer that may be compressed. The package `aedat`
decodes the packets. It trusts some numbers in a file: a damaged one can end its process or unpack
without bound. So `read_events` first checks every number that it trusts, and passes on only files
in which

- the tables of the header lie inside the header;
- the packets follow each other up to the end of the file, or up to the position that the header
  states;
- no packet unpacks to more than a limit, to judge by the sizes of its compressed blocks (LZ4 Frame
  Format 1.6; RFC 8878 for Zstandard).

Time and memory are in proportion to the file's size and these limits.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metaevents.errors import MissingError

_MAGIC = b"#!AER-DAT4.0\r\n"
_HEADER_ID = b"IOHE"
_COMPRESSION, _END, _DESCRIPTION = 0, 1, 2  # fields of the header's table
_NONE, _LZ4, _LZ4_HIGH, _ZSTD, _ZSTD_HIGH = range(5)  # kinds of compression

_FILE_LIMIT = 1 << 31  # bytes of a file
_HEADER_LIMIT = 1 << 20  # bytes of the header
_PACKET_LIMIT = 1 << 28  # bytes that one packet may unpack to: 16 million events
_EVENT_LIMIT = 1 << 25  # events of a file: 33 million, about 0.5 GB in memory

_LZ4_MAGIC, _ZSTD_MAGIC = 0x184D2204, 0xFD2FB528
_LZ4_BLOCKS = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}  # code -> largest block, bytes
_ZSTD_BLOCK = 1 << 17  # bytes that a compressed block unpacks to at most

_EXTRA = "metaevents[omniglot]"

_FIELDS = ("t", "x", "y", "p")


class Aedat4Error(Exception):
    """The file is none that `read_events` reads. The message is the reason."""


def read_events(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return all polarity events of a file, in the order of its packets.

    Streams of other kinds, such as frames, are passed over.

    Args:
        path: The file.

    Returns:
        The columns t (int64, microseconds), x and y (int16, pixels) and p (bool, True is ON), each
        [N].

    Raises:
        MissingError: The package `aedat` is not installed.
        Aedat4Error: The file is damaged, larger than the limits, or has no stream of events.
        OSError: The file cannot be read.
    """
    if find_spec("aedat") is None:
        raise MissingError(
            f"AEDAT4 files are read with the package aedat, which is not installed; run `pip "
            f"install '{_EXTRA}'` and repeat the command"
        )
    _check_file(path)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _FIELDS}
    total = 0
    for packet in _packets(path):
        events = packet.get("events")
        if events is None:
            continue
        total += len(events)
        if total > _EVENT_LIMIT:
            raise Aedat4Error(f"it has more than {_EVENT_LIMIT:,} events")
        parts["t"].append(events["t"].astype(np.int64))
        parts["x"].append(events["x"].astype(np.int16))
        parts["y"].append(events["y"].astype(np.int16))
        parts["p"].append(events["on"].astype(np.bool_))
    if not parts["t"]:
        kinds = zip(_FIELDS, (np.int64, np.int16, np.int16, np.bool_), strict=True)
        return {name: np.empty(0, kind) for name, kind in kinds}
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def _packets(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every packet as `aedat` decodes it.

    Raises:
        Aedat4Error: A packet cannot be decoded, or the file has no stream of events.
    """
    import aedat

    try:
        decoder = aedat.Decoder(path)
        kinds = {stream["type"] for stream in decoder.id_to_stream().values()}
        if "events" not in kinds:
            raise Aedat4Error(f"its streams are {', '.join(sorted(kinds))}; expected events")
        yield from decoder
    except (Aedat4Error, GeneratorExit, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    # The decoder raises RuntimeError on most damage, and PanicException, which is no Exception, on
    # some.
    except BaseException as error:
        reason = " ".join(str(error).split())
        raise Aedat4Error(f"it cannot be decoded: {reason[:200]}") from error


# --- What the decoder trusts, checked before it reads ---------------------------------------------


def _check_file(path: Path) -> None:
    """Check header and packets of a file.

    Raises:
        Aedat4Error: Something that the decoder would trust is wrong.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size  # 0 for what is no file, such as a pipe
        if not size:
            raise Aedat4Error("it is empty")
        if size > _FILE_LIMIT:
            raise Aedat4Error(f"it has {size:,} bytes, more than the limit of {_FILE_LIMIT:,}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = len(_MAGIC) + 4
            if len(data) < start or data[: len(_MAGIC)] != _MAGIC:
                raise Aedat4Error("it does not begin as an AEDAT 4.0 file does")
            length = int.from_bytes(data[start - 4 : start], "little")
            if not 0 < length <= min(_HEADER_LIMIT, len(data) - start):
                raise Aedat4Error(f"its header has {length:,} bytes, beyond the file or the limit")
            compression, end = _check_header(data[start : start + length])
            if end == -1:
                end = len(data)
            _check_packets(data, start + length, end, compression)


def _check_header(header: bytes) -> tuple[int, int]:
    """Check the FlatBuffer of a header: table, fields and description lie inside it.

    Args:
        header: The FlatBuffer, without its size in front.

    Returns:
        The kind of compression, and the position at which the packets end; -1 if not stated.

    Raises:
        Aedat4Error: It is damaged.
    """
    try:
        table, identifier = struct.unpack_from("<I4s", header)
        if identifier != _HEADER_ID:
            raise Aedat4Error("its header is no header of an AEDAT 4.0 file")
        vtable = table - _read("<i", header, table)
        table_size = _read("<H", header, vtable + 2)
        size = _read("<H", header, vtable)
        if size < 4 or size % 2 or vtable + size > len(header) or table + table_size > len(header):
            raise Aedat4Error("the table of its header is damaged")

        def place(field: int) -> int | None:
            at = 4 + 2 * field
            offset = _read("<H", header, vtable + at) if at + 2 <= size else 0
            return table + offset if offset else None

        compression, end, text = place(_COMPRESSION), place(_END), place(_DESCRIPTION)
        if text is None:
            raise Aedat4Error("its header has no description")
        begin = text + _read("<I", header, text)
        length = _read("<I", header, begin)
        if begin + 4 + length > len(header):
            raise Aedat4Error("the description in its header is damaged")
        description = header[begin + 4 : begin + 4 + length]
        description.decode("utf-8")
        if b"<!DOCTYPE" in description or b"<!ENTITY" in description:
            raise Aedat4Error("the description in its header declares entities")
        return (
            _NONE if compression is None else _read("<i", header, compression),
            -1 if end is None else _read("<q", header, end),
        )
    except (struct.error, UnicodeDecodeError) as error:
        raise Aedat4Error(f"its header is damaged ({error})") from error


def _read(form: str, data: bytes, offset: int) -> int:
    """One number of a FlatBuffer.

    Raises:
        struct.error: It does not lie inside the data.
    """
    if offset < 0:  # which would count from the end
        raise struct.error("an offset is negative")
    value: int = struct.unpack_from(form, data, offset)[0]
    return value


def _check_packets(data: mmap.mmap, start: int, end: int, compression: int) -> None:
    """Check that packets fill the bytes from `start` to `end`, and what they unpack to.

    Args:
        data: The file.
        start: Position of the first packet.
        end: Position after the last packet.
        compression: Kind of compression.

    Raises:
        Aedat4Error: They do not, or one of them is damaged or unpacks to more than the limit.
    """
    if not start <= end <= len(data):
        raise Aedat4Error(
            f"its packets should end at byte {end:,}, but the file has {len(data):,}; it was cut"
        )
    measures = {
        _NONE: len,
        _LZ4: _lz4_size,
        _LZ4_HIGH: _lz4_size,
        _ZSTD: _zstd_size,
        _ZSTD_HIGH: _zstd_size,
    }
    if compression not in measures:
        raise Aedat4Error(f"its packets have the unknown compression {compression}")
    measure = measures[compression]
    position = start
    while position < end:
        if position + 8 > end:
            raise Aedat4Error("its last packet is cut")
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length
        if position > end:
            raise Aedat4Error("a packet is longer than the rest of the file; it was cut or damaged")
        if length > _PACKET_LIMIT:
            raise Aedat4Error(f"a packet has {length:,} bytes, more than the limit")
        try:
            size = measure(data[position - length : position])
        except (struct.error, IndexError) as error:
            raise Aedat4Error("a compressed packet is damaged") from error
        if size > _PACKET_LIMIT:
            raise Aedat4Error(f"a packet unpacks to up to {size:,} bytes, more than the limit")


def _lz4_size(packed: bytes) -> int:
    """The most bytes that one LZ4 frame unpacks to.

    Raises:
        Aedat4Error: It is no frame, or does not end where its blocks end.
        struct.error: It is cut.
        IndexError: It is cut.
    """
    if struct.unpack_from("<I", packed)[0] != _LZ4_MAGIC:
        raise Aedat4Error("a compressed packet is no LZ4 frame")
    flags, largest = packed[4], _LZ4_BLOCKS.get(packed[5] >> 4 & 7)
    if largest is None:
        raise Aedat4Error("a compressed packet is damaged")
    position = 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)  # size of content, number of dictionary
    total = 0
    while block := struct.unpack_from("<I", packed, position)[0]:
        size = block & 0x7FFFFFFF
        total += size if block >> 31 else min(largest, 255 * size)
        position += 4 + size + 4 * (flags >> 4 & 1)
    _require_end(packed, position + 4 + 4 * (flags >> 2 & 1))
    return total


def _zstd_size(packed: bytes) -> int:
    """The most bytes that one Zstandard frame unpacks to.

    Raises:
        Aedat4Error: It is no frame, or does not end where its blocks end.
        struct.error: It is cut.
        IndexError: It is cut.
    """
    if struct.unpack_from("<I", packed)[0] != _ZSTD_MAGIC:
        raise Aedat4Error("a compressed packet is no Zstandard frame")
    flags = packed[4]
    single = flags >> 5 & 1
    position = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]  # window, number of dictionary
    position += (single, 2, 4, 8)[flags >> 6]  # size of content
    total, last = 0, False
    while not last:
        low, high = struct.unpack_from("<HB", packed, position)
        block = low | high << 16
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        total += _ZSTD_BLOCK if kind == 2 else size
        position += 3 + (1 if kind == 1 else size)  # a repeated byte is stored once
    _require_end(packed, position + 4 * (flags >> 2 & 1))
    return total


def _require_end(packed: bytes, position: int) -> None:
    """Check that a compressed frame ends at a position.

    Raises:
        Aedat4Error: It is cut, or something follows it.
    """
    if position != len(packed):
        raise Aedat4Error("a compressed packet does not end where its blocks end")
