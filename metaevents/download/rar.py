"""Unpack RAR archives with a program that is installed.

No free library unpacks RAR by itself. Programs that do are unrar, 7-Zip, unar and libarchive's
bsdtar, which is the `tar` of Windows and macOS. They are tried in turn: some are built without RAR.

An archive is unpacked into an empty hidden folder, from which the caller takes what it knows. The
programs keep members inside it; links are never followed. The size of what is unpacked is watched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from metaevents.errors import FetchError, MissingError
from metaevents.files import progress_bar, require_space

_PROGRAMS: Sequence[tuple[str, Sequence[str]]] = (
    ("unrar", ("x", "-idq", "-y", "-p-", "{archive}", "{folder}{separator}")),
    ("7zz", ("x", "-y", "-bd", "-p", "-o{folder}", "{archive}")),
    ("7z", ("x", "-y", "-bd", "-p", "-o{folder}", "{archive}")),
    ("unar", ("-quiet", "-force-overwrite", "-no-directory", "-o", "{folder}", "{archive}")),
    ("bsdtar", ("-x", "-f", "{archive}", "-C", "{folder}")),
    ("tar", ("-x", "-f", "{archive}", "-C", "{folder}")),
)
"""Name of each program, and its arguments."""

_SIGNATURE = b"Rar!\x1a\x07"
_LOOK_EVERY = 0.5  # seconds between two looks at the size of what is unpacked
_SPACE_LEFT = 1 << 28  # bytes of free disk below which unpacking stops
_SAID = 1 << 14  # bytes at the end of what a program wrote


def is_rar(path: Path) -> bool:
    """Return whether a file begins as a RAR archive does.

    Args:
        path: An existing file.
    """
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def require_program() -> None:
    """Check that a program which may unpack RAR archives is installed.

    Raises:
        MissingError: There is none.
    """
    if not _installed():
        raise MissingError(f"no program that unpacks RAR archives is installed; {_ADVICE}")


@contextmanager
def unpacked(archive: Path, folder: Path, *, limit: int, progress: bool | None) -> Iterator[Path]:
    """Unpack an archive and yield the folder, which is removed at the end.

    Args:
        archive: The RAR archive.
        folder: The folder to make, on a disk with room; one that exists is removed first.
        limit: Bytes; an archive that unpacks to more is refused.
        progress: True or False for a progress bar or none; None shows it on a terminal only.

    Raises:
        MissingError: No program that unpacks RAR archives is installed.
        FetchError: No program could unpack the archive, or it is larger than the limit.
        OSError: The disk is full or cannot be written to.
    """
    programs = _installed()
    if not programs:
        raise MissingError(f"{archive} cannot be unpacked: no program for RAR is there; {_ADVICE}")
    failures = []
    try:
        for program, arguments in programs:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            places = {"archive": archive.absolute(), "folder": folder.absolute()}
            command = [
                program, *(part.format(**places, separator=os.sep) for part in arguments)
            ]  # fmt: skip
            reason = _run(command, archive, folder, limit, progress)
            if reason is None:
                break
            failures.append(f"{Path(program).name}: {reason}")
        else:
            raise FetchError(
                f"{archive} cannot be unpacked ({'; '.join(failures)}); {_ADVICE}, or delete the "
                "file and get it again"
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_ADVICE = (
    "install unrar, 7-Zip, unar or bsdtar (libarchive) and repeat the command, or unpack by hand "
    "and name the folder with --from"
)


def _installed() -> list[tuple[str, Sequence[str]]]:
    """The path of every installed program, with its arguments.

    `tar` counts only where it is libarchive's, which no other system has under that name.
    """
    found = []
    for name, arguments in _PROGRAMS:
        if name == "tar" and sys.platform not in ("win32", "darwin"):
            continue
        path = shutil.which(name)
        if path is not None:
            found.append((path, arguments))
    return found


def _run(
    command: Sequence[str], archive: Path, folder: Path, limit: int, progress: bool | None
) -> str | None:
    """Run a program until it ends, and watch how much it unpacks.

    Returns:
        Why it failed, in its words; None if it did not.

    Raises:
        FetchError: It unpacked more than the limit.
        OSError: The disk is nearly full.
    """
    with (
        TemporaryFile() as said,
        progress_bar(f"unpack {archive.name}", None, "B", progress, unit_scale=True) as bar,
    ):
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        ) as process:
            try:
                while _is_running(process):
                    size = _size(folder)
                    bar.update(size - bar.n)
                    _require_fit(archive, size, limit)
                    require_space(folder, _SPACE_LEFT)
            finally:
                if process.poll() is None:
                    process.kill()
        _require_fit(archive, _size(folder), limit)
        if process.returncode == 0:
            return None
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID))
        lines = [line.strip() for line in said.read().decode("utf-8", "replace").splitlines()]
        lines = [line for line in lines if line]
        return lines[-1][:200] if lines else f"exit status {process.returncode}"


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Wait a moment; return whether the program still runs."""
    try:
        process.wait(_LOOK_EVERY)
    except subprocess.TimeoutExpired:
        return True
    return False


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; what vanishes meanwhile does not count."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def _require_fit(archive: Path, size: int, limit: int) -> None:
    """Check that what is unpacked is within the limit.

    Raises:
        FetchError: It is not.
    """
    if size > limit:
        raise FetchError(
            f"{archive} unpacks to more than the limit of {limit:,} bytes; nothing of it was kept"
        )
