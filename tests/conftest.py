"""Fixtures that all tests share: a cache of their own, the real sample, and small archives of random recordings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.recordings import write_asl_dvs, write_nmnist

SAMPLE_VARIABLE = "METAEVENTS_NMNIST_SAMPLE"


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Side files of tests go to a temporary folder, also those of child processes."""
    os.environ["METAEVENTS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the 1,000 real N-MNIST recordings."""
    place = os.environ.get(SAMPLE_VARIABLE)
    if not place:
        pytest.skip(
            f"{SAMPLE_VARIABLE} is unset; set it to a folder of real N-MNIST recordings in the official layout"
        )
    return Path(place)


@pytest.fixture(scope="session")
def sample_root(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive of the real sample."""
    from metaevents.building import build_archive, open_source

    root = tmp_path_factory.mktemp("sample")
    build_archive("double-nmnist", root / "double-nmnist.h5", open_source("double-nmnist", sample))
    return root


@pytest.fixture(scope="session")
def nmnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random recordings in N-MNIST's format: 12 Train and 24 Test files a digit."""
    return write_nmnist(tmp_path_factory.mktemp("nmnist"))


@pytest.fixture(scope="session")
def nmnist_root(nmnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive of `nmnist_folder`."""
    from metaevents.building import build_archive, open_source

    root = tmp_path_factory.mktemp("double-nmnist")
    build_archive(
        "double-nmnist", root / "double-nmnist.h5", open_source("double-nmnist", nmnist_folder)
    )
    return root


@pytest.fixture(scope="session")
def asl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random recordings in ASL-DVS's format, upright before they are flipped: 10 files a letter."""
    return write_asl_dvs(tmp_path_factory.mktemp("asl"))


@pytest.fixture(scope="session")
def asl_root(asl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive of `asl_folder`."""
    from metaevents.building import build_archive, open_source

    root = tmp_path_factory.mktemp("double-asl-dvs")
    build_archive(
        "double-asl-dvs", root / "double-asl-dvs.h5", open_source("double-asl-dvs", asl_folder)
    )
    return root


@pytest.fixture(scope="session")
def simulated_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive of the simulated N-MNIST recordings, as `metaevents build --simulated` makes it."""
    from metaevents.building import build_archive, open_source
    from metaevents.simulation.writers import simulate_recordings

    root = tmp_path_factory.mktemp("simulated")
    folder = simulate_recordings("double-nmnist", root)
    build_archive("double-nmnist", root / "double-nmnist.h5", open_source("double-nmnist", folder))
    return root
