"""Wheel and sdist: they build, carry their data files, and work where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from the sdist."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    clean = folder / "checkout"
    shutil.copytree(
        ROOT,
        clean,
        ignore=shutil.ignore_patterns(".git", "*.egg-info", "build", "dist", ".*_cache"),
    )
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(clean)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_carries_code_data_and_license(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("metaevents", "baselines")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "cards"))]


def test_the_sdist_can_be_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "metaevents/data/double-nmnist.v1.json",
    } <= names


def test_the_installed_wheel_works_elsewhere(
    built: Path, nmnist_root: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    code = (
        "import metaevents as me, sys\n"
        f"assert me.__file__.startswith({str(target)!r}), me.__file__\n"
        f"ds = me.DoubleNMNIST({str(nmnist_root)!r}, split='test')\n"
        "print(me.EpisodeLoader(ds, queries=5)[0].query_x.shape)"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "25, 100, 2, 16, 32" in done.stdout
