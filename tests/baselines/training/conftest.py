"""Fixtures for tests of training runs: an archive and a finished run, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.training_runs import complete, train_words


@pytest.fixture(autouse=True, scope="module")
def _no_gpu() -> Iterator[None]:
    """Runs are the same bit for bit on a CPU only; `test_gpu` has the tests for a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="session")
def archive(simulated_root: Path) -> Path:
    return simulated_root / "double-nmnist.h5"


@pytest.fixture(scope="session")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, in its own process."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    complete(train_words(archive, out))
    return out
