"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.specs` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from metaevents.download.http import (
    RemoteFile,
    RetryPolicy,
    adopt,
    download,
    hex_digest,
    parse_checksum,
)
from metaevents.download.staging import (
    by_hand_command,
    count_files,
    existing_places,
    report_counts,
    staging_folder,
    use_in_place,
)
from metaevents.download.zips import Members, extract
from metaevents.errors import FetchError
from metaevents.files import PathLike, exclusive_lock

_NMNIST_LIMIT = (
    4 << 30
)  # bytes that one zip may unpack to; the official Train folder has about 1.2 GB


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
    """N-MNIST as `root/nmnist` with `Train/<digit>/<id>.bin` and `Test/<digit>/<id>.bin`.

    Orchard, Jayawant, Cohen and Thakor 2015, Frontiers in Neuroscience 9:437.

    Args:
        files: one zip a folder, named after it: `Train.zip`, `Test.zip`. They are kept in `root/downloads`.
        expected: folder -> number of recordings.
        given: what the user has already: zips, known by their checksum whatever their names, or a folder of them; or a
            folder of the official layout, which is used where it is.
        mirrors, retry, progress: as for `download`.

    Returns:
        `root/nmnist`, or the given folder of the official layout.

    Raises:
        MissingError: a given path that does not exist.
        FetchError: a download or an unpacking that failed, a given file that is none of the zips, or another number of
            recordings than expected.
    """
    root = Path(root).expanduser()
    final = root / "nmnist"
    places = existing_places(given)
    for place in places:
        if all((place / folder).is_dir() for folder in expected):
            report_counts(
                place,
                expected,
                {folder: count_files(place / folder, "*/*.bin") for folder in expected},
            )
            return use_in_place(place)
    with exclusive_lock(final):
        if final.exists():
            for folder, count in expected.items():
                if (found := count_files(final / folder, "*/*.bin")) != count:
                    raise FetchError(
                        f"{final / folder} holds {found:,} recordings, expected {count:,}; move {final} away "
                        "and repeat the command"
                    )
            return final
        downloads = root / "downloads"
        for file, path in _recognize(places, files, progress):
            adopt(path, file, downloads, progress=progress)
        zips = {Path(file.name).stem: file for file in files}
        by_hand = by_hand_command("nmnist", root, "FILE")
        staging = staging_folder(final)
        for folder, count in expected.items():
            part = staging / folder
            if count_files(part, "*/*.bin") == count:  # of an earlier call
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
            found = extract(
                path, part, limit=_NMNIST_LIMIT, members=_nmnist_members(folder), progress=progress
            )
            if found != count:
                raise FetchError(
                    f"{path} holds {found:,} recordings {folder}/<digit>/<id>.bin, expected {count:,}; move it away "
                    "and repeat the command"
                )
        staging.rename(final)
    return final


def _nmnist_members(folder: str) -> Members:
    layout = re.compile(rf"(?:[^/]+/)?{folder}/(\d/\d+\.bin)", re.ASCII)

    def place(member: str) -> str | None:
        match = layout.fullmatch(member)
        return match[1] if match else None

    return place


def _recognize(
    places: Sequence[Path], files: Sequence[RemoteFile], progress: bool | None
) -> Iterator[tuple[RemoteFile, Path]]:
    """The published files among those given, by checksum."""
    by_checksum = {
        parse_checksum(file.checksum): file for file in files if file.checksum is not None
    }
    algorithms = sorted({algorithm for algorithm, _ in by_checksum})
    for place in places:
        candidates = sorted(place.glob("*.zip")) if place.is_dir() else [place]
        found = {
            by_checksum[key]: path
            for path in candidates
            for key in (
                (algorithm, hex_digest(path, algorithm, progress)) for algorithm in algorithms
            )
            if key in by_checksum
        }
        if not found:
            wanted = ", ".join(f"{file.name} ({file.checksum})" for file in files)
            folders = " and ".join(Path(file.name).stem for file in files)
            raise FetchError(
                f"{place} is none of {wanted}, no folder of them and no folder that holds {folders}; give one of these"
            )
        yield from found.items()
