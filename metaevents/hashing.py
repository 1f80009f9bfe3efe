"""What is fixed about a dataset: geometry, class splits, partitions, pairings, addresses, license. Data in package files.

One JSON file a dataset and protocol version in `metaevents/data/` is the single source that the loader, the command line and
the cards share. A protocol version changes when, from the same recordings, an episode could come out otherwise: splits,
partition, composition, published-pairing arithmetic or the episode stream. The file of an older version stays in the package and
its archives stay loadable. Drawing episodes is left to `metaevents.episodes`.
"""

from __future__ import annotations

import hashlib
import json


def canonical_json(value: object) -> bytes:
    """A value's JSON with sorted keys, without spaces, in ASCII: one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def digest_json(value: object) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def readable_json(value: object, indent: int = 0) -> str:
    """A value's JSON for people and diffs: objects and nested lists over several lines, a list of plain values on one."""
    if not isinstance(value, (dict, list, tuple)) or not value:
        return json.dumps(value)
    if not isinstance(value, dict) and not any(
        isinstance(item, (dict, list, tuple)) for item in value
    ):
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
