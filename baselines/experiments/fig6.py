"""Figure 6: the number of shots that transfer learning needs to reach one-shot SNN-MAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import hypot
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from baselines.accuracy import Classifier
from baselines.experiments.accuracy import EpisodeAccuracies, Variants
from baselines.experiments.plots import curves, half_width, legend, log_percent
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.transfer import Transfer
from metaevents.episodes import Episode
from metaevents.sampling import EpisodeSampler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_SHOTS = 20

_FEW_QUERIES = 4  # per class, where the split lacks the recordings for more beside all shots

_MAML = "MAML, one shot"

_SHOTS_NEEDED = "shots to reach 5-way 1-shot SNN-MAML"


_MAX_TABLE = 20_000
"""Samples whose features are kept; of a network of the paper 80 MB."""

Crossing: TypeAlias = tuple[int | None, int | None, int | None]
"""Shots needed: the first number that reaches the target, and the least and the greatest number of
the 95 % interval; None is more than the most shots that were measured."""


class _FeatureTable:
    """The features of a frozen network, computed once per sample.

    The episodes of a small archive repeat its samples many times.

    Args:
        body: The transfer learner.
    """

    def __init__(self, body: Transfer) -> None:
        self._body = body
        self._known: dict[Any, Tensor] = {}

    def __call__(self, x: Tensor, ids: Sequence[Any]) -> Tensor:
        """Return the features of samples.

        Args:
            x: Samples [n, ...].
            ids: The recordings of each sample, which fix it.
        """
        places = {key: place for place, key in enumerate(ids) if key not in self._known}
        new: dict[Any, Tensor] = {}
        if places:
            features = self._body.features(x[list(places.values())])
            new = dict(zip(places, features, strict=True))
        rows = torch.stack([new[key] if key in new else self._known[key] for key in ids])
        if len(self._known) + len(new) <= _MAX_TABLE:
            self._known |= new
        return rows


class _OnFeatures(Transfer):
    """Learns from features: those of a frozen network, computed once for all numbers of shots."""

    def features(self, x: Tensor) -> Tensor:
        """Return `x`, which holds the features already."""
        return x


def by_shots(run: Trained, max_shots: int, maml: Trained | None) -> Variants:
    """Return transfer learning from the first 1, 2 ... `max_shots` shots, and MAML from the first.

    Args:
        run: The run for transfer learning.
        max_shots: Shots per class of the episodes.
        maml: The run for MAML; None leaves it out.
    """
    body = run.transfer
    features = _FeatureTable(body)
    learner = _OnFeatures(body.net, body.steps, body.lr, body.weight_decay)

    def variants(episode: Episode) -> Iterator[tuple[str, Classifier]]:
        """Yield the number of shots and the classifier that learned from them."""
        ways, labels = len(episode.classes), episode.support_y
        support = features(episode.support_x, episode.support_ids)
        query = features(episode.query_x, episode.query_ids)
        for shots in range(1, max_shots + 1):
            classifier = learner.adapt(
                _first_shots(support, ways, shots), _first_shots(labels, ways, shots), ways
            )
            yield str(shots), lambda _, classifier=classifier: classifier(query)  # type: ignore[misc]
        if maml is not None:
            x, y = _first_shots(episode.support_x, ways, 1), _first_shots(labels, ways, 1)
            yield _MAML, maml.learner.adapt(x, y, ways)

    return variants


def _first_shots(x: Tensor, ways: int, shots: int) -> Tensor:
    """Return the first shots of every class; an episode's support is sorted by class.

    Args:
        x: Samples, features or labels of the support, [ways * n, ...].
        ways: Number of classes.
        shots: Shots per class to return.
    """
    return x.view(ways, -1, *x.shape[1:])[:, :shots].flatten(0, 1)


def _rows(study: Study) -> list[Row]:
    """Return a row per method, ways and shots, and a row per ways with the shots needed."""
    run = study.runs.get("snn-transfer")
    measured: dict[int, dict[str, EpisodeAccuracies]] = {}
    rows: list[Row] = []
    for ways in sorted({min(20, len(study.test)), 5}, reverse=True):
        maml = study.runs.get("snn-maml") if ways == 5 else study.runs.find("snn-maml", ways=ways)
        if maml is None:
            study.note(
                f"{ways}-way SNN-MAML was not measured, because no {ways}-way run was given."
            )
        measured[ways], some = _error_rows(study, ways, run, maml)
        rows += some
    study.note(
        "Fewer shots are the first ones of the episode's support, so all numbers of shots have the "
        "same queries."
    )
    study.note(
        "Shots needed: the first number of shots whose accuracy is not below that of 5-way 1-shot "
        "SNN-MAML. Its 95 % interval has the numbers that the differences do not exclude: from the "
        "first one whose interval reaches 0 to the first one whose interval is above 0. "
        "Differences to 5-way transfer are paired; those to other ways are not, which makes their "
        "intervals wider."
    )
    return rows + _needed_rows(measured)


def _error_rows(
    study: Study, ways: int, run: Trained, maml: Trained | None
) -> tuple[dict[str, EpisodeAccuracies], list[Row]]:
    """Measure transfer learning with every number of shots, and MAML if there is a run.

    Returns:
        The accuracies by name, and a row for each.
    """
    shots, queries = _shots_and_queries(study, ways)
    accuracies = study.measure(
        f"shots to {shots}",
        by_shots(run, shots, maml),
        [run] if maml is None else [run, maml],
        ways=ways,
        shots=shots,
        queries=queries,
        shots_of=lambda name: 1 if name == _MAML else int(name),
    )
    return accuracies, [
        _error_row("SNN-MAML", ways, 1, queries, accuracy)
        if name == _MAML
        else _error_row("transfer", ways, int(name), queries, accuracy)
        for name, accuracy in accuracies.items()
    ]


def _error_row(
    method: str, ways: int, shots: int, queries: int, accuracy: EpisodeAccuracies
) -> Row:
    """Return the row of one method and number of shots."""
    return {
        "panel": "error",
        "method": method,
        "ways": ways,
        "shots": shots,
        "queries": queries,
        "error": 1 - accuracy.accuracy,
        **accuracy.row(),
    }


def _needed_rows(measured: Mapping[int, Mapping[str, EpisodeAccuracies]]) -> list[Row]:
    """Return a row per ways with the shots at which transfer learning reaches 5-way SNN-MAML."""
    target = measured[5][_MAML]
    needed = []
    for ways, accuracies in measured.items():
        shots = {int(name): each for name, each in accuracies.items() if name != _MAML}
        differences = {
            n: _difference(each, target, paired=ways == 5) for n, each in sorted(shots.items())
        }
        most = max(shots)
        reached, least, greatest = crossing(differences)
        needed.append(
            {
                "panel": _SHOTS_NEEDED,
                "method": "transfer",
                "ways": ways,
                "shots needed": _shots(reached, most),
                "least": _shots(least, most),
                "greatest": _shots(greatest, most),
                "most shots": most,
            }
        )
    return needed


def _difference(
    accuracy: EpisodeAccuracies, target: EpisodeAccuracies, *, paired: bool
) -> tuple[float, float]:
    """Return a difference of accuracies and half of its 95 % interval.

    Unpaired, the half-widths are joined as those of independent episodes. The shared recordings
    make both accuracies move together, so the interval is wider than it has to be.
    """
    if paired:
        change = accuracy.change(target)
        return change["change"], change["change_ci95"]
    half_width = hypot(accuracy.row()["ci95"], target.row()["ci95"])
    return accuracy.accuracy - target.accuracy, half_width


def crossing(differences: Mapping[int, tuple[float, float]]) -> Crossing:
    """Return at how many shots a difference that rises with the shots becomes 0 or more.

    A number is excluded if the difference at it is below 0 by more than its interval, or if the
    difference at a smaller number is above 0 by more than its interval. Each happens with a
    probability of at most 2.5 % for the true number.

    Args:
        differences: Number of shots, in rising order -> difference and half of its 95 % interval.
    """

    def first(shift: float) -> int | None:
        """Return the first number of shots whose shifted difference is 0 or more."""
        return next((n for n, (d, half) in differences.items() if d + shift * half >= 0), None)

    return first(0), first(1), first(-1)


def _shots(number: int | None, most: int) -> str:
    """Return a number of shots as text."""
    return f"more than {most}" if number is None else str(number)


def _shots_and_queries(study: Study, ways: int) -> tuple[int, int]:
    """Return shots and queries per class, as many as the archive's recordings allow."""
    test, queries = study.test, study.budget.queries
    if not EpisodeSampler.fits(test, ways, _MAX_SHOTS, queries):
        queries = min(queries, _FEW_QUERIES)
    shots = next(
        (n for n in range(_MAX_SHOTS, 0, -1) if EpisodeSampler.fits(test, ways, n, queries)), 1
    )
    if shots < _MAX_SHOTS:
        study.note(
            f"{ways}-way: the archive has recordings for {shots} shots and {queries} queries per "
            f"class, not for {_MAX_SHOTS} shots."
        )
    return shots, EpisodeSampler.max_queries(test, ways, shots, queries) or 1


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw the error over the number of shots, with lines at the error of SNN-MAML."""
    axes = figure.subplots()
    points = [row for row in rows if row["panel"] == "error"]
    transfer = [
        {**row, "label": f"{row['ways']}-way"} for row in points if row["method"] == "transfer"
    ]
    curves(axes, transfer, "shots", "error", ["label"], label="transfer, ")
    for row in points:
        if row["method"] == "SNN-MAML":
            color = "black" if row["ways"] == 5 else "gray"
            error, half = 100 * row["error"], 100 * half_width(row)
            label = f"SNN-MAML, {row['ways']}-way 1-shot,\nwith its interval"
            axes.axhline(error, linestyle="--", linewidth=1, color=color, label=label)
            axes.axhspan(error - half, error + half, color=color, alpha=0.08)
    axes.set_xlabel("shots that transfer learning gets")
    axes.set_xticks(sorted({row["shots"] for row in transfer}))
    log_percent(axes)
    legend(figure, rows=points)


FIG6 = Experiment(
    name="fig6",
    title="Transfer learning: error against shots",
    rows=_rows,
    plot=_plot,
    claim="The paper: transfer learning needs 9 to 10 shots to reach one-shot SNN-MAML (20-way "
    "transfer, 5-way MAML).",
    published=({"panel": _SHOTS_NEEDED, "method": "transfer", "ways": 20, "published": "9 to 10"},),
    quick={"episodes": 60},
)
"""Error of transfer learning over the number of shots."""
