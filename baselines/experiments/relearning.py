"""Relearning and forgetting: adapt to task A, to task B, and to A again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from baselines.accuracy import Classifier
from baselines.experiments.accuracy import EpisodeAccuracies
from baselines.experiments.plots import curves, legend, panels
from baselines.experiments.rows import Row
from baselines.experiments.runs import Trained
from baselines.experiments.study import Experiment, Study
from baselines.experiments.variants import Net, fixed_classifier, inner_params, run_update
from baselines.experiments.verdicts import MARGIN, claim, not_tested
from baselines.init import lsuv_init
from baselines.maml import MAML, MAMLConfig, adapt
from baselines.models import build_network
from baselines.networks import Params
from metaevents.episodes import Episode, EpisodeLoader
from metaevents.sampling import EpisodeSampler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NETWORKS = ("cnn", "snn")

_MODELS = tuple(f"{network}-{method}" for network in _NETWORKS for method in ("maml", "transfer"))

_META, _SUPERVISED, _RANDOM = "meta-trained", "supervised", "random"

_START, _FIRST, _OTHER, _AGAIN = "before learning", "after A", "after A, B", "after A, B, A"
_PHASES = (_START, _FIRST, _OTHER, _AGAIN)

_OTHER_SEED = 10_000  # of the tasks B

# Learning rates and numbers of steps of weights that no meta-training has set any for.
_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
_STEPS = (1, 3, 10, 30, 60)

_FORGETS_LESS = "meta-trained weights lose less of A by learning B than {} weights"
_RELEARNS = f"meta-trained weights: after A, B, A within {100 * MARGIN:g} point of after A"
_AS_FIRST = f"{{}} weights: after A, B, A within {100 * MARGIN:g} point of after A"


@dataclass(frozen=True)
class _Start:
    """Initial weights, and how they learn a task.

    Attributes:
        maml: A learner on the weights.
        steps: Steps of the inner loop per task.
    """

    maml: MAML
    steps: int

    def learned(self, params: Params, episode: Episode) -> Params:
        """Return the parameters after learning the support of an episode."""
        x, y = (each.to(self.maml.device) for each in (episode.support_x, episode.support_y))
        return adapt(
            self.maml.net.apply_params,
            params,
            x,
            y,
            run_update(self.maml),
            learning=self.maml.learning,
            steps=self.steps,
        )


def _rows(study: Study) -> list[Row]:
    """Return a row per network, initial weights and phase, and the verdicts."""
    runs = {run.config.model: run for run in study.runs.available(*study.models(_MODELS))}
    rows, verdicts = [], []
    for network in _NETWORKS:
        measured = _measure(study, network, runs) if f"{network}-maml" in runs else {}
        for weights, phases in measured.items():
            for phase, (start, accuracies) in phases.items():
                rows.append(
                    {
                        "network": network,
                        "initial weights": weights,
                        "phase": phase,
                        "steps per task": start.steps,
                        "learning rate": None if weights == _META else start.maml.config.inner_lr,
                        **accuracies.row(),
                        **accuracies.change(phases[_FIRST][1]),
                    }
                )
        verdicts += _verdicts(network, measured)
    study.note(
        "A and B are 5-way 1-shot tasks of the test split, learned one after the other on the same "
        "five outputs, by an inner loop that updates all layers. Accuracy is that on the queries "
        "of A. Meta-trained weights learn as they were meta-trained. Supervised weights are those "
        "of transfer learning with a last layer of zeros; random ones are scaled on training "
        "samples. Their learning rate "
        f"({', '.join(f'{rate:g}' for rate in _RATES)}) and steps "
        f"({', '.join(map(str, _STEPS))}) were chosen on {_validation_episodes(study)} episodes of "
        "the val split, by the accuracy after A. Changes are relative to the accuracy after A."
    )
    return rows + verdicts


_Measured = Mapping[str, Mapping[str, tuple[_Start, EpisodeAccuracies]]]
"""Initial weights -> phase -> how they learn, and the accuracies on A."""


def _verdicts(network: str, measured: _Measured) -> list[Row]:
    """Return the verdicts of a network."""
    found = {
        weights: {phase: accuracies for phase, (_, accuracies) in phases.items()}
        for weights, phases in measured.items()
    }
    rows = []
    for weights in (_META, _SUPERVISED, _RANDOM):
        text = _AS_FIRST.format(weights)
        if weights not in found:
            rows.append(not_tested(text, network=network))
            continue
        pair = [found[weights][_AGAIN], found[weights][_FIRST]]
        rows.append(claim(text, pair, [1, -1], -MARGIN, network=network))
    for weights in (_SUPERVISED, _RANDOM):
        text = _FORGETS_LESS.format(weights)
        if not {_META, weights} <= found.keys():
            rows.append(not_tested(text, network=network))
            continue
        four = [found[each][phase] for each in (_META, weights) for phase in (_OTHER, _FIRST)]
        rows.append(claim(text, four, [1, -1, -1, 1], trained_apart=True, network=network))
    return rows


def _measure(study: Study, network: str, runs: Mapping[str, Trained]) -> _Measured:
    """Return the accuracies of all initial weights of a network."""
    run, plain = runs[f"{network}-maml"], runs.get(f"{network}-transfer")
    starts = {_META: _Start(run.maml, run.config.inner_steps)}
    used = [run]
    if plain is not None:
        supervised = _supervised(plain, run.config.ways)
        starts[_SUPERVISED] = _chosen(study, supervised, _SUPERVISED, plain)
        used.append(plain)
    starts[_RANDOM] = _chosen(study, _random(study, run), _RANDOM, run)
    label = "relearning, " + ", ".join(
        f"{weights} {each.maml.config.inner_lr:g} {each.steps}" for weights, each in starts.items()
    )
    ways, shots = run.config.ways, 1
    queries = EpisodeSampler.max_queries(study.test, ways, shots, study.budget.queries) or 1
    others = EpisodeLoader(
        study.test,
        ways,
        shots,
        queries,
        study.budget.episodes,
        _OTHER_SEED,
        representation=run.learner.representation,
    )
    answers = study.measure(
        label, partial(_phases, starts, others), used, queries=queries, beside=lambda _: others
    )
    return {
        weights: {phase: (each, answers[f"{weights}, {phase}"]) for phase in _PHASES}
        for weights, each in starts.items()
    }


def _phases(
    starts: Mapping[str, _Start], others: EpisodeLoader, episode: Episode
) -> Iterator[tuple[str, Classifier]]:
    """Yield a classifier for each of the initial weights and phases."""
    other = others[int(episode.index)]  # type: ignore[arg-type]
    for weights, start in starts.items():
        params = inner_params(start.maml)
        for phase, task in zip(_PHASES, (None, episode, other, episode), strict=True):
            if task is not None:
                params = start.learned(params, task)
            yield f"{weights}, {phase}", fixed_classifier(start.maml, params, episode)


def _supervised(run: Trained, ways: int) -> Net:
    """Return a run's network with a new last layer of zeros."""
    net = build_network(run.config, run.learner.record.frame_shape, ways)
    net.body.load_state_dict(run.transfer.net.body.state_dict())
    for parameter in net.head.values():
        nn.init.zeros_(parameter)
    return net.to(run.transfer.device)


