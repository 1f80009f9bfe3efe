"""The Markdown table writer, and escaping."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from metaevents.benchmark.markdown import escape_address, escape_markdown, table


@pytest.fixture(scope="module")
def parser() -> Any:
    markdown_it = pytest.importorskip(
        "markdown_it", reason="the Markdown parser markdown-it-py is not installed"
    )
    options = {"html": True}
    return markdown_it.MarkdownIt("commonmark", options).enable(["table", "strikethrough"])


def test_a_table_has_a_header_a_delimiter_row_and_aligned_columns() -> None:
    written = table(["Method", "", "Shots"], [["SNN", "a", 1], ["CNN", "b", 5]], align="l-r")
    assert written.split("\n") == [
        "| Method | | Shots |",
        "|:--|---|--:|",
        "| SNN | a | 1 |",
        "| CNN | b | 5 |",
    ]


def test_columns_without_an_alignment_have_the_default_one() -> None:
    assert table(["a", "b"], [], align="c") == "| a | b |\n|:-:|---|"


def test_none_is_an_empty_cell_and_zero_is_not() -> None:
    assert table(["a", "b", "c"], [[None, 0, ""]]).endswith("\n| | 0 | |")


def test_a_row_of_another_length_than_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, expected 2"):
        table(["a", "b"], [["x"]])


@pytest.mark.parametrize("align", ["lrl", "lx"])
def test_an_alignment_that_does_not_fit_is_refused(align: str) -> None:
    with pytest.raises(ValueError, match="expected at most 2 letters of lrc-"):
        table(["a", "b"], [], align=align)


def test_a_parser_reads_the_table_back(parser: Any) -> None:
    rendered = parser.render(table(["a", ""], [[1, None], ["", "x"]], align="r"))
    assert re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", rendered) == ["a", "", "1", "", "", "x"]


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "a | b", "[x](javascript:alert(1))", "**bold** _it_ `code`",
     "![i](https://example.org/i.png)", "https://evil.example", "www.evil.example",
     "@somebody", "$x^2$", "&lt;", "\\| end \\", "two\nlines", "~~gone~~",
     "ada@example.org", "mailto:ada@example.org", "<!-- gone -->"],
)  # fmt: skip
def test_escaped_text_is_shown_literally(parser: Any, text: str) -> None:
    escaped = escape_markdown(text)
    rendered = parser.render(table(["a", "b"], [[escaped, "second"]]))
    assert rendered.count("<td>") == 2
    cell = rendered.split("<td>")[1].split("</td>")[0].replace("@<!-- -->", "@")
    assert "<" not in cell
    assert unescape(cell) == " ".join(text.split())
    assert "://" not in escaped
    assert "www." not in escaped


@pytest.mark.parametrize("text", ["ada@example.org", "mailto:ada@example.org", "a@b.c, d@e.f"])
def test_an_email_address_does_not_become_a_link(parser: Any, text: str) -> None:
    """GitHub links addresses that it finds in a text node, after escapes have been resolved."""
    (inline,) = parser.parseInline(escape_markdown(text))
    texts = [node.content for node in inline.children if node.type == "text"]
    assert "".join(texts) == text
    assert not [node for node in texts if re.search(r"\w@\w", node)]


def test_an_escaped_url_stays_within_its_link_and_its_cell(parser: Any) -> None:
    url = "https://example.org/a_(b)|c"
    rendered = parser.render(table(["a"], [[f"[name]({escape_address(url)})"]]))
    assert rendered.count("<td>") == 1
    assert '<a href="https://example.org/a%5F%28b%29%7Cc">name</a>' in rendered


@pytest.mark.parametrize(
    "text", ["a\x1b[2Jb", "a\u202eb", "a\u200bb", "a\udc80b", "\x07", "\u2066"]
)
def test_control_characters_are_visible(text: str) -> None:
    escaped = escape_markdown(text)
    assert escaped.isprintable()
    assert escaped.isascii()
    assert escaped != text


def test_an_escaped_url_has_no_spaces_or_control_characters() -> None:
    assert escape_address("https://a/b\tc\nd\x1be\x7f") == "https://a/b%09c%0Ad%1Be%7F"
