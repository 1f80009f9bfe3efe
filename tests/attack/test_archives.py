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
from support.recordings import random_events

from metaevents.archive.reader import Archive
from metaevents.archive.writer import ArchiveHeader, build
from metaevents.events import Events
from metaevents.sources import RecordingRef

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


class ManyLabels:
    """A source of 300 labels, which archives store in format version 2."""

    name, sensor_size = "many", (34, 34)
    labels = tuple(f"{i:04d}" for i in range(300))

    def recordings(self) -> list[RecordingRef]:
        return [RecordingRef(f"{label}/0", label, "", 0, int(label)) for label in self.labels]

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        return random_events(int(ref.location), 20, duration=90_000), {}


@pytest.fixture(scope="module")
def format_2_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("format-2")
    header = ArchiveHeader("many", 0, 100_000, "", "", lambda contents: contents)
    path = build(ManyLabels(), root / f"{NAME}.h5", header, lambda *_: "train")
    assert Archive(path).attributes["format_version"] == 2
    return root


def check_flips(outcomes: dict[str, int], count: int) -> None:
    allowed = {"verify refused", "load refused", "load same"}
    assert set(outcomes) <= allowed, outcomes
    assert outcomes["verify refused"] == count


@pytest.mark.parametrize("reseal", [False, True])
def test_a_flipped_bit_is_refused_or_harmless(
    nmnist_root: Path, tmp_path: Path, reseal: bool
) -> None:
    check_flips(flip_bits(nmnist_root, tmp_path, 1, FEW, reseal), FEW)


@pytest.mark.parametrize("reseal", [False, True])
def test_a_flipped_bit_of_format_2_is_refused_or_harmless(
    format_2_root: Path, tmp_path: Path, reseal: bool
) -> None:
    check_flips(flip_bits(format_2_root, tmp_path, 3, FEW, reseal), FEW)


@pytest.mark.attack
@pytest.mark.parametrize("reseal", [False, True])
def test_many_flipped_bits_of_format_2_are_refused_or_harmless(
    format_2_root: Path, tmp_path: Path, reseal: bool
) -> None:
    check_flips(flip_bits(format_2_root, tmp_path, 4, MANY // 2, reseal), MANY // 2)


@pytest.mark.attack
@pytest.mark.parametrize("reseal", [False, True])
def test_many_flipped_bits_are_refused_or_harmless(
    nmnist_root: Path, tmp_path: Path, reseal: bool
) -> None:
    check_flips(flip_bits(nmnist_root, tmp_path, 2, MANY, reseal), MANY)


def test_every_byte_of_the_user_block_counts(nmnist_root: Path, tmp_path: Path) -> None:
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


TRUNCATED = """
import os, shutil, sys
from pathlib import Path
import metaevents as me
from metaevents.errors import ArchiveError

source, work = Path(sys.argv[1]), Path(sys.argv[2])
size = source.stat().st_size
path = work / source.name


def refused(action):
    try:
        action()
    except ArchiveError as error:
        assert str(path) in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError("a truncated archive was read")


for cut in (0, 1, 100, 512, 2048, size // 4, size // 2, size - 4096, size - 1):
    shutil.copy(source, path)
    dataset = me.DoubleNMNIST(path)
    os.truncate(path, cut)
    refused(lambda: dataset.archive.verify(progress=False))
    refused(lambda: dataset.frames(0, 0, 0))
for cut in (512, size // 4):
    shutil.copy(source, path)
    archive = me.DoubleNMNIST(path).archive

    def read():
        # Enough remains in memory for the recordings of the first piece.
        for recording, _ in archive.iterate():
            if recording == 0:
                os.truncate(path, cut)
        archive.verify(progress=False)

    refused(read)
"""


def test_an_archive_that_is_cut_while_it_is_open_is_refused(
    nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an error of the disk, or by a program that writes into the file."""
    monkeypatch.setenv("METAEVENTS_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-c", TRUNCATED, nmnist_root / f"{NAME}.h5", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
