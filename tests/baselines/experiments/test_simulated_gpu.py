"""Experiments on a GPU that is simulated."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.experiment_runs import OPTIONS, document
from support.simulated_gpu import simulated_gpu

from baselines.experiments import EXPERIMENTS, reproduce

# The rules of the others draw from a generator of the GPU, which needs a real one.
_SIMULATED = ("fig3", "fig5", "reptile")


@pytest.mark.parametrize("name", _SIMULATED)
def test_an_experiment_runs_on_a_gpu(name: str, archive: Path, runs: Path, tmp_path: Path) -> None:
    assert name in EXPERIMENTS
    with simulated_gpu():
        reproduce(
            name, archive, tmp_path, runs=[runs], command="",
            **{**OPTIONS, "episodes": 1, "tuning": 1, "device": "cuda"},
        )  # fmt: skip
    assert document(tmp_path, name)["rows"]
