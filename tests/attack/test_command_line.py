"""Odd words, odd environments and full disks: one line and status 2, and no file is lost.

The ordinary run takes a few inputs of each kind; `-m attack` takes all.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import Main, all_options, required_words

from metaevents.cli import base
from metaevents.distributed import launched_process
from metaevents.errors import MetaeventsError, printable

FEW = pytest.param(20, id="few")
MANY = pytest.param(3_000, id="many", marks=pytest.mark.attack)

ODD = (
    *("", " ", "~", "~/", "~x/y", "~root/../~x", "/", ".", "..", "//", "a/", "-", "--", "\\", "'"),
    *("\x1b[2J", "\r", "\n", "\t", "\x7f", "\x9b", "\u202e", "\udcff", "caf\xe9", "\U0001f600"),
    *(
        "0",
        "-0",
        "+0",
        "1",
        "-1",
        "1e9",
        "1_0",
        "0x1",
        "nan",
        "inf",
        "\u0665",
        "9" * 30,
        "9" * 5000,
    ),
    *("a" * 300, "a/" * 2000, "None", "True", "[]", "{}", "%s", "{0}", "$HOME", "`id`", "a;b"),
)


def odd_word(rng: random.Random) -> str:
    """One odd word, or several joined."""
    return "".join(rng.choices(ODD, k=rng.choice((1, 1, 2, 3))))


def status(program: Main, words: list[str]) -> int:
    """The exit status of a command, also where argparse ends it."""
    try:
        return program(words)
    except SystemExit as stop:
        return int(stop.code or 0)


OPTIONS = [
    (program, command, action)
    for program, command, action in all_options()
    if action.type is not None or action.choices
]


@pytest.mark.parametrize("inputs", [FEW, MANY])
def test_odd_words_for_any_option_are_one_line(
    inputs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    for _ in range(inputs):
        program, command, action = rng.choice(OPTIONS)
        word = odd_word(rng)
        try:
            value = convert(action, word)
        except argparse.ArgumentTypeError:
            words = [command, *required_words(command, program, action)]
            words += [f"{action.option_strings[0]}={word}"] if action.option_strings else [word]
            if not (word.startswith("-") and not action.option_strings):
                assert status(program, words) == 2
                printed = capsys.readouterr()
                assert printed.out == ""
                assert printed.err[:-1].isprintable()
                assert len(printed.err) < 12_000
            continue
        if isinstance(value, Path):
            assert not str(value).startswith("~")
    assert not list(tmp_path.iterdir())


def convert(action: argparse.Action, word: str) -> object:
    """The value of a word, or an ArgumentTypeError."""
    if action.choices:
        if word not in action.choices:
            raise argparse.ArgumentTypeError("no choice")
        return word
    return action.type(word)  # type: ignore[operator,misc]


@pytest.mark.parametrize("inputs", [FEW, MANY])
def test_any_environment_is_a_group_none_or_one_sentence(
    inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    values = (None, "", "0", "1", "2", "3", "-1", "x", "1.0", "65536", "9" * 40, "localhost")
    outcomes = set()
    for _ in range(inputs):
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            value = rng.choice(values)
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        try:
            group = launched_process()
        except MetaeventsError as error:
            outcomes.add("refused" if str(error).isprintable() else "several lines")
            continue
        outcomes.add("alone" if group is None else "member")
        if group is not None:
            assert 0 <= group.rank < group.size == int(os.environ["WORLD_SIZE"])
            assert os.environ["MASTER_ADDR"]
        else:
            assert os.environ.get("WORLD_SIZE") in (None, "1")
    assert {"refused", "alone"} <= outcomes <= {"refused", "alone", "member"}


@pytest.mark.parametrize("inputs", [FEW, MANY])
def test_nothing_that_is_printed_can_be_obeyed(
    inputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(2)
    for _ in range(inputs):
        text = "".join(
            chr(rng.choice((rng.randrange(256), rng.randrange(0x11000)))) for _ in "12345"
        )
        assert base.run_action("p", lambda text=text: print(text, end="")) == 0
        printed = capsys.readouterr().out
        assert printed == printable(text)
        assert all(char.isprintable() or char in "\n\t" for char in printed)


# --- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder: Path, free: int) -> None:
    """Leave some bytes free on the disk of a folder."""
    disk = os.statvfs(folder)
    size = disk.f_bavail * disk.f_frsize - free
    (folder / "filler").write_bytes(bytes(max(0, size)))


FULL = [
    ("show {archive} --out {disk}/old.png", ["old.png"]),
    ("show {archive} --out {disk}/old.gif", ["old.gif"]),
    (
        "evaluate floor:chance --archive {archive} --protocol sample-5way-1shot --episodes 2"
        " --queries 2 --out {disk}/old.json",
        ["old.json", "predictions.npz"],
    ),
    (
        "leaderboard --entries {entries} --markdown {disk}/old.md --html {disk}",
        ["old.md", "index.html"],
    ),
    ("build double-nmnist --root {disk} --source {recordings} --force", ["double-nmnist.h5"]),
    ("build double-nmnist --root {disk} --simulated --force", ["double-nmnist.h5"]),
    ("quickstart --out {disk}", ["samples.png", "chance-sample-5way-1shot.json"]),
]


@pytest.mark.parametrize(("command", "files"), FULL, ids=lambda value: str(value).split(" ")[0])
@pytest.mark.parametrize(
    "free",
    [pytest.param(0, id="nothing"), pytest.param(8192, id="little", marks=pytest.mark.attack)],
)
def test_a_full_disk_is_one_line_and_keeps_the_old_files(
    command: str,
    files: list[str],
    free: int,
    nmnist_root: Path,
    nmnist_folder: Path,
    small_disk: Path,
    tmp_path: Path,
) -> None:
    from support.made_entries import write_entry

    entries = tmp_path / "cards" / "entries"
    write_entry(entries, "one", 0.9)
    for name in files:
        (small_disk / name).write_bytes(b"old")
    fill(small_disk, free)
    words = command.format(
        archive=nmnist_root / "double-nmnist.h5",
        disk=small_disk,
        entries=entries,
        recordings=nmnist_folder,
    ).split()
    done = subprocess.run(
        [sys.executable, "-m", "metaevents", *words], capture_output=True, text=True, check=False
    )
    written = [name for name in files if (small_disk / name).read_bytes() != b"old"]
    if done.returncode == 0:
        assert free, "nothing fits on a full disk"
        return
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for name in written:  # before the disk was full, and whole
        assert (small_disk / name).stat().st_size > 3
    if not free:
        assert written == []
    assert not list(small_disk.glob(".*.part"))
