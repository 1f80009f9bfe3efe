"""The benchmark's protocols, read from package files: which episodes a learner is scored on, and their digests.

`protocols.json` is the table: dataset x setting x pairing x class split. `episode-digests.json` holds, for known archives, the
digest of each protocol's episode list, so that anybody can tell that two scores are over the same episodes;
`python -m metaevents.benchmark.episode_digests ARCHIVE ...` writes it anew. Running a learner is left to
`metaevents.benchmark.evaluation`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from metaevents.benchmark.protocols import DATA, Protocol, episode_list, protocols, sampler
from metaevents.datasets import load
from metaevents.errors import UsageError
from metaevents.files import PathLike

_DIGESTS = "episode-digests.json"


def published_digest(fingerprint: str, run: Protocol) -> str | None:
    """The published digest of a protocol's episode list on an archive, or None for an archive that is not listed.

    Args:
        fingerprint: of the archive, hex SHA-256.
    """
    return _published_digests().get((fingerprint, run))


@cache
def _published_digests() -> Mapping[tuple[str, Protocol], str]:
    published = json.loads((DATA / _DIGESTS).read_text("utf-8"))
    return {
        (fingerprint, Protocol.from_dict(row["protocol"])): row["digest"]
        for fingerprint, archive in published["archives"].items()
        for row in archive["episodes"]
    }


def digests(archive: PathLike, progress: bool | None = None) -> dict[str, Any]:
    """What `episode-digests.json` says of one archive: every protocol whose episodes it has recordings for, with its digest."""
    from metaevents.archive.reader import Archive

    opened = Archive(archive)
    episodes = []
    for protocol in protocols():
        if protocol.dataset != opened.dataset:
            continue
        dataset = load(
            protocol.dataset,
            archive,
            protocol.split,
            pairing=protocol.pairing,
            classes=protocol.classes,
        )
        try:
            sampler(dataset, protocol)
        except UsageError:  # too few recordings
            continue
        episodes.append(
            {
                "protocol": protocol.to_dict(),
                "digest": episode_list(dataset, protocol, progress).digest,
            }
        )
    return {
        "source": opened.source,
        "simulated": opened.simulated,
        "recordings": len(opened),
        "episodes": episodes,
    }


def write_digests(archives: Iterable[PathLike], path: Path, progress: bool | None = None) -> None:
    """Write the published digests of some archives as a JSON file."""
    from metaevents.archive.reader import Archive

    found = {Archive(archive).fingerprint: digests(archive, progress) for archive in archives}
    document = {"format": "metaevents-episode-digests", "archives": dict(sorted(found.items()))}
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m metaevents.benchmark.episode_digests ARCHIVE ... [--out FILE]`."""
    import argparse

    from metaevents.cli.base import run

    parser = argparse.ArgumentParser(
        prog="python -m metaevents.benchmark.episode_digests",
        description="Write the digests of all protocols' episodes anew.",
    )
    parser.add_argument(
        "archives", nargs="+", type=Path, metavar="ARCHIVE", help="an archive (.h5)"
    )
    parser.add_argument("--out", type=Path, default=Path(str(DATA / _DIGESTS)), metavar="FILE")
    args = parser.parse_args(arguments)
    return run(parser.prog, lambda: write_digests(args.archives, args.out))


if __name__ == "__main__":
    import sys

    sys.exit(main())
