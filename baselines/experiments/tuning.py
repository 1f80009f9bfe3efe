"""Training a run further: meta-training with another inner loop, and supervised training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from baselines.config import RunConfig
from baselines.experiments.runs import Trained
from baselines.experiments.study import Study
from baselines.experiments.variants import Net
from baselines.maml import MAML, adam_cosine
from baselines.training.objectives import MetaObjective, Objective, RandomShift, SupervisedObjective
from baselines.training.step import NonFiniteGradient, training_step
from baselines.weights_file import tensors_digest
from metaevents.datasets import ComposedDataset
from metaevents.errors import printable
from metaevents.files import write_atomic
from metaevents.hashing import digest_json
from metaevents.untrusted import describe, parse_json, read_bytes

logger = logging.getLogger(__name__)

# Share of the run's initial learning rate. With all of it, a new optimizer lowered the validation
# accuracy of the run.
_TUNING_LR = 0.3

_MAX_FILE = 1 << 30  # bytes of a file that is read again

_MOST_QUERIES = 5  # per class, to keep further training short


class _TuningShift(RandomShift):
    """Random shifts that do not repeat those of the run's own training."""

    def key(self, seed: int, index: object, part: str) -> object:
        """Return the key of the random stream that draws the shifts."""
        return {"tuning shift": 1, "seed": seed, "of": index if part == "batch" else [index, part]}


def outer_steps(
    maml: MAML, train: ComposedDataset, config: RunConfig, steps: int, seed: int
) -> Iterator[None]:
    """Meta-train a learner, with a pause after each outer step.

    The tasks of a step run one after the other, so that learners that draw noise draw the same
    again.

    Args:
        maml: The learner; changed in place.
        train: The train split.
        config: Gives the tasks, the learning rate and the shifts.
        steps: Number of outer steps.
        seed: Seed of episodes and shifts.
    """
    config = replace(config, queries=min(config.queries, _MOST_QUERIES), seed=seed)
    shift = _TuningShift(config, train)
    objective = MetaObjective(config, train, maml.device, learner=maml, shift=shift)

    def accumulate(step: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of the step's tasks; return their summed loss and accuracy."""
        sums = [objective.accumulate(step, range(i, i + 1)) for i in range(objective.samples)]
        losses, accuracies = zip(*sums, strict=True)
        return torch.stack(losses).sum(), torch.stack(accuracies).sum()

    return _steps(objective, accumulate, config, steps)


def supervised_steps(
    net: Net, train: ComposedDataset, config: RunConfig, steps: int, seed: int
) -> Iterator[None]:
    """Train a network on all train classes, with a pause after each step.

    Args:
        net: The network, with one output per train class; changed in place.
        train: The train split.
        config: Gives the batches, the learning rate and the shifts.
        steps: Number of steps.
        seed: Seed of samples and shifts.
    """
    config = replace(config, seed=seed)
    device, shift = next(net.parameters()).device, _TuningShift(config, train)
    objective = SupervisedObjective(config, train, device, net=net, shift=shift)

    def accumulate(step: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of the step's batch; return its summed loss and accuracy."""
        return objective.accumulate(step, range(objective.samples))

    return _steps(objective, accumulate, config, steps)


def _steps(
    objective: Objective,
    accumulate: Callable[[int], tuple[Tensor, Tensor]],
    config: RunConfig,
    steps: int,
) -> Iterator[None]:
    """Take steps with a new optimizer, with a pause after each.

    A step whose gradient is not a number changes nothing: with an approximate rule in the inner
    loop, single tasks can diverge.
    """
    parameters = list(objective.module.parameters())
    optimizer, schedule = adam_cosine(parameters, config.lr, steps, config.min_lr_ratio)
    for step in range(steps):
        try:
            training_step(
                lambda step=step: accumulate(step),  # type: ignore[misc]
                objective.samples,
                parameters,
                optimizer,
            )
        except NonFiniteGradient:
            logger.warning("skipped a step whose gradient is not a number")
        schedule.step()
        yield


def tuned(study: Study, run: Trained, label: str, build: Callable[[Net], MAML]) -> MAML:
    """Return a learner on a copy of a run's network, meta-trained for the budget's steps.

    The result is kept in the study's folder and read again by later calls. A damaged file is made
    again, with a warning.

    Args:
        study: Gives the data, the budget and the folder.
        run: The run to start from.
        label: Name of what `build` builds; part of the name of the file.
        build: Makes the learner from the network.

    Raises:
        UsageError: A folder or a pipe is in the file's place, or the file cannot be read.
    """
    maml = build(copy.deepcopy(run.maml.net)).to(study.device)
    steps, config = study.budget.tuning, replace(run.config, lr=_TUNING_LR * run.config.lr)
    key = [label, run.digest, steps, study.test.fingerprint, config.to_dict()]
    path = study.out / "tuned" / f"{digest_json(key)[:16]}.safetensors"
    if path.exists():
        advice = "remove it, and it is made again"
        content = read_bytes(path, _MAX_FILE, "run that was trained further", advice)
        try:
            maml.load_state_dict(_unpack(content))
            return maml
        except Exception as error:  # whatever damage leads to
            logger.warning(
                "%s is damaged (%s); training it again", printable(path), printable(describe(error))
            )
            maml = build(copy.deepcopy(run.maml.net)).to(study.device)
    training = outer_steps(maml, study.split("train"), config, steps, config.seed + 1)
    for _ in study.progress(training, f"{label}, training", steps):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _pack(maml.state_dict()))
    return maml


def _pack(state: Mapping[str, Tensor]) -> bytes:
    """Return the content of a file with tensors and their digest."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    return save(tensors, {"sha256": tensors_digest(tensors)})


def _unpack(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file, on the CPU.

    Raises:
        ValueError: They are not those that were written. Damage leads to other exceptions too.
    """
    from safetensors.torch import load

    size = int.from_bytes(content[:8], "little")
    stated = parse_json(content[8 : 8 + size].decode())["__metadata__"]["sha256"]
    tensors = load(content)
    if tensors_digest(tensors) != stated:
        raise ValueError("it has other numbers than were written")
    return tensors
