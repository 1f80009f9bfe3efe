"""Table 3 and figure 5: how large updates are in the outer loop, in the inner loop and without meta-learning.

Updates are those of the output layer's weights. The outer loop and the model that does not meta-learn go on training from
their runs, with a new optimizer at the rate that their runs began with; its first third of steps, in which it still
finds its scale, is not counted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from baselines.experiments.accuracy import Row, learners
from baselines.experiments.plots import bars, curves
from baselines.experiments.runs import Trained
from baselines.experiments.study import NO_NUMBERS, Experiment, Study
from baselines.experiments.variants import (
    Net,
    inner_params,
    inner_step,
    outer_steps,
    own_update,
    supervised_steps,
    variant,
)
from baselines.maml import MAML
from baselines.plasticity import ThresholdedUpdate
from metaevents.episodes import EpisodeLoader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARE = 0.05  # of the range of magnitudes, below which Eq. 6 drops an update

_SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)

_LOWEST, _HIGHEST, _BINS = -9, 1, 40  # decades of the histogram, and its bins

_WEIGHT = "head.weight"

Change = tuple[Tensor, Tensor]
"""The output layer's weights before and after an update."""


@dataclass
class Tally:
    """Magnitudes of updates, counted as they come; `histogram` has `_BINS` bins of their logarithm."""

    updates: int = 0
    weights: int = 0
    written: int = 0
    total: float = 0.0
    maximum: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * _BINS)

    def add(self, before: Tensor, after: Tensor) -> None:
        magnitude = (after - before).detach().abs().double().cpu().flatten()
        written = magnitude[magnitude > 0]
        self.updates += 1
        self.weights += len(magnitude)
        self.written += len(written)
        self.total += float(magnitude.sum())
        self.maximum = max(self.maximum, float(magnitude.max()))
        counts = (
            torch.histc(written.log10().clamp(_LOWEST, _HIGHEST), _BINS, _LOWEST, _HIGHEST)
            .long()
            .tolist()
        )
        self.histogram = [a + b for a, b in zip(self.histogram, counts, strict=True)]


def _outer(study: Study) -> Iterator[Change]:
    run = study.run("snn-maml")
    maml = copy.deepcopy(run.maml)
    steps = study.budget.tuning
    return _watched(
        maml.net,
        outer_steps(maml, study.split("train"), run.config, steps, run.config.seed + 1),
        steps,
    )


def _inner(study: Study) -> Iterator[Change]:
    run = study.run("snn-maml")
    start = inner_params(run.maml)
    loader = EpisodeLoader(
        study.test,
        queries=1,
        episodes=study.budget.episodes,
        representation=run.maml.representation,
    )
    for episode in loader:
        yield start[_WEIGHT], inner_step(run.maml, start, episode)[_WEIGHT]


def _non_meta(study: Study) -> Iterator[Change]:
    run = study.run("snn-transfer")
    net, steps = copy.deepcopy(run.transfer.net), study.budget.tuning
    return _watched(
        net,
        supervised_steps(net, study.split("train"), run.config, steps, run.config.seed + 1),
        steps,
    )


_LOOPS: Mapping[str, tuple[str, Callable[[Study], Iterator[Change]]]] = {
    "outer": ("snn-maml", _outer),
    "inner": ("snn-maml", _inner),
    "non-meta": ("snn-transfer", _non_meta),
}


def _watched(net: Net, training: Iterator[None], steps: int) -> Iterator[Change]:
    before = net.head["weight"].detach().clone()
    for step, _ in enumerate(training):
        after = net.head["weight"].detach().clone()
        if step >= steps // 3:
            yield before, after
        before = after


def _tallies(study: Study, loop: str) -> dict[str, Tally]:
    """The updates of a loop as they are, and as Eq. 6 lets them through."""
    model, changes = _LOOPS[loop]
    run = study.run(model)

    def count() -> dict[str, dict[str, Any]]:
        plain, thresholded = Tally(), Tally()
        for before, after in study.bar(changes(study), f"updates, {loop} loop"):
            plain.add(before, after)
            thresholded.add(before, _passed(before, after))
        return {"no": asdict(plain), "yes": asdict(thresholded)}

    key = {"what": "updates", "loop": loop, "weights": [run.digest], "pairing": study.pairing}
    found = study.cell(
        {**key, "tuning": study.budget.tuning, "episodes": study.budget.episodes}, count
    )
    return {name: Tally(**values) for name, values in found.items()}


