"""The small part of Markdown that texts of entries may use."""

from __future__ import annotations

import pytest

from metaevents.benchmark.inline_markup import Piece, pieces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`a <b>` c", [Piece("code", "a <b>"), Piece("text", " c")]),
        ("``a`b``", [Piece("code", "a`b")]),
        ("*a* **b** _c_", ["a", " ", "b", " ", "c"]),
        ("[x](https://a.b/c(d))", [Piece("link", "x", "https://a.b/c(d)")]),
        (
            "see https://a.b/c).",
            [Piece("text", "see "), Piece("link", "https://a.b/c", "https://a.b/c"),
             Piece("text", ").")],
        ),
        (
            "doi:10.1088/2634-4386/ac8828 (method)",
            [Piece("link", "doi:10.1088/2634-4386/ac8828",
                   "https://doi.org/10.1088/2634-4386/ac8828"),
             Piece("text", " (method)")],
        ),
    ],
)  # fmt: skip
def test_marks_become_pieces(text: str, expected: list[object]) -> None:
    found = pieces(text)
    assert len(found) == len(expected)
    for piece, wanted in zip(found, expected, strict=True):
        assert (piece if isinstance(wanted, Piece) else piece.text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "snake_case_name and 2*3*4 and __init__x",
        "[x](javascript:alert(1))",
        "[x](data:text/html,1)",
        "<a href=x>",
        "an open ` tick and an open *star",
        "",
    ],
)
def test_everything_else_stays_text(text: str) -> None:
    assert pieces(text) == ([Piece("text", text)] if text else [])


def test_links_lead_to_the_web_only() -> None:
    text = "[a](https://x) [b](doi:10.1000/1) [c](ftp://x) [d](//x) http://y `https://z`"
    links = [piece for piece in pieces(text) if piece.kind == "link"]
    assert [link.address for link in links] == [
        "https://x",
        "https://doi.org/10.1000/1",
        "http://y",
    ]


def test_names_of_files_become_links_where_they_are_given() -> None:
    found = pieces("read cards/A.md.", {"cards/A.md": "../A.md"})
    assert found[1] == Piece("link", "cards/A.md", "../A.md")
    assert pieces("read cards/A.md.") == [Piece("text", "read cards/A.md.")]


def test_control_characters_are_made_visible() -> None:
    assert "\u202e" not in "".join(piece.text for piece in pieces("a\u202eb `\u202e` \x1b[1m"))
