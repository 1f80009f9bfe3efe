"""Damaged and forged archives: refused with one sentence, or read as they were written.

Every case runs in a child process, since a damaged file could end the process or never return.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.archives import NAME

FEW = 60  # flips in the ordinary run

MANY = 2400

FLIPS = """
import json, os, random, sys
from pathlib import Path
import numpy as np
from metaevents.archive.reader import Archive
from metaevents.building import verify_rules
from metaevents.errors import MetaeventsError

source, work, seed, count, reseal = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
good = source.read_bytes()
reference = Archive(source)
expected = [events.tobytes() for _, events in reference.iterate()]
path = work / source.name
rng = random.Random(seed)
outcomes = {}


def attempt(kind, action):
    try:
        outcome = action()
    except MetaeventsError as error:
        outcome = "refused"
        assert str(error) and "\\n" not in str(error), error
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
        print(kind, place, outcome, file=sys.stderr)
    outcomes[f"{kind} {outcome}"] = outcomes.get(f"{kind} {outcome}", 0) + 1


def verify():
    archive = Archive(path)
    archive.verify(progress=False)
    verify_rules(archive)
    return "passed"


def load():
    archive = Archive(path)
    archive.require_contents()
    read = [events.tobytes() for _, events in archive.iterate()]
    same = (
        read == expected
        and archive.ids == reference.ids
        and archive.labels == reference.labels
        and all(np.array_equal(archive.table[name], reference.table[name])
                for name in ("label", "partition", "number"))
    )
    return "same" if same else "different"


for _ in range(count):
    place = rng.randrange(8 * len(good))
    content = bytearray(good)
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    attempt("verify", verify)
    if reseal:
        from metaevents.archive.format import USER_BLOCK, seal
        if place // 8 >= USER_BLOCK:
            seal(path)
    attempt("load", load)
print(json.dumps(outcomes))
"""


def flip_bits(root: Path, work: Path, seed: int, count: int, reseal: bool) -> dict[str, int]:
    """Flip one bit at a time, verify and load; return outcome -> number of cases."""
    arguments = [str(root / f"{NAME}.h5"), str(work), str(seed), str(count), str(int(reseal))]
    done = subprocess.run(
        [sys.executable, "-c", FLIPS, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + 2 * count,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes: dict[str, int] = json.loads(done.stdout)
    return outcomes


def check_flips(outcomes: dict[str, int], count: int) -> None:
    allowed = {"verify refused", "load refused", "load same"}
    assert set(outcomes) <= allowed, outcomes
    assert outcomes["verify refused"] == count


@pytest.mark.parametrize("reseal", [False, True])
def test_a_flipped_bit_is_refused_or_harmless(
    nmnist_root: Path, tmp_path: Path, reseal: bool
) -> None:
    check_flips(flip_bits(nmnist_root, tmp_path, 1, FEW, reseal), FEW)


@pytest.mark.attack
@pytest.mark.parametrize("reseal", [False, True])
def test_many_flipped_bits_are_refused_or_harmless(
    nmnist_root: Path, tmp_path: Path, reseal: bool
) -> None:
    check_flips(flip_bits(nmnist_root, tmp_path, 2, MANY, reseal), MANY)


def test_every_byte_of_the_user_block_counts(nmnist_root: Path, tmp_path: Path) -> None:
    from metaevents.archive.reader import Archive
    from metaevents.errors import ArchiveError

    good = (nmnist_root / f"{NAME}.h5").read_bytes()
    path = tmp_path / "a.h5"
    rng = random.Random(3)
    for place in range(512):
        content = bytearray(good)
        content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        with pytest.raises(ArchiveError):
            Archive(path).verify(progress=False)
