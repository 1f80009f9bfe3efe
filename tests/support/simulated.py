"""Reading back folders of recordings that a test simulated."""

from __future__ import annotations

from pathlib import Path

from metaevents.events import Events
from metaevents.sources import Source


def file_contents(root: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its relative path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*.*")
        if path.is_file()
    }


def read_all(source: Source) -> dict[str, Events]:
    """The events of every recording of a source, by recording id."""
    return {ref.id: source.read(ref)[0] for ref in source.recordings()}
