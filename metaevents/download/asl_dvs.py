"""Fetch ASL-DVS: nested zips without a checksum, as one folder of the official layout.

The recordings come from zips in zips, from single letters' zips, from unpacked folders or from any
mixture of these, and through the client of the OpenI mirror. Every letter is put together on its
own, so that a failed call loses none that is complete.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from time import sleep
from typing import IO

from metaevents.download.disk import disk_errors, lock_target
from metaevents.download.folders import (
    by_hand_command,
    existing_paths,
    staging_folder,
    use_in_place,
    warn_of_counts,
)
from metaevents.download.http import RemoteFile, RetryPolicy, download
from metaevents.download.zips import Members, extract, open_zip, write_member
from metaevents.errors import FetchError, MissingError
from metaevents.files import (
    PathLike,
    atomic_folder,
    is_litter,
    link_or_copy,
    progress_bar,
    require_space,
    user_path,
    visible_entries,
)

logger = logging.getLogger(__name__)

# Bytes that one letter may unpack to; 4,200 files of uncompressed float64 have about 4 GB.
_LETTER_LIMIT = 8 << 30

_OUTER_LIMIT = 64 << 30  # bytes that all zips in a zip may have; the official ones have 5.8 GB

_LOG_END = 1 << 16  # bytes at the end of the client's log among which its last line is


def fetch_asl_dvs(
    root: PathLike,
    *,
    dataset: str,
    filename: str,
    expected: Mapping[str, int],
    dead_links: Sequence[str] = (),
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    retry: RetryPolicy = RetryPolicy(),
    progress: bool | None = None,
) -> Path:
    """Fetch ASL-DVS as `root/asl-dvs`, with `<letter>/<letter>_0001.mat`.

    The dataset: Bi, Chadha, Abbas, Bourtsoulatze and Andreopoulos 2019, ICCV. The authors' Dropbox
    link (https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa) has been dead since
    April 2024, and their Google Drive holds something else. What works is the mirror at OpenI, with
    its own client (`pip install 'metaevents[openi]'`). Its zip of about 5.8 GB holds one zip per
    letter, `Yin Bi - <letter>.zip`. Dropbox packed the outer zip anew for every download, so no
    checksum can verify it; its contents are verified instead.

    Args:
        root: Folder in which `asl-dvs` is made.
        dataset: Name of the dataset at OpenI.
        filename: Name of the outer zip at OpenI. It is kept in `root/downloads`.
        expected: Letter -> number of recordings. A warning is logged if the number differs.
        dead_links: URLs that error messages warn of.
        given: What the user has: the outer zip, letters' zips, unpacked letters, or folders of
            these. A folder of the official layout with all letters is used where it is.
        mirrors: URLs tried before OpenI; see `download`.
        retry: Retry and timeout policy per URL.
        progress: True or False for progress bars or none; None shows them on a terminal only.

    Returns:
        `root/asl-dvs`, or the given folder of the official layout.

    Raises:
        UsageError: A path cannot be used as one.
        MissingError: A given path does not exist; or nothing is given and the client of OpenI is
            not installed.
        FetchError: A download or an unpacking failed, or letters have no recordings. The letters
            that are complete are kept for the next call.
    """
    root = user_path(root)
    final = root / "asl-dvs"
    paths = existing_paths(given)
    with disk_errors(final):
        for path in paths:
            counts = _count_recordings(path, expected)
            if not _missing_letters(counts):
                warn_of_counts(path, expected, counts)
                return use_in_place(path)
    with lock_target(final):
        if final.exists():
            counts = _count_recordings(final, expected)
            if missing := _missing_letters(counts):
                raise FetchError(
                    f"{final} has no recordings of {missing}; move it away and repeat the command"
                )
            warn_of_counts(final, expected, counts)
            return final
        staging = staging_folder(final)
        if not paths and _missing_letters(_count_recordings(staging, expected)):
            paths = [_outer_zip(root, dataset, filename, dead_links, mirrors, retry, progress)]
        for path in paths:
            _collect(path, staging, expected, progress)
        counts = _count_recordings(staging, expected)
        if missing := _missing_letters(counts):
            raise FetchError(
                f"ASL-DVS: no <letter>_<number>.mat of {missing} in {', '.join(map(str, paths))}; "
                f"give them with `{by_hand_command('asl-dvs', root, 'FILE_OR_DIR')}`, the other "
                "letters are kept"
            )
        warn_of_counts(staging, expected, counts)
        staging.rename(final)
    return final


def _count_recordings(folder: Path, letters: Collection[str]) -> dict[str, int]:
    """Letter -> number of recordings in a folder of the official layout."""
    counts = dict.fromkeys(letters, 0)
    for letter in letters:
        if (folder / letter).is_dir():
            names = (entry.name for entry in visible_entries(folder / letter))
            counts[letter] = sum(_letter_of(name, letters) == letter for name in names)
    return counts


def _missing_letters(counts: Mapping[str, int]) -> str:
    """The letters without any recording, for a message; empty if all have some."""
    return ", ".join(letter for letter, count in counts.items() if not count)


def _letter_of(name: str, letters: Collection[str]) -> str | None:
    """The letter of a recording's file name ("a" of "a_0001.mat"); None for any other file.

    The suffix may be spelled in any case, as in `metaevents.sources`.
    """
    letter, _, rest = name.partition("_")
    is_recording = re.fullmatch(r"\d{4}\.mat", rest, re.ASCII | re.IGNORECASE)
    return letter if letter in letters and is_recording else None


def _letter_of_member(path: str, letters: Collection[str]) -> str | None:
    """The letter of a recording in a zip; None for any other member, and for litter."""
    parts = PurePosixPath(path).parts
    if not parts or any(map(is_litter, parts)):
        return None
    return _letter_of(parts[-1], letters)


# --- Letters from zips and folders ----------------------------------------------------------------


def _collect(path: Path, staging: Path, letters: Collection[str], progress: bool | None) -> None:
    """Bring every letter that `staging` lacks from a zip, or from a folder and its subfolders.

    A letter is unpacked, linked or copied under a hidden name, and renamed when it is complete.
    """
    if not path.is_dir():
        _unpack_zip(path, staging, letters, progress)
        return
    zips: list[Path] = []
    recordings: dict[str, list[Path]] = {}
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in sorted(name for name in names if not is_litter(name)):
            if letter := _letter_of(name, letters):
                recordings.setdefault(letter, []).append(Path(parent) / name)
            elif name.lower().endswith(".zip"):
                zips.append(Path(parent) / name)
    for archive in zips:
        _unpack_zip(archive, staging, letters, progress)
    for letter, files in sorted(recordings.items()):
        if not (staging / letter).is_dir():
            _link_letter(path, files, staging / letter, progress)


def _link_letter(source: Path, files: Sequence[Path], folder: Path, progress: bool | None) -> None:
    """Link or copy the recordings of one letter.

    Raises:
        FetchError: Two files have the same name. The message names `source`.
    """
    for name, count in Counter(path.name.lower() for path in files).items():
        if count > 1:
            raise FetchError(
                f"{source} holds {name} twice; give a folder that holds each file once"
            )
    with (
        atomic_folder(folder) as temporary,
        progress_bar(f"link {folder.name}", len(files), "file", progress) as bar,
    ):
        for path in files:
            link_or_copy(path, temporary / path.name)
            bar.update()


def _unpack_zip(
    archive: Path, staging: Path, letters: Collection[str], progress: bool | None
) -> None:
    """Unpack the letters that `staging` lacks from a zip of recordings or of letters' zips."""
    name, unpacked = str(archive), 0
    with open_zip(archive, name) as opened:
        _unpack_letters(opened, name, staging, letters, progress)
        for info in sorted(opened.infolist(), key=lambda info: info.filename):
            parts = PurePosixPath(info.filename).parts
            inner_name = parts[-1] if parts else ""
            if not inner_name.lower().endswith(".zip") or any(map(is_litter, parts)):
                continue
            match = re.fullmatch(r"Yin Bi - (.)\.zip", inner_name, re.IGNORECASE)
            if match and (staging / match[1]).is_dir():
                continue
            # Not in the system's temporary folder, which may be in memory.
            inner = staging / ".inner.zip"
            try:
                require_space(staging, info.file_size)
                unpacked += write_member(
                    opened, info, inner, min(_LETTER_LIMIT, _OUTER_LIMIT - unpacked), name
                )
                inner_name = f"{inner_name} in {name}"
                with open_zip(inner, inner_name) as opened_inner:
                    _unpack_letters(opened_inner, inner_name, staging, letters, progress)
            finally:
                inner.unlink(missing_ok=True)


