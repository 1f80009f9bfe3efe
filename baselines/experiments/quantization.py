"""Few-shot learning with fixed-point weights: rounded before a task, in its inner step, or both.

The last rows are for weights that were meta-trained through the rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from baselines.experiments.accuracy import Variants, adapting
from baselines.experiments.plots import curves, legend, logistic_percent
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.experiments.tuning import tuned
from baselines.experiments.variants import Net, run_update, variant
from baselines.maml import MAML
from baselines.networks import Params
from baselines.quantization import FORMATS, FixedPoint, QuantizedUpdate, Rounding, Scale, quantized

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FLOAT = "float"

_FLOAT_COLUMNS = {"bits": 32, "fraction": None, "rounding": _FLOAT, "scale": None}


@dataclass(frozen=True)
class Rounded:
    """One way of rounding weights to fixed point.

    Attributes:
        format: The fixed-point format.
        rounding: "nearest" or "stochastic".
        scale: 1, or "tensor" for one power of two per tensor.
        start: Whether the weights that a task starts from are rounded.
        step: Whether the weights after an inner step are rounded.
    """

    format: FixedPoint
    rounding: Rounding = "nearest"
    scale: Scale = 1.0
    start: bool = True
    step: bool = True

    def maml(self, maml: MAML, generator: torch.Generator, net: Net | None = None) -> MAML:
        """Return a run's learner with rounded weights.

        Args:
            maml: The learner of the run.
            generator: Source of the stochastic rounding.
            net: Another network; by default the run's.
        """

        def start(params: Params) -> Params:
            """Return the rounded parameters."""
            return quantized(params, self.format, self.rounding, generator, self.scale)

        update = QuantizedUpdate(
            run_update(maml), self.format, self.rounding, generator, self.scale
        )
        return variant(
            maml, net, start=start if self.start else None, update=update if self.step else None
        )

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.row().items())

    def row(self) -> Row:
        """Return the columns that describe it."""
        return {
            "bits": self.format.word,
            "fraction": self.format.fraction,
            "rounding": self.rounding,
            "scale": "tensor" if self.scale == "tensor" else "1",
        }


_PLACES: Mapping[str, Mapping[str, Any]] = {
    "outer": {"step": False},
    "inner": {"start": False},
    "both": {},
}

_ROUNDINGS: tuple[Rounding, ...] = ("nearest", "stochastic")

_CASES: Mapping[str, Mapping[str, Rounded]] = {
    place: {
        f"{place}, {case}": replace(case, **fields)
        for case in (
            *(Rounded(format, rounding) for format in FORMATS for rounding in _ROUNDINGS),
            *(Rounded(format, scale="tensor") for format in FORMATS if place == "both"),
        )
    }
    for place, fields in _PLACES.items()
}
"""Place of the rounding -> name -> rounding."""


def _rounded_learners(run: Trained, device: torch.device) -> Variants:
    """Return the run's learner in float, and with every rounding."""
    generator = torch.Generator(device)
    cases = {name: case for by_name in _CASES.values() for name, case in by_name.items()}

    def make() -> dict[str, MAML]:
        """Return the learners by name."""
        return {_FLOAT: variant(run.maml)} | {
            name: case.maml(run.maml, generator) for name, case in cases.items()
        }

    return adapting(make, generator)


def _tuned_learner(study: Study, run: Trained, case: Rounded | None) -> Variants:
    """Return the learner that was meta-trained through a rounding; None trains it in float."""
    generator = torch.Generator(study.device).manual_seed(run.config.seed)

    def build(net: Net) -> MAML:
        """Return the learner to train."""
        return variant(run.maml, net) if case is None else case.maml(run.maml, generator, net)

    return adapting(lambda: {"": tuned(study, run, str(case or _FLOAT), build)}, generator)


def _rows(study: Study) -> list[Row]:
    """Return a row per place and rounding, the first one in float."""
    run = study.runs.get("snn-maml")
    accuracies = study.measure("fixed point", _rounded_learners(run, study.device), [run])
    reference = accuracies[_FLOAT]
    rows: list[Row] = [{"rounded weights": "none", **_FLOAT_COLUMNS, **reference.row()}]
    for place, cases in _CASES.items():
        for name, case in cases.items():
            accuracy = accuracies[name]
            columns = {**case.row(), **accuracy.row(), **accuracy.change(reference)}
            rows.append({"rounded weights": place, **columns})
    roundings = _ROUNDINGS if study.budget_name == "full" else _ROUNDINGS[:1]
    through = [Rounded(format, rounding) for format in FORMATS for rounding in roundings]
    for trained in (None, *through):
        label = f"meta-trained in {trained or _FLOAT}, {study.budget.tuning} steps"
        accuracy = study.measure(label, _tuned_learner(study, run, trained), [run])[""]
        columns = _FLOAT_COLUMNS if trained is None else trained.row()
        columns = {**columns, **accuracy.row(), **accuracy.change(reference)}
        rows.append({"rounded weights": "both, meta-trained", **columns})
    study.note(
        "outer: the weights that a task starts from are rounded. inner: the weights after an inner "
        "step are rounded. both, meta-trained: rounded in both places, after "
        f"{study.budget.tuning} more outer steps through the rounding (straight-through "
        "gradients); the row with rounding float had as many more steps in float."
    )
    study.note(
        "Scale 1 is the paper's: weights beyond the range of the format saturate. Scale tensor "
        "multiplies the format by one power of two per tensor, so that no weight saturates."
    )
    return rows


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw the accuracy over the number of bits, one panel per rounding."""
    panels = figure.subplots(1, 2, sharey=True)
    reference = next(row for row in rows if row["rounded weights"] == "none")
    words = [format.word for format in FORMATS]
    for axes, rounding in zip(panels, _ROUNDINGS, strict=True):
        curves(
            axes,
            [_labeled(row) for row in rows if row["rounding"] == rounding],
            "bits",
            "accuracy",
            ["label"],
        )
        label = "32-bit floating point"
        axes.axhline(100 * reference["accuracy"], linestyle="--", color="black", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(words, [str(word) for word in words])
        axes.set_xlabel("bits per weight")
        axes.set_title(f"{rounding} rounding")
    logistic_percent(panels[0], "y")
    legend(figure, "rounded weights", rows)


def _labeled(row: Row) -> Row:
    """Return a row with its words in the legend."""
    scale = ", one scale per tensor" if row["scale"] == "tensor" else ""
    return {**row, "label": f"{row['rounded weights']}{scale}"}


QUANTIZATION = Experiment(
    name="quantization",
    title="Accuracy with fixed-point weights",
    rows=_rows,
    plot=_plot,
    claim="The paper (abstract): fast learning does not need high precision of the weights.",
    quick={"episodes": 40},
)
"""Accuracy with fixed-point weights."""
