"""The parts of the metadata that hold the project's address: links and the README.

All other metadata is in pyproject.toml. The address has one place, the line `repository-code:` of
CITATION.cff. From it come `[project.urls]` and, in the README that an index shows, absolute
addresses for every relative link and picture. Without that line the build warns and leaves both.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
CITATION = (ROOT / "CITATION.cff").read_text("utf-8")


def address() -> str | None:
    """The web address of the repository, without a slash at its end, or None."""
    line = re.search(r"^repository-code: *['\"]?(\S+?)/?['\"]? *$", CITATION, re.MULTILINE)
    return line[1] if line else None


def links(base: str) -> dict[str, str]:
    """The links that an index shows beside the package."""
    return {
        "Repository": base,
        "Documentation": f"{base}/blob/main/cards/README.md",
        "Leaderboard": f"{base}/blob/main/cards/LEADERBOARD.md",
        "Changelog": f"{base}/blob/main/CHANGELOG.md",
        "Issues": f"{base}/issues",
    }


def absolute(readme: str, base: str, version: str) -> str:
    """The README with absolute addresses: links lead to pages, pictures to files."""
    tag = f"v{version}"
    relative = r"(?!#|[a-z][a-z0-9+.-]*:)([^)\s]+)\)"
    readme = re.sub(rf"(!\[[^]]*\])\({relative}", rf"\1({base}/raw/{tag}/\2)", readme)
    return re.sub(rf"(\])\({relative}", rf"\1({base}/blob/{tag}/\2)", readme)


def main() -> None:
    """Build the package."""
    readme = (ROOT / "README.md").read_text("utf-8")
    version_file = (ROOT / "metaevents" / "_version.py").read_text("utf-8")
    version = re.search(r'^__version__ = "(.+)"$', version_file, re.MULTILINE)
    assert version, "metaevents/_version.py holds the version"
    base = address()
    if base is None:
        warnings.warn(
            "the project has no address yet, so the package has no links and its README has "
            "relative ones; add a line `repository-code: https://...` to CITATION.cff",
            stacklevel=1,
        )
    setup(
        long_description=absolute(readme, base, version[1]) if base else readme,
        long_description_content_type="text/markdown",
        project_urls=links(base) if base else {},
    )


if __name__ == "__main__":
    main()
