"""Generated text files: write them, or check that the files on disk are up to date.

Used for files that are kept under version control but are made by a command, such as the
leaderboard. What they contain is left to the callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metaevents.errors import UsageError
from metaevents.files import write_atomic


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
