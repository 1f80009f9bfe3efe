"""The leaderboard: entries grouped into tables, ranked, compared with the best, and written as Markdown.

Every number comes from entries that `metaevents.benchmark.entries` let through, and equal entries give equal bytes. The page
is left to `metaevents.benchmark.render_html`.
"""

from __future__ import annotations

import re


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no mention, no address made into a link, no new line."""
    return re.sub(r"[\\`*_\[\]#|~]|[&<>@$]|:(?=//)|(?<=www)[.]", _escaped, " ".join(text.split()))


def _escaped(match: re.Match[str]) -> str:
    letter = match.group()
    return f"&#{ord(letter)};" if letter in "&<>@$:." else f"\\{letter}"


def escape_address(address: str) -> str:
    """An address that cannot end its place in a Markdown link or a table."""
    return "".join(
        f"%{ord(letter):02X}" if letter in "()<>[]|\\`*_~ \"'" else letter for letter in address
    )