def _unpack_letters(
    opened: zipfile.ZipFile,
    name: str,
    staging: Path,
    letters: Collection[str],
    progress: bool | None,
) -> None:
    """Unpack the letters that `staging` lacks and of which a zip holds recordings.

    Args:
        opened: The zip.
        name: How messages name it.
        staging: Folder of the letters' folders.
        letters: All letters of the dataset.
        progress: As for `fetch_asl_dvs`.
    """
    present = {_letter_of_member(path, letters) for path in opened.namelist()}
    for letter in sorted(letter for letter in present if letter is not None):
        if not (staging / letter).is_dir():
            extract(
                opened,
                name,
                staging / letter,
                limit=_LETTER_LIMIT,
                members=_recordings_of(letter),
                progress=progress,
            )


def _recordings_of(letter: str) -> Members:
    """Select the recordings of one letter, in whatever folder, and place them side by side."""

    def place(member: str) -> str | None:
        return PurePosixPath(member).name if _letter_of_member(member, (letter,)) else None

    return place


# --- The outer zip from a mirror or OpenI ---------------------------------------------------------


def _outer_zip(
    root: Path,
    dataset: str,
    filename: str,
    dead_links: Sequence[str],
    mirrors: Sequence[str],
    retry: RetryPolicy,
    progress: bool | None,
) -> Path:
    """The path of the outer zip in `root/downloads`, downloaded from a mirror or OpenI if missing.

    Raises:
        MissingError: There are no mirrors, and the client of OpenI is not installed.
        FetchError: The download failed.
    """
    downloads = root / "downloads"
    path = downloads / filename
    if path.exists():
        return path
    by_hand = by_hand_command("asl-dvs", root, "FILE_OR_DIR")
    has_client = find_spec("openi") is not None
    if mirrors:
        try:
            return download(
                RemoteFile(filename, (), None),
                downloads,
                mirrors=mirrors,
                retry=retry,
                by_hand=by_hand,
                progress=progress,
            )
        except FetchError as error:
            if not has_client:
                raise
            logger.warning("%s; trying OpenI", error)  # an error's message is printable
    warning = "".join(
        [
            *(f"{link} is dead; " for link in dead_links),
            "the authors' Google Drive holds other data",
        ]
    )
    if not has_client:
        raise MissingError(
            "ASL-DVS is downloaded with the client of OpenI, which is not installed; run `pip "
            "install 'metaevents[openi]'` and repeat the command, or give files that you have with "
            f"`{by_hand}` ({warning})"
        )
    last_line = _run_openi(dataset, filename, downloads, retry, progress)
    if not path.exists():
        raise FetchError(
            f"cannot download {filename} of {dataset} with the client of OpenI ({last_line}). To "
            f"continue by hand, run `openi dataset download {dataset} --local_dir "
            f"{shlex.quote(str(downloads))} --max_workers 10` and repeat the command, or give "
            f"files that you have with `{by_hand}` (no checksum is published; {warning})"
        )
    return path


