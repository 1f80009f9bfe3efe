"""Commands on recordings and archives: quickstart, download, build, info, verify, show, clean."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaevents.cli.base import (
    MAX_PROCESSES,
    MAX_SEED,
    Command,
    archive_argument,
    command_line,
    json_flag,
    path_argument,
    print_json,
    print_lines,
    text_path_argument,
    whole_number,
)
from metaevents.errors import UsageError

if TYPE_CHECKING:
    from metaevents.archive.reader import Archive
    from metaevents.specs import DatasetSpec

# Repeated here so that `--help` reads no package file; a test compares them with the package files.
_DATASETS = ("double-nmnist", "double-asl-dvs", "n-omniglot")
_RECORDINGS = ("nmnist", "asl-dvs", "n-omniglot")
_SPLITS = ("train", "val", "test")


def commands() -> Iterable[Command]:
    """The commands on recordings and archives, in the order of `metaevents --help`."""
    return (
        Command(
            "quickstart",
            "go from simulated recordings to a scored baseline, without a download",
            _quickstart_arguments,
            _quickstart,
        ),
        Command(
            "download",
            "download, verify and unpack recordings; continues an interrupted download",
            _download_arguments,
            _download,
        ),
        Command("build", "build an archive from recordings", _build_arguments, _build),
        Command("info", "print what an archive holds", _info_arguments, _info),
        Command(
            "verify",
            "check every checksum, offset and coordinate of an archive",
            _info_arguments,
            _verify,
        ),
        Command("show", "draw composed samples of an archive", _show_arguments, _show),
        Command("clean", "remove decoded side files from the cache", _clean_arguments, _clean),
    )


def _quickstart_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="DIR",
        help="keep archive, figure and reports in this folder (default: keep nothing)",
    )


def _quickstart(args: argparse.Namespace) -> None:
    from metaevents.quickstart import quickstart

    quickstart(args.out)


def _download_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recordings", choices=_RECORDINGS, help="which recordings")
    parser.add_argument(
        "--root", type=path_argument, required=True, metavar="DIR", help="folder for the recordings"
    )
    parser.add_argument(
        "--from",
        dest="given",
        type=path_argument,
        nargs="+",
        default=[],
        metavar="FILE_OR_DIR",
        help="files or folders downloaded before, used in place of a download",
    )
    parser.add_argument(
        "--mirror",
        dest="mirrors",
        nargs="+",
        action="extend",
        default=[],
        metavar="URL",
        help="URLs to try before the official ones",
    )


def _download(args: argparse.Namespace) -> None:
    from metaevents.download import fetch_recordings

    spec = _spec_of_recordings(args.recordings)
    folder = fetch_recordings(spec.recordings, args.root, given=args.given, mirrors=args.mirrors)
    print(f"{spec.recordings['title']}: recordings in {folder}")
    is_default = folder.resolve() == (args.root / args.recordings).resolve()
    words = ["metaevents", "build", spec.name, "--root", args.root]
    words += [] if is_default else ["--source", folder]
    print(f"next: {command_line(*words)}")


def _spec_of_recordings(name: str) -> DatasetSpec:
    """The newest rules of the built-in dataset that is composed of these recordings."""
    from metaevents.specs import get_spec, specs

    newest = [get_spec(dataset) for dataset in specs()]
    return next(spec for spec in newest if spec.recordings["folder"] == name)


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dataset", choices=_DATASETS, nargs="?", help="which built-in dataset, unless --rules"
    )
    parser.add_argument(
        "--rules",
        type=text_path_argument,
        metavar="FILE",
        help="rules of a dataset of your own: a JSON file, or n-caltech101 or cifar10-dvs; "
        "--source names its recordings",
    )
    parser.add_argument(
        "--root", type=path_argument, required=True, metavar="DIR", help="folder for the archive"
    )
    parser.add_argument(
        "--source",
        type=path_argument,
        metavar="DIR",
        help="folder of the recordings (default: nmnist, asl-dvs or n-omniglot in the folder of "
        "--root)",
    )
    parser.add_argument(
        "--simulated",
        action="store_true",
        help="simulate recordings in the folder of --root and build from them",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number(1, MAX_PROCESSES),
        metavar="N",
        help="number of processes that read recordings (default: number of processors that this "
        "process may use)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing archive")
    json_flag(parser)


def _build(args: argparse.Namespace) -> None:
    if (args.dataset is None) == (args.rules is None):
        given = "are both" if args.dataset else "are not"
        raise UsageError(
            f"a dataset and --rules {given} given; give one of {', '.join(_DATASETS)}, or --rules "
            "FILE"
        )
    if args.simulated and args.source:
        raise UsageError("--simulated and --source are both given; give one of them")
    if args.rules is None:
        _build_dataset(args)
    else:
        _build_custom(args)


def _build_dataset(args: argparse.Namespace) -> None:
    """Build the archive of a built-in dataset."""
    import time

    from metaevents.building import build_archive, open_source
    from metaevents.distributed import available_processors
    from metaevents.simulation.writers import simulate_recordings

    path = args.root / f"{args.dataset}.h5"
    _require_new(path, args.force)
    jobs = args.jobs or available_processors()
    source = None if args.simulated else open_source(args.dataset, _recordings_folder(args))
    _require_place(path)
    source = source or open_source(
        args.dataset, simulate_recordings(args.dataset, args.root, jobs=jobs)
    )
    start = time.perf_counter()
    build_archive(args.dataset, path, source, jobs=jobs, force=args.force)
    _print_build(args, path, time.perf_counter() - start)


def _build_custom(args: argparse.Namespace) -> None:
    """Build the archive of a dataset of the user's own."""
    import time

    from metaevents.composition import build_custom
    from metaevents.custom_rules import read_rules
    from metaevents.distributed import available_processors
    from metaevents.sources.kinds import open_recordings

    rules = read_rules(args.rules)
    if args.simulated:
        raise UsageError(
            "--simulated is for built-in datasets; simulate with `metaevents build DATASET "
            "--simulated`, and give the folder of the recordings with --source"
        )
    if args.source is None:
        raise UsageError("--rules needs the folder of the recordings; give it with --source DIR")
    path = args.root / f"{rules.name}.h5"
    _require_new(path, args.force)
    source = open_recordings(rules, args.source)
    rules.dataset_rules(source.labels, source.sensor_size)  # raises before a folder is made
    _require_place(path)
    start = time.perf_counter()
    jobs = args.jobs or available_processors()
    build_custom(rules, path, source, jobs=jobs, force=args.force)
    _print_build(args, path, time.perf_counter() - start)


