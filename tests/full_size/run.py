"""Measure building, opening and loading at the size of the full datasets.

    python tests/full_size/run.py --work DIR --nmnist FOLDER [--dataset double-nmnist]
        [--fractions 0.1 0.5 1] [--steps build open load workers] [--episodes 100000]

Neither dataset comes with this repository. So 70,000 N-MNIST recordings are symbolic links to the
recordings in FOLDER (official layout, any number of them), and 100,800 ASL-DVS recordings are
symbolic links to 288 simulated ones, each of four simulated recordings merged, about 25,000 events.
Numbers and folders are the official ones.

Every measurement runs in a process of its own, one at a time. Seconds are given as wall time and as
processor time of the process and its children, since other programs may use the machine. The steps:

build    each fraction of the recordings is built with one process: seconds and peak memory
open     opening each archive: milliseconds and peak memory
load     decoding each archive once and the side file's size, mapping it in a new process, and
         milliseconds per episode of the smallest and the largest archive, which take turns
workers  one pass over `--episodes` episodes with four workers, once in threads (frames) and once in
         processes (sums with a transform); memory and open files of all processes over time

DIR needs about 25 GB for Double ASL-DVS, 2 GB for Double N-MNIST. What exists there is used again,
except by `build`. Results are added to DIR/results.json. Only Linux is supported (/proc).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DATASETS = ("double-nmnist", "double-asl-dvs")
STEPS = ("build", "open", "load", "workers")
WORKERS = 4
DISTINCT = 12  # simulated recordings per letter
MERGED = 4  # simulated recordings in one of them
OFFICIAL = {"Train": 6_000, "Test": 1_000}  # N-MNIST recordings per digit, on average
PER_LETTER = 4_200


# --- The recordings -------------------------------------------------------------------------------


def link_nmnist(samples: Path, target: Path, fraction: float) -> None:
    """Link to the recordings in `samples`: `fraction` of 60,000 in Train and 10,000 in Test."""
    for folder, per_digit in OFFICIAL.items():
        for digit in map(str, range(10)):
            paths = sorted((samples / folder / digit).glob("*.bin"))
            links = target / folder / digit
            links.mkdir(parents=True)
            for k in range(round(fraction * per_digit)):
                number = 10 * k + int(digit) + 1
                (links / f"{number:05d}.bin").symlink_to(paths[k % len(paths)].resolve())


def merge_hands(work: Path) -> Path:
    """Write 288 ASL-DVS recordings of about 25,000 events from 1,152 simulated ones."""
    import numpy as np
    from scipy.io import savemat

    from metaevents.events import merge
    from metaevents.simulation import write_asl_dvs
    from metaevents.sources import ASLDVS

    target = work / "asl-dvs-distinct"
    if target.is_dir():
        return target
    source = ASLDVS(write_asl_dvs(work / "simulated-asl-dvs", files=DISTINCT * MERGED, jobs=2))
    making = work / "asl-dvs-distinct.part"
    shutil.rmtree(making, ignore_errors=True)
    refs = source.recordings()
    width, height = source.sensor_size
    for start in range(0, len(refs), DISTINCT * MERGED):
        letter = refs[start : start + DISTINCT * MERGED]
        (making / letter[0].label).mkdir(parents=True)
        for k in range(DISTINCT):
            # Recordings of different subjects, so that few events coincide.
            events = merge([source.read(ref)[0] for ref in letter[k::DISTINCT]])
            columns = {
                "ts": events["t"].astype(np.int32),
                "x": (width - 1 - events["x"]).astype(np.uint8),
                "y": (height - 1 - events["y"]).astype(np.uint8),
                "pol": events["p"].astype(np.uint8),
            }
            path = making / letter[0].label / f"{k:04d}.mat"
            savemat(path, columns, oned_as="column", do_compression=True)
    making.rename(target)
    return target


def link_asl_dvs(distinct: Path, target: Path, fraction: float) -> None:
    """Link to the recordings in `distinct`: `fraction` of 4,200 per letter."""
    for folder in sorted(distinct.iterdir()):
        paths = sorted(folder.glob("*.mat"))
        links = target / folder.name
        links.mkdir(parents=True)
        for k in range(round(fraction * PER_LETTER)):
            path = paths[k % len(paths)].resolve()
            (links / f"{folder.name}_{k + 1:04d}.mat").symlink_to(path)


def recordings(name: str, work: Path, samples: Path, fraction: float) -> Path:
    """Return a folder with a fraction of a dataset's recordings; it is made if missing."""
    target = work / f"{name}-{fraction:g}"
    if not target.is_dir():
        making = target.with_name(f"{target.name}.part")
        shutil.rmtree(making, ignore_errors=True)
        if name == "double-nmnist":
            link_nmnist(samples, making, fraction)
        else:
            link_asl_dvs(merge_hands(work), making, fraction)
        making.rename(target)
    return target


