"""RAR archives without compression, and a program that unpacks them in place of unrar."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

_FAKE = """#!{python}
import pathlib, struct, sys
archive, folder = sys.argv[-2:]
data, position = pathlib.Path(archive).read_bytes(), 20
{extra}
while position < len(data) and data[position + 2] == 0x74:
    size, packed, name_size = struct.unpack_from("<5xHI15xH", data, position)[:3]
    name = data[position + 32 : position + 32 + name_size].decode().replace("\\\\", "/")
    path = pathlib.Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[position + size : position + size + packed])
    position += size + packed
"""


def rar_of(members: Mapping[str, bytes]) -> bytes:
    """A RAR 4 archive of members given as path -> content, stored as they are."""

    def block(kind: int, flags: int, fields: bytes) -> bytes:
        body = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body

    parts = [b"Rar!\x1a\x07\x00", block(0x73, 0, bytes(6))]
    for name, data in members.items():
        encoded = name.replace("/", "\\").encode()
        fields = struct.pack(
            "<IIBIIBBHI", len(data), len(data), 2, zlib.crc32(data), 0x50000000, 20, 0x30,
            len(encoded), 0x20,
        )  # fmt: skip
        parts += [block(0x74, 0x8000, fields + encoded), data]
    return b"".join([*parts, block(0x7B, 0x4000, b"")])


def install_fake_unrar(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str = "unrar", extra: str = ""
) -> None:
    """Put a program that unpacks archives of `rar_of` on the path, and nothing else.

    Args:
        folder: Where it is written.
        monkeypatch: Of the test.
        name: Name of the program.
        extra: Python code that it runs first.
    """
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(_FAKE.format(python=sys.executable, extra=extra))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
