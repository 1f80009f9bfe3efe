"""The code blocks of README and guides run; a comment before each block says whether it does."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [
    README,
    ROOT / "cards" / "performance.md",
    *sorted((ROOT / "cards" / "guides").glob("*.md")),
]
FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^>]*) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL
)
BLOCKS = [block for path in DOCUMENTS for block in FENCE.finditer(path.read_text("utf-8"))]


@pytest.fixture(scope="module")
def folder(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the simulated archive as data/double-nmnist.h5, as a reader has it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").symlink_to(simulated_root)
    return folder


def test_every_block_says_whether_it_runs() -> None:
    assert len(BLOCKS) >= 10
    for block in BLOCKS:
        assert re.match(r"run|not run: .", block["mark"] or ""), f"no mark before:\n{block['code']}"


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if (b["mark"] or "").startswith("run")],
    ids=lambda b: ("needs " if "needs:" in b["mark"] else "") + b["code"][:40],
)
def test_a_block_runs(block: re.Match[str], folder: Path) -> None:
    for package in re.findall(r"needs: (\w+)", block["mark"]):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = (
        [sys.executable, "-c", block["code"]]
        if block["language"] == "python"
        else ["bash", "-ec", block["code"]]
    )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_two_set_up_commands_are_those_that_ci_runs() -> None:
    first, second = (block["code"].strip() for block in BLOCKS[:2])
    assert first == "pip install -c constraints.txt . && metaevents quickstart --out data"
    assert second in README.with_name(".ci").joinpath("run").read_text("utf-8").replace(
        "--quiet ", ""
    )


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 200
