"""Fetch N-MNIST: two zips with published checksums, as one folder of the official layout."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from metaevents.download.disk import disk_errors, lock_target
from metaevents.download.folders import (
    by_hand_command,
    count_recordings,
    existing_paths,
    staging_folder,
    use_in_place,
    warn_of_counts,
)
from metaevents.download.http import (
    MAX_SIZE,
    RemoteFile,
    RetryPolicy,
    adopt,
    download,
    hex_digest,
    parse_checksum,
)
from metaevents.download.zips import Members, extract, open_zip
from metaevents.errors import FetchError
from metaevents.files import PathLike, user_path, visible_entries

_LIMIT = 4 << 30  # bytes that one zip may unpack to; the official Train folder has about 1.2 GB

_SUFFIX = ".bin"  # of recordings, in the folders of digits in Train and Test


def fetch_nmnist(
    root: PathLike,
    files: Sequence[RemoteFile],
    *,
    expected: Mapping[str, int],
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    retry: RetryPolicy = RetryPolicy(),
    progress: bool | None = None,
) -> Path:
    """Fetch N-MNIST as `root/nmnist`, with `Train/<digit>/<id>.bin` and `Test/<digit>/<id>.bin`.

    The dataset: Orchard, Jayawant, Cohen and Thakor 2015, Frontiers in Neuroscience 9:437.

    Args:
        root: Folder in which `nmnist` is made.
        files: One zip per folder, named after it: `Train.zip`, `Test.zip`. They are kept in
            `root/downloads`.
        expected: Folder -> number of recordings.
        given: What the user has: the zips, recognized by their checksums whatever their names; a
            folder of them; or a folder of the official layout, which is used where it is.
        mirrors: URLs tried before the official ones; see `download`.
        retry: Retry and timeout policy per URL.
        progress: True or False for progress bars or none; None shows them on a terminal only.

    Returns:
        `root/nmnist`, or the given folder of the official layout.

    Raises:
        UsageError: A path cannot be used as one.
        MissingError: A given path does not exist.
        FetchError: A download or an unpacking failed, a given file is none of the zips, or a folder
            has another number of recordings than expected.
    """
    root = user_path(root)
    final = root / "nmnist"
    paths = existing_paths(given)
    with disk_errors(final):
        for path in paths:
            if all((path / folder).is_dir() for folder in expected):
                counts = {folder: count_recordings(path / folder, _SUFFIX) for folder in expected}
                warn_of_counts(path, expected, counts)
                return use_in_place(path)
    with lock_target(final):
        if final.exists():
            _check_complete(final, expected)
            return final
        downloads = root / "downloads"
        for file, path in _recognize(paths, files, progress):
            adopt(path, file, downloads, progress=progress)
        zips = {Path(file.name).stem: file for file in files}
        by_hand = by_hand_command("nmnist", root, "FILE")
        staging = staging_folder(final)
        for folder, count in expected.items():
            part = staging / folder
            if count_recordings(part, _SUFFIX) == count:  # complete since an earlier call
                continue
            if part.exists():
                shutil.rmtree(part)
            path = download(
                zips[folder],
                downloads,
                mirrors=mirrors,
                retry=retry,
                by_hand=by_hand,
                progress=progress,
            )
            _unpack(path, part, count, progress)
        staging.rename(final)
    return final


def _check_complete(folder: Path, expected: Mapping[str, int]) -> None:
    """Raise FetchError if a finished folder has another number of recordings than expected."""
    for name, count in expected.items():
        actual = count_recordings(folder / name, _SUFFIX)
        if actual != count:
            raise FetchError(
                f"{folder / name} holds {actual:,} recordings, expected {count:,}; move {folder} "
                "away and repeat the command"
            )


def _unpack(archive: Path, folder: Path, expected: int, progress: bool | None) -> None:
    """Unpack the recordings of one zip; raise FetchError if their number is not as expected."""
    with open_zip(archive, str(archive)) as opened:
        count = extract(
            opened,
            str(archive),
            folder,
            limit=_LIMIT,
            members=_recordings_of(folder.name),
            progress=progress,
        )
    if count != expected:
        raise FetchError(
            f"{archive} holds {count:,} recordings {folder.name}/<digit>/<id>.bin, expected "
            f"{expected:,}; move it away and repeat the command"
        )


def _recordings_of(folder: str) -> Members:
    """Select `[<any>/]<folder>/<digit>/<id>.bin` and place it at `<digit>/<id>.bin`."""
    layout = re.compile(rf"(?:[^/]+/)?{folder}/(\d/\d+\.bin)", re.ASCII)

    def place(member: str) -> str | None:
        match = layout.fullmatch(member)
        return match[1] if match else None

    return place


def _is_zip(name: str) -> bool:
    """Whether a file is a zip, to judge by its name."""
    return name.lower().endswith(".zip")


def _recognize(
    paths: Sequence[Path], files: Sequence[RemoteFile], progress: bool | None
) -> Iterator[tuple[RemoteFile, Path]]:
    """Yield each published file among the given ones, with its path. They are found by checksum.

    Raises:
        FetchError: A given path is no published file and no folder of them.
    """
    by_checksum = {
        parse_checksum(file.checksum): file for file in files if file.checksum is not None
    }
    algorithms = sorted({algorithm for algorithm, _ in by_checksum})
    for path in paths:
        candidates = [path]
        if path.is_dir():
            entries = [entry for entry in visible_entries(path) if entry.is_file()]
            candidates = [path / entry.name for entry in entries if _is_zip(entry.name)]
        recognized = {}
        for candidate in candidates:
            if candidate.stat().st_size > MAX_SIZE:
                continue
            for algorithm in algorithms:
                checksum = algorithm, hex_digest(candidate, algorithm, progress)
                if checksum in by_checksum:
                    recognized[by_checksum[checksum]] = candidate
        if not recognized:
            zips = ", ".join(f"{file.name} ({file.checksum})" for file in files)
            folders = " and ".join(Path(file.name).stem for file in files)
            raise FetchError(
                f"{path} is none of {zips}, no folder of them and no folder that holds {folders}; "
                "give one of these"
            )
        yield from recognized.items()
