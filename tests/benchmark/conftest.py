"""Fixtures of the benchmark's tests: an archive that is easy to learn, and a learner in a module.

The recordings are in N-MNIST's format, and every digit lights up its own pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.recordings import nmnist_bytes

import metaevents as me
from metaevents.events import make_events


def write_digits(folder: Path, train: int, test: int, seed: int = 0) -> Path:
    """Write recordings in the official layout, `train` and `test` per digit.

    Each has 80 events around the 20 pixels of its digit.
    """
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


METHOD = """
import numpy as np

class ClassMeans:
    representation, numpy = "sum", True

    def adapt(self, support_x, support_y, ways):
        support = support_x.reshape(len(support_x), -1)
        means = np.stack([support[support_y == k].mean(axis=0) for k in range(ways)])
        return lambda query_x: -((query_x.reshape(len(query_x), 1, -1) - means) ** 2).sum(axis=-1)

def factory():
    return ClassMeans()

def fails(support_x, support_y, ways):
    raise RuntimeError("no weights")

ready = ClassMeans()
no_learner = 3
"""


@pytest.fixture
def method_folder(tmp_path: Path) -> Path:
    """A folder with the module `my_method`, for commands that name a learner."""
    (tmp_path / "my_method.py").write_text(METHOD, "utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Double N-MNIST archive, 12 Train and 32 Test recordings per digit.

    The sample of real recordings has as many Test recordings.
    """
    from metaevents.building import build_archive, open_source

    root = tmp_path_factory.mktemp("digits")
    folder = write_digits(tmp_path_factory.mktemp("recordings"), train=12, test=32)
    build_archive("double-nmnist", root / "double-nmnist.h5", open_source("double-nmnist", folder))
    return root


@pytest.fixture(scope="session")
def digits(digits_root: Path) -> me.DoubleNMNIST:
    """The test split of that archive."""
    return me.DoubleNMNIST(digits_root, split="test")