def _random(study: Study, run: Trained) -> Net:
    """Return a run's network with random weights, as training starts from."""
    train, config = study.split("train"), run.config
    loader = EpisodeLoader(
        train, config.ways, config.shots, config.queries, 1, config.seed,
        representation=run.learner.representation,
    )  # fmt: skip
    net = copy.deepcopy(run.maml.net)
    generator = torch.Generator().manual_seed(config.seed)
    lsuv_init(net, loader[0].query_x.to(run.maml.device), generator=generator)
    return net


def _validation_episodes(study: Study) -> int:
    """Return the number of episodes on which learning rates and steps are chosen."""
    return max(1, study.budget.episodes // 4)


def _chosen(study: Study, net: Net, weights: str, run: Trained) -> _Start:
    """Return weights with the learning rate and the steps that are best on validation episodes.

    Args:
        study: Gives the episodes.
        net: Network with the weights.
        weights: Their name.
        run: The run that the weights come from.
    """
    starts = {
        _name(rate, steps): _Start(MAML(net, MAMLConfig(inner_lr=rate)), steps)
        for rate in _RATES
        for steps in _STEPS
    }

    def candidates(episode: Episode) -> Iterator[tuple[str, Classifier]]:
        """Yield a classifier for each learning rate and number of steps."""
        for rate in _RATES:
            one_step = replace(starts[_name(rate, _STEPS[0])], steps=1)
            params = inner_params(one_step.maml)
            for steps in range(1, _STEPS[-1] + 1):
                params = one_step.learned(params, episode)
                if steps in _STEPS:
                    yield _name(rate, steps), fixed_classifier(one_step.maml, params, episode)

    measured = study.measure(
        f"relearning, {weights} weights, {', '.join(starts)}",
        candidates,
        [run],
        dataset=study.split("val"),
        ways=net.config.ways,
        episodes=_validation_episodes(study),
    )
    return starts[max(starts, key=lambda name: measured[name].accuracy)]


def _name(rate: float, steps: int) -> str:
    """Return the name of a learning rate with a number of steps."""
    return f"{rate:g}, {steps}"


def _plot(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw the accuracy on A along the phases, a panel per network."""
    for axes, shown in panels(figure, rows, "network"):
        curves(axes, shown, "phase", "accuracy", ["initial weights"])
    legend(figure, "initial weights", rows)


RELEARNING = Experiment(
    name="relearning",
    title="Accuracy on a task before and after another one is learned, 5-way 1-shot",
    rows=_rows,
    plot=_plot,
    claim="The paper aims at adaptive life-long learning (abstract) and shows single tasks.",
    quick={"episodes": 300, "queries": 10},
)
"""Accuracy on a task along the tasks A, B, A."""
