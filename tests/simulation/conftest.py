"""Folders of simulated recordings that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaevents.simulation import write_asl_dvs, write_nmnist


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """N-MNIST form: 16 Train and 4 Test recordings per digit."""
    return write_nmnist(tmp_path_factory.mktemp("digits"), train=16, test=4)


@pytest.fixture(scope="session")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ASL-DVS form: 6 recordings per letter: two slices of the first subject, one of each other."""
    return write_asl_dvs(tmp_path_factory.mktemp("hands"), files=6)
