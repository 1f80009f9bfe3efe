"""Table 2: accuracy of the meta-learners at meta-validation and meta-test, on both pairings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from baselines.experiments.accuracy import Row, learners
from baselines.experiments.plots import bars
from baselines.experiments.study import Experiment, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODELS = ("snn-maml", "cnn-maml", "snn-fomaml")
_SPLITS = {"val": "meta-validation", "test": "meta-test"}
_PAIRINGS = ("published", "all")


def _rows(study: Study) -> list[Row]:
    rows = []
    for model in _MODELS:
        for trained_on in _PAIRINGS:
            run = study.find(model, pairing=trained_on)
            if run is None and trained_on != study.pairing:
                continue
            run = run or study.run(model, pairing=trained_on)
            for pairing in _PAIRINGS:
                for split, phase in _SPLITS.items():
                    own = learners(lambda run=run: {"": run.learner})  # type: ignore[misc]
                    scores = study.measure("own", own, [run], dataset=study.split(split, pairing))
                    row = {
                        "dataset": study.dataset_name,
                        "classes": study.classes,
                        "model": model,
                        "trained on": trained_on,
                    }
                    rows.append({**row, "pairing": pairing, "phase": phase, **scores[""].row()})
    study.note(
        "The paper's values are for pairing published, in training and evaluation; deviations are over trials."
    )
    return rows


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    sides = figure.subplots(1, 2, sharey=True)
    for axes, phase in zip(sides, _SPLITS.values(), strict=True):
        bars(
            axes,
            [row for row in rows if row["phase"] == phase],
            "accuracy",
            ["model", "trained on"],
            ["pairing"],
        )
        axes.set_title(phase)


_PUBLISHED = {  # dataset, phase -> mean and deviation of each of the models
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
