"""Table 2: accuracy of the meta-learners at meta-validation and meta-test, with both pairings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from baselines.experiments.accuracy import Variants, adapting
from baselines.experiments.plots import dots, legend
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODELS = ("snn-maml", "cnn-maml", "snn-fomaml")
_PHASES = {"val": "meta-validation", "test": "meta-test"}
_PAIRINGS = ("published", "all")


def _rows(study: Study) -> list[Row]:
    """Return a row per model, pairing of training, pairing of evaluation, and phase."""
    rows = []
    for model in study.models(_MODELS):
        for training_pairing in _PAIRINGS:
            run = study.runs.find(model, pairing=training_pairing)
            if run is None and training_pairing != study.test.pairing:
                continue
            run = run or study.runs.get(model, pairing=training_pairing)
            for pairing in _PAIRINGS:
                for split, phase in _PHASES.items():
                    dataset = study.split(split, pairing)
                    accuracies = study.measure_trainings(
                        "unchanged", _unchanged, run, dataset=dataset
                    )
                    rows.append(
                        {
                            "dataset": dataset.name,
                            "classes": dataset.class_split,
                            "model": model,
                            "training pairing": training_pairing,
                            "evaluation pairing": pairing,
                            "phase": phase,
                            **accuracies[""].row(),
                        }
                    )
    study.note(
        "The paper's values are for pairing published in training and evaluation. `deviation` is "
        "over trials: streams of episodes for one training, as in the paper. `trainings_deviation` "
        "is over trainings from several seeds."
    )
    return rows


def _unchanged(run: Trained) -> Variants:
    """Return the run's learner as it is."""
    return adapting(lambda: {"": run.learner})


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw dots at the accuracy, one panel per phase."""
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, phase in zip(panels, _PHASES.values(), strict=True):
        shown = [
            {**row, "method": f"{row['model'].upper()},\ntrained with “{row['training pairing']}”"}
            for row in rows
            if row["phase"] == phase
        ]
        dots(axes, shown, "accuracy", ["method"], ["evaluation pairing"], label="pairing ")
        axes.set_title(phase)
    legend(figure, "evaluated with", rows)


# Dataset and phase -> mean and standard deviation of each model (Table 2 of the paper, whose column
# "Train" is meta-validation).
_PUBLISHED = {
    ("double-nmnist", "meta-validation"): ((0.9876, 0.0105), (0.9909, 0.0053), (0.9259, 0.010)),
    ("double-nmnist", "meta-test"): ((0.9823, 0.0112), (0.9835, 0.0126), (0.9263, 0.0074)),
    ("double-asl-dvs", "meta-validation"): ((0.9577, 0.0088), (0.9493, 0.0092), (0.9497, 0.0112)),
    ("double-asl-dvs", "meta-test"): ((0.9604, 0.0231), (0.9497, 0.0163), (0.9427, 0.0060)),
}

TABLE2 = Experiment(
    name="table2",
    title="Few-shot accuracy of the meta-learners, 5-way 1-shot",
    rows=_rows,
    plot=_plot,
    published=tuple(
        {
            "dataset": dataset,
            "classes": "published",
            "phase": phase,
            "model": model,
            "published": mean,
            "published_deviation": deviation,
        }
        for (dataset, phase), values in _PUBLISHED.items()
        for model, (mean, deviation) in zip(_MODELS, values, strict=True)
    ),
    quick={"episodes": 60, "trials": 2, "queries": 10},
)
"""Accuracy of the meta-learners."""
