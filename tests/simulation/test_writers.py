"""The files of simulated recordings: official forms, reproducibility, safety of other files."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.packages import import_or_skip
from support.simulated import file_contents, read_all

from metaevents.errors import UsageError
from metaevents.events import EVENT_DTYPE
from metaevents.files import write_atomic
from metaevents.simulation import (
    recording_files,
    simulate_recordings,
    write_asl_dvs,
    write_nmnist,
)
from metaevents.sources import ASLDVS, NMNIST


def test_nmnist_files_have_the_official_form(digits: Path) -> None:
    read_mnist_file = import_or_skip("tonic.io", "pip install 'metaevents[tonic]'").read_mnist_file

    for folder, each in (("Train", 16), ("Test", 4)):
        files = sorted(digits.glob(f"{folder}/*/*.bin"))
        assert {int(file.stem) for file in files} == set(range(1, 10 * each + 1))
        assert all(len(file.stem) == 5 for file in files)
        assert {len(list(digits.glob(f"{folder}/{digit}/*.bin"))) for digit in range(10)} == {each}
    path = next(digits.glob("Train/4/*.bin"))
    raw = path.read_bytes()
    events = read_mnist_file(str(path), dtype=EVENT_DTYPE)
    assert len(events) * 5 == len(raw)
    assert events["x"].max() < 34
    assert events["y"].max() < 34
    assert set(events["p"]) == {0, 1}
    assert np.all(np.diff(events["t"]) >= 0)
    assert 295_000 < events["t"].max() < 315_000
    assert raw[2] >> 7 == events["p"][0]
    assert int.from_bytes(raw[2:5], "big") & 0x7FFFFF == events["t"][0]


def test_every_ten_numbers_hold_all_digits_in_random_order(digits: Path) -> None:
    by_number = [
        int(p.parent.name) for p in sorted(digits.glob("Train/*/*.bin"), key=lambda p: int(p.stem))
    ]
    for block in range(16):
        assert sorted(by_number[10 * block : 10 * block + 10]) == list(range(10))
    assert by_number[:10] != by_number[10:20]


def test_asl_dvs_files_have_the_official_form(hands: Path) -> None:
    from scipy.io import loadmat

    assert {path.name for path in hands.iterdir() if path.is_dir()} == set(
        "abcdefghiklmnopqrstuvwxy"
    )
    assert [path.name for path in sorted(hands.glob("k/*"))] == [
        f"k_{i:04d}.mat" for i in range(1, 7)
    ]
    variables = loadmat(hands / "k" / "k_0003.mat")
    columns = {name: variables[name] for name in ("ts", "x", "y", "pol")}
    assert {column.shape[1] for column in columns.values()} == {1}
    assert len({len(column) for column in columns.values()}) == 1
    assert len(columns["ts"]) > 1_500
    assert columns["x"].max() < 240
    assert columns["y"].max() < 180
    assert set(columns["pol"].ravel()) == {0, 1}
    assert 90_000 < columns["ts"].max() <= 100_000


def test_the_official_readers_read_them_as_simulated_recordings(digits: Path, hands: Path) -> None:
    for source in (NMNIST(digits), ASLDVS(hands)):
        assert source.name == "simulated"
        for ref in source.recordings()[::29]:
            events, repairs = source.read(ref)
            assert len(events) > 200
            assert set(repairs) <= {"recordings_not_from_zero"}


def test_files_are_the_same_for_any_number_of_jobs(
    digits: Path, hands: Path, tmp_path: Path
) -> None:
    alone, together = (
        write_nmnist(tmp_path / f"digits-{jobs}", train=2, test=1, jobs=jobs) for jobs in (1, 2)
    )
    assert file_contents(alone) == file_contents(together)
    # A recording does not depend on how many others there are either.
    many = file_contents(digits)
    assert all(
        many[name] == content
        for name, content in file_contents(alone).items()
        if name.startswith("Train")
    )
    alone, together = (
        write_asl_dvs(tmp_path / f"hands-{jobs}", files=3, letters="bq", jobs=jobs)
        for jobs in (1, 2)
    )
    assert file_contents(alone) == file_contents(together)


def test_golden_events(digits: Path, hands: Path) -> None:
    """SHA-256 over x, y, t, p as little-endian int64 columns.

    Computed with this code; NumPy 1.24.4 and 2.4.6 give the same values.
    """

    def digest(events: Any) -> str:
        columns = b"".join(events[name].astype("<i8").tobytes() for name in "xytp")
        return hashlib.sha256(columns).hexdigest()

    numbers = {
        path.parent.name: path.stem
        for path in digits.glob("Train/[07]/*.bin")
        if int(path.stem) <= 10
    }
    recordings = {**read_all(NMNIST(digits)), **read_all(ASLDVS(hands))}
    found = {
        "0": digest(recordings[f"Train/0/{numbers['0']}"]),
        "7": digest(recordings[f"Train/7/{numbers['7']}"]),
        "c": digest(recordings["c/c_0002"]),
    }
    assert found == {
        "0": "a1b4b72c48d3e95cecf71d960054d3a85ec33fb2ad646ff3aced6d7c39caef9a",
        "7": "b751899dfb71e9fdac64778de45e236620a417595fa430dc0df235199f9512ca",
        "c": "0d9c61d027fe43d71eeebee68d8a5878ea745957164c7a3aed3700733532dc13",
    }


def test_another_seed_gives_other_recordings(digits: Path, tmp_path: Path) -> None:
    other = write_nmnist(tmp_path, train=1, test=1, seed=1)
    assert not set(file_contents(other).values()) & set(file_contents(digits).values())


def test_no_image_serves_both_folders_and_a_repeated_one_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train uses the first half of each digit's images, which are blank here; Test uses squares."""
    import sklearn.datasets

    square = np.zeros((8, 8))
    square[2:6, 2:6] = 16
    blank = np.zeros((8, 8))
    fake = SimpleNamespace(
        images=np.array([blank, blank, square, square] * 10), target=np.repeat(np.arange(10), 4)
    )
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: fake)
    recordings = read_all(NMNIST(write_nmnist(tmp_path, train=2, test=4)))
    train = [len(events) for name, events in recordings.items() if name.startswith("Train")]
    test = [len(events) for name, events in recordings.items() if name.startswith("Test")]
    assert max(train) < 300 < 500 < min(test)
    assert len(set(test)) > 30


