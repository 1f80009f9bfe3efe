"""Shared by all datasets' downloads: given paths, staging folder, numbers of recordings."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaevents.errors import MissingError, UsageError, printable
from metaevents.files import PathLike, user_path, visible_entries

logger = logging.getLogger(__name__)


def existing_paths(given: Sequence[PathLike]) -> list[Path]:
    """The paths that the user gave, with `~` expanded.

    Raises:
        MissingError: One of them does not exist.
        UsageError: One of them cannot be used as a path, or is a pipe or a device.
    """
    paths = [user_path(path) for path in given]
    for path in paths:
        if not path.exists():
            raise MissingError(f"no file or folder {path}; give a path that exists")
        if not path.is_file() and not path.is_dir():
            raise UsageError(f"{path} is a pipe or a device; give a file or a folder")
    return paths


def by_hand_command(dataset: str, root: Path, argument: str) -> str:
    """The shell command that continues with files which the user has, for error messages."""
    return f"metaevents download {dataset} --root {shlex.quote(str(root))} --from {argument}"


def use_in_place(folder: Path) -> Path:
    """Return a given folder of the official layout; log how to build an archive from it."""
    logger.warning(
        "%s is used where it is; build from it with `metaevents build --source %s`",
        printable(folder),
        printable(shlex.quote(str(folder))),
    )
    return folder


def staging_folder(final: Path) -> Path:
    """The hidden folder beside `final` in which its parts are collected until all are there.

    It outlives a failed call, so that the next one continues with the parts that are complete. What
    a killed process left incomplete in it has a hidden name and is removed here.
    """
    staging = final.with_name(f".{final.name}.staging")
    staging.mkdir(exist_ok=True)
    for leftover in staging.glob(".*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    return staging


def count_recordings(folder: Path, suffix: str) -> int:
    """The number of files `<subfolder>/<name><suffix>` in a folder; 0 if there is no such folder.

    They are the files that `metaevents.sources` reads: litter does not count, and the suffix may be
    spelled in any case.

    Args:
        folder: The folder.
        suffix: The suffix in lower case, such as ".bin".
    """
    if not folder.is_dir():
        return 0
    return sum(
        entry.name.lower().endswith(suffix)
        for subfolder in visible_entries(folder)
        if subfolder.is_dir()
        for entry in visible_entries(Path(subfolder.path))
    )


def warn_of_counts(folder: Path, expected: Mapping[str, int], counts: Mapping[str, int]) -> None:
    """Log a warning if a folder's parts have other numbers of recordings than the official ones.

    Args:
        folder: The folder, for the message.
        expected: Part (a folder's name or a letter) -> official number of recordings.
        counts: Part -> number of recordings that are there.
    """
    differences = [
        f"{part} {counts[part]:,} of {count:,}"
        for part, count in expected.items()
        if counts[part] != count
    ]
    if differences:
        logger.warning(
            "%s is not the official dataset; its numbers of recordings differ: %s",
            printable(folder),
            ", ".join(differences),
        )