def _run_openi(
    dataset: str, filename: str, folder: Path, retry: RetryPolicy, progress: bool | None
) -> str:
    """Run the OpenI client until the file is there or it has failed `1 + retry.retries` times.

    It runs in another process, since importing it changes the event-loop policy and the logging.
    The client resumes by itself. Its exit status means nothing: a failed download ends with 0.

    Returns:
        The last line that the client wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "openi.commands.openi_cli", "dataset", "download", dataset]
    command += ["--filename", filename, "--local_dir", str(folder), "--max_workers", "10"]
    log = folder / f".{filename}.log"
    try:
        for attempt in range(1 + retry.retries):
            if attempt:
                sleep(min(retry.backoff * 2 ** (attempt - 1), retry.max_wait))
            with log.open("wb") as output:
                _run_with_progress(command, output, folder, filename, progress)
            if (folder / filename).exists():
                break
        with log.open("rb") as written:
            written.seek(max(0, log.stat().st_size - _LOG_END))
            end = written.read().decode("utf-8", "replace")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", end)
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return lines[-1] if lines else "it wrote no message"
    finally:
        log.unlink(missing_ok=True)


def _run_with_progress(
    command: Sequence[str], output: IO[bytes], folder: Path, filename: str, progress: bool | None
) -> None:
    """Run the OpenI client; its progress is the size of the hidden file that it writes.

    Args:
        command: The command line.
        output: Receives what the client writes to stdout and stderr.
        folder: The folder that the client downloads to.
        filename: The file that it downloads.
        progress: As for `fetch_asl_dvs`.
    """
    pattern = f".openi*{glob.escape(filename)}"
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as client,
        progress_bar(filename, None, "B", progress, unit_scale=True) as bar,
    ):
        try:
            while client.poll() is None:
                with suppress(FileNotFoundError):  # the client has just renamed it
                    sizes = [path.stat().st_size for path in folder.glob(pattern)]
                    bar.update(max(sizes, default=bar.n) - bar.n)
                sleep(0.2)
        finally:
            client.terminate()