def _passed(before: Tensor, after: Tensor) -> Tensor:
    return ThresholdedUpdate(lambda *_: {_WEIGHT: after}, _SHARE)({_WEIGHT: before}, {}, 0)[_WEIGHT]


def _magnitudes(study: Study) -> list[Row]:
    rows = []
    for loop in _LOOPS:
        for thresholded, tally in _tallies(study, loop).items():
            rows.append(
                {
                    "loop": loop,
                    "thresholded": thresholded,
                    "average": tally.total / tally.weights,
                    "sum": tally.total / tally.updates,
                    "maximum": tally.maximum,
                    "written": tally.written / tally.weights,
                    "updates": tally.updates,
                    "weights": tally.weights // tally.updates,
                }
            )
    study.note(
        "Average over all weights and updates, sum over the weights of one update, maximum over all. The paper's rows cannot "
        "come from one layer (its sums over its averages give 3,834, 3,870 and 1,100 weights), so compare averages and maxima."
    )
    study.note(
        "Outer and non-meta: Adam going on from the trained run, at the rate that the run began with. Inner: episodes of the "
        f"test split. Thresholded: updates above {_SHARE:.0%} of the range of magnitudes (Eq. 6), the others count as 0."
    )
    return rows


def _histograms(study: Study) -> list[Row]:
    width = (_HIGHEST - _LOWEST) / _BINS
    series = {
        f"{loop}{', thresholded' if thresholded == 'yes' else ''}": tally
        for loop in _LOOPS
        for thresholded, tally in _tallies(study, loop).items()
    }
    rows: list[Row] = []
    for number in range(_BINS):
        counts = {name: tally.histogram[number] / tally.weights for name, tally in series.items()}
        if any(counts.values()):
            rows.append({"panel": "histogram", "from": 10 ** (_LOWEST + number * width), **counts})
    rows.append(
        {
            "panel": "histogram",
            "from": 0.0,
            **{n: 1 - t.written / t.weights for n, t in series.items()},
        }
    )
    study.note(
        "Histogram: the share of all updates of a weight whose magnitude lies in the bin that begins there; 0 is none."
    )
    return rows + _cost(study, study.run("snn-maml"))


def _cost(study: Study, run: Trained) -> list[Row]:
    def named() -> dict[str, MAML]:
        own = own_update(run.maml)
        return {
            str(share): variant(run.maml, update=ThresholdedUpdate(own, share)) for share in _SHARES
        }

    scores = study.measure("thresholded updates", learners(named), [run])
    return [
        {"panel": "accuracy", "share": float(share), **score.row(), **score.change(scores["0.0"])}
        for share, score in scores.items()
    ]


def _plot_magnitudes(figure: Figure, rows: Sequence[Row]) -> None:
    for axes, column in zip(figure.subplots(1, 2), ("average", "maximum"), strict=True):
        shown = [
            {**row, "published": row.get(f"published_{column}")}
            for row in rows
            if row["thresholded"] == "no"
        ]
        bars(axes, shown, column, ["loop"], [], error=None)
        axes.set_yscale("log")


def _plot_histograms(figure: Figure, rows: Sequence[Row]) -> None:
    left, right = figure.subplots(1, 2)
    bins = [row for row in rows if row["panel"] == "histogram" and row["from"] > 0]
    for name in [name for name in bins[0] if name not in ("panel", "from")]:
        dashed = "thresholded" in name
        left.plot(
            [row["from"] for row in bins],
            [row[name] for row in bins],
            "--" if dashed else "-",
            drawstyle="steps-post",
            label=name,
        )
    left.set(
        xscale="log", yscale="log", xlabel="magnitude of the update", ylabel="share of updates"
    )
    left.legend(fontsize="x-small")
    curves(right, [row for row in rows if row["panel"] == "accuracy"], "share", "accuracy", [])
    right.set_xlabel("share of the range below which updates are dropped")


TABLE3 = Experiment(
    name="table3",
    title="Magnitudes of the output layer's updates",
    rows=_magnitudes,
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

FIG5 = Experiment(
    name="fig5",
    title="Histograms of updates, and what dropping small ones costs",
    rows=_histograms,
    plot=_plot_histograms,
    claim=NO_NUMBERS,
)
