"""A reader of numeric variables in MATLAB 5 files, safe on damaged and hostile files.

The format is level 5 of "MAT-File Format" (MathWorks, R2024a): a header of 128 bytes, then one
element per variable, compressed with zlib or not. `read_variables` reads numeric vectors and passes
over all other variables. SciPy's reader is not used, because some damaged files end its process.

No size in a file is believed: an element ends inside the element or file that holds it, and a
compressed variable is unpacked up to a limit. Time and memory are in proportion to the file's size
and that limit.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_HEADER = 128
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MATRIX, _COMPRESSED = 14, 15  # types of elements at the top level
_INT8, _INT32, _UINT32, _UTF8 = 1, 5, 6, 16  # types of parts of a variable, beside its numbers

# Type of an element -> NumPy's type of its numbers, without the byte order.
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip

_NUMERIC_CLASSES = range(6, 16)  # double, single, and eight kinds of whole numbers
_OPAQUE = 17  # class of a variable without dimensions and name: MATLAB's own objects
_COMPLEX = 1 << 11  # flag of a variable

_FILE_LIMIT = 1 << 30  # bytes of a file
_LIMIT = 1 << 24  # bytes that one variable may unpack to: 2 million numbers of 8 bytes
_NAME_PART = 4096  # bytes of a variable that are unpacked to find its name


class MatError(Exception):
    """The file is none that `read_variables` reads. The message is the reason, and what to do."""


class _Matrix(NamedTuple):
    """The beginning of a variable: its name, class and flags, dimensions, and where its data start.

    Attributes:
        name: Its name; "" if it has none.
        kind: Number of its MATLAB class.
        complex: Whether it has an imaginary part.
        shape: Its dimensions.
        start: Offset of its numbers in the variable's element.
    """

    name: str
    kind: int
    complex: bool
    shape: tuple[int, ...]
    start: int


def read_variables(path: Path, names: Collection[str]) -> dict[str, npt.NDArray[np.generic]]:
    """Read numeric vectors from a MATLAB 5 file.

    Args:
        path: The file.
        names: Names of the variables to read.

    Returns:
        Name -> values, [N], in the type in which the file stores them. Variables that the file
        lacks are left out.

    Raises:
        MatError: The file is no MATLAB 5 file or is damaged; or a named variable is no numeric
            vector, occurs twice, or unpacks to more than 16 MiB.
        OSError: The file cannot be read.
    """
    if (file_size := path.stat().st_size) > _FILE_LIMIT:
        raise MatError(f"it has {file_size:,} bytes, more than the limit of {_FILE_LIMIT:,}")
    content = memoryview(path.read_bytes())
    order = _byte_order(content)
    found: dict[str, npt.NDArray[np.generic]] = {}
    at = _HEADER
    while at < len(content) and len(found) < len(names):
        # An element at the top level never has the short form, and a compressed one no padding.
        kind, size = _words(content, at, order)
        at += 8
        if size > len(content) - at:
            raise MatError(f"an element of {size:,} bytes ends after the end of the file")
        element = content[at : at + size]
        at += size
        if kind == _COMPRESSED:
            variable = _read_compressed(element, order, names)
        elif kind == _MATRIX:
            variable = _read_matrix(element, order, names)
        else:
            raise MatError(f"an element has the unknown type {kind}")
        if variable is not None:
            name, values = variable
            if name in found:
                raise MatError(f"the variable {name} occurs twice")
            found[name] = values
    return found


def _byte_order(content: memoryview) -> str:
    """NumPy's sign of the byte order, "<" or ">", from the header of a file.

    Raises:
        MatError: It is no header of a MATLAB 5 file.
    """
    header = bytes(content[:_HEADER])
    if content[512:520] == _HDF5_SIGNATURE or header.startswith((_HDF5_SIGNATURE, b"MATLAB 7.3")):
        raise MatError(
            "it is a MATLAB 7.3 file, which is HDF5; load it in MATLAB and save it again with "
            "save(..., '-v7')"
        )
    # A file of MATLAB 5 begins with text, one of MATLAB 4 with the number of a type, 0 to 4999.
    if 0 in header[:4]:
        raise MatError(
            "its header is not that of a MATLAB 5 file but perhaps of MATLAB 4; load it in MATLAB "
            "and save it again with save(..., '-v7')"
        )
    if len(header) < _HEADER:
        raise MatError("it is shorter than the header of a MATLAB 5 file")
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None:
        raise MatError("its header is not that of a MATLAB 5 file")
    version = int.from_bytes(header[124:126], "little" if order == "<" else "big")
    if version >> 8 != 1:
        raise MatError(f"its version is {version:#06x}, expected 0x0100 for MATLAB 5")
    return order


def _words(content: memoryview, at: int, order: str) -> tuple[int, int]:
    """The two 32-bit numbers at an offset."""
    if at + 8 > len(content):
        raise MatError("it ends within the header of an element")
    byte_order = "little" if order == "<" else "big"
    return (
        int.from_bytes(content[at : at + 4], byte_order),  # type: ignore[arg-type]
        int.from_bytes(content[at + 4 : at + 8], byte_order),  # type: ignore[arg-type]
    )


def _part(content: memoryview, at: int, order: str) -> tuple[int, int, int, int]:
    """Where a part of a variable is, in the long form or the short one of at most 4 bytes.

    Args:
        content: The variable's element, or its beginning.
        at: Offset of the part's header.
        order: The byte order.

    Returns:
        (type, offset of its data, bytes of its data, offset of the next part).
    """
    first, size = _words(content, at, order)
    if first >> 16:
        kind, size = first & 0xFFFF, first >> 16
        if size > 4:
            raise MatError(f"a part in the short form has {size} bytes, at most 4 fit")
        return kind, at + 4, size, at + 8
    return first, at + 8, size, at + 8 + size + -size % 8


def _matrix_header(content: memoryview, order: str) -> _Matrix:
    """Read the beginning of a variable.

    Args:
        content: The variable's element, or at least its beginning.
        order: The byte order.
    """
    kind, start, size, at = _part(content, 0, order)
    if kind != _UINT32 or size != 8:
        raise MatError("a variable does not start with its flags")
    flags, _ = _words(content, start, order)
    matlab_class = flags & 0xFF
    if matlab_class == _OPAQUE:
        return _Matrix("", matlab_class, False, (), 0)
    kind, start, size, at = _part(content, at, order)
    # MATLAB allows more dimensions, but a vector has two.
    if kind != _INT32 or size % 4 or start + size > len(content):
        raise MatError("the dimensions of a variable are damaged")
    shape = np.frombuffer(content[start : start + size], f"{order}i4")
    if len(shape) < 2 or (shape < 0).any():
        raise MatError("the dimensions of a variable are damaged")
    kind, start, size, at = _part(content, at, order)
    if kind not in (_INT8, _UTF8) or start + size > len(content):
        raise MatError("the name of a variable is damaged")
    name = bytes(content[start : start + size]).decode("latin-1")
    return _Matrix(name, matlab_class, bool(flags & _COMPLEX), tuple(map(int, shape)), at)


def _read_matrix(
    content: memoryview, order: str, names: Collection[str]
) -> tuple[str, npt.NDArray[np.generic]] | None:
    """The name and the values of a variable; None if it is not among `names`."""
    matrix = _matrix_header(content, order)
    if matrix.name not in names:
        return None
    if matrix.kind not in _NUMERIC_CLASSES or matrix.complex:
        raise MatError(f"the values of {matrix.name} are no numbers")
    count = math.prod(matrix.shape)
    if count and max(matrix.shape) != count:
        raise MatError(f"{matrix.name} has the dimensions {matrix.shape}, expected (N, 1)")
    kind, start, size, _ = _part(content, matrix.start, order)
    if kind not in _NUMBERS:
        raise MatError(f"the values of {matrix.name} have the unknown type {kind}")
    dtype = np.dtype(f"{order}{_NUMBERS[kind]}")
    if size != count * dtype.itemsize or start + size > len(content):
        raise MatError(
            f"{matrix.name} has {size:,} bytes, expected {count:,} values of {dtype.itemsize} bytes"
        )
    values = np.frombuffer(content[start : start + size], dtype)
    return matrix.name, values.astype(dtype.newbyteorder("="), copy=False)


def _read_compressed(
    packed: memoryview, order: str, names: Collection[str]
) -> tuple[str, npt.NDArray[np.generic]] | None:
    """The name and the values of a compressed variable; None if it is not among `names`.

    Of a variable that is not wanted, only the beginning is unpacked.
    """
    unpacker = zlib.decompressobj()
    try:
        beginning = unpacker.decompress(packed, _NAME_PART)
        kind, size = _words(memoryview(beginning), 0, order)
        if kind != _MATRIX:
            raise MatError(f"a compressed element has the unknown type {kind}")
        name = _matrix_header(memoryview(beginning)[8:], order).name
        if name not in names:
            return None
        if size > _LIMIT:
            raise MatError(f"{name} unpacks to {size:,} bytes, more than the limit of {_LIMIT:,}")
        missing = 8 + size - len(beginning)
        # One byte more than announced, so that a longer variable is noticed.
        rest = unpacker.decompress(unpacker.unconsumed_tail, max(missing, 0) + 1)
    except zlib.error as error:
        raise MatError(f"a compressed variable is damaged ({error})") from error
    if len(rest) != missing or not unpacker.eof:
        raise MatError(f"the compressed variable {name} has another length than it announces")
    return _read_matrix(memoryview(beginning + rest)[8:], order, names)
