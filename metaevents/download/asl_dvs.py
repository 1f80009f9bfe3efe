"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.specs` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from time import sleep
from typing import IO

from metaevents.download.http import RemoteFile, RetryPolicy, download
from metaevents.download.staging import (
    by_hand_command,
    existing_places,
    report_counts,
    staging_folder,
    use_in_place,
)
from metaevents.download.zips import Members, extract, open_zip, write_member
from metaevents.errors import FetchError, MissingError
from metaevents.files import (
    PathLike,
    atomic_folder,
    exclusive_lock,
    link_or_copy,
    progress_bar,
    require_space,
)

logger = logging.getLogger(__name__)

_LETTER_LIMIT = (
    8 << 30
)  # bytes that one letter may unpack to; 4,200 files of uncompressed float64 have about 4 GB


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
    """ASL-DVS as `root/asl-dvs` with `<letter>/<letter>_0001.mat`.

    Bi, Chadha, Abbas, Bourtsoulatze and Andreopoulos 2019, ICCV. The authors' Dropbox link
    (https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa) has been dead since April 2024, and their
    Google Drive holds something else. What works is the mirror at OpenI, through its own client
    (`pip install 'metaevents[openi]'`). Its zip of about 5.8 GB holds one zip a letter, `Yin Bi - <letter>.zip`.
    Dropbox packed the outer zip anew each time, so no checksum can verify it; its contents are verified instead.

    Args:
        dataset, filename: at OpenI. The file is kept in `root/downloads`.
        expected: letter -> number of files; another number is a warning.
        dead_links: addresses for the messages to warn of.
        given: what the user has already: the outer zip, the letters' zips, unpacked letters, or folders that hold them.
            A folder of the official layout with all letters is used where it is.
        mirrors: tried before OpenI, as for `download`.
        retry, progress: as for `download`.

    Returns:
        `root/asl-dvs`, or the given folder of the official layout.

    Raises:
        MissingError: no OpenI client and nothing given, or a given path that does not exist.
        FetchError: a download or an unpacking that failed, or letters without any file; the letters that were found are
            kept for the next call.
    """
    root = Path(root).expanduser()
    final = root / "asl-dvs"
    places = existing_places(given)
    for place in places:
        counts = _letter_counts(place, expected)
        if not _missing(counts):
            report_counts(place, expected, counts)
            return use_in_place(place)
    with exclusive_lock(final):
        if final.exists():
            counts = _letter_counts(final, expected)
            if missing := _missing(counts):
                raise FetchError(
                    f"{final} has no recordings of {missing}; move it away and repeat the command"
                )
            report_counts(final, expected, counts)
            return final
        staging = staging_folder(final)
        if not places and _missing(_letter_counts(staging, expected)):
            places = [_asl_zip(root, dataset, filename, dead_links, mirrors, retry, progress)]
        for place in places:
            _take_letters(place, staging, expected, progress)
        counts = _letter_counts(staging, expected)
        if missing := _missing(counts):
            raise FetchError(
                f"ASL-DVS: no <letter>_<number>.mat of {missing} in {', '.join(map(str, places))}; give what is missing "
                f"with `{by_hand_command('asl-dvs', root, 'FILE_OR_DIR')}`, the other letters are kept"
            )
        report_counts(staging, expected, counts)
        staging.rename(final)
    return final


def _letter_counts(folder: Path, expected: Mapping[str, int]) -> dict[str, int]:
    return {
        letter: sum(
            _letter_of(path.name, expected) == letter for path in (folder / letter).glob("*.mat")
        )
        for letter in expected
    }


def _missing(counts: Mapping[str, int]) -> str:
    """The letters without any file, for a message."""
    return ", ".join(letter for letter, count in counts.items() if not count)


def _letter_of(name: str, expected: Mapping[str, int]) -> str | None:
    """The letter of a recording's file name, "a" of "a_0001.mat"."""
    letter, _, rest = name.partition("_")
    return letter if letter in expected and re.fullmatch(r"\d{4}\.mat", rest, re.ASCII) else None


def _take_letters(
    place: Path, staging: Path, expected: Mapping[str, int], progress: bool | None
) -> None:
    """Every letter at a place that `staging` lacks: unpacked, linked or copied, and renamed into it when complete."""
    if not place.is_dir():
        _unpack_letters(place, staging, expected, progress)
        return
    letters: dict[str, list[Path]] = {}
    for parent, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(parent) / name
            if letter := _letter_of(name, expected):
                letters.setdefault(letter, []).append(path)
            elif name.lower().endswith(".zip"):
                _unpack_letters(path, staging, expected, progress)
    for letter, paths in sorted(letters.items()):
        if not (staging / letter).is_dir():
            twice = [
                name for name, number in Counter(path.name for path in paths).items() if number > 1
            ]
            if twice:
                raise FetchError(
                    f"{place} holds {twice[0]} twice; give a folder that holds every file once"
                )
            with (
                atomic_folder(staging / letter) as temporary,
                progress_bar(
                    f"take {letter}", total=len(paths), unit="file", progress=progress
                ) as bar,
            ):
                for path in paths:
                    link_or_copy(path, temporary / path.name)
                    bar.update()


