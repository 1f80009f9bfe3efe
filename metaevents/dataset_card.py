"""The generated parts of a dataset card: facts and statistics, as Markdown tables.

Facts come from a dataset's package file, statistics are measured from an archive:

    python -m metaevents.dataset_card double-nmnist
    python -m metaevents.dataset_card data/double-nmnist.h5

The cards themselves, `cards/datasets/*.md`, are written by hand around these tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from metaevents.archive.reader import Archive
from metaevents.benchmark.markdown import table
from metaevents.cache import cell_index
from metaevents.cli.base import Parser, run_action
from metaevents.events import crop
from metaevents.files import user_path
from metaevents.specs import PARTITIONS, get_spec


def facts_table(name: str) -> str:
    """Return what is fixed about a built-in dataset, as a Markdown table.

    Args:
        name: Name of the dataset, such as "double-nmnist".

    Raises:
        UsageError: There is no dataset of that name.
    """
    spec = get_spec(name)
    recordings, composition = spec.recordings, spec.composition
    rules = spec.rules(simulated=False)
    width, height = recordings["sensor_size"]
    counts = recordings["counts"]
    rows = {
        "name, protocol version": f"`{name}`, {spec.protocol_version}",
        "recordings": f"{recordings['title']}, {sum(counts.values()):,}: {_describe(counts)}",
        "component classes": f"{len(recordings['labels'])}: {recordings['labels']}",
        "sensor": f"{width} x {height} pixels",
        "composition": f"{composition.arity} side by side, "
        f"crop {composition.crop[0]} x {composition.crop[1]}, "
        f"axes divided by {composition.downsample}, "
        f"{composition.window_us // 1000} ms in {composition.bins} bins",
        "frames (T, P, H, W)": f"{spec.frame_shape}",
    }
    for class_split, splits in rules.splits.items():
        rows[f"classes, {class_split}"] = ", ".join(
            f"{split} {len(classes)}" for split, classes in splits.items()
        )
    rows["gap between support and query"] = (
        f"{rules.min_gap} files" if rules.min_gap else "none needed"
    )
    for file in recordings["files"]:
        checksum = file["checksum"].replace(":", " ")
        rows[f"file {file['name']}"] = f"<{file['url']}>, {checksum}"
    if recordings["dead_links"]:
        rows["dead URLs"] = ", ".join(f"<{url}>" for url in recordings["dead_links"])
    if "openi" in recordings:
        rows["mirror"] = "OpenI, {dataset}, {file}".format(**recordings["openi"])
    rows["homepage"] = f"<{recordings['homepage']}>"
    rows["license"] = f"{recordings['license']}, <{recordings['license_url']}>"
    rows["citation"] = recordings["citation"]
    return table(["", ""], rows.items())


def _describe(counts: Mapping[str, int]) -> str:
    """Recordings per folder or class, such as "Train 60,000, Test 10,000" or "4,200 per class"."""
    if len(set(counts.values())) == 1 and len(counts) > 2:
        return f"{next(iter(counts.values())):,} per class"
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def statistics_table(archive: Archive) -> str:
    """Return statistics measured from all recordings of an archive, as a Markdown table.

    Args:
        archive: An archive of a built-in dataset.

    Raises:
        UsageError: The archive is of another dataset.
    """
    composition = get_spec(archive.dataset).composition
    events, inside, on, cells, largest, last_ms = [], [], [], [], [], []
    for _, recording in archive.iterate():
        counts = np.unique(cell_index(recording, composition), return_counts=True)[1]
        events.append(len(recording))
        inside.append(len(crop(recording, *composition.crop)) / len(recording))
        on.append(recording["p"].mean())
        cells.append(len(counts))
        largest.append(counts.max(initial=0))
        last_ms.append(recording["t"][-1] / 1000)
    per_label = {
        partition: [len(archive.select(label, [partition])) for label in archive.labels]
        for partition in PARTITIONS
    }
    totals = ", ".join(f"{partition} {sum(n):,}" for partition, n in per_label.items())
    ranges = ", ".join(
        f"{partition} {min(n):,} to {max(n):,}" for partition, n in per_label.items()
    )
    cells_per_side = np.prod(composition.frame_shape) // composition.arity
    size = archive.path.stat().st_size
    rows = {
        "recordings": f"{len(archive):,} ({totals})",
        "recordings per label": ranges,
        "events per recording in the window": _spread(events),
        "share of these events inside the crop": f"{np.mean(inside):.1%}",
        "ON fraction": _spread(on, 3),
        f"occupied cells per recording, of {cells_per_side:,}": _spread(cells),
        "largest count in a cell": max(largest),
        "last event in the window, ms": _spread(last_ms, 1),
        "archive": f"{size:,} bytes, {size / sum(events):.2f} per event",
        "fingerprint": f"`{archive.fingerprint}`",
    }
    title = f"{archive.dataset}, source `{archive.source}`"
    return table([title, "mean ± standard deviation (5th, 50th, 95th percentile)"], rows.items())


def _spread(values: Sequence[float], digits: int = 0) -> str:
    """Mean, standard deviation and percentiles of one number per recording."""
    statistics = (np.mean(values), np.std(values), *np.percentile(values, [5, 50, 95]))
    return "{} ± {} ({}, {}, {})".format(*(f"{value:,.{digits}f}" for value in statistics))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m metaevents.dataset_card ARCHIVE_OR_NAME`; return the exit status."""
    parser = Parser(
        prog="python -m metaevents.dataset_card",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        metavar="ARCHIVE_OR_NAME",
        help="an archive (.h5), for its statistics, or the name of a built-in dataset, for facts",
    )

    def run() -> None:
        what = parser.parse_args(arguments).what
        path = user_path(what)
        print(statistics_table(Archive(path)) if path.exists() else facts_table(what))

    return run_action(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
