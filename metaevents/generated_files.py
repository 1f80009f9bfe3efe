"""Generated text files: write them, or check that the files on disk are up to date.

A file that is partly written by hand has its generated parts between two comments; `with_part`
renews one.

Used for files that are kept under version control but are made by a command, such as the
leaderboard. What they contain is left to the callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metaevents.errors import UsageError
from metaevents.files import write_atomic

PART_END = "<!-- end -->"
"""The line after a generated part."""


def with_part(text: str, mark: str, content: str, path: Path) -> str:
    """Return a text whose part between the line `mark` and the next `PART_END` is renewed.

    Args:
        text: The whole text.
        mark: The line before the part, a comment.
        content: The new part, without a newline at its end.
        path: Where the text is from, for the message.

    Raises:
        UsageError: The text has no such lines.
    """
    start, marked, rest = text.partition(f"{mark}\n")
    _, ended, end = rest.partition(PART_END)
    if not (marked and ended):
        raise UsageError(
            f"{path} has no lines {mark!r} and {PART_END!r}; put them where the generated part "
            "belongs"
        )
    return f"{start}{marked}{content}\n{ended}{end}"


def write_generated(files: Mapping[Path, str]) -> None:
    """Write text files in UTF-8 with Unix line ends; make missing folders.

    Args:
        files: Path -> content.
    """
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)


def check_generated(files: Mapping[Path, str], *, inputs: str, command: str) -> None:
    """Check that text files exist and have the content that would be written.

    Args:
        files: Path -> content that would be written.
        inputs: What the content is made from, for the message: "the entries in cards/entries".
        command: The command that writes the files, for the message.

    Raises:
        UsageError: A file is missing or differs. The message lists all such files.
    """
    outdated = [
        str(path)
        for path, content in files.items()
        if not path.is_file() or path.read_text("utf-8", errors="replace") != content
    ]
    if outdated:
        raise UsageError(
            f"out of date with {inputs}: {', '.join(outdated)}; run `{command}` and commit what it "
            "writes"
        )
