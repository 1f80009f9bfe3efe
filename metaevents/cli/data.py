"""The command line `metaevents`: a table of commands. Each imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metaevents.cli.base import Command, json_flag, print_json
from metaevents.errors import UsageError


def commands() -> Iterable[Command]:
    """The commands on recordings and archives, in the order of `metaevents --help`."""
    yield from (
        Command("quickstart", "simulated data to a scored baseline, without a download", _quickstart_arguments, _quickstart),
        Command("download", "fetch, verify and unpack recordings; goes on where it was", _download_arguments, _download),
        Command("build", "build an archive from recordings", _build_arguments, _build),
        Command("info", "what an archive holds", _info_arguments, _info),
        Command("verify", "check every checksum, offset and coordinate of an archive", _verify_arguments, _verify),
        Command("show", "draw composed samples of an archive", _show_arguments, _show),
        Command("clean", "remove decoded side files from the cache", _clean_arguments, _clean),
    )  # fmt: skip


_DATASETS = ("double-nmnist", "double-asl-dvs")


def _download_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recordings", choices=("nmnist", "asl-dvs"), help="which recordings")
    parser.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder for the recordings"
    )
    parser.add_argument(
        "--from",
        dest="given",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE_OR_DIR",
        help="files that you have already",
    )
    parser.add_argument(
        "--mirror",
        dest="mirrors",
        nargs="+",
        action="extend",
        default=[],
        metavar="URL",
        help="addresses to try first",
    )


def _download(args: argparse.Namespace) -> None:
    from metaevents.download import fetch_recordings
    from metaevents.specs import specs

    (spec,) = (spec for spec in newest(specs()) if spec.recordings["folder"] == args.recordings)
    folder = fetch_recordings(spec.recordings, args.root, given=args.given, mirrors=args.mirrors)
    print(f"{spec.recordings['title']}: recordings in {folder}")
    print(
        f"next: metaevents build {spec.name} --root {args.root}"
        + _source_hint(folder, args.root, args.recordings)
    )


def _source_hint(folder: Path, root: Path, name: str) -> str:
    return "" if folder.resolve() == (root / name).resolve() else f" --source {folder}"


def newest(known: Any) -> list[Any]:
    """The newest protocol version of every built-in dataset."""
    return [versions[max(versions)] for versions in known.values()]


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=_DATASETS, help="which dataset")
    parser.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder for the archive"
    )
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="folder of the recordings; DIR/nmnist or DIR/asl-dvs of --root by default",
    )
    parser.add_argument(
        "--simulated", action="store_true", help="build from simulated recordings, made in --root"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=None,
        metavar="N",
        help="reading processes; all processors by default",
    )
    parser.add_argument("--force", action="store_true", help="replace an archive that is there")
    json_flag(parser)


def _build(args: argparse.Namespace) -> None:
    import time

    from metaevents.archive.reader import Archive
    from metaevents.building import build_archive, open_source
    from metaevents.specs import get_spec

    if args.simulated and args.source:
        raise UsageError("--simulated and --source are both given; give one of them")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}; give at least 1")
    path = args.root / f"{args.dataset}.h5"
    if path.exists() and not args.force:
        raise UsageError(f"{path} exists and was left as it is; pass --force to replace it")
    jobs = args.jobs or os.cpu_count() or 1
    folder = args.source or args.root / get_spec(args.dataset).recordings["folder"]
    if args.simulated:
        from metaevents.simulation.writers import simulate_recordings

        folder = simulate_recordings(args.dataset, args.root, jobs=jobs)
    elif args.source is None and not folder.is_dir():
        name = get_spec(args.dataset).recordings["folder"]
        raise UsageError(
            f"no recordings in {folder}; run `metaevents download {name} --root {args.root}`, name their folder with "
            "--source, or try --simulated"
        )
    start = time.perf_counter()
    build_archive(
        args.dataset, path, open_source(args.dataset, folder), jobs=jobs, force=args.force
    )
    archive, seconds = Archive(path), time.perf_counter() - start
    if args.json:
        print_json({"archive": str(path), "seconds": seconds, **describe(archive)})
        return
    print(
        f"{path}: {len(archive):,} recordings ({archive.source}), {path.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s\n"
        f"fingerprint {archive.fingerprint}"
    )
    for kind, count in archive.repairs.items():
        print(f"mended: {kind.replace('_', ' ')}: {count:,}")


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, metavar="FILE", help="an archive (.h5)")
    json_flag(parser)


def describe(archive: Any) -> dict[str, Any]:
    """What `metaevents info --json` says of an archive."""
    from metaevents import cache
    from metaevents.specs import PARTITIONS

    counts = {
        part: {label: len(archive.select(label, [part])) for label in archive.labels}
        for part in PARTITIONS
    }
    keys = (
        "format", "format_version", "dataset", "protocol_version", "source", "units", "window_us", "licence", "citation",
        "creator", "recordings", "events", "contents", "fingerprint",
    )  # fmt: skip
    size = archive.path.stat().st_size
    return {
        **{key: archive.attributes[key] for key in keys},
        "simulated": archive.simulated,
        "sensor_size": list(archive.sensor_size),
        "labels": list(archive.labels),
        "bytes": size,
        "bytes_per_event": size / max(1, int(archive.attributes["events"])),
        "recordings_per_label": counts,
        "mended": archive.repairs,
        "episodes": fitting_episodes(archive),
        "side_files": [
            {"path": str(path), "bytes": size}
            for path, size in cache.side_files(archive.fingerprint)
        ],
    }


def fitting_episodes(archive: Any) -> list[dict[str, Any]]:
    """For every split and usual setting of a built-in dataset: whether its episodes fit the archive, and if not, why."""
    from metaevents.datasets import BUILT_IN, DoubleDataset
    from metaevents.sampling import EpisodeSampler
    from metaevents.specs import CLASS_SPLITS, PARTITIONS, get_spec

    if archive.dataset not in BUILT_IN:
        return []
    rules = get_spec(archive.dataset, archive.protocol_version).rules(simulated=archive.simulated)
    found = []
    for classes in CLASS_SPLITS:
        for split in PARTITIONS:
            dataset = DoubleDataset(archive, rules, split, class_split=classes)
            for ways, shots, queries in ((5, 1, 15), (5, 5, 15), (20, 1, 15), (20, 5, 15)):
                if ways > len(dataset):
                    continue
                row = {
                    "classes": classes,
                    "split": split,
                    "ways": ways,
                    "shots": shots,
                    "queries": queries,
                }
                try:
                    EpisodeSampler(dataset, ways, shots, queries, seed=0)
                    found.append({**row, "fits": True})
                except UsageError as error:
                    found.append({**row, "fits": False, "why": str(error)})
    return found


def _info(args: argparse.Namespace) -> None:
    from metaevents import cache
    from metaevents.archive.reader import Archive

    archive = Archive(args.archive)
    facts = describe(archive)
    if args.json:
        print_json(facts)
        return
    width, height = facts["sensor_size"]
    note = "  (SIMULATED: made by a camera model, no real recordings)" if archive.simulated else ""
    print(f"{args.archive}: {facts['dataset']}, protocol version {facts['protocol_version']}{note}")
    lines = {
        "source": facts["source"],
        "recordings": f"{facts['recordings']:,} of {len(facts['labels'])} labels, {width} x {height} pixels",
        "events": f"{facts['events']:,} in the first {facts['window_us'] / 1000:g} ms of each recording",
        "size": f"{facts['bytes']:,} bytes, {facts['bytes_per_event']:.2f} an event",
        "units": facts["units"],
        "licence": facts["licence"],
        "citation": facts["citation"],
        "format": f"{facts['format']} {facts['format_version']}, written by {facts['creator']}",
        "contents": facts["contents"],
        "fingerprint": facts["fingerprint"],
    }
    for name, value in lines.items():
        print(f"  {name:<12} {value}")
    print("  recordings a label:")
    for part, per_label in facts["recordings_per_label"].items():
        numbers = sorted(per_label.values())
        print(f"    {part:<6} {sum(numbers):>7,}   {numbers[0]:,} to {numbers[-1]:,}")
    for kind, count in facts["mended"].items():
        print(f"  mended: {kind.replace('_', ' ')}: {count:,}")
    for row in facts["episodes"]:
        if not row["fits"]:
            print(
                f"  {row['classes']} {row['split']}, {row['ways']}-way {row['shots']}-shot does not fit: {row['why']}"
            )
    print(f"  side files in {cache.cache_root()}:" + ("" if facts["side_files"] else " none yet"))
    for side in facts["side_files"]:
        print(f"    {side['bytes']:,} bytes  {side['path']}")


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, metavar="FILE", help="an archive (.h5)")
    json_flag(parser)


def _verify(args: argparse.Namespace) -> None:
    from metaevents.archive.reader import Archive
    from metaevents.building import verify_rules

    archive = Archive(args.archive)
    checked = [*archive.verify(), *verify_rules(archive)]
    if args.json:
        print_json(
            {"archive": str(args.archive), "fingerprint": archive.fingerprint, "checked": checked}
        )
        return
    for line in checked:
        print(f"ok  {line}")


def _clean_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "archive", type=Path, nargs="?", metavar="FILE", help="only the side files of this archive"
    )


def _clean(args: argparse.Namespace) -> None:
    from metaevents import cache
    from metaevents.archive.reader import Archive

    freed = cache.clear_cache(Archive(args.archive).fingerprint if args.archive else None)
    print(f"{freed:,} bytes of side files removed from {cache.cache_root()}")


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, metavar="FILE", help="an archive (.h5)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FIGURE",
        help="a .png (contact sheet) or .gif (animation)",
    )
    parser.add_argument(
        "--classes", metavar="35,72", help="class names, separated by commas; six by default"
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="only classes of this split"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses the recordings")


def _show(args: argparse.Namespace) -> None:
    from metaevents.show import show

    names = (
        [name.strip() for name in args.classes.split(",") if name.strip()] if args.classes else None
    )
    show(args.archive, args.out, classes=names, split=args.split, seed=args.seed)
    print(f"{args.out}: written")


def _quickstart_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keep archive, figure and report here"
    )


def _quickstart(args: argparse.Namespace) -> None:
    from metaevents.quickstart import quickstart

    quickstart(args.out)