def _require_new(path: Path, force: bool) -> None:
    """Check that an archive does not exist, or may be replaced."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists and was not changed; pass --force to replace it")


def _require_place(path: Path) -> None:
    """Make the folder of an archive and check that it takes files, before the long work."""
    from metaevents.files import require_lockable, require_writable

    path.parent.mkdir(parents=True, exist_ok=True)
    require_writable(path)
    require_lockable(path)


def _print_build(args: argparse.Namespace, path: Path, seconds: float) -> None:
    """Print what was built."""
    from metaevents.archive.reader import Archive
    from metaevents.archive_info import archive_info

    archive = Archive(path)
    if args.json:
        print_json({"archive": str(path), "seconds": seconds, **archive_info(archive)})
        return
    print(
        f"{path}: {len(archive):,} recordings ({archive.source}), "
        f"{path.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s\n"
        f"fingerprint {archive.fingerprint}"
    )
    print_lines(_repair_line(kind, count) for kind, count in archive.repairs.items())
    if args.rules is not None:
        print_lines(_composition_lines(archive_info(archive)))
        print_lines(_protocol_lines(archive))


def _recordings_folder(args: argparse.Namespace) -> Path:
    """The folder of recordings that `build` reads."""
    from metaevents.specs import get_spec

    name = get_spec(args.dataset).recordings["folder"]
    folder: Path = args.source or args.root / name
    if args.source is None and not folder.is_dir():
        raise UsageError(
            f"no recordings in {folder}; run "
            f"`{command_line('metaevents', 'download', name, '--root', args.root)}`, name their "
            "folder with --source, or try --simulated"
        )
    return folder


def _repair_line(kind: str, count: int) -> str:
    """One line of text about a kind of repair, such as "repaired: negative polarity: 12"."""
    return f"repaired: {kind.replace('_', ' ')}: {count:,}"


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    archive_argument(parser)
    json_flag(parser)


def _info(args: argparse.Namespace) -> None:
    from metaevents.archive.reader import Archive
    from metaevents.archive_info import archive_info

    archive = Archive(args.archive)
    info = archive_info(archive)
    if args.json:
        print_json(info)
    else:
        print_lines(_info_lines(args.archive, info))
        print_lines(_protocol_lines(archive))


def _info_lines(path: Path, info: dict[str, Any]) -> Iterable[str]:
    """The facts of an archive as lines of text."""
    from metaevents import cache

    width, height = info["sensor_size"]
    note = "  (SIMULATED: no real recordings)" if info["simulated"] else ""
    version = info["protocol_version"]
    rules = f"protocol version {version}" if version else "rules of its own"
    yield f"{path}: {info['dataset']}, {rules}{note}"
    rows = {
        "source": info["source"],
        "recordings": f"{info['recordings']:,} of {len(info['labels'])} labels, "
        f"{width} x {height} pixels",
        "events": f"{info['events']:,} in the first {info['window_us'] / 1000:g} ms of each "
        "recording",
        "size": f"{info['bytes']:,} bytes, {info['bytes_per_event']:.2f} per event",
        "units": info["units"],
        "license": info["licence"],
        "citation": info["citation"],
        "format": f"{info['format']} {info['format_version']}, written by {info['creator']}",
        "contents": info["contents"],
        "fingerprint": info["fingerprint"],
    }
    for name, value in rows.items():
        yield f"  {name:<12} {value}"
    yield "  recordings per label:"
    for partition, per_label in info["recordings_per_label"].items():
        counts = per_label.values()
        least, most = min(counts, default=0), max(counts, default=0)
        yield f"    {partition:<6} {sum(counts):>7,}   {least:,} to {most:,}"
    for kind, count in info["repairs"].items():
        yield f"  {_repair_line(kind, count)}"
    yield from _composition_lines(info)
    for row in info["episodes"]:
        if not row["fits"]:
            yield (
                f"  {row['classes']} {row['split']}, {row['ways']}-way {row['shots']}-shot does "
                f"not fit: {row['why']}"
            )
    side_files = info["side_files"]
    yield f"  side files in {cache.cache_root()}:{'' if side_files else ' none'}"
    for file in side_files:
        yield f"    {file['bytes']:,} bytes  {file['path']}"


def _composition_lines(info: dict[str, Any]) -> Iterable[str]:
    """The dataset of an archive as lines of text."""
    facts = info["composition"]
    if facts is None:
        yield f"  the archive keeps no rules of {info['dataset']}"
        return
    arity = facts["arity"]
    yield (
        f"  samples: {arity} recording{'' if arity == 1 else 's side by side'}, frames "
        f"{tuple(facts['frame_shape'])}; partition {facts['partition']}"
    )
    for name, counts in facts["classes"].items():
        listed = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        shared = facts["trained_test_classes"][name]
        note = f"; {shared:,} classes both train and test" if shared else ""
        yield f"  classes ({name}): {listed}{note}"


def _protocol_lines(archive: Archive) -> Iterable[str]:
    """Whether the protocol of a dataset of the user's own fits, as a line of text."""
    from metaevents.benchmark.protocols import bind, fit_problem
    from metaevents.building import dataset_rules
    from metaevents.datasets import ComposedDataset

    rules = dataset_rules(archive)
    if rules is None or rules.version is not None:
        return
    if "test" not in rules.splits["published"]:
        yield f"  protocol {rules.protocol}: there is no test split"
        return
    dataset = ComposedDataset(archive, rules, "test")
    problem = fit_problem(dataset, bind(rules.protocol, dataset))
    yield f"  protocol {rules.protocol}: {f'does not fit: {problem}' if problem else 'fits'}"


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
    print_lines(f"ok  {line}" for line in checked)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    archive_argument(parser)
    parser.add_argument(
        "--out",
        type=path_argument,
        required=True,
        metavar="FIGURE",
        help="file to write: .png for a contact sheet, .gif for an animation",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="class names, separated by commas, such as 35,72 (default: six of all splits)",
    )
    parser.add_argument("--split", choices=_SPLITS, help="draw only classes of this split")
    parser.add_argument(
        "--seed",
        type=whole_number(0, MAX_SEED),
        default=0,
        metavar="N",
        help="seed that selects the recordings",
    )


def _show(args: argparse.Namespace) -> None:
    from metaevents.show import show

    names = None
    if args.classes is not None:
        names = [name.strip() for name in args.classes.split(",") if name.strip()]
    show(args.archive, args.out, classes=names, split=args.split, seed=args.seed)
    print(f"{args.out}: written")


def _clean_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "archive",
        type=path_argument,
        nargs="?",
        metavar="FILE",
        help="remove only the side files of this archive (default: all side files)",
    )


def _clean(args: argparse.Namespace) -> None:
    from metaevents import cache
    from metaevents.archive.reader import Archive

    freed = cache.clear_cache(Archive(args.archive).fingerprint if args.archive else None)
    print(f"{freed:,} bytes of side files removed from {cache.cache_root()}")
