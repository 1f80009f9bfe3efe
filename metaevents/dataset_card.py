"""The generated parts of a dataset card: facts and statistics, as Markdown tables.

Facts come from a dataset's package file, statistics are measured from an archive:

    python -m metaevents.dataset_card double-nmnist
    python -m metaevents.dataset_card data/double-nmnist.h5
    python -m metaevents.dataset_card --cards cards/datasets

The cards themselves, `cards/datasets/*.md`, are written by hand around these tables. The last
command renews the facts in them, the front matter that the Hugging Face Hub reads, and the
Croissant file beside each card.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metaevents.archive.reader import Archive
from metaevents.archive_info import recordings_per_label
from metaevents.benchmark.markdown import table
from metaevents.cache import cell_index
from metaevents.cli.base import Parser, path_argument, run_action
from metaevents.component_deals import further_deals
from metaevents.errors import MissingError, UsageError
from metaevents.events import crop
from metaevents.files import user_path
from metaevents.generated_files import check_generated, with_part, write_generated
from metaevents.hub_metadata import croissant, dataset_fields, front_matter
from metaevents.specs import get_spec, specs


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
        "component classes": _describe_labels(recordings["labels"]),
        "sensor": f"{width} x {height} pixels",
        "composition": f"{_describe_arity(composition.arity)}, "
        f"crop {composition.crop[0]} x {composition.crop[1]}, "
        f"axes divided by {composition.downsample}, "
        f"{composition.window_us // 1000} ms in {composition.bins} bins",
        "frames (T, P, H, W)": f"{spec.frame_shape}",
    }
    for class_split, splits in rules.splits.items():
        rows[f"classes, {class_split}"] = ", ".join(
            f"{split} {len(classes)}" for split, classes in splits.items()
        )
    for name, deal in further_deals(spec.name).items():
        rows[f"labels, {name}"] = ", ".join(
            f"{split} {''.join(labels)}" for split, labels in deal.items()
        )
    rows["gap between support and query"] = (
        f"{rules.min_gap} files" if rules.min_gap else "none needed"
    )
    for file in recordings["files"]:
        checks = [] if "size" not in file else [f"{file['size']:,} bytes"]
        checks += [] if file["checksum"] is None else [file["checksum"].replace(":", " ")]
        rows[f"file {file['name']}"] = ", ".join([f"<{file['url']}>", *checks])
    if "figshare" in recordings:
        rows["checksums"] = f"MD5, read from <{recordings['figshare']['record']}>"
    if recordings["dead_links"]:
        rows["dead URLs"] = ", ".join(f"<{url}>" for url in recordings["dead_links"])
    if "openi" in recordings:
        rows["mirror"] = "OpenI, {dataset}, {file}".format(**recordings["openi"])
    rows["homepage"] = f"<{recordings['homepage']}>"
    rows["license"] = f"{recordings['license']}, <{recordings['license_url']}>"
    rows["citation"] = recordings["citation"]
    return table(["", ""], rows.items())


def _describe_arity(arity: int) -> str:
    """How many recordings make a sample, such as "2 side by side"."""
    return "one recording per sample" if arity == 1 else f"{arity} side by side"


def _describe_labels(labels: Sequence[str]) -> str:
    """The number of labels, and the labels themselves if each is one character."""
    if isinstance(labels, str):
        return f"{len(labels)}: {labels}"
    return f"{len(labels):,}: {labels[0]}, {labels[1]} ... {labels[-1]}"


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
        partition: list(counts.values())
        for partition, counts in recordings_per_label(archive).items()
    }
    totals = ", ".join(f"{partition} {sum(n):,}" for partition, n in per_label.items())
    ranges = ", ".join(
        f"{partition} {min(n, default=0):,} to {max(n, default=0):,}"
        for partition, n in per_label.items()
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


def card_files(folder: Path) -> dict[Path, str]:
    """Return the cards of all built-in datasets with renewed facts, and their Croissant files.

    Args:
        folder: Folder of the cards.

    Returns:
        Path -> content.

    Raises:
        MissingError: A card is missing.
        UsageError: A card has no place for the facts.
    """
    files = {}
    for name in specs():
        path = folder / f"{name}.md"
        if not path.is_file():
            raise MissingError(
                f"{path} does not exist; write the card of {name} by hand, with the line "
                f"{_mark(name)!r} where its facts belong"
            )
        files[path] = _renewed(path.read_text("utf-8"), name, path)
        document = json.dumps(croissant(name), indent=1, ensure_ascii=False)
        files[folder / f"{name}.croissant.json"] = f"{document}\n"
    return files


def _mark(name: str) -> str:
    return f"<!-- facts: {name} -->"


def _renewed(card: str, name: str, path: Path) -> str:
    """Return a card with the front matter and the facts of today."""
    body = re.sub(r"\A---\n.*?\n---\n\n?", "", card, flags=re.DOTALL)
    top = front_matter(dataset_fields(name))
    return f"{top}\n{with_part(body, _mark(name), facts_table(name), path)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m metaevents.dataset_card`; return the exit status."""
    parser = Parser(
        prog="python -m metaevents.dataset_card",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="?",
        metavar="ARCHIVE_OR_NAME",
        help="an archive (.h5), for its statistics, or the name of a built-in dataset, for facts",
    )
    parser.add_argument(
        "--cards",
        type=path_argument,
        metavar="DIR",
        help="renew the generated parts of the cards in this folder, and their Croissant files",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if the files are out of date"
    )

    def run() -> None:
        args = parser.parse_args(arguments)
        if (args.what is None) == (args.cards is None):
            raise UsageError("give either an archive or a name of a dataset, or --cards DIR")
        if args.check and args.cards is None:
            raise UsageError("--check needs --cards DIR")
        if args.cards is not None:
            _write_cards(args.cards, args.check)
            return
        path = user_path(args.what)
        print(statistics_table(Archive(path)) if path.exists() else facts_table(args.what))

    return run_action(parser.prog, run)


def _write_cards(folder: Path, check: bool) -> None:
    """Write the generated parts of all cards, or check them."""
    files = card_files(folder)
    if check:
        command = f"python -m metaevents.dataset_card --cards {folder}"
        check_generated(files, inputs="the facts of the datasets", command=command)
    else:
        write_generated(files)
    for path in files:
        print(f"{path}: {'up to date' if check else 'written'}")


if __name__ == "__main__":
    sys.exit(main())
