"""Values of Python, NumPy and torch as values that JSON can write.

For what a learner reports of itself and for the method fields of an entry.
"""

from __future__ import annotations

import datetime
import enum
import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from metaevents.errors import UsageError

_MAX_DEPTH = 32
_MAX_BITS = 300  # of a whole number, fewer than 100 digits
MAX_BYTES = 1_000_000
"""Largest size of a value's JSON, in bytes."""


def to_json(name: str, value: Any) -> Any:
    """Return a value with numbers, arrays, sets and the like as plain values of JSON.

    Numbers of NumPy become numbers, arrays and tensors become lists, sets become sorted lists, and
    paths, dates, dtypes and devices become text.

    Args:
        name: Name of the value, for messages.
        value: The value.

    Returns:
        Dictionaries with text as keys, lists, text, finite numbers, truth values and None.

    Raises:
        UsageError: JSON cannot write the value, or its JSON is too large. The message names the
            part.
    """
    try:
        converted = _convert(name, value, 0)
        size = len(json.dumps(converted))
    except UsageError:
        raise
    except Exception as error:  # of a class of the user's
        raise UsageError(
            f"{name} cannot be written as JSON ({type(error).__name__}: {error}); give numbers, "
            "text, lists or dictionaries"
        ) from error
    if size > MAX_BYTES:
        raise UsageError(
            f"{name} has {size:,} bytes as JSON, at most {MAX_BYTES:,} are allowed; shorten it"
        )
    return converted


def _convert(name: str, value: Any, depth: int) -> Any:
    """Return a value as JSON can write it; `depth` is the number of levels above it."""
    if depth > _MAX_DEPTH:
        raise UsageError(f"{name[:200]} has more than {_MAX_DEPTH} levels; give a flatter value")
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    if isinstance(value, (str, PurePath)):
        return _text(name, str(value))
    if isinstance(value, (int, np.integer)):
        return _whole(name, int(value))
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise UsageError(f"{name} is {value}, which JSON cannot write; give a finite number")
        return float(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, np.dtype) or type(value).__module__ == "torch":
        if not hasattr(value, "detach"):  # a dtype, a device, a size
            return [*value] if isinstance(value, tuple) else str(value)
        value = value.detach().cpu()
    if hasattr(value, "tolist") and hasattr(value, "shape"):
        if math.prod(value.shape) > MAX_BYTES:
            raise UsageError(
                f"{name} has {math.prod(value.shape):,} elements, at most {MAX_BYTES:,} are "
                "allowed; leave it out"
            )
        return _convert(name, value.tolist(), depth)
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return _mapping(name, value, depth)
    if isinstance(value, AbstractSet):
        return _sorted([_convert(f"an element of {name}", item, depth + 1) for item in value])
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_convert(f"{name}[{place}]", item, depth + 1) for place, item in enumerate(value)]
    raise UsageError(
        f"{name} is {type(value).__name__}, which JSON cannot write; give numbers, text, lists or "
        "dictionaries"
    )


def _text(name: str, text: str) -> str:
    """Return text that a file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{name} is {text[:80]!r}, which is no valid text; give text without surrogates"
        ) from None
    return text


def _whole(name: str, number: int) -> int:
    """Return a whole number that every reader of JSON takes."""
    if number.bit_length() > _MAX_BITS:
        raise UsageError(f"{name} is a number of {number.bit_length():,} bits; give it as text")
    return number


def _mapping(name: str, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    """Return a mapping with text as keys, as `json.dumps` writes them."""
    converted: dict[str, Any] = {}
    for key, item in value.items():
        plain = _convert(f"a key of {name}", key, depth + 1)
        if isinstance(plain, (list, dict)):
            raise UsageError(f"{name} has the key {str(key)[:80]}; give text as keys")
        text = plain if isinstance(plain, str) else json.dumps(plain)
        if text in converted:
            raise UsageError(f"{name} has two keys {text[:80]!r}; give each key once")
        converted[text] = _convert(f"{name}.{text[:60]}", item, depth + 1)
    return converted


def _sorted(items: list[Any]) -> list[Any]:
    """Return the elements of a set in an order that does not depend on the process."""
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
