"""What the download tests share: checksums, zips in memory, contents of folders."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from metaevents.download import RetryPolicy

QUICK = RetryPolicy(retries=3, timeout=(10.0, 10.0), backoff=0.0)


def checksum(data: bytes, algorithm: str = "md5") -> str:
    """The checksum of `data` as `RemoteFile` takes it."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def visible(folder: Path) -> list[str]:
    """Names in a folder without lock files."""
    return (
        sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")
        if folder.exists()
        else []
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Path in the folder -> content, for all files below it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of members given as path -> content."""
    return zip_with(
        *((zipfile.ZipInfo(name), data) for name, data in members.items()), compression=compression
    )


def zip_with(
    *members: tuple[zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A zip of members with their headers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, data in members:
            archive.writestr(info, data, compress_type=compression)
    return buffer.getvalue()
