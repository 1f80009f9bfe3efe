"""JSON in its two spellings, and digests."""

from __future__ import annotations

import json

from metaevents.hashing import canonical_json, digest_json, readable_json


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": (2, 3)}) == digest_json({"b": [2, 3], "a": 1})


def test_canonical_json_is_sorted_ascii_without_spaces() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'


def test_readable_json_keeps_a_list_of_plain_values_on_one_line() -> None:
    value = {"name": "x", "long": [1, 2, 3], "empty": {}, "nested": [{"a": [1]}, {"a": [2]}]}
    text = readable_json(value)
    assert json.loads(text) == value
    assert ' "long": [1, 2, 3],' in text.splitlines()
