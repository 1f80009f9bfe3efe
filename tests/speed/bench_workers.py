"""Milliseconds per episode without workers and with one and two of them.

    python tests/speed/bench_workers.py --source FOLDER [--rounds 5]

FOLDER holds N-MNIST recordings in the official layout (all of them, or a sample). 5-way 1-shot with
10 queries per class, one thread for torch. The numbers of workers take turns, and the least time of
all rounds is printed: a busy machine only ever adds to it. "Starting" is the time to the first
episode of a new loader in a process that has loaded episodes before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tonic.transforms import Denoise

import metaevents as me
from metaevents.building import build_archive
from metaevents.sources import NMNIST

# Name -> options of the loader, and episodes per round.
FORMS: Mapping[str, tuple[dict[str, Any], int]] = {
    "frames": ({}, 300),
    "frames, uint8": ({"dtype": torch.uint8}, 300),
    "sums": ({"representation": "sum"}, 300),
    "events": ({"representation": "events"}, 40),
    "frames, square root": ({"transform": torch.sqrt}, 60),
    "events, tonic's Denoise": (
        {"representation": "events", "transform": Denoise(filter_time=10_000)},
        10,
    ),
}


def timed(
    dataset: me.ComposedDataset, episodes: int, options: dict[str, Any]
) -> tuple[float, float]:
    """Return the seconds to the first episode, and per episode after it."""
    loader = me.EpisodeLoader(dataset, queries=10, episodes=episodes, **options)
    start = time.perf_counter()
    stream = iter(loader)
    next(stream)
    first = time.perf_counter()
    for _ in stream:
        pass
    return first - start, (time.perf_counter() - first) / (episodes - 1)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", required=True, type=Path, help="N-MNIST recordings, official layout"
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    best: dict[tuple[str, int], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        build_archive("double-nmnist", Path(folder) / "double-nmnist.h5", NMNIST(args.source))
        dataset = me.DoubleNMNIST(folder, split="train")
        for _ in range(args.rounds):
            for form, (options, episodes) in FORMS.items():
                for workers in (0, 1, 2):
                    times = timed(dataset, episodes, {**options, "num_workers": workers})
                    known = best.get((form, workers), times)
                    best[form, workers] = min(known[0], times[0]), min(known[1], times[1])
    print(f"{'':<24} {'0 workers':>10} {'1 worker':>10} {'2 workers':>10}   starting 0, 1, 2")
    for form in FORMS:
        starting, per_episode = zip(*(best[form, workers] for workers in (0, 1, 2)), strict=True)
        columns = " ".join(f"{1e3 * seconds:7.2f} ms" for seconds in per_episode)
        print(f"{form:<24} {columns}   {', '.join(f'{1e3 * s:.0f}' for s in starting)} ms")


if __name__ == "__main__":
    main()
