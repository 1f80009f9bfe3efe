"""Speed of building and opening archives: recordings per second, peak memory, opening time.

    python tests/speed/bench_build.py --source FOLDER [--jobs 2] [--counts 1000 7000 70000]

FOLDER holds N-MNIST recordings in the official layout. Larger sets consist of links to its files,
each under a number of its own. Several counts show whether the rate falls as an archive grows.

The rate counts from the first batch that the readers return, so that starting processes and
importing tonic are left out; the whole time is printed beside it. Every build runs in a process of
its own. Memory is the largest resident set of that process and of its readers. tonic's own reader
over the same files, in one process, is timed first.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaevents.archive import Archive, writer
from metaevents.building import build_archive
from metaevents.sources import NMNIST


def link_copies(source: Path, target: Path, count: int) -> None:
    """Make `count` links to the recordings of `source`, in the official layout."""
    paths = sorted(source.glob("T*/*/*.bin"))
    for number in range(count):
        path = paths[number % len(paths)]
        link = target / path.parent.relative_to(source) / f"{number:05d}.bin"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())


def build_once(folder: Path, out: Path, jobs: int) -> dict[str, float]:
    """Build in this process.

    Returns:
        `seconds` of the whole build, `rate` in recordings per second from the first batch on, and
        `mib`, the peak memory.
    """
    batches: list[tuple[float, int]] = []
    read_all = writer._read_all

    def timed_read_all(*args: Any) -> Iterator[Any]:
        for batch in read_all(*args):
            batches.append((time.perf_counter(), len(batch.kept)))
            yield batch

    writer._read_all = timed_read_all
    source = NMNIST(folder)
    start = time.perf_counter()
    build_archive("double-nmnist", out, source, jobs=jobs)
    end = time.perf_counter()
    first, skipped = batches[0]
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
    """Return how many recordings per second tonic's reader reads."""
    from tonic.datasets import NMNIST as TonicNMNIST
    from tonic.io import read_mnist_file

    paths = [str(ref.location) for ref in NMNIST(folder).recordings()]
    start = time.perf_counter()
    for path in paths:
        read_mnist_file(path, dtype=TonicNMNIST.dtype)
    return len(paths) / (time.perf_counter() - start)


def open_ms(path: Path) -> float:
    """Return the median time to open an archive, in milliseconds."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        Archive(path)
        times.append(time.perf_counter() - start)
    return sorted(times)[10] * 1e3


def main() -> None:
    """Run the benchmark."""
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
    tonic_rate(args.source)  # imports tonic and warms the disk cache
    print(f"tonic's reader alone, one process: {tonic_rate(args.source):,.0f} recordings/s")
    with tempfile.TemporaryDirectory() as folder:
        for count in args.counts:
            copies, out = Path(folder) / f"copies-{count}", Path(folder) / f"{count}.h5"
            link_copies(args.source, copies, count)
            command = [sys.executable, __file__, "--source", args.source]
            command += ["--jobs", str(args.jobs), "--one", copies, out]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            result = json.loads(done.stdout)
            size = out.stat().st_size / int(Archive(out).attributes["events"])
            print(
                f"{count:>7,} recordings, {args.jobs} jobs: {result['rate']:,.0f} recordings/s, "
                f"{result['seconds']:.1f} s in all, {result['mib']:.0f} MiB at most, "
                f"{size:.2f} bytes per event, opens in {open_ms(out):.1f} ms"
            )


if __name__ == "__main__":
    main()
