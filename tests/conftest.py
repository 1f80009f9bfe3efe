"""Fixtures that all tests share: a cache for tests, the real sample, and small archives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.archives import build_in
from support.omniglot import write_n_omniglot
from support.recordings import write_asl_dvs, write_nmnist

from metaevents.sources.base import SIMULATED_MARK

SAMPLE_VARIABLE = "METAEVENTS_NMNIST_SAMPLE"

# A test that waits for a busy machine is no failure.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs the long calibration of intervals and tests."""
    parser.addoption(
        "--calibration", action="store_true", help="simulate intervals and tests at full size"
    )


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
def omniglot_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive in N-Omniglot's format: three characters, not marked simulated."""
    pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")
    labels = {
        "background": ["Greek/character01", "Latin/character02"],
        "evaluation": ["ULOG/character26"],
    }
    folder = write_n_omniglot(tmp_path_factory.mktemp("omniglot"), labels)
    return build_in(tmp_path_factory.mktemp("n-omniglot"), "n-omniglot", folder)


@pytest.fixture(scope="session")
def marked_omniglot_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive in N-Omniglot's format, of the 50 classes of simulated archives."""
    pytest.importorskip("aedat", reason="aedat is not installed; install metaevents[omniglot]")
    folder = write_n_omniglot(tmp_path_factory.mktemp("omniglot"))
    (folder / SIMULATED_MARK).touch()
    return build_in(tmp_path_factory.mktemp("n-omniglot"), "n-omniglot", folder)


@pytest.fixture(scope="session")
def simulated_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive that `metaevents build double-nmnist --simulated` builds."""
    from metaevents.simulation.writers import simulate_recordings

    root = tmp_path_factory.mktemp("simulated")
    return build_in(root, "double-nmnist", simulate_recordings("double-nmnist", root))
