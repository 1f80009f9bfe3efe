"""The number of inner steps at test: one grid for all models, and the choice on validation.

The paper gives no number of inner steps at test, and more steps than in training often help. The
choice is made on validation episodes alone. It is settled only if the best number is not the last
one of the grid: beyond a cut grid, accuracy may still rise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from baselines.accuracy import episode_answers
from baselines.learners import from_weights
from baselines.maml import MAML
from baselines.networks import Params
from baselines.provenance import Seen
from baselines.training.validation import validation_episodes
from baselines.weights_file import Weights
from metaevents.datasets import load
from metaevents.episodes import Episode
from metaevents.errors import UsageError
from metaevents.files import PathLike, progress_bar

TEST_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)
"""Numbers of inner steps at test that are compared, for every model."""


def with_best_test_steps(
    weights: Weights,
    path: Path,
    archive: PathLike,
    *,
    device: str = "cpu",
    progress: bool | None = None,
) -> Weights:
    """Return the weights with the number of inner steps that is best on validation episodes.

    Args:
        weights: Weights that were trained by MAML.
        path: Where they come from, for messages.
        archive: The archive that they were trained on.
        device: Where to compute.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The weights, whose record has the accuracy of every number of the grid.

    Raises:
        UsageError: They were validated on other recordings than the archive has for validation.
    """
    config, record = weights.config, weights.record
    val = load(config.dataset, archive, "val", pairing=config.pairing, classes=config.classes)
    if not set(Seen.of(val).contents) <= set(record.chosen.contents):
        raise UsageError(
            f"{path} was validated on other recordings than {archive} has for validation; give the "
            "archive that the run was trained on"
        )
    longest = replace(weights, config=replace(config, test_steps=max(TEST_STEPS)))
    model = from_weights(longest, path, device=device).model
    assert isinstance(model, MAML)
    loader = validation_episodes(val, config, model.representation)
    episodes = progress_bar("inner steps at test", len(loader), "ep", progress, iterable=loader)
    rows = [_accuracies(model, episode) for episode in episodes]
    accuracies = {steps: fmean(row[steps] for row in rows) for steps in TEST_STEPS}
    best = max(accuracies, key=lambda steps: accuracies[steps])  # the fewest steps of equals
    others = {
        name: value
        for name, value in (record.measured or {}).items()
        if name not in map(_name, measured_steps(record.measured))
    }
    measured = {**others, **{_name(steps): value for steps, value in accuracies.items()}}
    return replace(
        weights,
        config=replace(config, test_steps=best),
        record=replace(record, measured=measured),
    )


def measured_steps(measured: Mapping[str, float] | None) -> dict[int, float]:
    """Return the validation accuracy of each number of inner steps that a record has.

    Args:
        measured: Figures of a record; see `provenance.Record`.

    Returns:
        Number of steps -> accuracy, in order; empty if there was no choice.
    """
    start, end = _name(0).split("0")
    found = {
        int(name[len(start) : -len(end)]): value
        for name, value in (measured or {}).items()
        if name.startswith(start) and name.endswith(end)
    }
    return dict(sorted(found.items()))


def is_inside(measured: Mapping[str, float] | None) -> bool:
    """Return whether the best number of inner steps is not the last one that was compared.

    Args:
        measured: Figures of a record; see `provenance.Record`.
    """
    accuracies = measured_steps(measured)
    if not accuracies:
        return False
    return max(accuracies, key=lambda steps: accuracies[steps]) != max(accuracies)


def _name(steps: int) -> str:
    """Return the name of a figure of a record."""
    return f"val_accuracy_{steps}_steps"


def _accuracies(model: MAML, episode: Episode) -> dict[int, float]:
    """Return the accuracy after each number of steps of the grid, from one inner loop."""
    ways = model.net.config.ways
    path = model.inner_path(episode.support_x, episode.support_y, ways)
    return {steps: _accuracy(model, path[steps], episode) for steps in TEST_STEPS}


def _accuracy(model: MAML, params: Params, episode: Episode) -> float:
    """Return the accuracy of the network with fixed parameters on an episode's queries."""
    config = replace(model.config, steps=0, test_steps=None, learn_inner_lrs=False)
    fixed = MAML(model.net, config, start=lambda _: params)
    classifier = fixed.adapt(episode.support_x, episode.support_y, model.net.config.ways)
    return float(episode_answers(classifier, episode).double().mean())
