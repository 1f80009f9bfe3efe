"""Other inner loops for a trained run, under the same weights.

`variant` exchanges parts of the inner loop. `inner_params`, `inner_step` and `fixed_classifier` run
it step by step. Further training of a run is in `baselines.experiments.tuning`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch

from baselines.accuracy import Classifier
from baselines.maml import MAML, InnerUpdate, Loss, adapt, sgd
from baselines.networks import ConvNet, Params, SpikingNet
from metaevents.episodes import Episode

Net: TypeAlias = SpikingNet | ConvNet


def run_update(maml: MAML) -> InnerUpdate:
    """Return the gradient descent of a trained run, with its learned rates (if any) now fixed."""
    rates: dict[str, Any] = {
        name: torch.tensor(maml.config.inner_lr, dtype=torch.float32, device=maml.device)
        for name, _ in maml.net.named_parameters()
    }
    if maml.config.learn_inner_lrs:
        rates |= dict(zip(maml.learning, maml.inner_lrs.detach().unbind(), strict=True))
    return sgd(rates)


def variant(
    maml: MAML,
    net: Net | None = None,
    *,
    update: InnerUpdate | None = None,
    loss: Loss | None = None,
    start: Callable[[Params], Params] | None = None,
    **config: Any,
) -> MAML:
    """Return a trained learner with parts of its inner loop exchanged.

    Args:
        maml: The learner of a run.
        net: Another network; by default the run's.
        update: Another inner update; by default the run's gradient descent, with fixed rates.
        loss: Another loss of the inner loop; by default cross-entropy.
        start: Maps the meta-parameters to those that a task starts from.
        config: Fields of `MAMLConfig` to change.

    Example:
        learner = variant(baselines.load("snn-maml").model, steps=3)
    """
    changed = replace(maml.config, learn_inner_lrs=False, **config)
    return MAML(net or maml.net, changed, update or run_update(maml), loss, start).to(maml.device)


def inner_params(maml: MAML) -> Params:
    """Return the parameters from which a run's inner loop starts."""
    return {name: value.detach() for name, value in maml.net.named_parameters()}


def inner_step(maml: MAML, params: Params, episode: Episode) -> Params:
    """Return the parameters after one more step of a run's inner loop on an episode's support.

    Args:
        maml: The learner of a run.
        params: The parameters before the step.
        episode: Gives the support.
    """
    x, y = episode.support_x.to(maml.device), episode.support_y.to(maml.device)
    return adapt(maml.net.apply_params, params, x, y, run_update(maml), learning=maml.learning)


def fixed_classifier(maml: MAML, params: Params, episode: Episode) -> Classifier:
    """Return the run's network with given parameters, without any adaptation, as a classifier.

    Args:
        maml: The learner of a run.
        params: Parameters of the network.
        episode: The episode to classify.
    """
    fixed = variant(maml, start=lambda _: params, steps=0, test_steps=None)
    return fixed.adapt(episode.support_x, episode.support_y, len(episode.classes))
