"""Folders of simulated recordings: claim one, write its files, share the work among processes.

Shared by the writers of the official forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metaevents.errors import UsageError
from metaevents.files import PathLike, is_litter, progress_bar, user_path, write_atomic
from metaevents.sources.base import SIMULATED_MARK


def write_recording(path: Path, content: bytes) -> None:
    """Write a file, and its folder if needed, atomically but without waiting for the disk.

    Args:
        path: The file.
        content: What it holds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content, sync=False)


def claim_folder(folder: PathLike, pattern: str, form: str) -> Path:
    """Make the folder if needed and mark its recordings as simulated.

    Args:
        folder: The folder of recordings.
        pattern: Glob pattern of the recordings.
        form: What is simulated, with its arguments; a part of the mark.

    Returns:
        The folder, with `~` expanded.

    Raises:
        UsageError: `folder` is a file, or it holds other recordings.
    """
    root = user_path(folder)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; give a folder for the simulated recordings")
    mark = root / SIMULATED_MARK
    text = (
        f"Simulated by metaevents: no real recordings, but files in the form of {form}.\n".encode()
    )
    if mark.exists() and mark.read_bytes() != text:
        raise UsageError(
            f"{root} holds other simulated recordings than {form}; remove it or give another folder"
        )
    if not mark.exists() and any(not is_litter(path.name) for path in root.glob(pattern)):
        raise UsageError(
            f"{root} holds recordings that were not simulated by metaevents; give another folder"
        )
    write_recording(mark, text)
    return root


def write_parts(
    write: Callable[[Any], int],
    parts: Sequence[Any],
    total: int,
    progress: bool | None,
    jobs: int,
    title: str,
) -> None:
    """Call `write` for every part, in several processes if asked for.

    Args:
        write: Writes the recordings of a part and returns their number; can be pickled.
        parts: Arguments of `write`.
        total: Number of recordings in all.
        progress: Whether to show a progress bar; None shows it on a terminal only.
        jobs: Number of processes.
        title: Text of the progress bar.

    Raises:
        UsageError: A process ended without an answer.
    """
    with progress_bar(title, total, "rec", progress) as bar:
        if jobs == 1:
            for part in parts:
                bar.update(write(part))
            return
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        # Processes are spawned, because a fork of a process with threads (torch has some) can hang.
        try:
            with ProcessPoolExecutor(
                min(jobs, len(parts)), mp_context=get_context("spawn")
            ) as pool:
                for written in pool.map(write, parts):
                    bar.update(written)
        except (BrokenProcessPool, BrokenPipeError) as error:
            raise UsageError(
                f"one of {jobs} simulating processes ended early: memory ran out, or the program "
                'does not start under `if __name__ == "__main__":`; give jobs=1'
            ) from error