def _unpack_letters(
    archive: Path,
    staging: Path,
    expected: Mapping[str, int],
    progress: bool | None,
    called: str | None = None,
) -> None:
    """The letters of a zip that holds .mat files or, at the outermost level, letters' zips."""
    nested = called is not None
    called = called or str(archive)
    with open_zip(archive, called) as opened:
        infos = {info.filename: info for info in opened.infolist()}
        letters = {_letter_of(PurePosixPath(name).name, expected) for name in infos}
        for letter in sorted(letter for letter in letters if letter is not None):
            if not (staging / letter).is_dir():
                members = _asl_members(letter, expected)
                extract(
                    archive,
                    staging / letter,
                    limit=_LETTER_LIMIT,
                    members=members,
                    progress=progress,
                    called=called,
                )
        if nested:
            return
        for name, info in sorted(infos.items()):
            base = PurePosixPath(name).name
            named = re.fullmatch(r"Yin Bi - (.)\.zip", base)
            if (
                not base.endswith(".zip")
                or base.startswith(".")
                or (named and (staging / named[1]).is_dir())
            ):
                continue
            inner = (
                staging / ".inner.zip"
            )  # beside the recordings: the system's temporary folder may be memory
            try:
                require_space(staging, info.file_size)
                write_member(opened, info, inner, _LETTER_LIMIT, called)
                _unpack_letters(inner, staging, expected, progress, called=f"{base} in {called}")
            finally:
                inner.unlink(missing_ok=True)


def _asl_members(letter: str, expected: Mapping[str, int]) -> Members:
    def place(member: str) -> str | None:
        name = PurePosixPath(member).name
        return name if _letter_of(name, expected) == letter else None

    return place


def _asl_zip(
    root: Path,
    dataset: str,
    filename: str,
    dead_links: Sequence[str],
    mirrors: Sequence[str],
    retry: RetryPolicy,
    progress: bool | None,
) -> Path:
    """The outer zip in `root/downloads`, from a mirror or through the OpenI client."""
    downloads = root / "downloads"
    path = downloads / filename
    if path.exists():
        return path
    by_hand = by_hand_command("asl-dvs", root, "FILE_OR_DIR")
    installed = find_spec("openi") is not None
    if mirrors:
        file = RemoteFile(filename, (), None)
        try:
            return download(
                file, downloads, mirrors=mirrors, retry=retry, by_hand=by_hand, progress=progress
            )
        except FetchError as error:
            if not installed:
                raise
            logger.warning("%s; trying OpenI", error)
    warning = "; ".join(
        [
            *(f"{link} is dead" for link in dead_links),
            "the authors' Google Drive holds something else",
        ]
    )
    if not installed:
        raise MissingError(
            "ASL-DVS comes through the client of OpenI, which is not installed; run `pip install 'metaevents[openi]'` "
            f"and repeat the command, or give files that you have with `{by_hand}` ({warning})"
        )
    why = _run_openi(dataset, filename, downloads, retry, progress)
    if not path.exists():
        raise FetchError(
            f"cannot download {filename} of {dataset} through the client of OpenI ({why}). To go on by hand, run "
            f"`openi dataset download {dataset} --local_dir {shlex.quote(str(downloads))} --max_workers 10` and repeat "
            f"the command, or give files that you have with `{by_hand}` (no checksum is published; {warning})"
        )
    return path


def _run_openi(
    dataset: str, filename: str, folder: Path, retry: RetryPolicy, progress: bool | None
) -> str:
    """Run the OpenI client until it brings the file or has failed too often; returns its last words.

    In a process of its own, since importing the client changes the event-loop policy and the logging of whoever does.
    It resumes by itself, and its exit status says nothing: a failed download ends with 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "openi.commands.openi_cli", "dataset", "download", dataset]
    command += ["--filename", filename, "--local_dir", str(folder), "--max_workers", "10"]
    words = folder / f".{filename}.log"
    try:
        for attempt in range(1 + retry.retries):
            if attempt:
                sleep(min(retry.backoff * 2 ** (attempt - 1), retry.max_wait))
            with words.open("wb") as output:
                _watch(command, output, folder, filename, progress)
            if (folder / filename).exists():
                break
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", words.read_text("utf-8", "replace")).split(
            "\n"
        )
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    finally:
        words.unlink(missing_ok=True)


def _watch(
    command: Sequence[str], output: IO[bytes], folder: Path, filename: str, progress: bool | None
) -> None:
    """Run a command to its end, its progress told by the growth of the hidden file that it writes."""
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as client,
        progress_bar(filename, total=None, unit="B", unit_scale=True, progress=progress) as bar,
    ):
        try:
            while client.poll() is None:
                with suppress(FileNotFoundError):  # renamed just now
                    sizes = [
                        path.stat().st_size
                        for path in folder.glob(f".openi*{glob.escape(filename)}")
                    ]
                    bar.update(max(sizes, default=bar.n) - bar.n)
                sleep(0.2)
        finally:
            client.terminate()
