"""Facts of an archive, as `metaevents info --json` prints them.

Counts, attributes, side files and the episode settings that fit. How they are printed as text is
left to `metaevents.cli.data`.
"""

from __future__ import annotations

from typing import Any

from metaevents import cache
from metaevents.archive.reader import Archive
from metaevents.datasets import BUILT_IN, ComposedDataset
from metaevents.sampling import EpisodeSampler
from metaevents.specs import CLASS_SPLITS, PARTITIONS, get_spec

_ATTRIBUTES = (
    "format",
    "format_version",
    "dataset",
    "protocol_version",
    "source",
    "units",
    "window_us",
    "licence",
    "citation",
    "creator",
    "recordings",
    "events",
    "contents",
    "fingerprint",
)
"""Archive attributes that are copied under their own names."""

_SETTINGS = ((5, 1, 15), (5, 5, 15), (20, 1, 15), (20, 5, 15))
"""(ways, shots, queries per class) of the usual episodes."""


def archive_info(archive: Archive) -> dict[str, Any]:
    """Return the facts of an archive; all values can be written as JSON.

    Args:
        archive: An open archive.

    Returns:
        The attributes of the archive and:

        - `simulated`: whether the recordings are simulated.
        - `sensor_size`: [width, height] in pixels.
        - `labels`: the component classes.
        - `bytes`, `bytes_per_event`: size of the file.
        - `recordings_per_label`: partition -> label -> number of recordings.
        - `repairs`: kind of repair -> number of cases, counted when the archive was built.
        - `episodes`: see `fitting_episodes`.
        - `side_files`: path and bytes of the decoded side files in the cache.
    """
    size = archive.path.stat().st_size
    return {
        **{name: archive.attributes[name] for name in _ATTRIBUTES},
        "simulated": archive.simulated,
        "sensor_size": list(archive.sensor_size),
        "labels": list(archive.labels),
        "bytes": size,
        "bytes_per_event": size / max(1, int(archive.attributes["events"])),
        "recordings_per_label": {
            partition: {label: len(archive.select(label, [partition])) for label in archive.labels}
            for partition in PARTITIONS
        },
        "repairs": archive.repairs,
        "episodes": fitting_episodes(archive),
        "side_files": [
            {"path": str(path), "bytes": file_size}
            for path, file_size in cache.side_files(archive.fingerprint)
        ],
    }


def fitting_episodes(archive: Archive) -> list[dict[str, Any]]:
    """Return which of the usual episodes the archive has enough recordings for.

    Args:
        archive: An open archive.

    Returns:
        One row per class split, split and setting, with the keys `classes`, `split`, `ways`,
        `shots`, `queries` and `fits`; a row that does not fit has the reason in `why`. Settings
        with more ways than the split has classes are left out. Empty for an archive that is not of
        a built-in dataset.
    """
    if archive.dataset not in BUILT_IN:
        return []
    rules = get_spec(archive.dataset, archive.protocol_version).rules(simulated=archive.simulated)
    rows: list[dict[str, Any]] = []
    for classes in CLASS_SPLITS:
        for split in PARTITIONS:
            dataset = ComposedDataset(archive, rules, split, class_split=classes)
            for ways, shots, queries in _SETTINGS:
                if ways > len(dataset):
                    continue
                row = {
                    "classes": classes,
                    "split": split,
                    "ways": ways,
                    "shots": shots,
                    "queries": queries,
                }
                problem = EpisodeSampler.problem(dataset, ways, shots, queries)
                why = {} if problem is None else {"why": problem}
                rows.append({**row, "fits": problem is None, **why})
    return rows
