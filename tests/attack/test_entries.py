"""Entries from strangers: damaged and forged documents.

Each is a valid entry that can be shown, or is refused with one error that names the file.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_entries import VERIFIED, find_protocol, write_entry

from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import tables
from metaevents.benchmark.render_html import render_html
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.validation import read_entry, validate
from metaevents.errors import UsageError

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 0.5, 5.0, -0.0, 1e308, 10**15, 10**80, "", " ", "x" * 9000,
    "\x1b[2J", "\u202eevil", "\ud800", "a\nb", "0" * 64, "f" * 64, "simulated", "test", [], {},
    [[]], [1, "a", None], {"": {}}, {"a\x1b": "\u202e"}, {"seeds": 2}, ["Ada Example"] * 3,
]  # fmt: skip


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An entry with every optional field, and its path."""
    path = write_entry(
        tmp_path_factory.mktemp("entries"),
        protocol=find_protocol("sample-5way-1shot"),
        seen={"labels": ["0", "1"], "config": {"lr": 0.1}},
        transductive_evidence="one by one, nothing changed",
        overlap="nothing",
    )
    entry = json.loads(path.read_text("utf-8"))
    accuracy = entry["report"]["accuracy"]
    entry["report"]["trials"] = {
        "seeds": 2, "mean": accuracy, "deviation": 0.0, "accuracies": [accuracy, accuracy],
    }  # fmt: skip
    entry["verified"] = VERIFIED
    path.write_text(json.dumps(entry), "utf-8")
    validate(path)
    return path, entry


def check(path: Path, content: bytes) -> bool:
    """Return whether an entry is accepted; it can then be shown."""
    path.write_bytes(content)
    try:
        entry = read_entry(path)
    except UsageError as error:
        message = str(error)
        if not message.startswith(str(path)) or "\n" in message or len(message) > 20_000:
            pytest.fail(message)
        return False
    show(entry)
    return True


def show(entry: Entry) -> None:
    shown = tables([entry])
    for text in (render_markdown(shown), render_html(shown)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        text.encode()


def nodes(value: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every node, but of a list only to the first three elements."""
    yield steps
    if isinstance(value, dict):
        for key, child in value.items():
            yield from nodes(child, (*steps, key))
    if isinstance(value, list):
        for place, child in enumerate(value[:3]):
            yield from nodes(child, (*steps, place))


def changed(document: dict[str, Any], steps: tuple[Any, ...], value: Any) -> bytes:
    """Return the document with one node replaced."""
    if not steps:
        return json.dumps(value).encode()
    entry = copy.deepcopy(document)
    node = entry
    for step in steps[:-1]:
        node = node[step]
    node[steps[-1]] = value
    return json.dumps(entry).encode()


def check_nodes(document: tuple[Path, dict[str, Any]], every: int, first: int) -> None:
    path, entry = document
    cases = [(steps, value) for steps in nodes(entry) for value in ODD]
    for steps, value in cases[first::every]:
        check(path.with_name("odd.json"), changed(entry, steps, value))


def test_odd_values_are_refused_or_shown(document: tuple[Path, dict[str, Any]]) -> None:
    check_nodes(document, every=41, first=0)


@pytest.mark.attack
def test_many_odd_values_are_refused_or_shown(
    document: tuple[Path, dict[str, Any]],
) -> None:
    check_nodes(document, every=2, first=1)


def check_bytes(document: tuple[Path, dict[str, Any]], seeds: range) -> None:
    path, entry = document
    content = json.dumps(entry).encode()
    for seed in seeds:
        rng = np.random.default_rng([3, seed])
        data = bytearray(content)
        place = int(rng.integers(len(data)))
        if seed % 4 == 0:
            data = data[:place]
        elif seed % 4 == 1:
            data[place : place + 3] = rng.bytes(3)
        else:
            data[place] ^= 1 << int(rng.integers(8))
        check(path.with_name("odd.json"), bytes(data))


def test_damaged_documents_are_refused_or_shown(document: tuple[Path, dict[str, Any]]) -> None:
    check_bytes(document, range(60))


@pytest.mark.attack
def test_many_damaged_documents_are_refused_or_shown(
    document: tuple[Path, dict[str, Any]],
) -> None:
    check_bytes(document, range(60, 2060))


def large(kind: str, entry: dict[str, Any]) -> bytes:
    """Return a document of several hundred kilobytes that is hard to check."""
    entry = copy.deepcopy(entry)
    report, method = entry["report"], entry["method"]
    if kind == "twins":
        return ("{" + ",".join(f'"{i}": 0' for i in range(40_000)) + ',"0": 1}').encode()
    if kind == "nothing but twins":
        return ("{" + ",".join(f'"{i % 20_000}": 0' for i in range(40_000)) + "}").encode()
    if kind == "authors of many types":
        method["authors"] = [[i] if i % 3 else {"a": i} for i in range(40_000)]
    elif kind == "many authors":
        method["authors"] = [f"A{i}" for i in range(40_000)]
    elif kind == "unknown fields":
        report.update({f"x{i}": 0 for i in range(40_000)})
    elif kind == "classes of another split":
        report["per_class"] = {f"x{i}": 0.5 for i in range(40_000)}
    elif kind == "classes out of range":
        report["per_class"] = {f"x{i}": 7 for i in range(40_000)}
    elif kind == "episodes out of range":
        report["per_episode"] = [7] * 100_000
    elif kind == "too many episodes":
        report["per_episode"] = [0.5] * 100_000
    elif kind == "many trials":
        report["trials"]["accuracies"] = [0.5] * 100_000
    elif kind == "many deviations":
        report["deviations"] = [f"x{i}" for i in range(40_000)]
    elif kind == "a long name":
        method["name"] = "x" * 400_000
    elif kind == "a long address":
        method["code"] = "https://" + "a." * 200_000 + "!"
    elif kind == "a long version":
        method["commit"] = "1" + ".1" * 200_000 + "!"
    elif kind == "a number of many digits":
        return b'{"format": ' + b"9" * 400_000 + b"}"
    elif kind == "many levels":
        return b'{"format": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    elif kind == "some levels":
        return b'{"format": ' + b"[" * 400 + b"]" * 400 + b"}"
    return json.dumps(entry).encode()


@pytest.mark.parametrize(
    "kind",
    ["twins", "nothing but twins", "authors of many types", "many authors", "unknown fields",
     "classes of another split", "classes out of range", "episodes out of range",
     "too many episodes", "many trials", "many deviations", "a long name", "a long address",
     "a long version", "a number of many digits", "many levels", "some levels"],
)  # fmt: skip
def test_large_documents_are_refused_in_a_moment(
    document: tuple[Path, dict[str, Any]], kind: str
) -> None:
    path, entry = document
    content = large(kind, entry)
    start = time.process_time()
    assert not check(path.with_name("odd.json"), content)
    assert time.process_time() - start < 3


def test_what_a_stranger_was_trained_on_is_shown_without_control_characters(
    document: tuple[Path, dict[str, Any]],
) -> None:
    path, entry = document
    content = changed(entry, ("report", "seen"), {"\x1b[2J": "\u202e" * 9000, "b": [[["c"]]]})
    assert check(path.with_name("odd.json"), content)
