"""Made-up recordings in the folder layouts that tonic's dataset classes read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from support.recordings import nmnist_bytes, random_events

from metaevents.simulation.n_omniglot import aedat4_bytes


def write_ncaltech101(root: Path, labels: Iterable[str], files: int = 2) -> Path:
    """Write `NCALTECH101/Caltech101/<label>/image_0001.bin` ... and return `root`."""
    for number, label in enumerate(labels):
        folder = root / "NCALTECH101" / "Caltech101" / label
        folder.mkdir(parents=True)
        for i in range(1, files + 1):
            events = random_events(1000 * number + i, 30, 200, 150)
            (folder / f"image_{i:04d}.bin").write_bytes(nmnist_bytes(events))
    return root


def write_cifar10dvs(root: Path, labels: Iterable[str], files: int = 2) -> Path:
    """Write `CIFAR10DVS/<label>/cifar10_<label>_0.aedat4` ... and return `root`."""
    for number, label in enumerate(labels):
        folder = root / "CIFAR10DVS" / label
        folder.mkdir(parents=True)
        for i in range(files):
            events = random_events(1000 * number + i, 30, 128, 128, 1_200_000)
            (folder / f"cifar10_{label}_{i}.aedat4").write_bytes(aedat4_bytes(events))
    return root


def write_dvs_gesture(root: Path, users: int = 2) -> Path:
    """Write `DVSGesture/ibmGesture{Train,Test}/user01_led/<gesture>.npy` ... and return `root`."""
    for part in ("Train", "Test"):
        for user in range(1, users + 1):
            folder = root / "DVSGesture" / f"ibmGesture{part}" / f"user{user:02d}_led"
            folder.mkdir(parents=True)
            for gesture in range(11):
                events = random_events(100 * user + gesture, 20, 128, 128)
                columns = [events[name].astype(np.int64) for name in ("x", "y", "p")]
                columns.append(events["t"] // 1000)  # the files have milliseconds
                np.save(folder / f"{gesture}.npy", np.stack(columns, axis=1))
    return root
