"""The statistics of a dataset card, measured from an archive, as a Markdown table.

python cards/statistics.py data/double-nmnist.h5
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from metaevents import Archive
from metaevents.cache import cell_index
from metaevents.events import crop
from metaevents.specs import PARTITIONS, get_spec


def facts(name: str) -> str:
    """What is fixed about a built-in dataset."""
    spec = get_spec(name)
    recordings, composition = spec.recordings, spec.composition
    rules = spec.rules(simulated=False)
    width, height = recordings["sensor_size"]
    counts = recordings["counts"]
    rows = {
        "name, protocol version": f"`{name}`, {spec.protocol_version}",
        "recordings": f"{recordings['title']}, {sum(counts.values()):,}: {_counts(counts)}",
        "component classes": f"{len(recordings['labels'])}: {recordings['labels']}",
        "sensor": f"{width} x {height} pixels",
        "composition": f"{composition.arity} side by side, crop {composition.crop[0]} x {composition.crop[1]}, axes divided by "
        f"{composition.downsample}, {composition.window_us // 1000} ms in {composition.bins} bins",
        "frames (T, P, H, W)": f"{spec.frame_shape}",
        **{
            f"classes, {kind}": ", ".join(
                f"{split} {len(names)}" for split, names in splits.items()
            )
            for kind, splits in rules.splits.items()
        },
        "gap between support and query": f"{rules.min_gap} files"
        if rules.min_gap
        else "none needed",
        **{
            f"file {file['name']}": f"<{file['url']}>, {file['checksum'].replace(':', ' ')}"
            for file in recordings["files"]
        },
        **(
            {"dead addresses": ", ".join(f"<{url}>" for url in recordings["dead_links"])}
            if recordings["dead_links"]
            else {}
        ),
        **(
            {"mirror": "OpenI, {dataset}, {file}".format(**recordings["openi"])}
            if "openi" in recordings
            else {}
        ),
        "homepage": f"<{recordings['homepage']}>",
        "license": f"{recordings['licence']}, <{recordings['licence_url']}>",
        "citation": recordings["citation"],
    }
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]
    )


def _counts(counts: Mapping[str, int]) -> str:
    if len(set(counts.values())) == 1 and len(counts) > 2:
        return f"{next(iter(counts.values())):,} a class"
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def spread(values: list[float], digits: int = 0) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    written = [
        f"{value:,.{digits}f}" for value in (np.mean(values), np.std(values), low, middle, high)
    ]
    return "{} +- {} ({}, {}, {})".format(*written)


def table(archive: Archive) -> str:
    composition = get_spec(archive.dataset).composition
    events, kept, on, cells, busiest, last = [], [], [], [], [], []
    for _, recording in archive.iterate():
        cell = cell_index(recording, composition)
        counts = np.unique(cell, return_counts=True)[1]
        events.append(float(len(recording)))
        kept.append(len(crop(recording, *composition.crop)) / len(recording))
        on.append(float(recording["p"].mean()))
        cells.append(float(len(counts)))
        busiest.append(int(counts.max(initial=0)))
        last.append(recording["t"][-1] / 1000)
    size = archive.path.stat().st_size
    per_label = {
        p: [len(archive.select(label, [p])) for label in archive.labels] for p in PARTITIONS
    }
    rows = {
        "recordings": f"{len(archive):,} ({', '.join(f'{p} {sum(n):,}' for p, n in per_label.items())})",
        "recordings a label": ", ".join(
            f"{p} {min(n):,} to {max(n):,}" for p, n in per_label.items()
        ),
        "events a recording in the window": spread(events),
        "share of them inside the crop": f"{np.mean(kept):.1%}",
        "ON fraction": spread(on, 3),
        "occupied cells a recording, of "
        + f"{np.prod(composition.frame_shape) // composition.arity:,}": spread(cells),
        "largest count in a cell": str(max(busiest)),
        "last event in the window, ms": spread(last, 1),
        "archive": f"{size:,} bytes, {size / sum(events):.2f} an event",
        "fingerprint": f"`{archive.fingerprint}`",
    }
    lines = [
        f"| {archive.dataset}, source `{archive.source}` | mean +- deviation (5th, 50th, 95th percentile) |",
        "|---|---|",
    ]
    return "\n".join(lines + [f"| {name} | {value} |" for name, value in rows.items()])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", metavar="ARCHIVE_OR_NAME")
    what = parser.parse_args().what
    print(table(Archive(what)) if Path(what).exists() else facts(what))
