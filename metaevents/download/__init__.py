"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.specs` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaevents.download.asl_dvs import fetch_asl_dvs
from metaevents.download.http import RemoteFile, RetryPolicy
from metaevents.download.nmnist import fetch_nmnist
from metaevents.files import PathLike


def fetch_recordings(
    recordings: Mapping[str, Any],
    root: PathLike,
    *,
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    retry: RetryPolicy = RetryPolicy(),
    progress: bool | None = None,
) -> Path:
    """What a dataset's package file describes (`DatasetSpec.recordings`), as a folder of the official layout.

    Parameters, result and errors as for `fetch_nmnist` and `fetch_asl_dvs`.
    """
    common: dict[str, Any] = {
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
            **common,
        )
    files = [
        RemoteFile(f["name"], (f["url"],), f["checksum"], f.get("size"))
        for f in recordings["files"]
    ]
    return fetch_nmnist(root, files, expected=recordings["counts"], **common)
