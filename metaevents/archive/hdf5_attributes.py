"""Reading the attributes of an archive without the HDF5 library.

A single flipped bit in an attribute's type, or in the size of a text, can make the HDF5 library end
the process or search for ever; and attributes may name one text any number of times. So the
attributes of the root group are read here, each part checked against the file's length.

Only structures as `metaevents build` makes them are accepted: a superblock of version 0, an object
header of version 1, and attributes that are texts or whole numbers, single or in a list. They are
described in sections II.A, III.E, IV.A.1 and IV.A.2 of the HDF5 File Format Specification, version
3.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from metaevents.archive.format import USER_BLOCK

_SUPERBLOCK = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08"
"""Signature, versions 0 of its parts, and addresses and lengths of 8 bytes."""

_ROOT_HEADER = 64  # where the superblock keeps the address of the root group's object header

_ATTRIBUTE = 0x0C  # types of messages in an object header
_CONTINUATION = 0x10

_NUMBER = 0  # classes of datatypes
_VARIABLE_LENGTH = 9

_TEXT = 1  # type of a datatype of variable length

_SIGNED = 8  # bits of a number's datatype: signed, little-endian

_HEAP_ID = struct.Struct("<IQI")  # length of a text, address of its heap, number of the object

_MAX_BLOCKS = 64  # of one object header

AttributeValue: TypeAlias = str | int | list[str] | list[int] | None
"""Value of an attribute; None for a type that no archive has."""


def read_attributes(path: Path) -> dict[str, AttributeValue]:
    """Return the attributes of the root group.

    Args:
        path: An HDF5 file with a user block.

    Returns:
        Name -> text, whole number, or list of them; None for a value of another type.

    Raises:
        OSError: The file cannot be read.
        ValueError: A structure is damaged, or is none that `metaevents build` makes.
        struct.error: A structure is cut off.
    """
    with path.open("rb") as file:
        reader = _Reader(file)
        return dict(map(reader.read_attribute, reader.messages()))


class _Reader:
    """Reads the structures of the HDF5 part of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, 2) - USER_BLOCK
        self._text_left = self._length  # no archive holds more text than bytes
        self._heaps: dict[int, dict[int, bytes]] = {}

    def _read(self, address: int, size: int) -> bytes:
        if address + size > self._length:
            raise ValueError(f"address {address:,} is beyond the end")
        self._file.seek(USER_BLOCK + address)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("the file ends too early")
        return data

    def messages(self) -> Iterator[bytes]:
        """Yield every attribute message of the root group."""
        superblock = self._read(0, 96)
        if not superblock.startswith(_SUPERBLOCK):
            raise ValueError("the superblock is not of version 0")
        (header,) = struct.unpack_from("<Q", superblock, _ROOT_HEADER)
        version, _, _, _, size = struct.unpack("<BBHII", self._read(header, 12))
        if version != 1:
            raise ValueError("the object header of the root group is not of version 1")
        blocks = [(header + 16, size)]  # the head of 12 bytes is padded to 16
        for count in range(_MAX_BLOCKS):
            if count == len(blocks):
                return
            block = self._read(*blocks[count])
            place = 0
            while place + 8 <= len(block):
                kind, size = struct.unpack_from("<HH", block, place)
                message = block[place + 8 : place + 8 + size]
                if len(message) != size:
                    raise ValueError("the object header of the root group is cut off")
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", message))
                elif kind == _ATTRIBUTE:
                    yield message
                place += 8 + size
        raise ValueError("the object header of the root group has too many parts")

    def read_attribute(self, message: bytes) -> tuple[str, AttributeValue]:
        """Return name and value of an attribute."""
        version, flags, *sizes = struct.unpack_from("<BBHHH", message)
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise ValueError("an attribute is stored in another way")
        parts, place = [], 8 + (version == 3)
        for size in sizes:
            parts.append(message[place : place + size])
            place += (size + 7) // 8 * 8 if version == 1 else size
        name, datatype, dataspace = parts
        return name.rstrip(b"\0").decode(), self._read_value(datatype, dataspace, message[place:])

    def _read_value(self, datatype: bytes, dataspace: bytes, data: bytes) -> AttributeValue:
        kind, bits, size = datatype[0] & 15, datatype[1], struct.unpack_from("<I", datatype, 4)[0]
        version, rank = dataspace[0], dataspace[1]
        if rank > 1 or (version == 2 and dataspace[3] == 2):  # more dimensions, or no value
            return None
        count = 1
        if rank:
            (count,) = struct.unpack_from("<Q", dataspace, 8 if version == 1 else 4)
        if count * size > len(data):
            raise ValueError("an attribute is cut off")
        values: list[str] | list[int]
        if kind == _NUMBER and bits == _SIGNED and size in (4, 8):
            offset, precision = struct.unpack_from("<HH", datatype, 8)
            if (offset, precision) != (0, 8 * size):
                return None
            values = list(struct.unpack_from(f"<{count}{'i' if size == 4 else 'q'}", data))
        elif kind == _VARIABLE_LENGTH and bits & 15 == _TEXT and size == _HEAP_ID.size:
            values = [self._read_text(*_HEAP_ID.unpack_from(data, 16 * i)) for i in range(count)]
        else:
            return None
        return values if rank else values[0]

    def _read_text(self, size: int, address: int, index: int) -> str:
        """Return a text from a heap."""
        if not size:
            return ""
        self._text_left -= size
        if self._text_left < 0:
            raise ValueError("its attributes hold more text than the file has bytes")
        if address not in self._heaps:
            self._heaps[address] = dict(self._heap_objects(address))
        data = self._heaps[address].get(index, b"")
        if len(data) < size:
            raise ValueError("a text is not in its heap")
        return data[:size].rstrip(b"\0").decode()

    def _heap_objects(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of every object of a global heap collection."""
        signature, version, _, size = struct.unpack("<4sB3sQ", self._read(address, 16))
        if signature != b"GCOL" or version != 1:
            raise ValueError("a heap is damaged")
        heap = self._read(address, size)
        place = 16
        while place + 16 <= size:
            index, _, _, length = struct.unpack_from("<HHIQ", heap, place)
            if index == 0:  # free space, up to the end
                return
            if place + 16 + length > size:
                raise ValueError("a heap is damaged")
            yield index, heap[place + 16 : place + 16 + length]
            place += 16 + (length + 7) // 8 * 8
