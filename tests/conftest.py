"""Fixtures that all tests share: a cache for tests, the real sample, and small archives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.archives import build_in
from support.recordings import write_asl_dvs, write_nmnist

SAMPLE_VARIABLE = "METAEVENTS_NMNIST_SAMPLE"


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Side files of tests go to a temporary folder, also those of child processes."""
    os.environ["METAEVENTS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of 1,000 real N-MNIST recordings."""
    place = os.environ.get(SAMPLE_VARIABLE)
    if not place:
        pytest.skip(
            f"{SAMPLE_VARIABLE} is not set; "
            "set it to a folder of real N-MNIST recordings in the official layout"
        )
    return Path(place)


@pytest.fixture(scope="session")
def sample_root(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive of the real sample."""
    return build_in(tmp_path_factory.mktemp("sample"), "double-nmnist", sample)


@pytest.fixture(scope="session")
def nmnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random recordings in N-MNIST's format: 12 Train and 24 Test files per digit."""
    return write_nmnist(tmp_path_factory.mktemp("nmnist"))


@pytest.fixture(scope="session")
def nmnist_root(nmnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive of `nmnist_folder`."""
    return build_in(tmp_path_factory.mktemp("double-nmnist"), "double-nmnist", nmnist_folder)


@pytest.fixture(scope="session")
def asl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random recordings in ASL-DVS's format, flipped as the official ones: 10 files per letter."""
    return write_asl_dvs(tmp_path_factory.mktemp("asl"))


@pytest.fixture(scope="session")
def asl_root(asl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive of `asl_folder`."""
    return build_in(tmp_path_factory.mktemp("double-asl-dvs"), "double-asl-dvs", asl_folder)


@pytest.fixture(scope="session")
def simulated_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive that `metaevents build double-nmnist --simulated` builds."""
    from metaevents.simulation.writers import simulate_recordings

    root = tmp_path_factory.mktemp("simulated")
    return build_in(root, "double-nmnist", simulate_recordings("double-nmnist", root))
