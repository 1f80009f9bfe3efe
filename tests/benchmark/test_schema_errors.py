"""Violations of the schema: each names the field and what is expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.made_entries import change, refusal, write_entry


@pytest.mark.parametrize(
    ("steps", "value", "words"),
    [
        (("method", "name"), None, ["method.name is null, expected the method's name"]),
        (("method", "name"), "  ", ['method.name is "  "']),
        (("method", "name"), "SNN\nMAML", ["method.name"]),
        (("method", "name"), "SNN\n", ["method.name"]),
        (("method", "name"), "abc\u202etxet", ["method.name"]),
        (("method", "authors"), "Ada Example", ["method.authors", "a list of the authors' names"]),
        (("method", "authors"), [], ["method.authors is []"]),
        (("method", "authors"), ["Ada", 3], ["method.authors[1] is 3, expected an author's name"]),
        (("method", "code"), "javascript:alert(1)", ["method.code", "https address"]),
        (("method", "code"), "http://example.org/x", ["method.code"]),
        (("method", "code"), 'https://example.org/"onmouseover=', ["method.code"]),
        (("method", "code"), "https://example.org/a\n", ["method.code"]),
        (("method", "commit"), "main", ["method.commit", "the commit of the code"]),
        (("method", "other_data"), None, ["method.other_data is null"]),
        (("method", "notes"), "a\u0000b", ["method.notes"]),
        (("method", "notes"), "\ud800", ["not an entry"]),
        (("report", "accuracy"), 1.2, ["report.accuracy is 1.2, expected a number from 0 to 1"]),
        (("report", "accuracy"), "0.9", ['report.accuracy is "0.9"']),
        (("report", "per_episode"), [0.5, 2], ["report.per_episode[1] is 2"]),
        (
            ("report", "per_class"),
            {"02": -1},
            ["report.per_class.02 is -1, expected a number from 0 to 1"],
        ),
        (("report", "transductive"), "no", ['report.transductive is "no", expected true or false']),
        (("report", "trials"), {"seeds": 1}, ["report.trials.mean is missing"]),
        (
            ("report", "archive", "fingerprint"),
            "abc",
            ["report.archive.fingerprint", "64 hexadecimal digits"],
        ),
        (("predictions", "file"), "../other/predictions.npz", ["predictions.file", "bare name"]),
        (("predictions", "file"), "/etc/passwd", ["predictions.file"]),
        (("format_version",), 2, ["format_version is 2, expected 1"]),
        (("verified",), {"by": "Hanna"}, ["verified.how is missing", "verified.date is missing"]),
        (("verified",), True, ["verified is true, expected null, or who else reran"]),
    ],
)
def test_a_field_of_the_wrong_form_is_named_with_what_is_expected(
    tmp_path: Path, steps: tuple[str, ...], value: Any, words: list[str]
) -> None:
    refusal(change(write_entry(tmp_path), *steps, to=value), *words)


def test_missing_fields_are_all_named_at_once(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    for name in ("authors", "commit", "hardware"):
        change(path, "method", name, drop=True)
    refusal(
        path, "method.authors is missing", "method.commit is missing", "method.hardware is missing"
    )


def test_unknown_fields_are_refused_so_that_typing_errors_are_noticed(tmp_path: Path) -> None:
    refusal(
        change(write_entry(tmp_path), "method", "citatoin", to="x"),
        "method.citatoin is unknown",
        "citation",
    )


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    path = write_entry(tmp_path)
    for part in ("method", "report", "predictions"):
        change(path, part, to={})
    assert "more" in refusal(path, "method.name is missing")
