"""Reading files that come from strangers: bounded bytes, strict JSON, plain arrays of .npz files.

Nothing in such a file is executed, and no pickle is loaded. What a file states about its size is
compared with what it holds before memory is reserved. So time and memory are bounded by the size of
the file and by the limits that the caller gives.

`read_bytes` raises the package's errors. The parsers raise whatever the damage leads to: their
callers turn any exception into one error that names the file. What the contents mean is left to
`metaevents.benchmark.entries` and `metaevents.benchmark.predictions`.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from metaevents.errors import MissingError, UsageError

_MAX_DEPTH = 64  # levels of nested JSON
_MAX_DIGITS = 100  # of a whole number in JSON; converting more takes quadratic time

_MAX_DIRECTORY = 1 << 16  # bytes of a zip file's table of contents, about 1,000 members
_MAX_ARRAY_HEADER = 4096  # bytes; numpy writes 118
_MAX_DIMENSIONS = 8

_END_RECORD = b"PK\5\6"
_END_RECORD_SIZE = 22
_ZIP64_LOCATOR = b"PK\6\7"
_ZIP64_LOCATOR_SIZE = 20
_MAX_COMMENT = 0xFFFF
_ENCRYPTED = 1  # flag bit of a member


def read_bytes(path: Path, most: int, kind: str, advice: str) -> bytes:
    """Return the content of a file that has a largest size.

    Args:
        path: The file.
        most: Largest number of bytes.
        kind: What the file should be, for messages: "entry".
        advice: What to do if there is no such file, for messages.

    Returns:
        The content.

    Raises:
        MissingError: There is no such file.
        UsageError: It is a folder, a pipe or a device, is too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UsageError(f"{path} is {what}, expected the {kind}; {advice}")
        size = status.st_size
        if size <= most:
            with path.open("rb") as file:
                content = file.read(most + 1)
            size = max(size, len(content))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"no {kind} {path}; {advice}") from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    if size > most:
        raise UsageError(
            f"{path} has {size:,} bytes, the {kind} may have at most {most:,}; {advice}"
        )
    return content


def describe(error: BaseException) -> str:
    """Return an exception as a short part of a sentence.

    Args:
        error: What a parser raised.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


# --- JSON ----------------------------------------------------------------------------------------


def parse_json(text: str) -> Any:
    """Return the value of a JSON document.

    Stricter than `json.loads`: duplicate fields, NaN, infinities, unpaired surrogates, whole
    numbers of more than 100 digits and more than 64 levels are errors.

    Args:
        text: The document.

    Raises:
        ValueError: The text is no strict JSON.
    """
    try:
        document = json.loads(
            text,
            object_pairs_hook=_unique_fields,
            parse_int=_parse_whole,
            parse_float=_parse_finite,
            parse_constant=_parse_finite,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(document)
    # An escape such as \ud800 is half a character, which no text file can hold.
    json.dumps(document, ensure_ascii=False).encode("utf-8")
    return document


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's pairs as a dict; a field that occurs twice is a ValueError."""
    document = dict(pairs)
    if len(document) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        duplicate = min(key for key, count in counts.items() if count > 1)
        raise ValueError(f"duplicate field {duplicate[:60]!r}")
    return document


def _parse_whole(text: str) -> int:
    """Return a whole number of JSON; one of too many digits is a ValueError."""
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits, at most {_MAX_DIGITS} are expected")
    return int(text)


def _parse_finite(text: str) -> float:
    """Return a number of JSON; NaN and infinities are ValueErrors."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:60]} is not a finite number")
    return value


def _check_depth(document: Any) -> None:
    """Raise ValueError if a JSON value has too many levels."""
    level = [document]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


# --- arrays --------------------------------------------------------------------------------------


def read_arrays(content: bytes, names: Iterable[str], most: int) -> dict[str, np.ndarray]:
    """Return some arrays of a .npz file.

    Args:
        content: The content of the file.
        names: Names of the arrays. Other members are not unpacked.
        most: Largest number of bytes that all members together state to unpack to.

    Returns:
        The arrays that the file has, by name, of truth values, numbers or text. They are read-only.

    Raises:
        ValueError: The file is no .npz file of plain arrays, or is too large.
        Exception: Whatever else the damage of a file leads to.
    """
    _check_directory(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if (size := sum(member.file_size for member in members)) > most:
            raise ValueError(f"it unpacks to {size:,} bytes, at most {most:,} are expected")
        counts = Counter(member.filename for member in members)
        arrays = {}
        for name in names:
            file_name = f"{name}.npy"
            if counts[file_name] > 1:
                raise ValueError(f"it has {counts[file_name]} arrays {name!r}, expected one")
            if counts[file_name]:
                arrays[name] = _read_member(archive, archive.getinfo(file_name), name)
    return arrays


def _check_directory(content: bytes) -> None:
    """Raise ValueError if a zip file has no table of contents, or one of too many members.

    The standard library would make an object of several hundred bytes for each member.
    """
    end = len(content) - _END_RECORD_SIZE
    if content[max(0, end) : max(0, end) + 4] != _END_RECORD:
        end = content.rfind(_END_RECORD, max(0, end - _MAX_COMMENT))
    if end < 0 or len(content) < end + _END_RECORD_SIZE:
        raise ValueError("it is no zip file, or its end is missing")
    if content[max(0, end - _ZIP64_LOCATOR_SIZE) :].startswith(_ZIP64_LOCATOR):
        raise ValueError("it is a zip file of more than 4 GB")
    directory = int.from_bytes(content[end + 12 : end + 16], "little")
    if directory > _MAX_DIRECTORY:
        raise ValueError(f"its table of contents has {directory:,} bytes, expected a few arrays")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    """Return the array of a zip file's member."""
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"array {name!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"array {name!r} has compression method {member.compress_type}, expected deflate"
        )
    with archive.open(member) as stream:
        dtype, shape, order, n_read = _read_array_header(stream, name)
        size, stated = math.prod(shape) * dtype.itemsize, member.file_size - n_read
        if size != stated:
            raise ValueError(
                f"array {name!r} of shape {shape} and type {dtype.str} needs {size:,} bytes, the "
                f"file has {stated:,}"
            )
        data = stream.read()  # to the end, where the checksum is verified
    if len(data) != size:
        raise ValueError(f"array {name!r} has {len(data):,} of {size:,} bytes")
    array: np.ndarray = np.ndarray(shape, dtype, buffer=data, order=order)
    return array


def _read_array_header(
    stream: IO[bytes], name: str
) -> tuple[np.dtype[Any], tuple[int, ...], Any, int]:
    """Return type, shape and order of a .npy array, and the number of bytes of its header."""
    start = stream.read(8)
    if len(start) != 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise ValueError(f"{name!r} is no array of numpy")
    n_length = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(n_length), "little")
    if length > _MAX_ARRAY_HEADER:
        raise ValueError(f"array {name!r} has a header of {length:,} bytes")
    header = ast.literal_eval(stream.read(length).decode("latin-1").strip())
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"array {name!r} has no header of numpy")
    descr, shape, fortran = header["descr"], header["shape"], header["fortran_order"]
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=]?[biufU][0-9]{1,6}", descr):
        raise ValueError(f"array {name!r} has type {str(descr)[:60]!r}, expected numbers or text")
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MAX_DIMENSIONS
        or not all(type(length) is int and 0 <= length < 1 << 63 for length in shape)
    ):
        raise ValueError(f"array {name!r} has shape {str(shape)[:60]}")
    return np.dtype(descr), shape, "F" if fortran else "C", 8 + n_length + length
