"""Small recordings in the official file formats; their contents are random but fixed by a seed."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from metaevents.events import EVENT_DTYPE, Events

LETTERS = "abcdefghiklmnopqrstuvwxy"

LITTER = (
    *(".DS_Store", "._a_0001.mat", "._00001.bin", ".nfs000000000000001", "Icon\r"),
    *("Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini"),
    *("00001.bin:Zone.Identifier", "00001.bin@SynoEAStream"),
)
"""Files that operating systems and network storage leave in folders."""


def random_events(
    seed: int,
    n: int = 60,
    width: int = 34,
    height: int = 34,
    duration: int = 300_000,
    start: int = 0,
) -> Events:
    """Return `n` events sorted by time, the first one at `start` us.

    With a `duration` above 100 ms, some lie beyond the window.
    """
    rng = np.random.default_rng(seed)
    events = np.empty(n, EVENT_DTYPE)
    events["x"] = rng.integers(0, width, n)
    events["y"] = rng.integers(0, height, n)
    events["t"] = np.sort(rng.integers(0, duration, n))
    events["t"] += start - events["t"][0]
    events["p"] = rng.integers(0, 2, n)
    return events


def nmnist_bytes(events: Events) -> bytes:
    """Return events as N-MNIST stores them.

    5 bytes per event: x, y, then polarity bit and 23-bit timestamp, big-endian.
    """
    t = events["t"].astype(np.int64)
    columns = [
        events["x"],
        events["y"],
        (events["p"].astype(int) << 7) | (t >> 16),
        (t >> 8) & 255,
        t & 255,
    ]
    return np.stack([np.asarray(column).astype(np.uint8) for column in columns], axis=1).tobytes()


def write_nmnist(
    folder: Path, train: int = 12, test: int = 24, digits: str = "0123456789", n: int = 60
) -> Path:
    """Write `train` and `test` recordings per digit in the official layout.

    They are numbered across digits, as in the official data set.
    """
    for part, count in (("Train", train), ("Test", test)):
        for place, digit in enumerate(digits):
            target = folder / part / digit
            target.mkdir(parents=True, exist_ok=True)
            for k in range(count):
                number = 1 + k * len(digits) + place
                seed = hash_seed(part, digit, k)
                (target / f"{number:05d}.bin").write_bytes(
                    nmnist_bytes(random_events(seed, n, start=seed % 7))
                )
    return folder


def hash_seed(*words: object) -> int:
    """Return a seed that depends on the words alone."""
    return zlib.crc32(repr(words).encode())


def write_mat(path: Path, **columns: object) -> Path:
    """Write a MATLAB file with one [N, 1] variable per column."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: np.asarray(column).reshape(-1, 1) for name, column in columns.items()})
    return path


def asl_columns(events: Events) -> dict[str, np.ndarray]:
    """Return the four MATLAB variables of upright events, flipped as in the official files."""
    return {
        "ts": events["t"].astype(np.int32),
        "x": (239 - events["x"]).astype(np.uint16),
        "y": (179 - events["y"]).astype(np.uint16),
        "pol": events["p"].astype(np.uint8),
    }


def write_asl_dvs(folder: Path, files: int = 10, letters: str = LETTERS, n: int = 40) -> Path:
    """Write `files` recordings per letter in the official layout."""
    for letter in letters:
        for number in range(1, files + 1):
            events = random_events(hash_seed(letter, number), n, 240, 180, duration=120_000)
            write_mat(folder / letter / f"{letter}_{number:04d}.mat", **asl_columns(events))
    return folder