# --- What is measured in a process of its own -----------------------------------------------------


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def timed(function: Callable[[], Any]) -> dict[str, float]:
    """Call a function; return its seconds and the peak memory of this process."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    function()
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": cpu_seconds() - cpu,
        "peak_mib": max(
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        / 1024,
    }


def build_once(name: str, folder: Path, path: Path) -> dict[str, Any]:
    """Build an archive with one process."""
    from metaevents.building import build_archive, open_source

    result: dict[str, Any] = timed(
        lambda: build_archive(name, path, open_source(name, folder), force=True)
    )
    return result | archive_facts(path)


def archive_facts(path: Path) -> dict[str, Any]:
    """Return the size of an archive."""
    from metaevents.archive import Archive

    archive = Archive(path)
    return {
        "recordings": len(archive),
        "events": int(archive.attributes["events"]),
        "archive_bytes": path.stat().st_size,
    }


def open_once(name: str, path: Path) -> dict[str, Any]:
    """Open an archive several times, with the digest of its contents."""
    import metaevents as me

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = [
        timed(lambda: me.load(name, path, split="train").archive.require_contents())
        for _ in range(7)
    ]
    return {
        "recordings": len(me.load(name, path, split="train").archive),
        "wall_ms": 1e3 * statistics.median(t["wall_s"] for t in times),
        "cpu_ms": 1e3 * statistics.median(t["cpu_s"] for t in times),
        "peak_mib_more": times[-1]["peak_mib"] - before,
    }


def decode_once(name: str, path: Path) -> dict[str, Any]:
    """Decode an archive into its side file, if there is none."""
    from metaevents.cache import side_files

    size = sum(size for _, size in side_files(fingerprint_of(name, path)))
    if size:
        return {"side_file_bytes": size}
    result = map_once(name, path)
    size = sum(size for _, size in side_files(fingerprint_of(name, path)))
    return result | {"side_file_bytes": size}


def fingerprint_of(name: str, path: Path) -> str:
    """Return the fingerprint of an archive."""
    import metaevents as me

    return me.load(name, path, split="train").fingerprint


def map_once(name: str, path: Path) -> dict[str, Any]:
    """Map a side file that exists, with all its checks, as every new process does."""
    import metaevents as me
    from metaevents import cache

    dataset = me.load(name, path, split="train")
    dataset.archive.require_contents()
    result: dict[str, Any] = timed(
        lambda: cache.cells(dataset.archive, dataset.rules.composition, dataset.fingerprint)
    )
    return result | {"recordings": len(dataset.archive)}


def load_in_turn(
    name: str, paths: list[Path], setting: dict[str, Any], rounds: int, episodes: int
) -> dict[str, Any]:
    """Load blocks of episodes from several archives in turn.

    Returns:
        Milliseconds per episode and archive: processor time, median and least of all rounds.
    """
    import torch

    import metaevents as me

    torch.set_num_threads(1)
    loaders = [
        me.EpisodeLoader(me.load(name, path, split="train"), episodes=1_000_000, **setting)
        for path in paths
    ]
    for loader in loaders:
        loader[0]
    spent: list[list[float]] = [[] for _ in loaders]
    for k in range(rounds):
        order = range(len(loaders)) if k % 2 else reversed(range(len(loaders)))
        for which in order:
            start = time.process_time()
            for index in range(k * episodes, (k + 1) * episodes):
                loaders[which][index]
            spent[which].append(1e3 * (time.process_time() - start) / episodes)
    return {
        "archives": [
            {
                "recordings": len(loader.dataset.archive),
                "cpu_ms_median": statistics.median(times),
                "cpu_ms_least": min(times),
            }
            for loader, times in zip(loaders, spent, strict=True)
        ]
    }


def memory_of(process: int) -> dict[str, float] | None:
    """Return a process's memory in MiB and its number of open files; None if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        files = sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {
        "rss": kib["Rss"] / 1024,
        "pss": kib["Pss"] / 1024,
        "private": (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024,
        "anonymous": kib["Anonymous"] / 1024,
        "files": files,
    }


