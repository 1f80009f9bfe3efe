"""Markdown: the one table writer, and escaping of foreign text and URLs.

Every Markdown table of the repository is written here. The callers decide what the cells say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from metaevents.errors import printable

_DELIMITERS = {"l": ":--", "r": "--:", "c": ":-:", "-": "---"}


def table(header: Sequence[str], rows: Iterable[Sequence[object]], align: str = "") -> str:
    r"""Return a Markdown table, without a newline at its end.

    Args:
        header: title of each column; may be empty strings.
        rows: one sequence of cells per row, as long as `header`. Cells are Markdown: text from
            others must go through `escape_markdown` first. `None` is an empty cell.
        align: one letter per column: "l" (left), "r" (right), "c" (center) or "-" (the reader's
            default). Columns beyond its end have "-".

    Raises:
        ValueError: if a row or `align` does not fit `header`.

    Example:
        >>> print(table(["Method", "Accuracy (%)"], [["SNN MAML", 98.2]], align="lr"))
        | Method | Accuracy (%) |
        |:--|--:|
        | SNN MAML | 98.2 |
    """
    if len(align) > len(header) or not set(align) <= set(_DELIMITERS):
        raise ValueError(
            f"align is {align!r}, expected at most {len(header)} letters of {''.join(_DELIMITERS)}"
        )
    delimiters = [_DELIMITERS[letter] for letter in align.ljust(len(header), "-")]
    lines = [_row(header), f"|{'|'.join(delimiters)}|"]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, expected {len(header)}: {row}")
        lines.append(_row(row))
    return "\n".join(lines)


def _row(cells: Sequence[object]) -> str:
    """Return one line of a table; an empty cell is a single space."""
    texts = ["" if cell is None else str(cell) for cell in cells]
    return f"|{'|'.join(f' {text} ' if text else ' ' for text in texts)}|"


def escape_markdown(text: str) -> str:
    """Return Markdown that shows `text` literally, on one line.

    Markup, HTML and math are shown as they were typed, and nothing becomes a mention or a link. An
    empty comment divides e-mail addresses, because GitHub looks for them after it has resolved
    escapes and character references. Control characters, and those that change the direction of
    writing, are shown as their escapes.
    """
    visible = printable(" ".join(text.split()))
    return re.sub(r"[\\`*_\[\]#|~]|[&<>@$]|:(?=//)|(?<=www)[.]", _escape, visible)


def _escape(match: re.Match[str]) -> str:
    """Return one character as a character reference or with a backslash."""
    character = match.group()
    if character == "@":
        return "&#64;<!-- -->"
    return f"&#{ord(character)};" if character in "&<>$:." else f"\\{character}"


def escape_address(address: str) -> str:
    """Return a URL in which characters that could end a Markdown link or a cell are encoded."""
    return "".join(
        f"%{ord(character):02X}"
        if character in "()<>[]|\\`*_~\"'" or ord(character) <= 0x20 or ord(character) == 0x7F
        else character
        for character in address
    )
