"""The small part of Markdown that texts of entries may use on the leaderboard page.

A text is divided into pieces: code spans, emphasis and links to `https:`, `http:` and `doi:`
addresses. Everything else stays literal text. The pieces hold text, not HTML: whoever shows them
escapes them, so that no text of an entry becomes markup of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metaevents.errors import printable

_DOI = r"10\.\d{4,9}/[^\s\"<>]+"
_IN_PARENTHESES = r"(?:[^\s()<>\"`]|\([^\s()<>\"`]*\))+"
_WEB = r"https?://[^\s<>\"`]+"

_MARKUP = re.compile(
    rf"""
    (?P<ticks>`+)(?!`)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)
    | (?<!!)\[(?P<label>[^\[\]]{{1,300}})\]\((?P<address>(?:https?://|doi:10\.){_IN_PARENTHESES})\)
    | (?P<url>(?<!\w){_WEB})
    | (?<![\w/.])(?:doi:\s?|doi\s)(?P<doi>{_DOI})
    | (?<![\w*])\*\*(?P<strong>[^\s*](?:[^*]*[^\s*])?)\*\*(?![\w*])
    | (?<![\w*])\*(?P<star>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])
    | (?<![\w_])_(?P<underscore>[^\s_](?:[^_]*[^\s_])?)_(?![\w_])
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)

_TRAILING = ".,;:!?'\""


@dataclass(frozen=True)
class Piece:
    """A piece of a text.

    Attributes:
        kind: "text", "code", "strong", "em" or "link".
        text: what to show, literally.
        address: where a link leads; "" for all other pieces.
    """

    kind: str
    text: str
    address: str = ""


def pieces(text: str, files: Mapping[str, str] | None = None) -> list[Piece]:
    """Divide a text into pieces.

    Control characters, and those that change the direction of writing, are shown as their escapes.

    Args:
        text: Text that may contain Markdown.
        files: Name of a file -> its address. Names in the text become links. Give it only for texts
            of this package, since an entry could name a file too.

    Returns:
        The pieces in order. Joined, they have all of the text but the marks.
    """
    found: list[Piece] = []
    for piece in _pieces("\n".join(printable(line) for line in text.split("\n")), files or {}):
        if not piece.text:
            continue
        if found and found[-1].kind == piece.kind == "text":
            piece = Piece("text", found.pop().text + piece.text)
        found.append(piece)
    return found


def _pieces(text: str, files: Mapping[str, str]) -> Iterator[Piece]:
    end = 0
    for match in _MARKUP.finditer(text):
        yield from _linked(text[end : match.start()], files)
        yield from _marked(match)
        end = match.end()
    yield from _linked(text[end:], files)


def _marked(match: re.Match[str]) -> Iterator[Piece]:
    """Yield the pieces of one match."""
    found = match.groupdict()
    if code := found["code"]:
        inner = code[1:-1] if code[0] == code[-1] == " " and code.strip() else code
        yield Piece("code", inner)
    elif label := found["label"]:
        yield Piece("link", label, _address(found["address"]))
    elif address := found["url"] or found["doi"]:
        inside = _without_trailing(address)
        if found["doi"]:
            whole = match.group()
            shown = whole[: len(whole) - len(address) + len(inside)]
            yield Piece("link", shown, doi_address(inside))
        else:
            yield Piece("link", inside, inside)
        yield Piece("text", address[len(inside) :])
    elif strong := found["strong"]:
        yield Piece("strong", strong)
    else:
        yield Piece("em", found["star"] or found["underscore"])


def _linked(text: str, files: Mapping[str, str]) -> Iterator[Piece]:
    """Yield a text without Markdown, with links at the names of files."""
    names = "|".join(re.escape(name) for name in sorted(files, key=len, reverse=True))
    for part in re.split(rf"({names})", text) if names else [text]:
        yield Piece("link", part, files[part]) if part in files else Piece("text", part)


def _without_trailing(address: str) -> str:
    """Return an address without the punctuation of the sentence around it."""
    while address:
        unopened = address[-1] == ")" and address.count(")") > address.count("(")
        if not (unopened or address[-1] in _TRAILING):
            break
        address = address[:-1]
    return address


def _address(address: str) -> str:
    """Return the address that a link leads to."""
    is_doi = address.lower().startswith("doi:")
    return doi_address(address[len("doi:") :]) if is_doi else address


def doi_address(doi: str) -> str:
    """Return the address of a DOI.

    Args:
        doi: Such as "10.1088/2634-4386/ac8828".
    """
    return f"https://doi.org/{doi}"
