"""Download, verify and unpack recordings, or use files that the user has.

`fetch_recordings` makes a folder of the official layout from what a dataset's package file says,
through `fetch_nmnist`, `fetch_asl_dvs` or `fetch_n_omniglot`. Below these, `download` brings one
file, `adopt` takes a file that the user has, and `unpack` opens a zip.

A file or folder under its final name is always complete: one process at a time makes it under
another name and renames it at the end. A call that was interrupted is continued by the next one.

URLs, checksums and numbers of recordings are arguments here; `metaevents.specs` holds them. What a
recording contains is left to `metaevents.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaevents.download.asl_dvs import fetch_asl_dvs
from metaevents.download.http import RemoteFile, RetryPolicy, adopt, download, verify_checksum
from metaevents.download.n_omniglot import fetch_n_omniglot
from metaevents.download.nmnist import fetch_nmnist
from metaevents.download.zips import unpack
from metaevents.files import PathLike

__all__ = [
    "RemoteFile",
    "RetryPolicy",
    "adopt",
    "download",
    "fetch_asl_dvs",
    "fetch_n_omniglot",
    "fetch_nmnist",
    "fetch_recordings",
    "unpack",
    "verify_checksum",
]


def fetch_recordings(
    recordings: Mapping[str, Any],
    root: PathLike,
    *,
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    retry: RetryPolicy = RetryPolicy(),
    progress: bool | None = None,
) -> Path:
    """Fetch the recordings that a dataset's package file describes.

    Args:
        recordings: `DatasetSpec.recordings`.
        root: Folder in which the folder of recordings is made.
        given: Files and folders that the user has; see the function of the dataset.
        mirrors: URLs tried before the official ones; see `download`.
        retry: Retry and timeout policy per URL.
        progress: True or False for progress bars or none; None shows them on a terminal only.

    Returns:
        A folder of the official layout.

    Raises:
        MissingError: A given path does not exist, or the client that is needed is not installed.
        FetchError: A download or an unpacking failed, or recordings are missing.
    """
    options: dict[str, Any] = {
        "given": given,
        "mirrors": mirrors,
        "retry": retry,
        "progress": progress,
    }
    if "openi" in recordings:
        return fetch_asl_dvs(
            root,
            dataset=recordings["openi"]["dataset"],
            filename=recordings["openi"]["file"],
            expected=recordings["counts"],
            dead_links=recordings["dead_links"],
            **options,
        )
    files = [
        RemoteFile(file["name"], (file["url"],), file["checksum"], file.get("size"))
        for file in recordings["files"]
    ]
    if "figshare" in recordings:
        return fetch_n_omniglot(
            root,
            files,
            record=recordings["figshare"]["record"],
            expected=recordings["figshare"]["characters"],
            **options,
        )
    return fetch_nmnist(root, files, expected=recordings["counts"], **options)
