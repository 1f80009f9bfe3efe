"""Episodes per second: EpisodeLoader against tonic used directly, and against torch.zeros.

    python tests/speed/bench_episodes.py --source FOLDER [--rounds 30]

FOLDER holds N-MNIST recordings in the official layout (all of them, or a sample). One thread, one
process, 5-way 1-shot with 10 queries per class: 55 samples of [100, 2, 16, 32] float32. Four ways
to tensors of that shape take turns, so that a machine whose speed drifts slows all of them: the
loader, torch.zeros, tonic reading files, and tonic with all recordings in memory, read and cut
once. Printed are medians, and medians of the ratios per round. The recordings of an episode are
drawn by metaevents' sampler for all, because tonic has none. The results are compared once, element
by element.

The cost of memory depends on what happens to earlier results, so the loader and torch.zeros are
timed in three states: "let go" (a result is freed before the next one is made), "held" (it is freed
after the next one is made, as in a for loop) and "kept" (all results of a group are kept, so every
one needs memory that is new to the process).
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
    """The same samples by tonic: both files are read, cut and joined, and ToFrame counts.

    Args:
        source: The recordings.
        ids: Their ids, by index.
        in_memory: Whether recordings are read and cut once, all of them before the first episode.
    """

    def __init__(self, source: NMNIST, ids: list[str], in_memory: bool = False) -> None:
        from tonic.datasets import NMNIST as TonicNMNIST
        from tonic.io import read_mnist_file
        from tonic.transforms import ToFrame

        self._read, self._dtype = read_mnist_file, TonicNMNIST.dtype
        self._paths = [str(source.root / f"{id}.bin") for id in ids]
        self._to_frame = ToFrame(
            sensor_size=(32, 16, 2), time_window=1000, start_time=0, end_time=100_000
        )
        self._kept = [self._from_file(index) for index in range(len(ids))] if in_memory else None

    def _recording(self, index: int) -> Any:
        return self._from_file(index) if self._kept is None else self._kept[index].copy()

    def _from_file(self, index: int) -> Any:
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
    """Return the seconds per result."""
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
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", required=True, type=Path, help="N-MNIST recordings, official layout"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=30,
        help="each times 144 episodes of the loader and two of tonic",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = NMNIST(args.source)
    with tempfile.TemporaryDirectory() as folder:
        build_archive("double-nmnist", Path(folder) / "double-nmnist.h5", source)
        dataset = me.DoubleNMNIST(folder, split="train")
        loader = me.EpisodeLoader(dataset, ways=5, shots=1, queries=10, episodes=10**6)
        ids = dataset.archive.ids
        peers = {"tonic": TonicPeer(source, ids), "tonic, in memory": TonicPeer(source, ids, True)}
        first = loader[0]
        for peer in peers.values():
            for by_loader, by_tonic in zip(
                (first.support_x, first.query_x), peer.episode(loader.draw(0)), strict=True
            ):
                if not torch.equal(by_loader, by_tonic):
                    raise SystemExit("tonic's tensors differ from the loader's: nothing is timed")
        shape = (55, *dataset.frame_shape)
        times: dict[str, list[float]] = {name: [] for name in peers}
        index = 0
        for _ in range(args.rounds):
            for state, group in STATES.items():
                # Whole groups are timed, because episodes are drawn several at a time.
                for name, make in (
                    ("loader", loader.__getitem__),
                    ("zeros", lambda _: torch.zeros(shape)),
                ):
                    times.setdefault(f"{name}, {state}", []).append(
                        timed(make, state, range(index, index + group))
                    )
                index += group
            for name, peer in peers.items():
                start = time.perf_counter()
                peer.episode(loader.draw(index))
                times[name].append(time.perf_counter() - start)

    def row(name: str) -> str:
        seconds = median(times[name])
        return f"{name:<16} {seconds * 1e3:9.2f} ms {1 / seconds:9.1f} episodes/s"

    print(
        f"N-MNIST recordings: {len(dataset.archive)} ({dataset.archive.source}); "
        f"{torch.__version__=!s}; one thread"
    )
    for name in times:
        print(row(name))
    for state in STATES:
        by_loader, zeros = times[f"loader, {state}"], times[f"zeros, {state}"]
        faster = [
            median(a / b for a, b in zip(times[name], by_loader, strict=True)) for name in peers
        ]
        slower = median(a / b for a, b in zip(by_loader, zeros, strict=True))
        print(
            f"{state:<7} {faster[0]:5.1f} times as fast as tonic, {faster[1]:5.1f} times with its "
            f"recordings in memory; {slower:.2f} times the time of torch.zeros"
        )


if __name__ == "__main__":
    main()
