"""Table 3 and figure 5: magnitudes of updates in the outer loop, inner loop and without MAML.

Updates are those of the output layer's weights. The outer loop and the model without meta-learning
continue from their runs, with a new optimizer at the runs' initial learning rate. The first third
of the steps is not counted, because the optimizer's running averages settle in it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from baselines.experiments.accuracy import adapting
from baselines.experiments.plots import curves, dots, legend
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import NO_NUMBERS, Experiment, Study
from baselines.experiments.tuning import outer_steps, supervised_steps
from baselines.experiments.variants import Net, inner_params, inner_step, run_update, variant
from baselines.maml import MAML
from baselines.plasticity import ThresholdedUpdate
from metaevents.episodes import EpisodeLoader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_THRESHOLD = 0.05  # share of the range of magnitudes below which Eq. 6 drops an update

_THRESHOLDS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)

_LOWEST, _HIGHEST, _BINS = -9, 1, 40  # decades of the histogram, and its number of bins

_WEIGHT = "head.weight"

Change: TypeAlias = tuple[Tensor, Tensor]
"""The output layer's weights before and after an update."""


@dataclass
class UpdateStatistics:
    """Statistics of the magnitudes of updates.

    Attributes:
        updates: Number of updates.
        weights: Number of weights, over all updates.
        nonzero: Number of weights that changed, over all updates.
        total: Sum of the magnitudes.
        maximum: Largest magnitude.
        histogram: Number of magnitudes in each of `_BINS` bins of equal logarithmic width.
    """

    updates: int = 0
    weights: int = 0
    nonzero: int = 0
    total: float = 0.0
    maximum: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * _BINS)

    def add(self, before: Tensor, after: Tensor) -> None:
        """Count one update.

        Args:
            before: Weights before the update.
            after: Weights after it, of the same shape.
        """
        magnitude = (after - before).detach().abs().double().cpu().flatten()
        nonzero = magnitude[magnitude > 0]
        self.updates += 1
        self.weights += len(magnitude)
        self.nonzero += len(nonzero)
        self.total += float(magnitude.sum())
        self.maximum = max(self.maximum, float(magnitude.max()))
        decades = nonzero.log10().clamp(_LOWEST, _HIGHEST)
        counts = torch.histc(decades, _BINS, _LOWEST, _HIGHEST).long().tolist()
        self.histogram = [a + b for a, b in zip(self.histogram, counts, strict=True)]


def _outer_changes(study: Study) -> Iterator[Change]:
    """Yield the updates of the outer loop."""
    run = study.runs.get("snn-maml")
    maml, steps = copy.deepcopy(run.maml), study.budget.tuning
    training = outer_steps(maml, study.split("train"), run.config, steps, run.config.seed + 1)
    return _watched(maml.net, training, steps)


def _inner_changes(study: Study) -> Iterator[Change]:
    """Yield the first update of the inner loop on every test episode."""
    run = study.runs.get("snn-maml")
    start = inner_params(run.maml)
    loader = EpisodeLoader(
        study.test,
        queries=1,
        episodes=study.budget.episodes,
        representation=run.maml.representation,
    )
    for episode in loader:
        yield start[_WEIGHT], inner_step(run.maml, start, episode)[_WEIGHT]


def _supervised_changes(study: Study) -> Iterator[Change]:
    """Yield the updates of supervised training."""
    run = study.runs.get("snn-transfer")
    net, steps = copy.deepcopy(run.transfer.net), study.budget.tuning
    training = supervised_steps(net, study.split("train"), run.config, steps, run.config.seed + 1)
    return _watched(net, training, steps)


_LOOPS: Mapping[str, tuple[str, Callable[[Study], Iterator[Change]]]] = {
    "outer": ("snn-maml", _outer_changes),
    "inner": ("snn-maml", _inner_changes),
    "non-meta": ("snn-transfer", _supervised_changes),
}
"""Name of a loop -> the model that runs it, and its updates."""


def _watched(net: Net, training: Iterator[None], steps: int) -> Iterator[Change]:
    """Yield the updates of a training, without those of the first third of its steps."""
    before = net.head["weight"].detach().clone()
    for step, _ in enumerate(training):
        after = net.head["weight"].detach().clone()
        if step >= steps // 3:
            yield before, after
        before = after


def _statistics(study: Study, loop: str) -> dict[str, UpdateStatistics]:
    """Return the statistics of a loop's updates: all ("no") and thresholded by Eq. 6 ("yes")."""
    model, changes = _LOOPS[loop]
    run = study.runs.get(model)

    def count() -> dict[str, dict[str, Any]]:
        """Go through all updates."""
        plain, thresholded = UpdateStatistics(), UpdateStatistics()
        for before, after in study.progress(changes(study), f"updates, {loop} loop"):
            plain.add(before, after)
            thresholded.add(before, _thresholded(before, after))
        return {"no": asdict(plain), "yes": asdict(thresholded)}

    key = {
        "label": "updates",
        "loop": loop,
        "weights": [run.digest],
        "pairing": study.test.pairing,
        "classes": study.test.class_split,
        "tuning": study.budget.tuning,
        "episodes": study.budget.episodes,
    }
    return {name: UpdateStatistics(**values) for name, values in study.cached(key, count).items()}


def _thresholded(before: Tensor, after: Tensor) -> Tensor:
    """Return the weights after an update, thresholded by Eq. 6 of the paper."""
    update = ThresholdedUpdate(lambda *_: {_WEIGHT: after}, _THRESHOLD)
    return update({_WEIGHT: before}, {}, 0)[_WEIGHT]


