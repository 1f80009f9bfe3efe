"""cards/SUBMITTING.md: its learners and its five commands, run as a reader would run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.recordings import write_nmnist

from metaevents.building import build_archive, open_source

TEXT = (Path(__file__).parents[2] / "cards" / "SUBMITTING.md").read_text("utf-8")
BLOCK = r"^ *<!-- {mark} -->\n *```\w+\n(?P<code>.*?)^ *```$"
FILES = {
    found["name"]: found["code"]
    for found in re.finditer(BLOCK.format(mark=r"file: (?P<name>\w+\.py)"), TEXT, re.M | re.S)
}
STEPS = {
    int(found["step"]): textwrap.dedent(found["code"])
    for found in re.finditer(BLOCK.format(mark=r"step (?P<step>\d)"), TEXT, re.M | re.S)
}
LEARNERS = {
    found["name"]: found["code"]
    for found in re.finditer(BLOCK.format(mark=r"learner: (?P<name>\w+)"), TEXT, re.M | re.S)
}


def write_files(folder: Path) -> None:
    for name, code in FILES.items():
        (folder / name).write_text(code, "utf-8")


@pytest.fixture(scope="module")
def part_of_nmnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of random recordings, taken for a subset of N-MNIST; enough for 5-way 1-shot."""
    folder = tmp_path_factory.mktemp("part")
    raw = write_nmnist(folder / "raw", train=2, test=36)
    return build_archive(
        "double-nmnist", folder / "double-nmnist.h5", open_source("double-nmnist", raw)
    )


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated archive, with few train recordings, because no test here reads them."""
    from metaevents.simulation.writers import write_nmnist as simulate

    folder = tmp_path_factory.mktemp("simulated")
    raw = simulate(folder / "raw", train=1, test=32)
    return build_archive(
        "double-nmnist", folder / "double-nmnist.h5", open_source("double-nmnist", raw)
    )


def repository(folder: Path, archive: Path) -> Path:
    """A submitter's clone of a fork: git, cards/entries, the learner, and the archive in data/."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    clone = folder / "clone"
    (clone / "cards" / "entries").mkdir(parents=True)
    (clone / "data").mkdir()
    shutil.copy(archive, clone / "data" / "double-nmnist.h5")
    write_files(clone)
    (clone / "cards" / "LEADERBOARD.md").write_text("# Leaderboard\n")
    for command in (
        f"git init -q --bare {folder / 'fork.git'}",
        "git init -q -b main .",
        "git config user.name Ada && git config user.email ada@example.org",
        f"git remote add origin {folder / 'fork.git'}",
        "git add cards && git commit -qm Before",
    ):
        assert run(command, clone).returncode == 0
    return clone


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell command, with the `metaevents` of this interpreter first on the path."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_are_five_commands() -> None:
    assert sorted(STEPS) == [1, 2, 3, 4, 5]


def test_the_five_commands_lead_from_a_learner_to_a_branch_on_the_fork(
    tmp_path: Path, part_of_nmnist: Path
) -> None:
    clone = repository(tmp_path, part_of_nmnist)
    said = {}
    for step in sorted(STEPS):
        done = run(STEPS[step], clone)
        assert done.returncode == 0, f"step {step}: {done.stderr}"
        said[step] = done.stdout
    report = json.loads((clone / "cards/entries/my-method.json").read_text("utf-8"))["report"]
    assert report["is_protocol"]
    assert f"{report['accuracy']:.2%}" in said[2]
    assert "score: recomputed" in said[3]
    assert "claimed" in said[3]
    sent = run("git ls-tree -r --name-only my-method", tmp_path / "fork.git").stdout.split()
    assert set(sent) == {
        "cards/LEADERBOARD.md",
        "cards/entries/my-method.json",
        "cards/entries/my-method.npz",
        "cards/leaderboard/index.html",
    }
    assert (
        "My method" in run("git show my-method:cards/LEADERBOARD.md", tmp_path / "fork.git").stdout
    )
    assert run(f"{STEPS[4].strip()} --check", clone).returncode == 0


def test_on_simulated_recordings_everything_runs_except_the_leaderboard(
    tmp_path: Path, simulated: Path
) -> None:
    clone = repository(tmp_path, simulated)
    rehearsed = {
        **STEPS,
        1: STEPS[1].replace("--protocol 5way-1shot", "--protocol sample-5way-1shot"),
    }
    assert rehearsed[1] != STEPS[1]
    for step in (1, 2, 3):
        done = run(rehearsed[step], clone)
        assert done.returncode == 0, f"step {step}: {done.stderr}"
    assert "never enters the leaderboard" in done.stdout
    before = (clone / "cards" / "LEADERBOARD.md").read_text()
    done = run(STEPS[4], clone)
    assert done.returncode == 2
    assert "simulated" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (clone / "cards" / "LEADERBOARD.md").read_text() == before


@pytest.mark.parametrize("name", ["numpy", "torch", "snntorch", "learn2learn"])
def test_a_learner_is_shown_as_it_is_tested(name: str) -> None:
    """`test_learner_examples` runs them."""
    examples = (Path(__file__).parents[1] / "support" / "learner_examples.py").read_text("utf-8")
    tested = dict(re.findall(r"^# \[(\w+)\]\n(.*?)(?=^# \[|\Z)", examples, re.M | re.S))
    assert LEARNERS[name].strip() == tested[name].strip()
