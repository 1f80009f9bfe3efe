"""Fixtures of the command-line tests: an archive that `metaevents build` has written."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import run


@pytest.fixture(scope="session")
def built(nmnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "data"
    done = run("build", "double-nmnist", "--root", root, "--source", nmnist_folder, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert "360 recordings (n-mnist-subset)" in done.stdout
    assert done.stderr == "", "no progress bar without a terminal"
    return root / "double-nmnist.h5"