def _magnitude_rows(study: Study) -> list[Row]:
    """Return a row per loop, without and with the threshold."""
    rows = []
    for loop in _LOOPS:
        for thresholded, statistics in _statistics(study, loop).items():
            rows.append(
                {
                    "loop": loop,
                    "thresholded": thresholded,
                    "average": statistics.total / statistics.weights,
                    "sum": statistics.total / statistics.updates,
                    "maximum": statistics.maximum,
                    "nonzero share": statistics.nonzero / statistics.weights,
                    "updates": statistics.updates,
                    "weights": statistics.weights // statistics.updates,
                }
            )
    study.note(
        "The average is over all weights and updates, the sum over the weights of one update, the "
        "maximum over all. The paper's rows cannot come from one layer: its sums divided by its "
        "averages give 3,834, 3,870 and 1,100 weights. So compare averages and maxima."
    )
    study.note(
        "Outer and non-meta: Adam continues from the trained run, at the run's initial learning "
        "rate. Inner: episodes of the test split. Thresholded: updates above "
        f"{_THRESHOLD:.0%} of the range of magnitudes (Eq. 6); all others count as 0."
    )
    if study.runs.get("snn-maml").config.learn_inner_lrs:
        study.note(
            "The inner learning rate was learned, the paper's is 1; outer updates follow the "
            "schedule of their learning rate. So equal magnitudes say little."
        )
    return rows


def _histogram_rows(study: Study) -> list[Row]:
    """Return a row per bin of the histograms, and a row per threshold with its accuracy."""
    width = (_HIGHEST - _LOWEST) / _BINS
    series = {
        f"{loop}{', thresholded' if thresholded == 'yes' else ''}": statistics
        for loop in _LOOPS
        for thresholded, statistics in _statistics(study, loop).items()
    }
    rows: list[Row] = []
    for number in range(_BINS):
        shares = {name: each.histogram[number] / each.weights for name, each in series.items()}
        if any(shares.values()):
            start = 10 ** (_LOWEST + number * width)
            rows.append({"panel": "histogram", "magnitude from": start, **shares})
    unchanged = {name: 1 - each.nonzero / each.weights for name, each in series.items()}
    rows.append({"panel": "histogram", "magnitude from": 0.0, **unchanged})
    study.note(
        "Histogram: the share of all updates of a weight whose magnitude lies in the bin that "
        "starts at this magnitude. The row of magnitude 0 has the weights that did not change."
    )
    return rows + _accuracy_rows(study, study.runs.get("snn-maml"))


def _accuracy_rows(study: Study, run: Trained) -> list[Row]:
    """Return a row per threshold with the accuracy of inner updates above it."""

    def make() -> dict[str, MAML]:
        """Return a learner per threshold."""
        update = run_update(run.maml)
        return {
            str(threshold): variant(run.maml, update=ThresholdedUpdate(update, threshold))
            for threshold in _THRESHOLDS
        }

    accuracies = study.measure("thresholded updates", adapting(make), [run])
    return [
        {
            "panel": "accuracy",
            "threshold": float(threshold),
            **accuracy.row(),
            **accuracy.change(accuracies["0.0"]),
        }
        for threshold, accuracy in accuracies.items()
    ]


def _plot_magnitudes(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw dots at average and maximum magnitude for each loop."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column in zip(panels, ("average", "maximum"), strict=True):
        shown = [
            {
                **row,
                "loop": f"{row['loop']} loop".replace("non-meta loop", "no meta-learning"),
                "published": row.get(f"published_{column}"),
            }
            for row in rows
            if row["thresholded"] == "no"
        ]
        dots(axes, shown, column, ["loop"], [], intervals=False)
        axes.set_xscale("log")
        axes.set_xlabel(f"{column} magnitude of an update of a weight")
    legend(figure)


def _plot_histograms(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw the histograms, and the accuracy over the threshold."""
    left, right = figure.subplots(1, 2)
    start = "magnitude from"
    bins = [row for row in rows if row["panel"] == "histogram" and row[start] > 0]
    for name in [name for name in bins[0] if name not in ("panel", start)]:
        left.plot(
            [row[start] for row in bins],
            [row[name] for row in bins],
            "--" if "thresholded" in name else "-",
            drawstyle="steps-post",
            label=name,
        )
    left.set(
        xscale="log", yscale="log", xlabel="magnitude of the update", ylabel="share of updates"
    )
    left.grid(alpha=0.3)
    accuracies = [row for row in rows if row["panel"] == "accuracy"]
    curves(right, accuracies, "threshold", "accuracy", [])
    right.set_xlabel("threshold, as a share of the range of magnitudes")
    legend(figure, "updates (left)", accuracies)


TABLE3 = Experiment(
    name="table3",
    title="Magnitudes of the output layer's updates",
    rows=_magnitude_rows,
    plot=_plot_magnitudes,
    published=tuple(
        {
            "loop": loop,
            "thresholded": "no",
            "published_average": average,
            "published_sum": total,
            "published_maximum": maximum,
        }
        for loop, average, total, maximum in (
            ("outer", 7.72e-5, 0.296, 0.002),
            ("inner", 0.0044, 17.03, 0.1548),
            ("non-meta", 0.0005, 0.5499, 0.0011),
        )
    ),
)
"""Magnitudes of updates."""

FIG5 = Experiment(
    name="fig5",
    title="Histograms of updates, and accuracy without small updates",
    rows=_histogram_rows,
    plot=_plot_histograms,
    claim=NO_NUMBERS,
)
"""Histograms of updates, and accuracy with thresholded updates."""
