"""Fixtures for tests of experiments: trained runs, a study, and the output of all experiments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.experiment_runs import FILES, OPTIONS, results, small

from baselines.experiments import EXPERIMENTS, Study, reproduce
from baselines.training import train


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def archive(simulated_root: Path) -> Path:
    return simulated_root / "double-nmnist.h5"


@pytest.fixture(scope="session")
def runs(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small trained runs, one with learned rates."""
    root = tmp_path_factory.mktemp("runs")
    for model in (
        "snn-maml", "cnn-maml", "snn-fomaml", "snn-transfer", "cnn-reptile", "cnn-transfer",
    ):  # fmt: skip
        config = small(model, learn_inner_lrs=model == "snn-maml")
        train(config, archive, root / model, progress=False, device="cpu")
    return root


@pytest.fixture(scope="session")
def outputs(archive: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of all experiments."""
    out = tmp_path_factory.mktemp("outputs")
    for name in EXPERIMENTS:
        paths = reproduce(
            name, archive, out, runs=[runs], command=f"reproduce {name} here", **OPTIONS
        )
        assert paths == [results(out) / f"{name}.{kind}" for kind in FILES]
    return out


@pytest.fixture(scope="session")
def study(archive: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(
        EXPERIMENTS["fig3"], archive, tmp_path_factory.mktemp("study"), runs=[runs], **OPTIONS
    )
