"""Starting from other weights, and weights that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.training_runs import (
    small,
)

from baselines.training.loop import TrainingRun
from metaevents.errors import UsageError


def test_weights_of_another_network_are_refused(archive: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another architecture: body"):
        TrainingRun(small(channels=(4, 8, 8)), archive, tmp_path, start_from=whole, progress=False)


def test_weights_trained_on_test_classes_are_refused(
    archive: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="trained on classes of the"):
        TrainingRun(
            small(classes="novel-components"), archive, tmp_path, start_from=whole, progress=False
        )
