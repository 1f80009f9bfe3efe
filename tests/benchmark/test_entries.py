"""Entries: the published schema, and strict reading of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.made_entries import refusal, write_entry

from metaevents.benchmark.entries import schema
from metaevents.benchmark.validation import read_entry
from metaevents.errors import MissingError


def test_the_published_schema_is_a_draft_2020_12_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_property_of_the_schema_says_what_is_expected() -> None:
    def undescribed(node: Any, path: str = "") -> list[str]:
        found = []
        for name, child in node.get("properties", {}).items():
            target = (
                schema()["$defs"][child["$ref"].rsplit("/", 1)[1]] if "$ref" in child else child
            )
            found += [] if "description" in {**target, **child} else [f"{path}.{name}"]
            found += undescribed(target, f"{path}.{name}")
        return found

    assert undescribed(schema()) == []


def test_a_complete_entry_is_read(tmp_path: Path) -> None:
    entry = read_entry(write_entry(tmp_path, "snn-maml", 0.9))
    assert (entry.id, entry.name, entry.setting) == ("snn-maml", "snn-maml", "inductive")
    assert not entry.simulated
    assert not entry.is_subset
    assert entry.verified is None
    assert entry.accuracy == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not an entry"),
        ("{'a': 1}", "is not an entry"),
        ("[" * 100_000, "is not an entry"),
        ("[]", "the entry is [], expected"),
        ("3", "the entry is 3, expected"),
        ('{"format": "a", "format": "b"}', "duplicate field 'format'"),
        ('{"format": NaN}', "NaN is not a finite number"),
        ('{"format": 1e999}', "1e999 is not a finite number"),
    ],
)
def test_a_file_that_is_not_an_entry_in_json_is_refused_in_a_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "entry.json"
    path.write_text(text)
    refusal(path, words)


def test_an_entry_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "entry.json"
    path.write_bytes(b" " * 9_000_000)
    refusal(path, "9,000,000 bytes")


def test_the_error_for_a_missing_entry_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="metaevents evaluate"):
        read_entry(tmp_path / "entry.json")
