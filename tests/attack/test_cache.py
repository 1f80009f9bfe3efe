"""Damaged side files: decoded anew, never other frames and never the end of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FEW = 24  # flips in the ordinary run

MANY = 600

FLIPS = """
import random, sys
import torch
import metaevents as me
from metaevents import cache

root, count = sys.argv[1], int(sys.argv[2])
rng = random.Random(count)
dataset = me.DoubleNMNIST(root)
samples = [(i, (7 * i + 3) % len(dataset.archive)) for i in range(len(dataset.archive))]
expected = dataset.stack_frames(samples, torch.uint8)
sums = dataset.stack_sums(samples)
((folder, _),) = cache.side_files(dataset.fingerprint)
anew = 0
for _ in range(count):
    path = folder / rng.choice(["cell", "count", "offset", "side-file.json"])
    content = bytearray(path.read_bytes())
    good = bytes(content)
    kind = rng.randrange(4)
    if kind < 2:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        start = rng.randrange(len(content))
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    else:
        content = content[: rng.randrange(len(content))]
    path.write_bytes(content)
    damaged = me.DoubleNMNIST(root)
    assert torch.equal(damaged.stack_frames(samples, torch.uint8), expected)
    assert torch.equal(damaged.stack_sums(samples), sums)
    anew += path.read_bytes() == good and good != bytes(content)
print(anew)
"""


def damage(root: Path, cache: Path, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FLIPS, str(root), str(count)],
        env={"PATH": "", "METAEVENTS_CACHE": str(cache), "HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= count * 0.8, "most damage is found and repaired"


def test_damaged_side_files_are_decoded_anew(nmnist_root: Path, tmp_path: Path) -> None:
    damage(nmnist_root, tmp_path, FEW)


@pytest.mark.attack
def test_much_damage_to_side_files(nmnist_root: Path, tmp_path: Path) -> None:
    damage(nmnist_root, tmp_path, MANY)
