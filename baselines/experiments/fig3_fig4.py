"""Figures 3 and 4: how many inner steps a task needs, and how many layers have to learn in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from baselines.experiments.accuracy import Classifier, Row, Variants, learners
from baselines.experiments.plots import bars, curves
from baselines.experiments.runs import Trained
from baselines.experiments.study import NO_NUMBERS, Experiment, Study
from baselines.experiments.variants import classifier, inner_params, inner_step, variant
from metaevents.episodes import Episode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_STEPS = 10

_MODELS = ("snn-maml", "snn-fomaml", "cnn-maml")


def after_each_step(run: Trained, most: int = _MOST_STEPS) -> Variants:
    """The classifiers after 0, 1 ... `most` inner steps, in one pass of adaptation."""

    def variants(episode: Episode) -> Iterator[tuple[str, Classifier]]:
        params = inner_params(run.maml)
        yield "0", classifier(run.maml, params, episode)
        for step in range(1, most + 1):
            params = inner_step(run.maml, params, episode)
            yield str(step), classifier(run.maml, params, episode)

    return variants


def _steps(study: Study) -> list[Row]:
    rows = []
    for run in study.given(*_MODELS):
        for steps, score in study.measure("inner steps", after_each_step(run), [run]).items():
            row = {
                "model": run.config.model,
                "trained with": run.config.inner_steps,
                "steps": int(steps),
            }
            rows.append({**row, "error": 1 - score.accuracy, **score.row()})
    return rows


def _plot_steps(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    curves(axes, rows, "steps", "error", ["model"])
    axes.set(xlabel="inner steps at meta-test", ylim=(0, 1))


def _frozen(study: Study) -> list[Row]:
    rows = []
    for run in study.given(*_MODELS):
        depth = len(run.config.channels)
        scores = study.measure("frozen layers", _freezing(run, depth), [run])
        for frozen, score in scores.items():
            row = {
                "model": run.config.model,
                "frozen layers": int(frozen),
                "learning layers": depth + 1 - int(frozen),
            }
            rows.append({**row, **score.row(), **score.change(scores["0"])})
    return rows


def _freezing(run: Trained, depth: int) -> Variants:
    return learners(
        lambda: {str(frozen): variant(run.maml, layers=frozen) for frozen in range(depth + 1)}
    )


def _plot_frozen(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    bars(axes, rows, "accuracy", ["frozen layers"], ["model"])
    axes.set_xlabel("layers frozen in the inner loop, from the input on")


FIG3 = Experiment(
    name="fig3",
    title="Error against the number of inner steps at meta-test",
    rows=_steps,
    plot=_plot_steps,
    claim=NO_NUMBERS,
)

FIG4 = Experiment(
    name="fig4",
    title="Accuracy as layers are frozen in the inner loop",
    rows=_frozen,
    plot=_plot_frozen,
    claim=NO_NUMBERS,
)
