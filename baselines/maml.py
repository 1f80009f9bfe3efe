"""Model-agnostic meta-learning (Finn et al. 2017) of any network that takes its parameters from outside.

`adapt` is the inner loop as plain function application, parameters in and parameters out; `meta_gradient` differentiates the
query loss through it. `MAML` joins a network with its options: it trains by `accumulate` and any optimizer, and is a
learner for `metaevents.evaluate`. Episodes, epochs and checkpoints are for `training`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import cross_entropy

from baselines.networks import ConvNet, Params, SpikingNet
from baselines.parallel import on_threads, query_chunks
from metaevents.errors import UsageError

logger = logging.getLogger(__name__)

Forward = Callable[[Params, Tensor], Tensor]

InnerUpdate = Callable[[Params, Params, int], Params]
"""(the learning parameters, their gradients, number of the step from 0) -> their new values."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [n, ways], labels [n]) -> a scalar, the mean over samples."""


@dataclass(frozen=True)
class MAMLConfig:
    """The options of the inner loop; the defaults are the paper's SNN-MAML.

    steps: inner gradient steps; test_steps: those of `MAML.adapt`, if other.
    inner_lr: inner learning rate.
    learn_inner_lrs: meta-learn the rate, one a parameter tensor (Li et al. 2017), starting from `inner_lr`.
    second_order: differentiate through the inner gradients; else first-order MAML.
    layers: what learns in the inner loop: "all", "head", "body", or a number i, with layers below i frozen.
    tasks_at_once: tasks that run as one under `torch.func.vmap`; None is one on a CPU and on a GPU as many as its memory takes.
    query_slice: queries of a task that run at a time, forth and back, to keep memory small and caches warm; None chooses.
    """

    steps: int = 1
    test_steps: int | None = None
    inner_lr: float = 1.0
    learn_inner_lrs: bool = False
    second_order: bool = True
    layers: Literal["all", "head", "body"] | int = "all"
    tasks_at_once: int | None = None
    query_slice: int | None = None


class Outcome(NamedTuple):
    """Mean query loss and accuracy [] and, by name, the gradients of the loss."""

    loss: Tensor
    accuracy: Tensor
    gradients: Params


def sgd(lr: float | Params) -> InnerUpdate:
    """Plain gradient descent, with one rate or one a parameter."""

    def update(params: Params, gradients: Params, step: int) -> Params:
        rates = lr if isinstance(lr, Mapping) else dict.fromkeys(params, lr)
        return {name: value - rates[name] * gradients[name] for name, value in params.items()}

    return update


def adapt(
    forward: Forward,
    params: Params,
    x: Tensor,
    y: Tensor,
    update: InnerUpdate,
    *,
    learning: Iterable[str] | None = None,
    steps: int = 1,
    second_order: bool = False,
    loss: Loss = cross_entropy,
) -> Params:
    """Take `steps` of `update` against the `loss` of `forward(params, x)` [n, ways] with labels y [n].

    Only parameters named in `learning` (None: all) are updated; the others come back as they are. With `second_order` the result
    is differentiable by `params` through the gradients too; else the gradients are constants.

    A leading axis of tasks on parameters, samples and labels runs as many inner loops, none knowing of the others.
    """
    names = tuple(params if learning is None else learning)
    for step in range(steps):
        held = params if second_order else {name: value.detach() for name, value in params.items()}
        inner = {
            name: held[name] if held[name].requires_grad else held[name].detach().requires_grad_()
            for name in names
        }
        with torch.enable_grad():
            total = _over_tasks(loss, forward({**held, **inner}, x), y)
            found = torch.autograd.grad(total, list(inner.values()), create_graph=second_order)
        gradients = dict(zip(names, found, strict=True))
        params = {**params, **update({name: params[name] for name in names}, gradients, step)}
    return params


