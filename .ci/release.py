"""Check that a release is described before it is built: `python .ci/release.py v1.2.3`.

The tag, the package, CITATION.cff and CHANGELOG.md must name one version and one day, and
CITATION.cff must hold the address of the project, from which setup.py makes links.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """What keeps a tag from being released, one sentence each."""
    citation = (root / "CITATION.cff").read_text("utf-8")
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    package = (root / "metaevents" / "_version.py").read_text("utf-8")
    version = _find(r'^__version__ = "(.+)"$', package)
    day = _find(r"^date-released: (\d{4}-\d\d-\d\d)$", citation)
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, but the package has version {version}")
    if _find(r"^version: (\S+)$", citation) != version:
        found.append(f"CITATION.cff does not name version {version}")
    if f"## {version} ({day})\n" not in changelog:
        found.append(
            f"CHANGELOG.md has no heading `## {version} ({day})` with the day of CITATION.cff"
        )
    if not _find(r"^repository-code: (\S+)", citation):
        found.append("CITATION.cff has no line `repository-code:` with the project's address")
    return found


def _find(pattern: str, text: str) -> str | None:
    """The first group of a pattern in a text, or None."""
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else None


if __name__ == "__main__":
    found = problems(sys.argv[1])
    for problem in found:
        print(problem, file=sys.stderr)
    sys.exit(1 if found else 0)
