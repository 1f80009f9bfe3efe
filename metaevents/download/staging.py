"""Recordings onto the user's disk: download, verify, unpack, or take over what is there already.

`download` brings one file, `adopt` takes one that the user has, `unpack` opens a zip. `fetch_nmnist` and
`fetch_asl_dvs` make of them a folder of the official layout, and `fetch_recordings` does so from what a dataset's
package file says. A file or folder under its final name is always whole: it is made aside, in a `.part` file or a
hidden folder, by one process at a time, and renamed when complete.

Addresses, checksums and counts are passed in (`metaevents.specs` holds them); what a recording contains is left to
`metaevents.sources`.
"""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaevents.errors import MissingError
from metaevents.files import PathLike

logger = logging.getLogger(__name__)


def existing_places(given: Sequence[PathLike]) -> list[Path]:
    places = [Path(place).expanduser() for place in given]
    for place in places:
        if not place.exists():
            raise MissingError(f"no file or folder {place}; give a path that exists")
    return places


def by_hand_command(dataset: str, root: Path, given: str) -> str:
    return f"metaevents download {dataset} --root {shlex.quote(str(root))} --from {given}"


def use_in_place(place: Path) -> Path:
    logger.warning(
        "%s is used where it is; build from it with `metaevents build --source %s`",
        place,
        shlex.quote(str(place)),
    )
    return place


def staging_folder(final: Path) -> Path:
    """The hidden folder in which `final` comes together part by part, without what a killed process left half."""
    staging = final.with_name(f".{final.name}.unpacking")
    staging.mkdir(exist_ok=True)
    for leftover in staging.glob(".*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    return staging


def count_files(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


def report_counts(place: Path, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    other = [
        f"{name} {found[name]:,} of {count:,}"
        for name, count in expected.items()
        if found[name] != count
    ]
    if other:
        logger.warning(
            "%s is not the official dataset, it holds other numbers of recordings: %s",
            place,
            ", ".join(other),
        )
