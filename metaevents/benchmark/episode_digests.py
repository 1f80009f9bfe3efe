"""The published digests of the protocols' episode lists on known archives.

They are in `metaevents/data/episode-digests.json`. Two scores with the same digest are over the
same episodes. `python -m metaevents.benchmark.episode_digests ARCHIVE ...` writes the file. Drawing
the episodes is left to `metaevents.benchmark.protocols`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from metaevents.archive.reader import Archive
from metaevents.benchmark.protocols import (
    DATA,
    Protocol,
    episode_list,
    fit_problem,
    protocols,
)
from metaevents.datasets import load
from metaevents.files import PathLike, require_writable, write_atomic

_FILE = "episode-digests.json"


def published_digest(fingerprint: str, protocol: Protocol) -> str | None:
    """Return the published digest of a protocol's episode list on an archive.

    Args:
        fingerprint: Fingerprint of the archive, hex SHA-256.
        protocol: The protocol.

    Returns:
        Hex SHA-256; None if the archive or the protocol is not listed.
    """
    return _published_digests().get((fingerprint, protocol))


def published_archive(fingerprint: str) -> Mapping[str, Any] | None:
    """Return what is published of an archive: its source, simulated and recordings.

    Args:
        fingerprint: Fingerprint of the archive, hex SHA-256.

    Returns:
        The values by name; None if the archive is not listed.
    """
    archive = _archives().get(fingerprint)
    if archive is None:
        return None
    return {name: archive[name] for name in ("source", "simulated", "recordings")}


@cache
def _archives() -> Mapping[str, Mapping[str, Any]]:
    """Return the published archives by fingerprint."""
    archives: Mapping[str, Any] = json.loads((DATA / _FILE).read_text("utf-8"))["archives"]
    return archives


@cache
def _published_digests() -> Mapping[tuple[str, Protocol], str]:
    """Return all published digests by fingerprint and protocol."""
    return {
        (fingerprint, Protocol.from_dict(row["protocol"])): row["digest"]
        for fingerprint, archive in _archives().items()
        for row in archive["episodes"]
    }


def archive_digests(archive: PathLike, progress: bool | None = None) -> dict[str, Any]:
    """Compute the digests of all protocols for which an archive has enough recordings.

    Args:
        archive: Path of the archive.
        progress: True shows a progress bar, False hides it, None shows it on a terminal.

    Returns:
        The archive's entry in `episode-digests.json`.
    """
    opened = Archive(archive)
    episodes = []
    for protocol in protocols(all_versions=True):
        if protocol.dataset != opened.dataset:
            continue
        dataset = load(
            protocol.dataset,
            archive,
            protocol.split,
            pairing=protocol.pairing,
            classes=protocol.classes,
        )
        if fit_problem(dataset, protocol) is not None:
            continue
        digest = episode_list(dataset, protocol, progress).digest
        episodes.append({"protocol": protocol.to_dict(), "digest": digest})
    return {
        "source": opened.source,
        "simulated": opened.simulated,
        "recordings": len(opened),
        "episodes": episodes,
    }


def write_digests(archives: Iterable[PathLike], path: Path, progress: bool | None = None) -> None:
    """Write the digests of some archives as a JSON file.

    Args:
        archives: Paths of the archives.
        path: The file, which is replaced.
        progress: True shows a progress bar, False hides it, None shows it on a terminal.
    """
    digests = {
        Archive(archive).fingerprint: archive_digests(archive, progress) for archive in archives
    }
    document = {"format": "metaevents-episode-digests", "archives": dict(sorted(digests.items()))}
    write_atomic(path, json.dumps(document, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m metaevents.benchmark.episode_digests ARCHIVE ... [--out FILE]`.

    Args:
        arguments: Words of the command line; `sys.argv[1:]` if None.

    Returns:
        The exit status.
    """
    from metaevents.cli.base import Parser, path_argument, run_action

    parser = Parser(
        prog="python -m metaevents.benchmark.episode_digests",
        description="Write the digests of all protocols' episode lists on some archives.",
    )
    parser.add_argument(
        "archives", nargs="+", type=path_argument, metavar="ARCHIVE", help="an archive (.h5)"
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        default=Path(str(DATA / _FILE)),
        metavar="FILE",
        help="the file to write; the package's own by default",
    )

    def work() -> None:
        args = parser.parse_args(arguments)
        require_writable(args.out)
        write_digests(args.archives, args.out)

    return run_action(parser.prog, work)


if __name__ == "__main__":
    sys.exit(main())
