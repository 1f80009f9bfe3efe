"""Figures 3 and 4: how many inner steps a task needs, and how many layers have to learn in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from baselines.accuracy import Classifier
from baselines.experiments.accuracy import Variants, adapting
from baselines.experiments.plots import curves, dots, legend, log_percent, logistic_percent
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import NO_NUMBERS, Experiment, Study
from baselines.experiments.variants import fixed_classifier, inner_params, inner_step, variant
from baselines.experiments.verdicts import claim, not_tested
from metaevents.episodes import Episode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_STEPS = 10

_MODELS = ("snn-maml", "snn-fomaml", "cnn-maml")

_FALLS = f"Without second-order terms accuracy falls, both with {_MAX_STEPS} inner steps at test"


def after_each_step(run: Trained, max_steps: int = _MAX_STEPS) -> Variants:
    """Return the classifiers after 0, 1 ... `max_steps` inner steps, from one adaptation.

    Args:
        run: The run whose inner loop adapts.
        max_steps: Number of inner steps.
    """

    def variants(episode: Episode) -> Iterator[tuple[str, Classifier]]:
        """Yield the number of steps and the classifier after them."""
        params = inner_params(run.maml)
        yield "0", fixed_classifier(run.maml, params, episode)
        for step in range(1, max_steps + 1):
            params = inner_step(run.maml, params, episode)
            yield str(step), fixed_classifier(run.maml, params, episode)

    return variants


def _step_rows(study: Study) -> list[Row]:
    """Return a row per model and number of inner steps, and a verdict."""
    rows, after_all = [], {}
    for run in study.runs.available(*study.models(_MODELS)):
        accuracies = study.measure_trainings("inner steps", after_each_step, run)
        after_all[run.config.model] = accuracies[str(_MAX_STEPS)]
        for steps, accuracy in accuracies.items():
            rows.append(
                {
                    "model": run.config.model,
                    "inner steps in training": run.config.inner_steps,
                    "inner steps at test": int(steps),
                    "error": 1 - accuracy.accuracy,
                    **accuracy.row(),
                    **accuracy.change(accuracies["1"]),
                }
            )
    study.note("Changes are relative to one inner step, on the same episodes.")
    pair = [after_all[model] for model in ("snn-maml", "snn-fomaml") if model in after_all]
    if len(pair) < 2:
        return [*rows, not_tested(_FALLS, network="snn")]
    return [*rows, claim(_FALLS, pair, [1, -1], trained_apart=True, network="snn")]


def _plot_steps(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw the error over the number of inner steps."""
    axes = figure.subplots()
    shown = [{**row, "method": row["model"].upper()} for row in rows]
    curves(axes, shown, "inner steps at test", "error", ["method"])
    axes.set_xticks(sorted({row["inner steps at test"] for row in rows}))
    log_percent(axes)
    legend(figure, rows=rows)


def _frozen_rows(study: Study) -> list[Row]:
    """Return a row per model and number of frozen layers."""
    rows = []
    for run in study.runs.available(*study.models(_MODELS)):
        depth = len(run.config.channels)
        accuracies = study.measure_trainings("frozen layers", _frozen, run)
        for frozen, accuracy in accuracies.items():
            rows.append(
                {
                    "model": run.config.model,
                    "frozen layers": int(frozen),
                    "learning layers": depth + 1 - int(frozen),
                    **accuracy.row(),
                    **accuracy.change(accuracies["0"]),
                }
            )
    return rows


def _frozen(run: Trained) -> Variants:
    """Return learners with 0, 1 ... all convolutions frozen, from the input on."""
    depth = len(run.config.channels)
    return adapting(
        lambda: {str(frozen): variant(run.maml, layers=frozen) for frozen in range(depth + 1)}
    )


def _plot_frozen(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw dots at the accuracy for each number of frozen layers."""
    axes = figure.subplots()
    shown = [{**row, "method": row["model"].upper()} for row in rows]
    dots(axes, shown, "accuracy", ["frozen layers"], ["method"])
    logistic_percent(axes, "x")
    axes.set_ylabel("layers frozen in the inner loop, from the input on")
    legend(figure, rows=rows)


FIG3 = Experiment(
    name="fig3",
    title="Error against the number of inner steps at meta-test",
    rows=_step_rows,
    plot=_plot_steps,
    claim=NO_NUMBERS,
)
"""Error over the number of inner steps."""

FIG4 = Experiment(
    name="fig4",
    title="Accuracy with layers frozen in the inner loop",
    rows=_frozen_rows,
    plot=_plot_frozen,
    claim=NO_NUMBERS,
)
"""Accuracy with frozen layers."""
