"""Approximate plasticity in the inner loop, without and with meta-training through the rule."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from baselines.experiments.accuracy import EpisodeAccuracies, Variants, adapting
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

META_TRAINED = "meta-trained with the rule"
"""Column that says whether a run was meta-trained through the rule: "no" or "yes"."""


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
        rows=partial(_rows, rules, "snn-maml"),
        plot=_plot,
        claim="The paper (abstract): meta-training compensates for approximate learning rules.",
    )


def _rows(rules: Mapping[str, Rule], model: str, study: Study) -> list[Row]:
    """Return two rows per rule: without and with meta-training through it."""
    return rule_rows(measure_rules(rules, study.runs.get(model), study))


Measured: TypeAlias = Mapping[str, Mapping[str, EpisodeAccuracies]]
"""Rule -> "no" or "yes" (meta-trained with the rule) -> accuracies."""


def measure_rules(rules: Mapping[str, Rule], run: Trained, study: Study) -> Measured:
    """Return the accuracies of a run with each rule, without and with meta-training through it.

    Args:
        rules: The rules by name; the first one is the reference.
        run: The run to start from.
        study: Gives the episodes and the number of steps.
    """
    untrained = study.measure(f"rules {', '.join(rules)}", _with_rules(study, run, rules), [run])
    measured = {}
    for name, accuracies in untrained.items():
        label = f"meta-trained with {name}, {study.budget.tuning} steps"
        trained = study.measure(label, _meta_trained(study, run, name, rules[name]), [run])[""]
        measured[name] = {"no": accuracies, "yes": trained}
    study.note(
        f"Meta-trained with the rule: {study.budget.tuning} more outer steps from the same run, "
        f"with the rule in the inner loop. Changes are relative to {next(iter(rules))} without "
        "meta-training, on the same episodes."
    )
    return measured


def rule_rows(measured: Measured, **columns: Any) -> list[Row]:
    """Return a row per rule and phase of training.

    Args:
        measured: The accuracies.
        columns: Columns of every row, such as the model.
    """
    reference = next(iter(measured.values()))["no"]
    return [
        {**columns, "rule": name, META_TRAINED: phase, **each.row(), **each.change(reference)}
        for name, phases in measured.items()
        for phase, each in phases.items()
    ]


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
    dots(axes, rows, "accuracy", ["rule"], [META_TRAINED])
    axes.set_ylabel("rule of the inner loop")
    legend(figure, META_TRAINED, rows)


PLASTICITY = compare_rules({name: rule for name, rule in RULES.items() if rule.direct is None})
"""Accuracy with the rules of `baselines.plasticity`; `direct_feedback` has the direct ones."""
