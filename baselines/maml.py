"""Model-agnostic meta-learning (MAML, Finn et al. 2017) of a network with explicit parameters.

`adapt` is the inner loop as a function from parameters to parameters. `meta_gradient`
differentiates the query loss through it. `MAML` joins a network with the options of its inner loop:
`MAML.accumulate` computes gradients for any optimizer, and `MAML.adapt` makes it a learner for
`metaevents.evaluate`.

The training loop, validation and checkpoints are left to `training`. Other inner losses and updates
are in `plasticity` and `quantization`.
"""

# Not postponed by `from __future__`: pdoc cannot resolve string annotations of a NamedTuple.

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import cross_entropy

from baselines.cuda_graphs import GraphCache, form, graphs_possible, places
from baselines.inference_mode import leaves_inference_mode, ordinary
from baselines.network_learner import NetworkLearner
from baselines.networks import ConvNet, Params, SpikingNet
from baselines.parallel import on_streams, parallel_map, query_chunks
from baselines.precision import products
from metaevents.arguments import finite_number, whole_number
from metaevents.errors import UsageError

logger = logging.getLogger(__name__)

Forward = Callable[[Params, Tensor], Tensor]
"""(parameters, samples [n, ...]) -> logits [n, ways]."""

DirectForward = Callable[[Params, Params, Tensor], tuple[Tensor, Tensor]]
"""(parameters, those that learn, samples) -> the outputs of `networks.SpikingNet.direct_logits`."""

InnerUpdate = Callable[[Params, Params, int], Params]
"""(parameters that learn, their gradients, index of the inner step from 0) -> their new values."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [n, ways], labels [n]) -> the mean loss over samples, a scalar."""