def test_a_failing_writer_leaves_no_incomplete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        if self.name.count(".bin"):
            raise OSError(28, "No space left on device")
        return self.rename(target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_nmnist(tmp_path, train=1, test=0)
    assert not [path for path in tmp_path.rglob("*") if ".bin" in path.name]
    monkeypatch.undo()
    assert len(NMNIST(write_nmnist(tmp_path, train=1, test=0)).recordings()) == 10


def test_writing_again_is_fine_and_other_recordings_are_safe(tmp_path: Path) -> None:
    mine = write_nmnist(tmp_path / "mine", train=1, test=0)
    before = file_contents(mine)
    assert file_contents(write_nmnist(mine, train=1, test=0)) == before
    with pytest.raises(UsageError, match="other simulated recordings"):
        write_nmnist(mine, train=2, test=0)
    real = tmp_path / "real" / "Train" / "3" / "00001.bin"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"12345")
    with pytest.raises(UsageError, match="not simulated"):
        write_nmnist(tmp_path / "real", train=1)
    assert file_contents(mine) == before
    assert real.read_bytes() == b"12345"
    with pytest.raises(UsageError, match="is a file"):
        write_asl_dvs(real)


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (write_nmnist, {"train": -1}, "train=-1"),
        (write_nmnist, {"train": 0, "test": 0}, "not 0 for both"),
        (write_nmnist, {"test": 10_000}, "test=10000"),
        (write_nmnist, {"jobs": 0}, "jobs=0"),
        (write_asl_dvs, {"files": 0}, "files=0"),
        (write_asl_dvs, {"letters": "abj"}, "'abj'"),
        (write_asl_dvs, {"letters": "aa"}, "each once"),
        (write_asl_dvs, {"letters": ""}, "letters=''"),
        (write_asl_dvs, {"jobs": -2}, "jobs=-2"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(
    write: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        write(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_recordings_for_a_dataset_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose from double-nmnist, double-asl-dvs, n-omniglot"):
        simulate_recordings("mnist", tmp_path)


WRONG_NUMBERS = [True, 3.0, "3", None, float("nan"), -(10**5_000)]


@pytest.mark.parametrize("wrong", WRONG_NUMBERS[:5], ids=repr)
def test_a_seed_that_is_no_whole_number_is_refused(tmp_path: Path, wrong: Any) -> None:
    for write in (write_nmnist, write_asl_dvs):
        with pytest.raises(UsageError, match="seed="):
            write(tmp_path / "x", seed=wrong)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("wrong", WRONG_NUMBERS, ids=range(6))
@pytest.mark.parametrize("name", ["train", "test", "jobs", "files"])
def test_a_number_that_is_no_whole_number_is_refused(tmp_path: Path, name: str, wrong: Any) -> None:
    write: Any = write_asl_dvs if name == "files" else write_nmnist
    with pytest.raises(UsageError, match=f"{name}="):
        write(tmp_path / "x", **{name: wrong})
    assert not (tmp_path / "x").exists()


def test_numbers_of_numpy_give_the_same_recordings(tmp_path: Path) -> None:
    one = write_nmnist(tmp_path / "one", train=1, test=0, seed=3)
    two = write_nmnist(tmp_path / "two", train=np.int64(1), test=np.int32(0), seed=np.uint8(3))
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_a_full_disk_is_an_error_of_the_operating_system_and_keeps_what_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def full(path: Path, content: bytes, **options: Any) -> None:
        nonlocal written
        written += 1
        if written > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_atomic(path, content, **options)

    with monkeypatch.context() as patch:
        patch.setattr(recording_files, "write_atomic", full)
        with pytest.raises(OSError, match="No space left on device"):
            write_nmnist(tmp_path / "x", train=1, test=0)
    assert len(list((tmp_path / "x").rglob("*.bin"))) == 4
    assert not list((tmp_path / "x").rglob("*.part"))
    write_nmnist(tmp_path / "x", train=1, test=0)
    assert len(list((tmp_path / "x").rglob("*.bin"))) == 10


SCRIPT = """
import sys
from metaevents.errors import UsageError
from metaevents.simulation import write_nmnist
try:
    write_nmnist(sys.argv[1], train=4, test=0, jobs=2, progress=False)
except UsageError as error:
    print("refused:", error)
"""


def test_processes_without_a_main_guard_name_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "refused: one of 2 simulating processes ended early" in done.stdout
    assert "give jobs=1" in done.stdout
