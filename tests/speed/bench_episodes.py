"""Episodes a second: EpisodeLoader against tonic used directly, and against a fresh torch.zeros of the same shape.

    python tests/speed/bench_episodes.py --source FOLDER [--rounds 30]

FOLDER holds N-MNIST recordings in the official layout (all of them, or a sample). One thread, one process, 5-way 1-shot with 10
queries: 55 samples of [100, 2, 16, 32] float32. Three ways to the same tensors take turns, so that a machine whose speed drifts
slows all alike; medians and the medians of the ratios round by round are printed. The recordings of an episode are drawn by our
sampler for both, since the peer is a reader and has none; both results are compared once, element by element.

What memory costs depends on what becomes of the results before, so ours and torch.zeros are timed in three states: "let go" (a
result is freed before the next one is made), "held" (it is freed after, as a for loop does) and "kept" (all results of a group
are kept, so that every one needs memory that is new to the process).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import metaevents as me
from metaevents.building import build_archive
from metaevents.sampling import Draw
from metaevents.sources import NMNIST


class TonicPeer:
    """Reads both files of a sample with tonic, windows, crops and joins the events, and lets ToFrame count them."""

    def __init__(self, source: NMNIST, ids: list[str]) -> None:
        from tonic.datasets import NMNIST as TonicNMNIST
        from tonic.io import read_mnist_file
        from tonic.transforms import ToFrame

        self._read, self._dtype = read_mnist_file, TonicNMNIST.dtype
        self._paths = [str(source.root / f"{id}.bin") for id in ids]
        self._to_frame = ToFrame(
            sensor_size=(32, 16, 2), time_window=1000, start_time=0, end_time=100_000
        )

    def _recording(self, index: int) -> Any:
        events = self._read(self._paths[index], dtype=self._dtype)
        events["t"] -= events["t"][0]
        return events[(events["t"] < 100_000) & (events["x"] < 32) & (events["y"] < 32)]

    def _sample(self, left: int, right: int) -> np.ndarray:
        a, b = self._recording(left), self._recording(right)
        b["x"] += 32
        events = np.concatenate([a, b])
        events = events[np.argsort(events["t"], kind="stable")]
        events["x"] //= 2
        events["y"] //= 2
        return self._to_frame(events)

    def episode(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
        support, query = (
            torch.from_numpy(np.stack([self._sample(*pair) for pair in pairs]).astype(np.float32))
            for pairs in (draw.support, draw.query)
        )
        return support, query


STATES = {"let go": 64, "held": 64, "kept": 16}  # results timed at a time


def timed(make: Callable[[int], Any], state: str, indices: range) -> float:
    """Seconds a result."""
    kept: list[Any] = []
    start = time.perf_counter()
    if state == "let go":
        for index in indices:
            make(index)
    elif state == "held":
        for index in indices:
            result = make(index)  # noqa: F841
    else:
        for index in indices:
            kept.append(make(index))
    return (time.perf_counter() - start) / len(indices)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", required=True, type=Path, help="N-MNIST recordings, official layout"
    )
    parser.add_argument(
        "--rounds", type=int, default=30, help="each times 144 episodes of ours and one of the peer"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = NMNIST(args.source)
    with tempfile.TemporaryDirectory() as folder:
        build_archive("double-nmnist", Path(folder) / "double-nmnist.h5", source)
        dataset = me.DoubleNMNIST(folder, split="train")
        loader = me.EpisodeLoader(dataset, ways=5, shots=1, queries=10, episodes=10**6)
        peer = TonicPeer(source, dataset.archive.ids)
        first = loader[0]
        for ours, theirs in zip(
            (first.support_x, first.query_x), peer.episode(loader.draw(0)), strict=True
        ):
            if not torch.equal(ours, theirs):
                raise SystemExit("the peer's tensors differ from ours: nothing is compared")
        shape = (55, *dataset.frame_shape)
        times: dict[str, list[float]] = {"tonic": []}
        index = 0
        for _ in range(args.rounds):
            for state, group in STATES.items():
                # Whole groups are timed, so that what is done once for several episodes counts for each.
                for name, make in (
                    ("ours", loader.__getitem__),
                    ("zeros", lambda _: torch.zeros(shape)),
                ):
                    times.setdefault(f"{name}, {state}", []).append(
                        timed(make, state, range(index, index + group))
                    )
                index += group
            start = time.perf_counter()
            peer.episode(loader.draw(index))
            times["tonic"].append(time.perf_counter() - start)

    def row(name: str) -> str:
        return f"{name:<16} {median(times[name]) * 1e3:9.2f} ms {1 / median(times[name]):9.1f} episodes/s"

    print(
        f"N-MNIST recordings: {len(dataset.archive)} ({dataset.archive.source}); {torch.__version__=!s}; one thread"
    )
    for name in times:
        print(row(name))
    for state in STATES:
        ours, zeros = times[f"ours, {state}"], times[f"zeros, {state}"]
        faster = median(a / b for a, b in zip(times["tonic"], ours, strict=True))
        slower = median(a / b for a, b in zip(ours, zeros, strict=True))
        print(
            f"{state:<7} {faster:5.1f} times as fast as tonic, {slower:.2f} times the time of torch.zeros"
        )


if __name__ == "__main__":
    main()
