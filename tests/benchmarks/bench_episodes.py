"""Episodes a second: EpisodeLoader against tonic used directly, and against a fresh torch.zeros of the same shape.

    python tests/benchmarks/bench_episodes.py --source FOLDER [--rounds 30]

FOLDER holds N-MNIST recordings in the official layout (all of them, or a sample). One thread, one process, 5-way 1-shot with 10
queries: 55 samples of [100, 2, 16, 32] float32. Three ways to the same tensors take turns, so that a machine whose speed drifts
slows all alike; medians and the medians of the ratios round by round are printed. The recordings of an episode are drawn by our
sampler for both, since the peer is a reader and has none; both results are compared once, element by element.

torch.zeros is timed in the two states that a process can be in: "recycled", where the episode before was let go and its memory
is handed out again, and "kept", where every result is kept, so that memory is new to the process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import metaevents as me
from metaevents.double import build_archive
from metaevents.episodes import Draw
from metaevents.sources import NMNIST


class TonicPeer:
    """Reads both files of a sample with tonic, windows, crops and joins the events, and lets ToFrame count them."""

    def __init__(self, source: NMNIST, ids: list[str]) -> None:
        from tonic.datasets import NMNIST as TonicNMNIST
        from tonic.io import read_mnist_file
        from tonic.transforms import ToFrame

        self._read, self._dtype = read_mnist_file, TonicNMNIST.dtype
        self._paths = [str(source.root / f"{id}.bin") for id in ids]
        self._to_frame = ToFrame(sensor_size=(32, 16, 2), time_window=1000, start_time=0, end_time=100_000)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, type=Path, help="N-MNIST recordings, official layout")
    parser.add_argument("--rounds", type=int, default=30, help="each times 80 episodes of ours and one of the peer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = NMNIST(args.source)
    with tempfile.TemporaryDirectory() as folder:
        build_archive("double-nmnist", Path(folder) / "double-nmnist.h5", source)
        dataset = me.DoubleNMNIST(folder, split="train")
        loader = me.EpisodeLoader(dataset, ways=5, shots=1, queries=10, episodes=10**6)
        peer = TonicPeer(source, dataset.archive.ids)
        first = loader[0]
        for ours, theirs in zip((first.support_x, first.query_x), peer.episode(loader.draw(0)), strict=True):
            if not torch.equal(ours, theirs):
                raise SystemExit("the peer's tensors differ from ours: nothing is compared")
        shape = (55, *dataset.frame_shape)
        names = ("tonic", "ours recycled", "zeros recycled", "ours kept", "zeros kept")
        times: dict[str, list[float]] = {name: [] for name in names}
        index = 0
        for _ in range(args.rounds):
            # Whole groups are timed, so that what is done once for several episodes counts for each.
            for state, keep, group in (("recycled", False, 64), ("kept", True, 16)):
                kept: list[Any] = []
                start = time.perf_counter()
                for _ in range(group):
                    index += 1
                    result: Any = loader[index]
                    if keep:
                        kept.append(result)
                times[f"ours {state}"].append((time.perf_counter() - start) / group)
                kept.clear()
                start = time.perf_counter()
                for _ in range(group):
                    result = torch.zeros(shape)
                    if keep:
                        kept.append(result)
                times[f"zeros {state}"].append((time.perf_counter() - start) / group)
                del kept, result
            start = time.perf_counter()
            peer.episode(loader.draw(index))
            times["tonic"].append(time.perf_counter() - start)

    def row(name: str) -> str:
        return f"{name:<16} {median(times[name]) * 1e3:9.2f} ms {1 / median(times[name]):9.1f} episodes/s"

    print(f"N-MNIST recordings: {len(dataset.archive)} ({dataset.archive.source}); {torch.__version__=!s}; one thread")
    for name in times:
        print(row(name))
    for name, over in (("tonic", "ours recycled"), ("ours recycled", "zeros recycled"), ("ours kept", "zeros kept")):
        ratio = median(a / b for a, b in zip(times[name], times[over], strict=True))
        print(f"{name} / {over}: {ratio:.2f}")


if __name__ == "__main__":
    main()
