"""Few-shot learning with fixed-point weights: rounded before a task, in its inner step, and meta-trained for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from baselines.experiments.accuracy import Row, Variants, learners
from baselines.experiments.plots import curves
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.experiments.variants import Net, own_update, tuned, variant
from baselines.maml import MAML
from baselines.networks import Params
from baselines.quantization import FORMATS, FixedPoint, QuantizedUpdate, Rounding, Scale, quantized

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FLOAT = "float"

_IN_FLOAT = {"bits": 32, "fraction": None, "rounding": _FLOAT, "scale": None}


@dataclass(frozen=True)
class Rounded:
    """What is in fixed point: `start`, the weights that a task starts from; `step`, those that an inner step leaves."""

    format: FixedPoint
    rounding: Rounding = "nearest"
    scale: Scale = 1.0
    start: bool = True
    step: bool = True

    def maml(self, maml: MAML, generator: torch.Generator, net: Net | None = None) -> MAML:
        """A run's learner with weights in fixed point; `generator` draws the stochastic rounding."""

        def start(params: Params) -> Params:
            return quantized(params, self.format, self.rounding, generator, self.scale)

        update = QuantizedUpdate(
            own_update(maml), self.format, self.rounding, generator, self.scale
        )
        return variant(
            maml, net, start=start if self.start else None, update=update if self.step else None
        )

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.row().items())

    def row(self) -> Row:
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
        f"{place}, {case}": replace(case, **parts)
        for case in (
            *(Rounded(format, rounding) for format in FORMATS for rounding in _ROUNDINGS),
            *(Rounded(format, scale="tensor") for format in FORMATS if place == "both"),
        )
    }
    for place, parts in _PLACES.items()
}


def _evaluated(run: Trained, device: torch.device) -> Variants:
    generator = torch.Generator(device)
    cases = {name: case for named in _CASES.values() for name, case in named.items()}

    def named() -> dict[str, MAML]:
        return {_FLOAT: variant(run.maml)} | {
            name: case.maml(run.maml, generator) for name, case in cases.items()
        }

    return learners(named, generator)


def _trained(study: Study, run: Trained, case: Rounded | None) -> Variants:
    generator = torch.Generator(study.device).manual_seed(run.config.seed)

    def build(net: Net) -> MAML:
        return variant(run.maml, net) if case is None else case.maml(run.maml, generator, net)

    return learners(lambda: {"": tuned(study, run, str(case or _FLOAT), build)}, generator)


def _rows(study: Study) -> list[Row]:
    run = study.run("snn-maml")
    scores = study.measure("fixed point", _evaluated(run, study.device), [run])
    before = scores[_FLOAT]
    rows: list[Row] = [{"place": "none", **_IN_FLOAT, **before.row()}]
    for place, named in _CASES.items():
        for name, case in named.items():
            rows.append(
                {"place": place, **case.row(), **scores[name].row(), **scores[name].change(before)}
            )
    roundings = _ROUNDINGS if study.budget_name == "full" else _ROUNDINGS[:1]
    for trained in (
        None,
        *(Rounded(format, rounding) for format in FORMATS for rounding in roundings),
    ):
        what = f"trained to learn in {trained or _FLOAT}, {study.budget.tuning} steps"
        score = study.measure(what, _trained(study, run, trained), [run])[""]
        of = _IN_FLOAT if trained is None else trained.row()
        rows.append({"place": "trained to learn", **of, **score.row(), **score.change(before)})
    study.note(
        "outer: the weights that a task starts from are rounded; inner: those that an inner step leaves; both: either. "
        f"Trained to learn: both, after {study.budget.tuning} more outer steps through the rounding (straight-through), beside "
        "as many in float."
    )
    study.note(
        "Scale 1 is the paper's way, in which weights beyond the format's range saturate; scale tensor multiplies the format by "
        "a power of two a tensor, so that none does."
    )
    return rows


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    sides = figure.subplots(1, 2, sharey=True)
    reference = next(row for row in rows if row["place"] == "none")
    for axes, rounding in zip(sides, _ROUNDINGS, strict=True):
        curves(
            axes,
            [row for row in rows if row["rounding"] == rounding],
            "bits",
            "accuracy",
            ["place", "scale"],
        )
        axes.axhline(reference["accuracy"], linestyle="--", color="black")
        axes.set_xscale("log", base=2)
        axes.set_xticks(
            [format.word for format in FORMATS], [str(format.word) for format in FORMATS]
        )
        axes.set_title(rounding)


QUANTIZATION = Experiment(
    name="quantization",
    title="Accuracy with fixed-point weights",
    rows=_rows,
    plot=_plot,
    claim="The paper: fast learning needs no high precision of the weights (abstract).",
    quick={"episodes": 40},
)
