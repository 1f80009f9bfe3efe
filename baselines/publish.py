"""Publishing: put a run's best weights where `baselines.load` finds them.

Published weights carry the whole learning curve. For MAML, the number of inner steps at test can be
selected on validation episodes first.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

from baselines.accuracy import learner_accuracy
from baselines.learners import from_weights
from baselines.provenance import Seen
from baselines.released import SHIPPED
from baselines.training.folder import learning_curve
from baselines.training.validation import validation_episodes
from baselines.weights_file import Weights, read_weights, weights_path
from metaevents.datasets import load
from metaevents.errors import UsageError
from metaevents.files import PathLike, progress_bar, user_path

TEST_STEPS = (1, 3, 5)
"""Numbers of inner steps at test that `publish` compares."""


def publish(run: PathLike, archive: PathLike | None = None, folder: Path | None = None) -> Path:
    """Copy a run's best weights, with the whole learning curve, to the weights of the release.

    Args:
        run: The run's folder.
        archive: Archive on whose val split the number of inner steps at test is selected first
            (MAML only). The record keeps the accuracy of each number.
        folder: Another folder to write to.

    Returns:
        The file that was written.

    Raises:
        MissingError: The folder holds no run.
        UsageError: The run was validated on other recordings than the archive has for validation.
    """
    run, folder = user_path(run).absolute(), folder or SHIPPED
    curve = learning_curve(run)
    weights = read_weights(weights_path(run))
    if archive is not None and weights.config.kind.method == "maml":
        weights = _with_best_test_steps(weights, run, archive)
    path = folder / weights.config.file_name
    folder.mkdir(parents=True, exist_ok=True)
    replace(weights, record=replace(weights.record, curve=tuple(curve))).save(path)
    return path


def _with_best_test_steps(weights: Weights, path: Path, archive: PathLike) -> Weights:
    """Return the weights with the number of inner steps that is best on validation episodes."""
    config = weights.config
    val = load(config.dataset, archive, "val", pairing=config.pairing, classes=config.classes)
    if not set(Seen.of(val).recordings) <= set(weights.record.chosen.recordings):
        raise UsageError(
            f"{path} was validated on other recordings than {archive} has for validation; give the "
            "archive that the run was trained on"
        )
    accuracies = {}
    for steps in progress_bar("inner steps", len(TEST_STEPS), "", None, iterable=TEST_STEPS):
        learner = from_weights(replace(weights, config=replace(config, test_steps=steps)), path)
        accuracies[steps] = fmean(
            learner_accuracy(learner, episode, config.ways)
            for episode in validation_episodes(val, config, learner.representation)
        )
    best = max(accuracies, key=lambda steps: accuracies[steps])  # the fewest steps of equals
    measured = {
        **(weights.record.measured or {}),
        **{f"val_accuracy_{steps}_steps": value for steps, value in accuracies.items()},
    }
    record = replace(weights.record, measured=measured)
    return replace(weights, config=replace(config, test_steps=best), record=record)
