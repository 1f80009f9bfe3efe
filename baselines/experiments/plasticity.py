"""Approximate plasticity in the inner loop, without and with meta-training through the rule."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from baselines.experiments.accuracy import Variants, adapting
from baselines.experiments.plots import dots, legend
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.experiments.tuning import tuned
from baselines.experiments.variants import Net, run_update
from baselines.maml import MAML
from baselines.plasticity import RULES, Rule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_META_TRAINED = "meta-trained with the rule"


def compare_rules(rules: Mapping[str, Rule] = RULES) -> Experiment:
    """Return the experiment that compares rules.

    Results are cached by the names of the rules. A rule that you change needs another name or
    another folder of output.

    Args:
        rules: Name -> rule; the others are compared with the first one.

    Example:
        rules = {"gradient": RULES["gradient"], "mine": Rule(update=my_update)}
        reproduce(compare_rules(rules), archive, out)
    """
    return Experiment(
        name="plasticity",
        title="Accuracy with approximate plasticity in the inner loop",
        rows=partial(_rows, rules),
        plot=_plot,
        claim="The paper (abstract): meta-training compensates for approximate learning rules.",
    )


def _rows(rules: Mapping[str, Rule], study: Study) -> list[Row]:
    """Return two rows per rule: without and with meta-training through it."""
    run, rows = study.runs.get("snn-maml"), []
    untrained = study.measure(f"rules {', '.join(rules)}", _with_rules(study, run, rules), [run])
    first, reference = next(iter(untrained.items()))
    for name, accuracy in untrained.items():
        label = f"meta-trained with {name}, {study.budget.tuning} steps"
        trained = study.measure(label, _meta_trained(study, run, name, rules[name]), [run])[""]
        for phase, measured in (("no", accuracy), ("yes", trained)):
            rows.append(
                {
                    "rule": name,
                    _META_TRAINED: phase,
                    **measured.row(),
                    **measured.change(reference),
                }
            )
    study.note(
        f"Meta-trained with the rule: {study.budget.tuning} more outer steps from the same run, "
        f"with the rule in the inner loop. Changes are relative to {first} without meta-training, "
        "on the same episodes."
    )
    return rows


def _with_rules(study: Study, run: Trained, rules: Mapping[str, Rule]) -> Variants:
    """Return the run's learner with each rule in its inner loop."""
    generator = torch.Generator(study.device)

    def make() -> dict[str, MAML]:
        """Return the learners by name."""
        return {
            name: _learner(rule, run, copy.deepcopy(run.maml.net), generator)
            for name, rule in rules.items()
        }

    return adapting(make, generator)


def _meta_trained(study: Study, run: Trained, name: str, rule: Rule) -> Variants:
    """Return the run's learner after meta-training with a rule in its inner loop."""
    generator = torch.Generator(study.device)

    def build(net: Net) -> MAML:
        """Return the learner to train."""
        return _learner(rule, run, net, generator)

    return adapting(lambda: {"": tuned(study, run, name, build)}, generator)


def _learner(rule: Rule, run: Trained, net: Net, generator: torch.Generator) -> MAML:
    """Return a learner by a rule, at the run's learned rates.

    A rule with a single rate has their mean.
    """
    maml, config = run.maml, replace(run.maml.config, learn_inner_lrs=False)
    if rule.update is None:
        rule = replace(rule, update=lambda lr, generator: run_update(maml))
    elif maml.config.learn_inner_lrs:
        config = replace(config, inner_lr=float(maml.inner_lrs.detach().clamp_min(0).mean()))
    return rule.maml(net, config, generator.manual_seed(run.config.seed)).to(maml.device)


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw dots at the accuracy for each rule."""
    axes = figure.subplots()
    dots(axes, rows, "accuracy", ["rule"], [_META_TRAINED])
    axes.set_ylabel("rule of the inner loop")
    legend(figure, _META_TRAINED, rows)


PLASTICITY = compare_rules()
"""Accuracy with the rules of `baselines.plasticity`."""
