"""REPTILE beside MAML and first-order MAML, for both networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from baselines.experiments.accuracy import Variants, adapting
from baselines.experiments.plots import dots, legend
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.experiments.verdicts import claim, not_tested

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NETWORKS = ("cnn", "snn")
_METHODS = ("maml", "fomaml", "reptile")

# The first one is trained where it is not given.
_MODELS = ("cnn-reptile", "cnn-maml", "cnn-fomaml", "snn-reptile", "snn-maml", "snn-fomaml")

_NAMES = {"fomaml": "first-order MAML", "reptile": "REPTILE"}

_CLAIM = "MAML with second-order gradients is more accurate than {}"


def _rows(study: Study) -> list[Row]:
    """Return a row per network and method, and the verdicts."""
    runs = {run.config.model: run for run in study.runs.available(*study.models(_MODELS))}
    rows, verdicts = [], []
    for network in _NETWORKS:
        measured = {}
        for method in _METHODS:
            if (run := runs.get(f"{network}-{method}")) is None:
                continue
            measured[method] = study.measure_trainings("unchanged", _unchanged, run)[""]
            rows.append(
                {
                    "network": network,
                    "method": method,
                    "recipe": run.config.recipe,
                    "outer steps": run.config.steps,
                    "inner steps": run.config.inner_steps,
                    "inner steps at test": run.config.test_steps or run.config.inner_steps,
                    **measured[method].row(),
                }
            )
        for method in _METHODS[1:]:
            text = _CLAIM.format(_NAMES[method])
            if {"maml", method} <= measured.keys():
                pair = [measured["maml"], measured[method]]
                verdicts.append(claim(text, pair, [1, -1], trained_apart=True, network=network))
            else:
                verdicts.append(not_tested(text, network=network))
    return rows + verdicts


def _unchanged(run: Trained) -> Variants:
    """Return a run's learner as it is."""
    return adapting(lambda: {"": run.learner})


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw dots at the accuracy."""
    axes = figure.subplots()
    dots(axes, rows, "accuracy", ["method"], ["network"])
    axes.set_ylabel("meta-learning")
    legend(figure, "network", rows)


REPTILE = Experiment(
    name="reptile",
    title="Accuracy of REPTILE beside MAML, 5-way 1-shot",
    rows=_rows,
    plot=_plot,
    claim="The paper: without second-order gradients accuracy falls. It shows this for first-order "
    "MAML alone.",
    quick={"episodes": 600, "queries": 10},
)
"""Accuracy of REPTILE (Nichol et al. 2018)."""
