"""JSON in two fixed spellings, and digests of values.

`canonical_json` is the spelling that is hashed: fingerprints, episode digests and keys of random
streams stand on it, so it never changes. `readable_json` is the spelling of files that people read
and compare.
"""

from __future__ import annotations

import hashlib
import json


def canonical_json(value: object) -> bytes:
    """Return a value's JSON with sorted keys, without spaces, in ASCII.

    Equal values have equal bytes; a tuple equals a list.

    Args:
        value: Anything that JSON can represent.

    Raises:
        TypeError: JSON cannot represent the value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def digest_json(value: object) -> str:
    """Return the hex SHA-256 of a value's canonical JSON.

    Args:
        value: Anything that JSON can represent.

    Raises:
        TypeError: JSON cannot represent the value.
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def readable_json(value: object, indent: int = 0) -> str:
    """Return a value's JSON, indented, with every list of plain values on one line.

    Objects, and lists that contain objects or lists, have one line per item.

    Args:
        value: Anything that JSON can represent.
        indent: Number of spaces before the line on which the value starts.

    Raises:
        TypeError: JSON cannot represent the value.
    """
    nested = (dict, list, tuple)
    if not isinstance(value, nested) or not value:
        return json.dumps(value)
    if not isinstance(value, dict) and not any(isinstance(item, nested) for item in value):
        return json.dumps(value)
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        lines = [
            f"{pad}{json.dumps(str(key))}: {readable_json(item, indent + 1)}"
            for key, item in value.items()
        ]
        first, last = "{}"
    else:
        lines = [f"{pad}{readable_json(item, indent + 1)}" for item in value]
        first, last = "[]"
    return "\n".join([first, ",\n".join(lines), " " * indent + last])