def meta_gradient(
    forward: Forward,
    inner: Callable[[Params], Params],
    params: Params,
    query_x: Tensor,
    query_y: Tensor,
    *,
    query_slice: int | None = None,
) -> Outcome:
    """The query loss under `inner(params)`, and its gradient by `params`.

    `inner` maps meta-parameters to a task's parameters. The queries only see those, so their gradient is taken there, by
    slices and with no graph kept, and then pulled back through the inner loop: exact by the chain rule.
    On a CPU, slices run on as many threads as torch has, a thread each; their sum has one order whatever finishes first.

    With an axis of tasks (see `adapt`) loss, accuracy and gradients are sums over tasks.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    adapted = inner(leaves)
    task = {name: value.detach().requires_grad_() for name, value in adapted.items()}
    samples, axis = query_y.shape[-1], query_y.dim() - 1

    def of_slice(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        with torch.enable_grad():
            logits = forward(task, x)
            loss = _over_tasks(cross_entropy, logits, y) * (y.shape[-1] / samples)
            # Unused: weights whose place what `prepared` made of them takes.
            gradients = torch.autograd.grad(
                loss, list(task.values()), allow_unused=True, materialize_grads=True
            )
        return loss.detach(), (logits.argmax(-1) == y).sum() / samples, gradients

    slices = [query_chunks(each, query_slice, axis) for each in (query_x, query_y)]
    losses, hits, gradients = zip(
        *on_threads(of_slice, list(zip(*slices, strict=True))), strict=True
    )
    by_task = [torch.stack(parts).sum(0) for parts in zip(*gradients, strict=True)]
    pulled = torch.autograd.grad(
        list(adapted.values()),
        list(leaves.values()),
        by_task,
        allow_unused=True,
        materialize_grads=True,
    )
    return Outcome(
        torch.stack(losses).sum(), torch.stack(hits).sum(), dict(zip(leaves, pulled, strict=True))
    )


class MAML(nn.Module):
    """A network that learns from a support set, and the options of how.

    `start` maps the network's meta-parameters to those that a task starts from (`quantize.quantized`, say); they are the same
    by default. `update` takes the place of gradient descent in the inner loop, and `loss` that of cross-entropy; the query loss
    is cross-entropy always. Where the network has feedback (`align`), the inner loop learns through it and the queries'
    gradient does not; second order differentiates the inner loop through the same feedback.

    As a learner, `adapt` returns a classifier, and `representation`, `layout`, `dtype` and `device` say what it wants to be
    given.
    """

    layout = "TPHW"
    dtype = torch.float32

    def __init__(
        self,
        net: SpikingNet | ConvNet,
        config: MAMLConfig | None = None,
        update: InnerUpdate | None = None,
        loss: Loss | None = None,
        start: Callable[[Params], Params] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.config, self.update, self.loss = (
            net,
            config or MAMLConfig(),
            update,
            loss or cross_entropy,
        )
        self.start = start
        self._fitting: int | None = None  # tasks at once, where more were too many
        self.learning = _select(
            [name for name, _ in net.named_parameters()], self.config.layers, len(net.body)
        )
        if self.config.learn_inner_lrs:
            if update is not None:
                raise UsageError(
                    "Learned rates belong to gradient descent; with another inner update set learn_inner_lrs to False."
                )
            self.inner_lrs = nn.Parameter(torch.full((len(self.learning),), self.config.inner_lr))

    @property
    def representation(self) -> str:
        return self.net.representation

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Callable[[Tensor], Tensor]:
        """Learn from support samples [n, ...] and labels [n] in 0..ways-1: a function of queries [m, ...] -> logits [m, ways]."""
        if ways != self.net.config.ways:
            raise UsageError(
                f"The network tells {self.net.config.ways} classes apart and was given a task of {ways}; load or train one"
                f" with ways={ways}."
            )
        steps = self.config.steps if self.config.test_steps is None else self.config.test_steps
        support = support_x.to(self.device), support_y.to(self.device)
        before = {name: value.detach() for name, value in self.named_parameters()}
        after = self._inner(*support, None, steps, False, before)
        params = {name: value.detach() for name, value in after.items()}

        @torch.no_grad()
        def logits(x: Tensor) -> Tensor:
            return self.net.apply_params(params, x)

        def classifier(query_x: Tensor) -> Tensor:
            return torch.cat(
                on_threads(
                    logits,
                    [(x,) for x in query_chunks(query_x.to(self.device), self.config.query_slice)],
                )
            )

        return classifier

    def accumulate(
        self, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Outcome:
        """Add the mean meta-gradient of a batch of tasks to every parameter's `grad`; samples [tasks, n, ...], labels [tasks, n].

        Returns the mean loss, accuracy and gradients.
        """
        params, tasks = dict(self.named_parameters()), len(query_y)
        outcomes = self._outcomes(params, tasks, (support_x, support_y, query_x, query_y))
        losses, accuracies, gradients = zip(*outcomes, strict=True)
        mean = {
            name: torch.stack([each[name] for each in gradients]).sum(0) / tasks for name in params
        }
        for name, value in params.items():
            value.grad = mean[name] if value.grad is None else value.grad + mean[name]
        return Outcome(
            torch.stack(losses).sum() / tasks, torch.stack(accuracies).sum() / tasks, mean
        )

    def _outcomes(self, params: Params, tasks: int, batch: tuple[Tensor, ...]) -> list[Outcome]:
        at_once = self.config.tasks_at_once or min(
            self._fitting or self._tried_at_once(tasks), tasks
        )
        while True:
            try:
                parts = zip(*(torch.split(each, at_once) for each in batch), strict=True)
                return on_threads(partial(self._outcome, params), list(parts))
            except torch.cuda.OutOfMemoryError:
                if self.config.tasks_at_once or at_once == 1:
                    raise
            torch.cuda.empty_cache()
            self._fitting = at_once = -(-at_once // 2)
            logger.info("the GPU's memory takes %d tasks at once, at most", at_once)

    def _tried_at_once(self, tasks: int) -> int:
        return tasks if self.device.type == "cuda" else 1

    def _outcome(self, params: Params, *batch: Tensor) -> Outcome:
        tasks: int | None = len(batch[0])
        if tasks == 1:
            tasks, batch = None, tuple(each[0] for each in batch)
        support_x, support_y, query_x, query_y = batch
        inner = partial(
            self._inner, support_x, support_y, tasks, self.config.steps, self.config.second_order
        )
        forward = self._forward(tasks)
        return meta_gradient(
            forward, inner, params, query_x, query_y, query_slice=self.config.query_slice
        )

    def _forward(self, tasks: int | None, constants: Params | None = None) -> Forward:
        def forward(params: Params, x: Tensor) -> Tensor:
            return self.net.apply_params({**params, **(constants or {})}, x)

        return forward if tasks is None else vmap(forward, randomness="different")

    def _inner(
        self,
        x: Tensor,
        y: Tensor,
        tasks: int | None,
        steps: int,
        second_order: bool,
        params: Params,
    ) -> Params:
        of_net = {
            name.removeprefix("net."): value
            for name, value in params.items()
            if name.startswith("net.")
        }
        if self.start is not None:
            of_net = dict(self.start(of_net))
        if tasks is not None:
            of_net = {name: value.expand(tasks, *value.shape) for name, value in of_net.items()}
        adapted = adapt(
            self._forward(tasks, dict(self.net.named_buffers())),
            of_net,
            x,
            y,
            self._update(params, tasks),
            learning=self.learning,
            steps=steps,
            second_order=second_order,
            loss=self.loss,
        )
        return self.net.prepared(adapted) if tasks is None else vmap(self.net.prepared)(adapted)

    def _update(self, params: Params, tasks: int | None) -> InnerUpdate:
        update = self.update
        if update is None:
            rates = params.get("inner_lrs")
            return sgd(
                self.config.inner_lr
                if rates is None
                else dict(zip(self.learning, rates.unbind(), strict=True))
            )
        if tasks is None:
            return update

        def of_tasks(values: Params, gradients: Params, step: int) -> Params:
            return vmap(lambda v, g: update(v, g, step), randomness="different")(values, gradients)

        return of_tasks


def adam_cosine(
    parameters: Iterable[Tensor], lr: float, steps: int, min_lr_ratio: float = 1 / 50
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Adam, and a schedule to step after each of its `steps` steps: half a cosine from `lr` to `min_lr_ratio * lr`."""
    adam = torch.optim.Adam(parameters, lr=lr)

    def factor(step: int) -> float:
        return (
            min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
        )

    return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


def _select(names: list[str], layers: str | int, depth: int) -> tuple[str, ...]:
    numbered = [*(f"body.{i}." for i in range(depth)), "head."]
    learning: dict[str | int, list[str]] = {
        "all": numbered,
        "head": numbered[-1:],
        "body": numbered[:-1],
    }
    learning |= {first: numbered[first:] for first in range(depth + 1)}
    if layers not in learning:
        raise UsageError(
            f'Layers {layers!r} of the inner loop are unknown; give "all", "head", "body" or the number of the first that'
            f" learns, 0 to {depth}."
        )
    return tuple(name for name in names if name.startswith(tuple(learning[layers])))


def _over_tasks(loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    # Summed over tasks, so that the gradient by each task's own parameters is that of its own loss.
    return loss(logits, y) if y.dim() == 1 else torch.stack(list(map(loss, logits, y))).sum()
