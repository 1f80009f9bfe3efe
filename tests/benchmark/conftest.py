"""An archive for the benchmark's tests: recordings in N-MNIST's format, each digit with pixels of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.recordings import nmnist_bytes

import metaevents as me
from metaevents.events import make_events


def write_digits(folder: Path, train: int, test: int, seed: int = 0) -> Path:
    """`train` and `test` recordings a digit in the official layout: 80 events around 20 pixels that the digit lights up."""
    rng = np.random.default_rng(seed)
    lit = rng.integers(2, 30, (10, 20, 2))
    for part, count in (("Train", train), ("Test", test)):
        for digit in range(10):
            target = folder / part / str(digit)
            target.mkdir(parents=True, exist_ok=True)
            for k in range(count):
                x, y = (lit[digit, rng.integers(0, 20, 80)] + rng.integers(-2, 3, (80, 2))).T
                events = make_events(
                    x, y, np.sort(rng.integers(0, 90_000, 80)), rng.integers(0, 2, 80)
                )
                (target / f"{1 + 10 * k + digit:05d}.bin").write_bytes(nmnist_bytes(events))
    return folder


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Double N-MNIST archive of 12 Train and 32 Test recordings a digit, the sample's number."""
    from metaevents.building import build_archive, open_source

    root = tmp_path_factory.mktemp("digits")
    folder = write_digits(tmp_path_factory.mktemp("recordings"), train=12, test=32)
    build_archive("double-nmnist", root / "double-nmnist.h5", open_source("double-nmnist", folder))
    return root


@pytest.fixture(scope="session")
def digits(digits_root: Path) -> me.DoubleNMNIST:
    """The test split of that archive."""
    return me.DoubleNMNIST(digits_root, split="test")