class TaskBatch(NamedTuple):
    """The samples of several tasks; a sample is [T, P, H, W] or, summed over time, [P, H, W].

    Attributes:
        support_x: Support samples [tasks, ways * shots, ...].
        support_y: Support labels [tasks, ways * shots] int64.
        query_x: Query samples [tasks, ways * queries, ...].
        query_y: Query labels [tasks, ways * queries] int64.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    def split(self, size: int) -> "list[TaskBatch]":
        """Return batches of at most `size` tasks each."""
        parts = zip(*(torch.split(each, size) for each in self), strict=True)
        return [TaskBatch(*part) for part in parts]


@dataclass(frozen=True)
class MAMLConfig:
    """The options of the inner loop; the defaults are those of the paper's SNN-MAML.

    Attributes:
        steps: Inner gradient steps in training.
        test_steps: Inner gradient steps of `MAML.adapt`; None takes `steps`.
        inner_lr: Inner learning rate.
        learn_inner_lrs: Meta-learn one inner learning rate per parameter tensor (Meta-SGD, Li et
            al. 2017, has one per parameter), starting at `inner_lr`.
        second_order: Differentiate through the inner gradients; False is first-order MAML.
        layers: The layers that the inner loop updates: "all", "head", "body", or a number i, which
            freezes the layers below i.
        tasks_at_once: Tasks per batched call (`torch.func.vmap`). None takes one per call; on a
            GPU, as many of these calls run side by side as fit its memory.
        queries_per_chunk: Queries per task in one forward and backward pass, which bounds memory;
            None chooses, see `parallel.query_chunks`.
    """

    steps: int = 1
    test_steps: int | None = None
    inner_lr: float = 1.0
    learn_inner_lrs: bool = False
    second_order: bool = True
    layers: Literal["all", "head", "body"] | int = "all"
    tasks_at_once: int | None = None
    queries_per_chunk: int | None = None

    def __post_init__(self) -> None:
        """Check every number; make numbers of other libraries Python numbers."""
        for name, least in (
            ("steps", 0), ("test_steps", 0), ("tasks_at_once", 1), ("queries_per_chunk", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None or name == "steps":
                object.__setattr__(self, name, whole_number(name, value, least=least))
        object.__setattr__(self, "inner_lr", finite_number("inner_lr", self.inner_lr))
        if not isinstance(self.layers, str):
            object.__setattr__(self, "layers", whole_number("layers", self.layers, least=0))


class Outcome(NamedTuple):
    """The result on the queries of one or several tasks.

    Attributes:
        loss: Query loss, a scalar.
        accuracy: Share of queries that were classified correctly, a scalar.
        gradients: Gradients of the loss, by parameter name.
    """

    loss: Tensor
    accuracy: Tensor
    gradients: Params


def sgd(lr: float | Params) -> InnerUpdate:
    """Return plain gradient descent as an inner update.

    Args:
        lr: The learning rate, or one per parameter name.
    """

    def update(params: Params, gradients: Params, step: int) -> Params:
        lrs = lr if isinstance(lr, Mapping) else dict.fromkeys(params, lr)
        return {name: value - lrs[name] * gradients[name] for name, value in params.items()}

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
    visit: Callable[[Params], None] | None = None,
    direct: DirectForward | None = None,
) -> Params:
    """Return the parameters after the inner loop: `steps` updates against the support loss.

    With a leading task axis on parameters, samples and labels, the tasks' inner loops run
    independently.

    Args:
        forward: The network; with a task axis it must take that axis.
        params: Parameters by name.
        x: Support samples [n, ...].
        y: Support labels [n].
        update: The inner update.
        learning: Names of the parameters to update; None updates all. The others are returned
            unchanged.
        steps: Number of updates.
        second_order: Whether the result is differentiable by `params` through the inner gradients;
            otherwise the inner gradients are constants.
        loss: The support loss.
        visit: Called before each step with the parameters that it starts from.
        direct: Replaces the gradients by those of direct feedback alignment; None uses `forward`.
    """
    names = tuple(params if learning is None else learning)
    for step in range(steps):
        if visit is not None:
            visit(params)
        held = params if second_order else {name: value.detach() for name, value in params.items()}
        inner = {
            name: held[name] if held[name].requires_grad else held[name].detach().requires_grad_()
            for name in names
        }
        with torch.enable_grad():
            if direct is None:
                total = _sum_over_tasks(loss, forward({**held, **inner}, x), y)
                grads = torch.autograd.grad(total, list(inner.values()), create_graph=second_order)
            else:
                # Views, since the activities depend on the tensors themselves.
                inner = {name: value.view_as(value) for name, value in inner.items()}
                logits, own = direct(held, inner, x)
                logits = logits if logits.requires_grad else logits.detach().requires_grad_()
                (error,) = torch.autograd.grad(
                    _sum_over_tasks(loss, logits, y), logits, create_graph=second_order
                )
                grads = torch.autograd.grad(
                    own, list(inner.values()), error, create_graph=second_order
                )
        gradients = dict(zip(names, grads, strict=True))
        params = {**params, **update({name: params[name] for name in names}, gradients, step)}
    return params


def meta_gradient(
    forward: Forward,
    inner: Callable[[Params], Params],
    params: Params,
    query_x: Tensor,
    query_y: Tensor,
    *,
    queries_per_chunk: int | None = None,
) -> Outcome:
    """Return the query loss under `inner(params)` and its gradient by `params`.

    The queries depend on `params` only through `inner(params)`. So the gradient by `inner(params)`
    is computed first, chunk of queries by chunk and without keeping a graph, and then propagated
    back through the inner loop. By the chain rule this is exact. On a CPU the chunks run on
    threads; they are summed in a fixed order.

    With a leading task axis (see `adapt`), loss, accuracy and gradients are sums over tasks.

    Args:
        forward: The network.
        inner: Maps meta-parameters to a task's parameters.
        params: Meta-parameters by name.
        query_x: Query samples [m, ...].
        query_y: Query labels [m].
        queries_per_chunk: See `MAMLConfig`.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        adapted = inner(leaves)
    task = {name: value.detach().requires_grad_() for name, value in adapted.items()}
    samples, axis = query_y.shape[-1], query_y.dim() - 1

    def run(chunk: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        x, y = chunk
        with torch.enable_grad():
            logits = forward(task, x)
            loss = _sum_over_tasks(cross_entropy, logits, y) * (y.shape[-1] / samples)
            # A weight is unused where `prepared` replaced it by its spectrum.
            grads = torch.autograd.grad(
                loss, list(task.values()), allow_unused=True, materialize_grads=True
            )
        return loss.detach(), (logits.argmax(-1) == y).sum().float() / samples, grads

    chunks = zip(
        *(query_chunks(t, queries_per_chunk, axis) for t in (query_x, query_y)), strict=True
    )
    losses, accuracies, grads = zip(*parallel_map(run, list(chunks), query_x.device), strict=True)
    task_grads = [torch.stack(parts).sum(0) for parts in zip(*grads, strict=True)]
    meta_grads = torch.autograd.grad(
        list(adapted.values()),
        list(leaves.values()),
        task_grads,
        allow_unused=True,
        materialize_grads=True,
    )
    return Outcome(
        torch.stack(losses).sum(),
        torch.stack(accuracies).sum(),
        dict(zip(leaves, meta_grads, strict=True)),
    )


class MAML(NetworkLearner):
    """A network that learns from a support set, with the options of its inner loop.

    Where the network has feedback (`networks.SpikingNet.align`), the inner loop propagates errors
    through it, and the query loss propagates them through the weights. Second order differentiates
    the inner loop through the same feedback. Where it has direct feedback (`align_directly`), the
    inner loop is direct feedback alignment, and second order differentiates its updates exactly.

    Args:
        net: The network; its parameters are the meta-parameters.
        config: The options.
        update: The inner update; None is gradient descent.
        loss: The inner loss; None is cross-entropy. The query loss is always cross-entropy.
        start: Maps the meta-parameters of the network to the parameters that a task starts from,
            such as `quantization.quantized`; None starts from the meta-parameters themselves.

    Attributes:
        learning: Names of the network's parameters that the inner loop updates.
        inner_lrs: The learned inner learning rates, one per name in `learning`, if
            `config.learn_inner_lrs`.

    Raises:
        UsageError: `config.layers` is unknown, or `config.learn_inner_lrs` is combined with an
            `update`.

    Example:
        >>> from baselines.networks import ConvNet
        >>> maml = MAML(ConvNet(), MAMLConfig(inner_lr=0.1))
        >>> classifier = maml.adapt(torch.rand(5, 2, 16, 32), torch.arange(5), 5)
        >>> classifier(torch.rand(3, 2, 16, 32)).shape
        torch.Size([3, 5])
    """

    @leaves_inference_mode
    def __init__(
        self,
        net: SpikingNet | ConvNet,
        config: MAMLConfig | None = None,
        update: InnerUpdate | None = None,
        loss: Loss | None = None,
        start: Callable[[Params], Params] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.config = net, config or MAMLConfig()
        self.update, self.loss, self.start = update, loss or cross_entropy, start
        self._fitting_tasks: int | None = None  # at once, if a larger number did not fit
        # The user's own update, loss or start may do something else in every call.
        self._graphs = None if update or loss or start else GraphCache()
        self.learning = names_of_layers(
            [name for name, _ in net.named_parameters()], self.config.layers, len(net.body)
        )
        if self.config.learn_inner_lrs:
            if update is not None:
                raise UsageError(
                    "learn_inner_lrs is for gradient descent, and another inner update was given;"
                    " set learn_inner_lrs to False, or give no update"
                )
            rates = torch.full(
                (len(self.learning),),
                self.config.inner_lr,
                dtype=torch.float32,
                device=self.device,
            )
            self.inner_lrs = nn.Parameter(rates)

    @leaves_inference_mode
    def adapt(self, support_x: Tensor, support_y: Tensor, ways: int) -> Callable[[Tensor], Tensor]:
        """Learn from a support set and return a classifier.

        Args:
            support_x: Support samples [n, ...].
            support_y: Support labels [n], in 0..ways-1.
            ways: Number of classes.

        Returns:
            A function from queries [m, ...] to logits [m, ways].

        Raises:
            UsageError: The network has another number of outputs than `ways`.
        """
        if self._graphs is not None and graphs_possible(self.device):
            return self._adapt_by_graphs(self._graphs, support_x, support_y, ways)
        params = self._adapted(support_x, support_y, ways)

        @leaves_inference_mode
        def classifier(query_x: Tensor) -> Tensor:
            x = ordinary(query_x.to(self.device))
            chunks = query_chunks(x, self.config.queries_per_chunk)
            return torch.cat(parallel_map(partial(self._logits, params), chunks, self.device))

        return classifier

    @torch.no_grad()
    def _logits(self, params: Params, x: Tensor) -> Tensor:
        """Return the logits [m, ways] of queries under adapted parameters."""
        return self.net.apply_params(params, x)

    def _adapt_by_graphs(
        self, graphs: GraphCache, support_x: Tensor, support_y: Tensor, ways: int
    ) -> Callable[[Tensor], Tensor]:
        """Return what `adapt` returns; on a GPU, with a graph for each of its two parts."""
        self._require_ways(ways)
        x, y = (ordinary(each.to(self.device)) for each in (support_x, support_y))
        fixed = places(self), self.config, products()
        names = [name for name, _ in self.net.named_parameters()]

        def adapted(x: Tensor, y: Tensor) -> list[Tensor]:
            params = self._adapted(x, y, ways)
            return [params[name] for name in names]

        learn = graphs.get(("adapt", fixed, form(x, y)), lambda: adapted, "adaptation to a task")
        # Of its own, since a later task replaces the outputs of a graph.
        values = [value.clone() for value in learn(x, y)]

        def logits(x: Tensor, *values: Tensor) -> list[Tensor]:
            return [self._logits(dict(zip(names, values, strict=True)), x)]

        @leaves_inference_mode
        def classifier(query_x: Tensor) -> Tensor:
            x = ordinary(query_x.to(self.device))
            answers = []
            for chunk in query_chunks(x, self.config.queries_per_chunk):
                key = ("classify", fixed, form(chunk, *values))
                classify = graphs.get(key, lambda: logits, "classification")
                answers.append(classify(chunk, *values)[0].clone())
            return torch.cat(answers)

        return classifier

    @leaves_inference_mode
    def inner_path(self, support_x: Tensor, support_y: Tensor, ways: int) -> list[Params]:
        """Return the network's parameters and constants along the inner loop of `adapt`.

        Args:
            support_x: Support samples [n, ...].
            support_y: Support labels [n], in 0..ways-1.
            ways: Number of classes.

        Returns:
            Those before each inner step, and last those after all of them.

        Raises:
            UsageError: The network has another number of outputs than `ways`.
        """
        names = [name for name, _ in self.net.named_parameters()]
        constants = dict(self.net.named_buffers())
        if self._graphs is not None and graphs_possible(self.device):
            values = self._path_by_graphs(self._graphs, support_x, support_y, ways)
            return [{**dict(zip(names, each, strict=True)), **constants} for each in values]
        path: list[Params] = []
        path.append(self._adapted(support_x, support_y, ways, path.append))
        return [{**{name: each[name].detach() for name in names}, **constants} for each in path]

    def _path_by_graphs(
        self, graphs: GraphCache, support_x: Tensor, support_y: Tensor, ways: int
    ) -> list[list[Tensor]]:
        """Return the network's parameters along the inner loop; each step is one graph."""
        self._require_ways(ways)
        x, y = (ordinary(each.to(self.device)) for each in (support_x, support_y))
        net_params = {name: ordinary(each.detach()) for name, each in self.net.named_parameters()}
        rates = {"inner_lrs": self.inner_lrs.detach()} if self.config.learn_inner_lrs else {}
        names, forward = list(net_params), self._forward(None, dict(self.net.named_buffers()))

        def step(x: Tensor, y: Tensor, *values: Tensor) -> list[Tensor]:
            params = dict(zip(names, values, strict=True))
            after = adapt(
                forward, params, x, y, self._update(rates, None),
                learning=self.learning, direct=self._direct(None),
            )  # fmt: skip
            return [after[name].detach() for name in names]

        key = ("step", places(self), self.config, products(), form(x, y))
        take = graphs.get(key, lambda: step, "an inner step")
        path = [[each.clone() for each in net_params.values()]]
        for _ in range(self._test_steps):
            path.append([each.clone() for each in take(x, y, *path[-1])])
        return path

    @property
    def _test_steps(self) -> int:
        """The number of inner steps of `adapt`."""
        return self.config.steps if self.config.test_steps is None else self.config.test_steps

    def _adapted(
        self,
        support_x: Tensor,
        support_y: Tensor,
        ways: int,
        visit: Callable[[Params], None] | None = None,
    ) -> Params:
        """Return the network's adapted, prepared parameters without a graph; see `adapt`."""
        self._require_ways(ways)
        after = self._inner(
            {name: ordinary(value.detach()) for name, value in self.named_parameters()},
            x=ordinary(support_x.to(self.device)),
            y=ordinary(support_y.to(self.device)),
            tasks=None,
            steps=self._test_steps,
            second_order=False,
            visit=visit,
        )
        return {name: value.detach() for name, value in after.items()}

    def _require_ways(self, ways: int) -> None:
        """Refuse a task of another number of classes than the network has outputs."""
        if ways != self.net.config.ways:
            raise UsageError(
                f"the network has {self.net.config.ways} outputs and the task has {ways} classes;"
                f" load or train a network with ways={ways}"
            )

    @leaves_inference_mode
    def accumulate(self, batch: TaskBatch) -> Outcome:
        """Add the mean meta-gradient of a batch of tasks to the `grad` of every parameter.

        Args:
            batch: The tasks, on the device of the parameters.

        Returns:
            The mean loss, accuracy and gradients over the tasks.
        """
        batch = TaskBatch(*map(ordinary, batch))
        params, tasks = dict(self.named_parameters()), len(batch.query_y)
        outcome = partial(self._outcome, params)
        losses, accuracies, gradients = zip(*self._over_tasks(outcome, batch), strict=True)
        mean = {
            name: torch.stack([each[name] for each in gradients]).sum(0) / tasks for name in params
        }
        for name, value in params.items():
            value.grad = mean[name] if value.grad is None else value.grad + mean[name]
        return Outcome(
            torch.stack(losses).sum() / tasks, torch.stack(accuracies).sum() / tasks, mean
        )

    def _over_tasks(
        self, function: Callable[[TaskBatch], Outcome], batch: TaskBatch
    ) -> list[Outcome]:
        """Return the outcomes of parts of a batch; as many run at once as fit a GPU's memory."""
        at_once, device = self.config.tasks_at_once, batch.query_x.device
        parts = batch.split(at_once or 1)
        if at_once or device.type != "cuda":
            return parallel_map(function, parts, device)
        size = min(self._fitting_tasks or len(parts), len(parts))
        while True:
            groups = [parts[first : first + size] for first in range(0, len(parts), size)]
            try:
                return [each for group in groups for each in on_streams(function, group, device)]
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
            torch.cuda.empty_cache()
            self._fitting_tasks = size = -(-size // 2)
            logger.info("the GPU's memory is too small for all tasks at once; %d run at once", size)

    def _outcome(self, params: Params, batch: TaskBatch) -> Outcome:
        """Return the outcome of one batched call, summed over its tasks."""
        tasks: int | None = len(batch.query_y)
        if tasks == 1:  # without vmap
            tasks, batch = None, TaskBatch(*(each[0] for each in batch))
        inner = partial(
            self._inner,
            x=batch.support_x,
            y=batch.support_y,
            tasks=tasks,
            steps=self.config.steps,
            second_order=self.config.second_order,
        )
        return meta_gradient(
            self._forward(tasks),
            inner,
            params,
            batch.query_x,
            batch.query_y,
            queries_per_chunk=self.config.queries_per_chunk,
        )

    def _forward(self, tasks: int | None, constants: Params | None = None) -> Forward:
        """Return the network with constants beside its parameters; without a task axis if None."""

        def forward(params: Params, x: Tensor) -> Tensor:
            return self.net.apply_params({**params, **(constants or {})}, x)

        return forward if tasks is None else vmap(forward, randomness="different")

    def _direct(self, tasks: int | None) -> DirectForward | None:
        """Return the network's `direct_logits` with its constants, if it has direct feedback."""
        if not self.net.direct_feedback:
            return None
        constants = dict(self.net.named_buffers())

        def direct(params: Params, own: Params, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.net.direct_logits({**params, **constants}, own, x)

        return direct if tasks is None else vmap(direct, randomness="different")

    def _inner(
        self,
        params: Params,
        *,
        x: Tensor,
        y: Tensor,
        tasks: int | None,
        steps: int,
        second_order: bool,
        visit: Callable[[Params], None] | None = None,
    ) -> Params:
        """Return the network's adapted, prepared parameters from the parameters of this module."""
        net_params = {
            name.removeprefix("net."): value
            for name, value in params.items()
            if name.startswith("net.")
        }
        if self.start is not None:
            net_params = dict(self.start(net_params))
        if tasks is not None:
            net_params = {
                name: value.expand(tasks, *value.shape) for name, value in net_params.items()
            }
        adapted = adapt(
            self._forward(tasks, dict(self.net.named_buffers())),
            net_params,
            x,
            y,
            self._update(params, tasks),
            learning=self.learning,
            steps=steps,
            second_order=second_order,
            loss=self.loss,
            visit=visit,
            direct=self._direct(tasks),
        )
        return self.net.prepared(adapted) if tasks is None else vmap(self.net.prepared)(adapted)

    def _update(self, params: Params, tasks: int | None) -> InnerUpdate:
        """Return the inner update, with learned rates from `params` if there are any."""
        update = self.update
        if update is None:
            lrs = params.get("inner_lrs")
            return sgd(
                self.config.inner_lr
                if lrs is None
                else dict(zip(self.learning, lrs.unbind(), strict=True))
            )
        if tasks is None:
            return update

        def update_tasks(values: Params, gradients: Params, step: int) -> Params:
            return vmap(lambda v, g: update(v, g, step), randomness="different")(values, gradients)

        return update_tasks


def adam_cosine(
    parameters: Iterable[Tensor], lr: float, steps: int, min_lr_ratio: float = 1 / 50
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Return Adam and its cosine schedule, which is stepped after each optimizer step.

    Args:
        parameters: The parameters to optimize.
        lr: Learning rate at the first step.
        steps: Steps until the learning rate has fallen to `min_lr_ratio * lr`, where it stays.
        min_lr_ratio: Final learning rate as a share of `lr`.
    """
    parameters = list(parameters)
    # On a GPU one kernel updates all parameters, and the count of steps stays there too.
    on_gpu = all(parameter.device.type == "cuda" for parameter in parameters)
    adam = torch.optim.Adam(parameters, lr=lr, fused=on_gpu or None)

    def factor(step: int) -> float:
        return (
            min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
        )

    return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


def restore_optimizer(
    adam: torch.optim.Adam,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    saved: Mapping[str, Any],
    steps: int,
) -> None:
    """Put a new optimizer and its schedule, both of `adam_cosine`, after some steps.

    From the saved state only the running means are taken. Everything else follows from the number
    of steps.

    Args:
        adam: The optimizer.
        schedule: Its schedule.
        saved: `state_dict()` of the optimizer that took the steps.
        steps: Number of steps that it took.

    Raises:
        ValueError: The state is of other parameters or of another step, or has a number that is not
            finite.
        Exception: Whatever else a damaged state leads to.
    """
    state, parameters = saved["state"], [p for g in adam.param_groups for p in g["params"]]
    if steps and set(state) != set(range(len(parameters))):
        raise ValueError(f"it has the means of {len(state)} of {len(parameters)} parameters")
    means = {}
    for number, values in state.items():
        shape = parameters[number].shape
        means[number] = {name: values[name].clone() for name in ("step", "exp_avg", "exp_avg_sq")}
        if float(values["step"]) != steps:
            raise ValueError(f"it is of step {float(values['step']):g}, expected {steps}")
        for name in ("exp_avg", "exp_avg_sq"):
            mean = values[name]
            if mean.shape != shape or not mean.is_floating_point():
                raise ValueError(f"{name} of parameter {number} has the shape {list(mean.shape)}")
            if not bool(mean.isfinite().all()):
                raise ValueError(f"{name} of parameter {number} is not finite")
    adam.load_state_dict({"state": means, "param_groups": adam.state_dict()["param_groups"]})
    rates = [base * schedule.lr_lambdas[0](steps) for base in schedule.base_lrs]
    schedule.load_state_dict(
        {
            **schedule.state_dict(),
            "last_epoch": steps,
            "_step_count": steps + 1,
            "_last_lr": rates,
        }
    )
    for group, rate in zip(adam.param_groups, rates, strict=True):
        group["lr"] = rate


def names_of_layers(names: list[str], layers: str | int, depth: int) -> tuple[str, ...]:
    """Return the names of the parameters that the inner loop updates.

    Args:
        names: Names of all parameters of a network.
        layers: See `MAMLConfig`.
        depth: Number of convolutions of the network.

    Raises:
        UsageError: There are no such layers.
    """
    prefixes = [*(f"body.{i}." for i in range(depth)), "head."]
    selected: dict[str | int, list[str]] = {
        "all": prefixes,
        "head": prefixes[-1:],
        "body": prefixes[:-1],
    }
    selected |= {first: prefixes[first:] for first in range(depth + 1)}
    if layers not in selected:
        raise UsageError(
            f'layers={layers!r}; give "all", "head", "body", or the number of the first layer that'
            f" the inner loop updates, 0 to {depth}"
        )
    return tuple(
        name
        for name in names
        if name.startswith(tuple(selected[layers])) and not name.endswith(".direct")
    )


def _sum_over_tasks(loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the tasks' losses, whose gradients do not mix the tasks' parameters."""
    return loss(logits, y) if y.dim() == 1 else torch.stack(list(map(loss, logits, y))).sum()
