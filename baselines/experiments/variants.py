"""Other inner loops for a trained run, and some more training of it: what several experiments do to a run.

`variant` exchanges parts of the inner loop under the same weights; `outer_steps` and `supervised_steps` go on training;
`tuned` keeps what that gives. The runs themselves come from `study`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from baselines.config import RunConfig
from baselines.data import SampleStream, random_shift
from baselines.experiments.accuracy import Classifier
from baselines.experiments.runs import Trained
from baselines.experiments.study import Study
from baselines.maml import MAML, InnerUpdate, Loss, adam_cosine, adapt, sgd
from baselines.networks import ConvNet, Params, SpikingNet
from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode, EpisodeLoader
from metaevents.files import write_atomic
from metaevents.rng import Streams

logger = logging.getLogger(__name__)

Net = SpikingNet | ConvNet

_TUNING_LR = 0.3  # of the run's first rate: on validation, all of it with a new optimizer undid some of the run


def own_update(maml: MAML) -> InnerUpdate:
    """The gradient descent that a run learned by, with its learned rates, if it has some, now fixed."""
    rates: dict[str, Any] = {
        name: torch.tensor(maml.config.inner_lr) for name, _ in maml.net.named_parameters()
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
    """A run's learner with parts of its inner loop exchanged: the update, the loss, the start, fields of its configuration."""
    changed = replace(maml.config, learn_inner_lrs=False, **config)
    return MAML(net or maml.net, changed, update or own_update(maml), loss, start).to(maml.device)


def inner_params(maml: MAML) -> Params:
    """The parameters that a run's inner loop starts from."""
    return {name: value.detach() for name, value in maml.net.named_parameters()}


def inner_step(maml: MAML, params: Params, episode: Episode) -> Params:
    """One more step of a run's own inner loop from `params`, on an episode's support."""
    x, y = episode.support_x.to(maml.device), episode.support_y.to(maml.device)
    return adapt(maml.net.apply_params, params, x, y, own_update(maml), learning=maml.learning)


def classifier(maml: MAML, params: Params, episode: Episode) -> Classifier:
    """What a run's network tells under `params`, with no learning any more."""
    fixed = variant(maml, start=lambda _: params, steps=0, test_steps=None)
    return fixed.adapt(episode.support_x, episode.support_y, len(episode.classes))


def outer_steps(
    maml: MAML, train: ComposedDataset, config: RunConfig, steps: int, seed: int
) -> Iterator[None]:
    """Meta-train for `steps` outer steps, with a pause after each; tasks of a step one after the other, for noise to recur."""
    loader = EpisodeLoader(
        train, config.ways, config.shots, min(config.queries, 5), episodes=steps * config.meta_batch_size, seed=seed,
        representation=maml.representation,
    )  # fmt: skip
    parameters = list(maml.parameters())
    optimizer, schedule = adam_cosine(parameters, config.lr, steps, config.min_lr_ratio)
    for step in range(steps):
        optimizer.zero_grad()
        for index in range(step * config.meta_batch_size, (step + 1) * config.meta_batch_size):
            episode = loader[index]
            support, query = (
                _moved(
                    getattr(episode, f"{part}_x"),
                    train,
                    config,
                    {"seed": seed, "of": [index, part]},
                ).to(maml.device)
                for part in ("support", "query")
            )
            labels = [y[None].to(maml.device) for y in (episode.support_y, episode.query_y)]
            maml.accumulate(support[None], labels[0], query[None], labels[1])
        _step(optimizer, parameters, config.meta_batch_size)
        schedule.step()
        yield


def supervised_steps(
    net: Net, train: ComposedDataset, config: RunConfig, steps: int, seed: int
) -> Iterator[None]:
    """Train on all of the train classes at once for `steps` steps, with a pause after each."""
    stream = SampleStream(train, net.representation, config.holdout_every, seed)
    parameters, device = list(net.parameters()), next(net.parameters()).device
    optimizer, schedule = adam_cosine(parameters, config.lr, steps, config.min_lr_ratio)
    for step in range(steps):
        x, y = stream.batch(step, config.batch_size)
        x = _moved(x, train, config, {"seed": seed, "of": step})
        optimizer.zero_grad()
        cross_entropy(net(x.to(device)), y.to(device)).backward()  # type: ignore[no-untyped-call]
        _step(optimizer, parameters, 1)
        schedule.step()
        yield


def tuned(study: Study, run: Trained, what: str, build: Callable[[Net], MAML]) -> MAML:
    """`build(net)` on a copy of a run's network, meta-trained for the budget's steps; what was trained before is read again."""
    maml = build(copy.deepcopy(run.maml.net)).to(study.device)
    steps, config = study.budget.tuning, replace(run.config, lr=_TUNING_LR * run.config.lr)
    of = json.dumps(
        [what, run.digest, steps, study.test.fingerprint, config.to_dict()], sort_keys=True
    )
    path = study.out / "tuned" / f"{hashlib.sha256(of.encode()).hexdigest()[:16]}.safetensors"
    from safetensors.torch import load_file, save

    if path.is_file():
        maml.load_state_dict(
            {name: value.to(study.device) for name, value in load_file(path).items()}
        )
        return maml
    for _ in study.bar(
        outer_steps(maml, study.split("train"), config, steps, config.seed + 1),
        f"{what}, training",
        steps,
    ):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(
        path, save({name: value.cpu().contiguous() for name, value in maml.state_dict().items()})
    )
    return maml


def _moved(x: Tensor, train: ComposedDataset, config: RunConfig, key: Any) -> Tensor:
    return random_shift(
        x, train.rules.composition.arity, config.shift, Streams({"tuning shift": 1, **key})(0)
    )


def _step(
    optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], tasks: int
) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        logger.warning("a step whose gradient is no number was left out")
        return
    for gradient in gradients:
        gradient.div_(tasks)
    optimizer.step()
