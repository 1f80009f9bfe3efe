"""Approximate plasticity in the inner loop, with and without meta-training through the rule."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from baselines.experiments.accuracy import Row, Variants, learners
from baselines.experiments.plots import bars
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.experiments.variants import Net, own_update, tuned
from baselines.maml import MAML
from baselines.plasticity import RULES, Rule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BEFORE, _AFTER = "as it was", "through the rule"


def plasticity(rules: Mapping[str, Rule] = RULES) -> Experiment:
    """The experiment on some rules; the first one is what the others are compared with.

    Results are kept by the rules' names: a rule that you change needs another name, or another folder.
    """
    return Experiment(
        name="plasticity",
        title="Accuracy with approximate plasticity in the inner loop",
        rows=partial(_rows, rules),
        plot=_plot,
        claim="The paper: meta-training makes up for approximate learning rules (abstract).",
    )


def _rows(rules: Mapping[str, Rule], study: Study) -> list[Row]:
    run, rows = study.run("snn-maml"), []
    scores = study.measure(f"rules {', '.join(rules)}", _untrained(study, run, rules), [run])
    reference = next(iter(scores.values()))
    for name, score in scores.items():
        what = f"trained through {name}, {study.budget.tuning} steps"
        trained = study.measure(what, _trained(study, run, name, rules[name]), [run])[""]
        for phase, measured in ((_BEFORE, score), (_AFTER, trained)):
            rows.append(
                {
                    "rule": name,
                    "meta-trained": phase,
                    **measured.row(),
                    **measured.change(reference),
                }
            )
    study.note(
        f"{_AFTER}: after {study.budget.tuning} more outer steps with the rule in the inner loop, from the same run. Changes are "
        f"against {next(iter(scores))} {_BEFORE}, on the same episodes."
    )
    return rows


def _untrained(study: Study, run: Trained, rules: Mapping[str, Rule]) -> Variants:
    generator = torch.Generator(study.device)

    def named() -> dict[str, MAML]:
        return {
            name: _by(rule, run, copy.deepcopy(run.maml.net), generator)
            for name, rule in rules.items()
        }

    return learners(named, generator)


def _trained(study: Study, run: Trained, name: str, rule: Rule) -> Variants:
    generator = torch.Generator(study.device)
    return learners(
        lambda: {"": tuned(study, run, name, lambda net: _by(rule, run, net, generator))}, generator
    )


def _by(rule: Rule, run: Trained, net: Net, generator: torch.Generator) -> MAML:
    """A run learning by a rule: at its learned rates, or at their mean where the rule has a single one."""
    maml, config = run.maml, replace(run.maml.config, learn_inner_lrs=False)
    if rule.update is None:
        rule = replace(rule, update=lambda rate, generator: own_update(maml))
    elif maml.config.learn_inner_lrs:
        config = replace(config, inner_lr=float(maml.inner_lrs.detach().clamp_min(0).mean()))
    return rule.maml(net, config, generator.manual_seed(run.config.seed)).to(maml.device)


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    bars(figure.subplots(), rows, "accuracy", ["rule"], ["meta-trained"])


PLASTICITY = plasticity()
