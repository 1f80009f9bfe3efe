"""REPTILE (Nichol, Achiam and Schulman 2018, "On first-order meta-learning algorithms").

For every task the inner loop runs on small parts of the task's samples. The outer loop then moves
the initial parameters towards the adapted ones. No gradient goes through the inner loop. Support
and query of a training task are used alike. At test the learner is that of `maml`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from baselines.inference_mode import leaves_inference_mode, ordinary
from baselines.maml import MAML, Outcome, TaskBatch, adapt
from baselines.networks import Params


class Reptile(MAML):
    """A network that is meta-trained by REPTILE; see `maml.MAML` for the arguments.

    The samples of a training task, support and query together, are dealt to the inner steps in
    turns. So each step has other samples, and each sample is used once.

    Example:
        >>> from baselines.maml import MAMLConfig
        >>> from baselines.networks import ConvNet
        >>> learner = Reptile(ConvNet(), MAMLConfig(steps=5, inner_lr=0.1))
        >>> classifier = learner.adapt(torch.rand(5, 2, 16, 32), torch.arange(5), 5)
        >>> classifier(torch.rand(3, 2, 16, 32)).shape
        torch.Size([3, 5])
    """

    @leaves_inference_mode
    def accumulate(self, batch: TaskBatch) -> Outcome:
        """Add initial minus adapted parameters, as a mean over tasks, to the `grad` of each one.

        An optimizer that descends it moves the initial parameters towards the adapted ones.

        Args:
            batch: The tasks, on the device of the parameters.

        Returns:
            Loss and accuracy on the samples of each inner step before that step, as means over
            steps and tasks; and the differences by parameter name.
        """
        batch = TaskBatch(*map(ordinary, batch))
        tasks = len(batch.query_y)
        outcomes = self._over_tasks(self._learned, batch)
        losses, accuracies, differences = zip(*outcomes, strict=True)
        mean = {
            name: torch.stack([each[name] for each in differences]).sum(0) / tasks
            for name in differences[0]
        }
        for name, value in self.named_parameters():
            value.grad = mean[name] if value.grad is None else value.grad + mean[name]
        return Outcome(
            torch.stack(losses).sum() / tasks, torch.stack(accuracies).sum() / tasks, mean
        )

    def _learned(self, batch: TaskBatch) -> Outcome:
        """Return losses, accuracies and differences of some tasks, summed over them."""
        x = torch.cat([batch.support_x, batch.query_x], 1)
        y = torch.cat([batch.support_y, batch.query_y], 1)
        size = len(y)
        tasks = size if size > 1 else None  # without vmap
        initial = {name: value.detach() for name, value in self.net.named_parameters()}
        params: Params = initial if self.start is None else dict(self.start(initial))
        if tasks is None:
            x, y = x[0], y[0]
        else:
            params = {name: value.expand(tasks, *value.shape) for name, value in params.items()}
        forward = self._forward(tasks, dict(self.net.named_buffers()))
        update, before, labels = self._update({}, tasks), list[Tensor](), list[Tensor]()

        def recorded(params: Params, x: Tensor) -> Tensor:
            logits = forward(params, x)
            before.append(logits.detach())
            return logits

        start, steps = params, self.config.steps
        for step in range(steps):
            # Samples are the second axis beside a task axis, else the first one.
            taken = (slice(None),) * (y.dim() - 1) + (slice(step, None, steps),)
            labels.append(y[taken])
            params = adapt(
                recorded, params, x[taken], y[taken], update, learning=self.learning, loss=self.loss
            )
        ways = before[0].shape[-1]
        scores = [
            (cross_entropy(u.reshape(-1, ways), t.reshape(-1)), (u.argmax(-1) == t).float().mean())
            for u, t in zip(before, labels, strict=True)
        ]
        loss, accuracy = (torch.stack(each).mean() * size for each in zip(*scores, strict=True))
        difference = {f"net.{name}": start[name] - params[name] for name in params}
        if tasks is not None:
            difference = {name: each.sum(0) for name, each in difference.items()}
        return Outcome(loss, accuracy, difference)
