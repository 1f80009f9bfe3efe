"""Facts of an archive, as `metaevents info --json` prints them.

Counts, attributes, side files and the episode settings that fit. How they are printed as text is
left to `metaevents.cli.data`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from metaevents import cache
from metaevents.archive.reader import Archive
from metaevents.building import dataset_rules
from metaevents.custom_rules import archived_rules
from metaevents.datasets import ComposedDataset
from metaevents.sampling import EpisodeSampler
from metaevents.specs import PARTITIONS, DatasetRules

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
        - `recordings_per_label`: see the function of that name.
        - `repairs`: kind of repair -> number of cases, counted when the archive was built.
        - `episodes`: see `fitting_episodes`.
        - `composition`: see `composition_facts`; None for an archive that keeps no rules of a
          user's own composition.
        - `side_files`: path and bytes of the decoded side files in the cache.
    """
    size = archive.path.stat().st_size
    rules = dataset_rules(archive)
    return {
        **{name: archive.attributes[name] for name in _ATTRIBUTES},
        "simulated": archive.simulated,
        "sensor_size": list(archive.sensor_size),
        "labels": list(archive.labels),
        "bytes": size,
        "bytes_per_event": size / max(1, int(archive.attributes["events"])),
        "recordings_per_label": recordings_per_label(archive),
        "repairs": archive.repairs,
        "episodes": fitting_episodes(archive),
        "composition": None if rules is None else composition_facts(archive, rules),
        "side_files": [
            {"path": str(path), "bytes": file_size}
            for path, file_size in cache.side_files(archive.fingerprint)
        ],
    }


def recordings_per_label(archive: Archive) -> dict[str, dict[str, int]]:
    """Return the number of recordings of every label in every partition.

    Args:
        archive: An open archive.

    Returns:
        Partition -> label -> number. If no label has recordings in several partitions, the labels
        that a partition has no recordings of are left out.
    """
    counts = {
        partition: {label: len(archive.select(label, [partition])) for label in archive.labels}
        for partition in PARTITIONS
    }
    used = Counter(label for part in counts.values() for label, count in part.items() if count)
    if max(used.values(), default=0) > 1:
        return counts
    return {
        partition: {label: count for label, count in part.items() if count}
        for partition, part in counts.items()
    }


def composition_facts(archive: Archive, rules: DatasetRules) -> dict[str, Any]:
    """Return the facts of the dataset that an archive was made for.

    Args:
        archive: An open archive.
        rules: The dataset's rules.

    Returns:
        - `title`: name in text.
        - `arity`: number of recordings of a sample.
        - `frame_shape`: [T, P, H, W].
        - `classes`: class split -> split -> number of classes.
        - `trained_test_classes`: class split -> number of test classes that also train.
        - `partition`: name of the partition rule.
        - `protocol`: the protocol that learners are evaluated on if none is named.
    """
    custom = archived_rules(archive)
    return {
        "title": rules.title or rules.name,
        "arity": rules.composition.arity,
        "frame_shape": list(rules.composition.frame_shape),
        "classes": {
            name: {split: len(classes) for split, classes in by_split.items()}
            for name, by_split in rules.splits.items()
        },
        "trained_test_classes": {
            name: len({*by_split.get("train", ())} & {*by_split.get("test", ())})
            for name, by_split in rules.splits.items()
        },
        "partition": rules.partition if custom is None else custom.partition,
        "protocol": rules.protocol,
    }


def fitting_episodes(archive: Archive) -> list[dict[str, Any]]:
    """Return which of the usual episodes the archive has enough recordings for.

    Args:
        archive: An open archive.

    Returns:
        One row per class split, split and setting, with the keys `classes`, `split`, `ways`,
        `shots`, `queries` and `fits`; a row that does not fit has the reason in `why`. Settings
        with more ways than the split has classes are left out. Empty for an archive that keeps no
        rules of a user's own composition.
    """
    rules = dataset_rules(archive)
    if rules is None:
        return []
    rows: list[dict[str, Any]] = []
    for classes, by_split in rules.splits.items():
        for split in by_split:
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
