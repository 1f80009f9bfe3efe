"""Small recordings in the official file formats, for tests; contents are random but fixed by a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metaevents.events import EVENT_DTYPE, Events

LETTERS = "abcdefghiklmnopqrstuvwxy"


def random_events(
    seed: int,
    n: int = 60,
    width: int = 34,
    height: int = 34,
    duration: int = 300_000,
    start: int = 0,
) -> Events:
    """`n` events sorted by time; the first one at `start`, some beyond the window of 100 ms where `duration` is longer."""
    rng = np.random.default_rng(seed)
    events = np.empty(n, EVENT_DTYPE)
    events["x"] = rng.integers(0, width, n)
    events["y"] = rng.integers(0, height, n)
    events["t"] = np.sort(rng.integers(0, duration, n))
    events["t"] += start - events["t"][0]
    events["p"] = rng.integers(0, 2, n)
    return events


def nmnist_bytes(events: Events) -> bytes:
    """Events as N-MNIST stores them: x, y, polarity bit and 23-bit timestamp, big-endian, 5 bytes an event."""
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
    """`train` and `test` recordings a digit in the official layout, numbered across digits as in the official set."""
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
    import zlib

    return zlib.crc32(repr(words).encode())


def write_mat(path: Path, **columns: object) -> Path:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: np.asarray(column).reshape(-1, 1) for name, column in columns.items()})
    return path


def asl_columns(events: Events) -> dict[str, np.ndarray]:
    """The four MATLAB variables of upright events, flipped as the official files are."""
    return {
        "ts": events["t"].astype(np.int32),
        "x": (239 - events["x"]).astype(np.uint16),
        "y": (179 - events["y"]).astype(np.uint16),
        "pol": events["p"].astype(np.uint8),
    }


def write_asl_dvs(folder: Path, files: int = 10, letters: str = LETTERS, n: int = 40) -> Path:
    """`files` recordings a letter in the official layout."""
    for letter in letters:
        for number in range(1, files + 1):
            events = random_events(hash_seed(letter, number), n, 240, 180, duration=120_000)
            write_mat(folder / letter / f"{letter}_{number:04d}.mat", **asl_columns(events))
    return folder
