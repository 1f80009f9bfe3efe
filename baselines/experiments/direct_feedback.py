"""Direct feedback alignment in the inner loop, without and with meta-training through it."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from baselines.experiments.plasticity import META_TRAINED, measure_rules, rule_rows
from baselines.experiments.plots import dots, legend, panels
from baselines.experiments.rows import Row
from baselines.experiments.study import Experiment, Study
from baselines.experiments.verdicts import MARGIN, claim, not_tested
from baselines.plasticity import RULES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODELS = ("cnn-maml", "snn-maml")

_FIXED, _LEARNED = "direct-feedback", "learned-direct-feedback"

_RULES = MappingProxyType(
    {name: RULES[name] for name in ("gradient", "feedback-alignment", _FIXED, _LEARNED)}
)

_AS_GOOD = f"{{}}, meta-trained: within {100 * MARGIN:g} point of the gradient, trained as long"
_RAISES = "{}: meta-training through it raises the accuracy"


def _rows(study: Study) -> list[Row]:
    """Return two rows per model and rule, and the verdicts."""
    rows, verdicts = [], []
    runs = {run.config.model: run for run in study.runs.available(*study.models(_MODELS))}
    for model in _MODELS:
        measured = measure_rules(_RULES, runs[model], study) if model in runs else {}
        rows += rule_rows(measured, model=model) if measured else []
        for rule in (_FIXED, _LEARNED):
            if not measured:
                verdicts.append(not_tested(_AS_GOOD.format(rule), model=model))
                verdicts.append(not_tested(_RAISES.format(rule), model=model))
                continue
            before, after = measured[rule]["no"], measured[rule]["yes"]
            gradient = measured["gradient"]["yes"]
            verdicts += [
                claim(_AS_GOOD.format(rule), [after, gradient], [1, -1], -MARGIN, model=model),
                claim(_RAISES.format(rule), [after, before], [1, -1], model=model),
            ]
    study.note(
        "Direct feedback alignment (Nokland 2016): the output error reaches every layer through a "
        "random matrix. In `direct-feedback` it is fixed; in `learned-direct-feedback` "
        "meta-training changes it too, and the inner loop does not. `feedback-alignment` goes "
        "layer by layer. Second order differentiates the direct rules exactly."
    )
    return rows + verdicts


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw dots at the accuracy, a panel per model."""
    for axes, shown in panels(figure, rows, "model"):
        dots(axes, shown, "accuracy", ["rule"], [META_TRAINED])
    legend(figure, META_TRAINED, rows)


DIRECT_FEEDBACK = Experiment(
    name="direct-feedback",
    title="Accuracy with direct feedback alignment in the inner loop, 5-way 1-shot",
    rows=_rows,
    plot=_plot,
    claim="The paper (abstract): meta-training compensates for approximate learning rules.",
    quick={"episodes": 300, "queries": 10, "tuning": 100},
)
"""Accuracy with direct feedback alignment, fixed and learned."""
