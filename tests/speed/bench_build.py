"""Building and opening archives: recordings a second, whether the rate falls as an archive grows, peak memory, opening time.

    python tests/speed/bench_build.py --source FOLDER [--jobs 2] [--counts 1000 7000 70000]

FOLDER holds N-MNIST recordings in the official layout; larger sets are made of links to its files, under numbers of their own.
The rate counts from the first batch that the readers hand over, so that starting processes and importing tonic are left out;
the whole time is printed beside it. Every build is a process of its own; memory is the largest resident set of it and of its
readers. tonic's own reader over the same files, in one process, is timed first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from metaevents import archive
from metaevents.building import build_archive
from metaevents.sources import NMNIST


def link_copies(source: Path, target: Path, count: int) -> None:
    """`count` links to the recordings of `source`, in the official layout, each under a number of its own."""
    paths = sorted(source.glob("T*/*/*.bin"))
    for number in range(count):
        path = paths[number % len(paths)]
        link = target / path.parent.relative_to(source) / f"{number:05d}.bin"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())


def build_once(folder: Path, out: Path, jobs: int) -> dict[str, float]:
    """Build in this process; seconds in all, recordings a second from the first batch on, peak memory in MiB."""
    seen: list[tuple[float, int]] = []
    read_all = archive._read_all

    def watched(*args: object) -> object:
        for batch in read_all(*args):  # type: ignore[arg-type]
            seen.append((time.perf_counter(), len(batch.kept)))
            yield batch

    archive._read_all = watched  # type: ignore[assignment]
    source = NMNIST(folder)
    start = time.perf_counter()
    build_archive("double-nmnist", out, source, jobs=jobs)
    end = time.perf_counter()
    first, skipped = seen[0]
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "seconds": end - start,
        "rate": (len(source.recordings()) - skipped) / (end - first),
        "mib": peak / 1024,
    }


def tonic_rate(folder: Path) -> float:
    from tonic.datasets import NMNIST as TonicNMNIST
    from tonic.io import read_mnist_file

    paths = [str(ref.location) for ref in NMNIST(folder).recordings()]
    start = time.perf_counter()
    for path in paths:
        read_mnist_file(path, dtype=TonicNMNIST.dtype)
    return len(paths) / (time.perf_counter() - start)


def open_ms(path: Path) -> float:
    times = []
    for _ in range(20):
        start = time.perf_counter()
        archive.Archive(path)
        times.append(time.perf_counter() - start)
    return sorted(times)[10] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 7000, 70_000])
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(build_once(*args.one, args.jobs)))
        return
    tonic_rate(args.source)
    print(f"tonic's reader alone, one process: {tonic_rate(args.source):,.0f} recordings/s")
    with tempfile.TemporaryDirectory() as folder:
        for count in args.counts:
            copies, out = Path(folder) / f"copies-{count}", Path(folder) / f"{count}.h5"
            link_copies(args.source, copies, count)
            command = [
                sys.executable,
                __file__,
                "--source",
                args.source,
                "--jobs",
                str(args.jobs),
                "--one",
                copies,
                out,
            ]
            told = json.loads(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout
            )
            size = out.stat().st_size / int(archive.Archive(out).attributes["events"])
            print(
                f"{count:>7,} recordings, {args.jobs} jobs: {told['rate']:,.0f} recordings/s, {told['seconds']:.1f} s in all, "
                f"{told['mib']:.0f} MiB at most, {size:.2f} bytes an event, opens in {open_ms(out):.1f} ms"
            )


if __name__ == "__main__":
    main()
