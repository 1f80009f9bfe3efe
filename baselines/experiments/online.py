"""Online adaptation: one support sample at a time, in random order and class by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baselines.accuracy import Classifier
from baselines.experiments.plots import dots, legend
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.experiments.variants import fixed_classifier, inner_params, run_update
from baselines.experiments.verdicts import MARGIN, claim, not_tested
from baselines.maml import MAML, InnerUpdate, adapt
from baselines.networks import Params
from metaevents.episodes import Episode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODELS = ("cnn-maml", "snn-maml")
_SHOTS = 5

_BATCH, RANDOM, CORRELATED = (
    "whole support at once",
    "one by one, shuffled",
    "one by one, by class",
)
ORDERS = (RANDOM, CORRELATED)
"""Orders of the support samples."""

# Shares of the run's learning rates, times the number of samples: 1 makes one pass move as far as
# one step on the mean of all samples.
_SHARES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

_AS_GOOD = f"{{}}: within {100 * MARGIN:g} point of the whole support at once"
_NO_ORDER = f"{CORRELATED}: within {100 * MARGIN:g} point of {RANDOM}"


def _rows(study: Study) -> list[Row]:
    """Return a row per model and order, and the verdicts."""
    rows, verdicts = [], []
    runs = {run.config.model: run for run in study.runs.available(*study.models(_MODELS))}
    for model in _MODELS:
        claims = [_AS_GOOD.format(order) for order in ORDERS] + [_NO_ORDER]
        if model not in runs:
            verdicts += [not_tested(text, model=model) for text in claims]
            continue
        run = runs[model]
        shares = _chosen_shares(study, run)
        label = f"online, shares {shares}"
        measured = study.measure(label, partial(_final, run, shares), [run], shots=_SHOTS)
        for name, accuracies in measured.items():
            rows.append(
                {
                    "model": model,
                    "support": name,
                    "share of the learning rate": shares.get(name),
                    **accuracies.row(),
                    **accuracies.change(measured[_BATCH]),
                }
            )
        pairs = [(order, _BATCH) for order in ORDERS] + [(CORRELATED, RANDOM)]
        verdicts += [
            claim(text, [measured[a], measured[b]], [1, -1], -MARGIN, model=model)
            for text, (a, b) in zip(claims, pairs, strict=True)
        ]
    study.note(
        f"5-way {_SHOTS}-shot. One by one: each support sample is seen once, in batches of one, "
        "with a step of the inner loop after each. By class: all samples of a class, then all of "
        "the next. The share of the run's learning rates, in parts of the number of samples, was "
        f"chosen among {', '.join(f'{share:g}' for share in _SHARES)} on "
        f"{_validation_episodes(study)} episodes of the val split. Changes are relative to the "
        "whole support at once, on the same episodes."
    )
    return rows + verdicts


def _validation_episodes(study: Study) -> int:
    """Return the number of episodes on which shares are chosen."""
    return max(1, study.budget.episodes // 4)


def _chosen_shares(study: Study, run: Trained) -> dict[str, float]:
    """Return the share of the learning rates that is best on validation episodes, by order."""
    val = study.split("val")
    measured = study.measure(
        f"online, all shares of {_SHARES}",
        partial(_candidates, run),
        [run],
        dataset=val,
        shots=_SHOTS,
        episodes=_validation_episodes(study),
    )
    return {
        order: max(_SHARES, key=lambda share: measured[_name(order, share)].accuracy)
        for order in ORDERS
    }


def _name(order: str, share: float) -> str:
    """Return the name of a candidate."""
    return f"{order}, share {share:g}"


def _candidates(run: Trained, episode: Episode) -> Iterator[tuple[str, Classifier]]:
    """Yield a classifier for each order and share."""
    for order in ORDERS:
        for share in _SHARES:
            yield _name(order, share), one_by_one(run.maml, episode, order, share)


def _final(
    run: Trained, shares: dict[str, float], episode: Episode
) -> Iterator[tuple[str, Classifier]]:
    """Yield the classifiers to compare."""
    yield _BATCH, run.learner.adapt(episode.support_x, episode.support_y, len(episode.classes))
    for order, share in shares.items():
        yield order, one_by_one(run.maml, episode, order, share)


def one_by_one(maml: MAML, episode: Episode, order: str, share: float) -> Classifier:
    """Return a run's network after one pass over an episode's support, a sample at a time.

    Args:
        maml: The learner of a run.
        episode: The episode.
        order: A member of `ORDERS`.
        share: Share of the run's learning rates, times the number of samples.
    """
    x, y = episode.support_x.to(maml.device), episode.support_y.to(maml.device)
    update = scaled(run_update(maml), share / len(y))
    params = inner_params(maml)
    for index in places(episode, order).tolist():
        one = slice(index, index + 1)
        params = adapt(
            maml.net.apply_params, params, x[one], y[one], update, learning=maml.learning
        )
    return fixed_classifier(maml, params, episode)


def places(episode: Episode, order: str) -> Tensor:
    """Return the places of the support samples in the order in which they are seen.

    Args:
        episode: The episode.
        order: A member of `ORDERS`. A shuffled order depends on the episode alone.
    """
    if order == CORRELATED:
        return episode.support_y.argsort(stable=True)
    generator = torch.Generator().manual_seed(int(episode.digest()[:15], 16))
    return torch.randperm(len(episode.support_y), generator=generator)


def scaled(update: InnerUpdate, factor: float) -> InnerUpdate:
    """Return an inner update that goes a share of the way of another one.

    Args:
        update: The other inner update.
        factor: The share.
    """

    def step(params: Params, gradients: Params, index: int) -> Params:
        after = update(params, gradients, index)
        return {name: value + factor * (after[name] - value) for name, value in params.items()}

    return step


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw dots at the accuracy."""
    axes = figure.subplots()
    dots(axes, rows, "accuracy", ["support"], ["model"])
    axes.set_ylabel("support samples")
    legend(figure, "", rows)


ONLINE = Experiment(
    name="online",
    title="Accuracy after online adaptation, one sample at a time, 5-way 5-shot",
    rows=_rows,
    plot=_plot,
    claim="The paper aims at learning during online task performance (abstract) and adapts on the "
    "whole support at once.",
    quick={"episodes": 300, "queries": 10},
)
"""Accuracy after online adaptation."""
