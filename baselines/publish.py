"""Publishing: put a run's best weights where `baselines.load` finds them.

Published weights carry the whole learning curve. For MAML, the number of inner steps at test can be
selected on validation episodes first.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from baselines.inner_steps import with_best_test_steps
from baselines.released import SHIPPED
from baselines.training.folder import learning_curve
from baselines.weights_file import read_weights, weights_path
from metaevents.files import PathLike, user_path


def publish(
    run: PathLike,
    archive: PathLike | None = None,
    folder: Path | None = None,
    *,
    device: str = "cpu",
) -> Path:
    """Copy a run's best weights, with the whole learning curve, to the weights of the release.

    Args:
        run: The run's folder; or a file of published weights, whose inner steps at test are then
            selected again.
        archive: Archive on whose val split the number of inner steps at test is selected first
            (MAML only). The record keeps the accuracy of each number.
        folder: Another folder to write to.
        device: Where the inner steps at test are compared.

    Returns:
        The file that was written.

    Raises:
        MissingError: The folder holds no run.
        UsageError: The run was validated on other recordings than the archive has for validation.
    """
    run, folder = user_path(run).absolute(), folder or SHIPPED
    weights = read_weights(weights_path(run))
    curve = weights.record.curve if run.is_file() else learning_curve(run)
    if archive is not None and weights.config.kind.method == "maml":
        weights = with_best_test_steps(weights, run, archive, device=device)
    path = folder / weights.config.file_name
    folder.mkdir(parents=True, exist_ok=True)
    replace(weights, record=replace(weights.record, curve=tuple(curve))).save(path)
    return path