def children_of(process: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process:
                children.append(int(entry.name))
    return children


def unchanged(sample: Any) -> Any:
    """Return a sample as it is."""
    return sample


def with_workers(
    name: str, path: Path, setting: dict[str, Any], episodes: int, every: float
) -> dict[str, Any]:
    """Go once through a loader with four workers and look at all processes `every` seconds.

    Args:
        name: Name of the dataset.
        path: The archive.
        setting: The loader's options; `kind` is "threads" or "processes".
        episodes: Number of episodes.
        every: Seconds.
    """
    import torch

    import metaevents as me

    torch.set_num_threads(1)
    if setting.pop("kind") == "processes":
        setting["transform"] = unchanged  # the loader prepares transformed samples in processes
    loader = me.EpisodeLoader(
        me.load(name, path, split="train"), episodes=episodes, num_workers=WORKERS, **setting
    )
    samples: list[dict[str, Any]] = []
    passed, ended = [0], threading.Event()

    def watch() -> None:
        start = time.perf_counter()
        while not ended.wait(every):
            parent = memory_of(os.getpid())
            workers = [m for child in children_of(os.getpid()) if (m := memory_of(child))]
            if parent is None or not passed[0]:
                continue
            sample: dict[str, Any] = {
                "second": round(time.perf_counter() - start, 1),
                "episode": passed[0],
                "processes": 1 + len(workers),
                "files": max(int(m["files"]) for m in (parent, *workers)),
                "shm_mib": shared_memory_mib(),
            }
            for kind in ("rss", "pss", "anonymous"):
                sample[f"parent_{kind}"] = round(parent[kind], 1)
                sample[f"workers_{kind}"] = round(sum(m[kind] for m in workers), 1)
            samples.append(sample)

    watcher = threading.Thread(target=watch)
    watcher.start()

    def go() -> None:
        for episode in loader:
            passed[0] += 1
            del episode

    try:
        result: dict[str, Any] = timed(go)
    finally:
        ended.set()
        watcher.join()
    gc.collect()
    return (
        result
        | {"recordings": len(loader.dataset.archive), "episodes": passed[0]}
        | {"growth": growth(samples), "samples": thinned(samples)}
    )


def shared_memory_mib() -> float:
    """Return how much of /dev/shm is used, in MiB."""
    status = os.statvfs("/dev/shm")
    return round((status.f_blocks - status.f_bfree) * status.f_frsize / (1 << 20), 1)


def growth(samples: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, per measure, the medians of the second tenth and of the last tenth of a pass."""
    tenth = max(1, len(samples) // 10)
    first, last = samples[tenth : 2 * tenth] or samples[-1:], samples[-tenth:]
    return {
        name: {
            "second_tenth": statistics.median(sample[name] for sample in first),
            "last_tenth": statistics.median(sample[name] for sample in last),
        }
        for name in (samples[0] if samples else ())
        if name not in ("second", "episode")
    }


def thinned(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return about twenty of the samples."""
    return samples[:: max(1, len(samples) // 20)]


# --- The run --------------------------------------------------------------------------------------


PLAIN = {"ways": 5, "shots": 1, "queries": 10, "seed": 0}
SUMS = {**PLAIN, "representation": "sum"}


def worker_settings(name: str) -> dict[str, dict[str, Any]]:
    """Return the loaders' options for the passes with workers.

    100,000 episodes of full ASL-DVS frames would take hours, so those are sums.
    """
    return {
        "workers-threads": {**(PLAIN if name == "double-nmnist" else SUMS), "kind": "threads"},
        "workers-processes": {**SUMS, "kind": "processes"},
    }


class Run:
    """All measurements of one dataset."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.absolute()
        self.fractions: list[float] = sorted(options.fractions)
        self.results: dict[str, Any] = {}

    def archive(self, name: str, fraction: float) -> Path:
        return self.work / f"{name}-{fraction:g}.h5"

    def measure(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Call one of this module's functions in a process of its own."""
        text = json.dumps({"function": function, "arguments": arguments}, default=str)
        environment = {
            **os.environ,
            "METAEVENTS_CACHE": str(self.work / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, __file__, "--work", str(self.work), "--one", text]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{function} failed: {arguments}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        shown = {key: value for key, value in result.items() if key != "samples"}
        print(function, json.dumps(shown), flush=True)
        return result

    def steps(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield (name of a step, result)."""
        chosen = self.options.steps
        archives = [self.archive(name, fraction) for fraction in self.fractions]
        if "build" in chosen:
            folders = [
                recordings(name, self.work, self.options.nmnist, fraction)
                for fraction in self.fractions
            ]
            yield (
                "build",
                [
                    self.measure("build_once", name=name, folder=folder, path=path)
                    for folder, path in zip(folders, archives, strict=True)
                ],
            )
        if "open" in chosen:
            yield "open", [self.measure("open_once", name=name, path=path) for path in archives]
        if "load" in chosen:
            if "build" in chosen:
                shutil.rmtree(self.work / "cache", ignore_errors=True)
            ends = sorted({archives[0], archives[-1]}, key=archives.index)
            decode = [self.measure("decode_once", name=name, path=path) for path in archives]
            yield "decode", decode
            # The first process after the decoding checks the whole side file, later ones do not.
            time.sleep(3)
            for step in ("map-checked", "map-again"):
                yield step, [self.measure("map_once", name=name, path=path) for path in archives]
            count = 300 if name == "double-nmnist" else 30
            yield (
                "load",
                self.measure(
                    "load_in_turn", name=name, paths=ends, setting=PLAIN, rounds=10, episodes=count
                ),
            )
        if "workers" in chosen:
            for step, setting in worker_settings(name).items():
                result = self.measure(
                    "with_workers",
                    name=name,
                    path=archives[-1],
                    setting=setting,
                    episodes=self.options.episodes,
                    every=self.options.every,
                )
                yield step, result

    def run(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        kept = self.work / "results.json"
        for name in self.options.dataset:
            for step, result in self.steps(name):
                known = json.loads(kept.read_text()) if kept.exists() else {}
                known.setdefault(name, {})[step] = result
                kept.write_text(json.dumps(known, indent=1))


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (build_once, open_once, decode_once, map_once, load_in_turn, with_workers)
}


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--nmnist", type=Path, help="N-MNIST recordings, official layout")
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.1, 0.5, 1.0])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        call = json.loads(options.one)
        arguments = {
            key: Path(value)
            if key in ("path", "folder")
            else [Path(path) for path in value]
            if key == "paths"
            else value
            for key, value in call["arguments"].items()
        }
        print(json.dumps(FUNCTIONS[call["function"]](**arguments)))
        return
    if options.nmnist is None and "double-nmnist" in options.dataset and "build" in options.steps:
        parser.error("--nmnist is needed to build Double N-MNIST")
    Run(options).run()


if __name__ == "__main__":
    main()
