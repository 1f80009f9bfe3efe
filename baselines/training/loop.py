"""The training loop: steps, validation and checkpoints, from the first step or from a checkpoint.

Everything random follows from the seed and the number of the step, so a run that was killed
continues bit for bit as if it had not been. Under `torchrun`, the tasks (or samples) of every step
are shared among the processes and their gradients summed.

What is trained is in `baselines.training.objectives`, the files of a run in
`baselines.training.folder`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.accuracy import learner_answers, recording_design
from baselines.components import ComponentMatching
from baselines.config import RunConfig
from baselines.inference_mode import leaves_inference_mode
from baselines.init import lsuv_init
from baselines.maml import MAML, adam_cosine, restore_optimizer
from baselines.precision import arithmetic
from baselines.provenance import Record
from baselines.training.folder import Checkpoint, RunFolder
from baselines.training.interrupts import Stopped, deferred_interrupts
from baselines.training.objectives import OBJECTIVES, Objective
from baselines.training.start import start_from_weights
from baselines.training.step import (
    EagerSteps,
    GraphedSteps,
    NonFiniteGradient,
    StepMetrics,
    Steps,
)
from baselines.training.validation import validation_episodes
from baselines.transfer import Transfer
from baselines.weights_file import Weights, fill
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.statistics import ci95, episode_ci95
from metaevents.datasets import ComposedDataset, load
from metaevents.distributed import ProcessGroup, pick_device, process_group
from metaevents.errors import MetaeventsError, UsageError
from metaevents.files import PathLike, progress_bar
from metaevents.untrusted import describe

logger = logging.getLogger(__name__)

_SHOWN = 50  # steps that the progress bar averages over


class TrainingError(MetaeventsError, ArithmeticError):
    """A run cannot take its next step: a loss is not a number, or the GPU's memory is too small."""


class TrainingRun:
    """One training run in its folder.

    Args:
        config: What to train; None takes the configuration of the folder.
        archive: The archive, or the folder that holds it. The run trains on its train split and
            selects the best weights on its val split.
        out: The run's folder.
        start_from: A run's folder or a weights file. The run starts from the body of these weights
            and takes over what they were trained on.
        resume: Continue the run that the folder holds, if it holds one.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" ...
        progress: Whether to show a progress bar; None shows it on a terminal.
        tensorboard: Write scalars for TensorBoard into the folder.

    Attributes:
        folder: The run's files.
        config: The configuration.
        train: The train split.
        val: The val split.
        device: Where the run computes.
        group: The processes that share the run.
        record: What the weights were trained and selected on.
        step: Number of steps taken.
        best: Step and accuracy of the best validation so far.

    Raises:
        UsageError: The folder holds a run and `resume` is False, or holds another run; the archive
            or the weights do not fit the configuration.
        MissingError: There is no archive, no weights, or no run to continue.
    """

    @leaves_inference_mode
    def __init__(
        self,
        config: RunConfig | None,
        archive: PathLike,
        out: PathLike,
        *,
        start_from: PathLike | None = None,
        resume: bool = False,
        device: str = "auto",
        progress: bool | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.folder = RunFolder(out)
        self.config = config = self.folder.choose_config(config, resume)
        self.train, self.val = self._split(archive, "train"), self._split(archive, "val")
        self.device = pick_device(device)
        self.group = ProcessGroup()
        self._objective: Objective = OBJECTIVES[config.kind.method](config, self.train, self.device)
        self._episodes = validation_episodes(self.val, config, self.learner.representation)
        self._parameters = list(self._objective.module.parameters())
        self._optimizer, self._schedule = adam_cosine(
            self._parameters, config.lr, config.steps, config.min_lr_ratio
        )
        self.record = Record.of(self.train, self.val, self.learner.net.config.frame_shape)
        self.step = 0
        self.best: dict[str, Any] = {"step": -1, "accuracy": -1.0}
        self._steps_read = 0  # whose loss was looked at
        self._log: list[dict[str, Any]] = []
        self._progress = progress
        self._tensorboard = _summary_writer(self.folder.path) if tensorboard else None
        if self.folder.holds_run:
            self._restore(self.folder.load_checkpoint())
        else:
            self._initialize(archive, start_from)

    def _split(self, archive: PathLike, split: str) -> ComposedDataset:
        """Return a split of the archive, with the pairing and classes of the configuration."""
        config = self.config
        return load(config.dataset, archive, split, pairing=config.pairing, classes=config.classes)

    def _initialize(self, archive: PathLike, start_from: PathLike | None) -> None:
        """Set the initial weights."""
        net = self.learner.net
        generator = torch.Generator("cpu").manual_seed(self.config.seed)
        lsuv_init(net, self._objective.batch(), generator=generator)
        if start_from is not None:
            untrained = self.val, self._split(archive, "test")
            self.record = start_from_weights(net, start_from, self.record, untrained)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        weights = checkpoint.weights
        if weights.record.fingerprint != self.record.fingerprint:
            raise UsageError(
                f"{self.folder.path} was trained on an archive with the fingerprint "
                f"{weights.record.fingerprint[:16]}..., but this archive has "
                f"{self.record.fingerprint[:16]}...; give the archive that the run was started with"
            )
        fill(self._objective.module, weights, self.folder.checkpoints)
        self.record, self.step = weights.record, weights.record.step
        self._steps_read = self.step
        try:
            restore_optimizer(
                self._optimizer, self._schedule, checkpoint.optimizer["adam"], self.step
            )
        except Exception as error:  # whatever a damaged state leads to
            raise UsageError(
                f"the state of the optimizer in {self.folder.checkpoints} does not fit the run "
                f"({describe(error)}); restore the folder from a copy, or train in another folder"
            ) from error
        self.best, self._log = dict(checkpoint.best), [dict(line) for line in checkpoint.log]
        # Best weights that are newer than the checkpoint were written just before the process was
        # killed. They will be written again.

    @property
    def learner(self) -> MAML | Transfer | ComponentMatching:
        """The learner with the current weights."""
        return self._objective.learner

    @leaves_inference_mode
    def run(self) -> Path:
        """Train until the last step.

        Returns:
            The file with the best weights.

        Raises:
            TrainingError: A loss is not a number, or the GPU's memory is too small; the newest
                checkpoint stays.
            Stopped: The user interrupted the run; it stands at a checkpoint.
            UsageError: Another process is training in the folder.
        """
        with process_group(self.device) as self.group, deferred_interrupts() as interrupts:
            first = self.group.rank == 0
            with self.folder.lock() if first else nullcontext():
                self.group.wait()  # until all processes have looked into the folder
                if first:
                    self.folder.prepare(self.config)
                    if not self.folder.holds_run:
                        self._save_checkpoint()
                with self._advice_on_memory(), arithmetic(self.config.precision):
                    self._take_steps(interrupts, self._new_steps())
                self.group.wait()  # until the first process has written
        return self.folder.best

    def _new_steps(self) -> Steps:
        """Return what takes the steps."""
        objective, parameters, optimizer = self._objective, self._parameters, self._optimizer
        if self.device.type == "cuda" and self.group.size == 1:
            share = range(objective.samples)

            def gradients(*batch: Tensor) -> tuple[Tensor, Tensor]:
                with self._autocast():
                    return objective.gradients(*batch)

            return GraphedSteps(
                lambda step: objective.load(step, share),
                gradients,
                objective.samples,
                parameters,
                optimizer,
            )
        if self.device.type == "cuda":
            logger.info("steps that several processes share run without CUDA graphs")
        return EagerSteps(self._accumulate, objective.samples, parameters, optimizer, self.group)

    def _take_steps(self, interrupts: list[int], steps: Steps) -> None:
        """Take all steps that are left, with validations and checkpoints between them."""
        config = self.config
        started, metrics = time.perf_counter(), list[StepMetrics]()
        with progress_bar(
            config.model,
            config.steps,
            "step",
            False if self.group.rank else self._progress,
            initial=self.step,
        ) as bar:
            while self.step < config.steps:
                metrics += self._read(lambda: steps.take(self.step))
                self._schedule.step()
                self.step += 1
                bar.update()
                finished = self.step == config.steps
                validating = finished or self.step % config.val_every == 0
                interrupted = self.group.any(bool(interrupts))
                if validating or interrupted:
                    metrics += self._read(steps.read)
                if metrics:
                    bar.set_postfix(
                        loss=f"{fmean(each.loss for each in metrics[-_SHOWN:]):.3f}",
                        accuracy=f"{fmean(each.accuracy for each in metrics[-_SHOWN:]):.1%}",
                        refresh=False,
                    )
                if validating:
                    self._validate(metrics, time.perf_counter() - started)
                    self._save_checkpoint()
                    started, metrics = time.perf_counter(), []
                elif interrupted:
                    self._save_checkpoint()
                if not finished and self.group.any(bool(interrupts)):
                    raise Stopped(
                        f"stopped at the checkpoint of step {self.step} of {config.steps} in "
                        f"{self.folder.path}; the same command with --resume continues it",
                        *interrupts[:1],
                    )

    def _read(self, read: Callable[[], list[StepMetrics]]) -> list[StepMetrics]:
        """Return metrics that a function reads; a loss that is not a number is a TrainingError."""
        try:
            metrics = read()
        except NonFiniteGradient as error:
            step = self._steps_read + error.step
            raise TrainingError(
                f"the loss or a gradient of step {step + 1} is not a number "
                f"(lr {self._schedule.lr_lambdas[0](step) * self.config.lr:.2g}, inner_lr "
                f"{self.config.inner_lr:g}); {self._what_is_kept()}; train again with a smaller "
                "--lr or --inner-lr"
            ) from None
        self._steps_read += len(metrics)
        return metrics

    def _accumulate(self, step: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of this process's share; return its summed loss and accuracy."""
        share = self.group.share(self._objective.samples)
        if not share:
            nothing = torch.zeros((), dtype=torch.float32, device=self.device)
            return nothing, nothing.clone()
        with self._autocast():
            return self._objective.accumulate(step, share)

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the configured precision."""
        if self.config.precision != "bfloat16":
            return nullcontext()
        # A CUDA graph must not contain casts that were made before it.
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    @contextmanager
    def _advice_on_memory(self) -> Iterator[None]:
        """Turn a GPU's lack of memory into an error that says what to do."""
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            option = "--queries" if self.config.kind.method == "maml" else "--batch-size"
            raise TrainingError(
                f"after step {self.step} training needs more memory than {self.device} has left; "
                f"{self._what_is_kept()}; close other programs that use it, or train with a "
                f"smaller {option} or --device cpu"
            ) from None

    def _what_is_kept(self) -> str:
        """Return the part of a message that says which checkpoint is left."""
        step = self.folder.checkpoint_step()
        if step is None:
            return "there is no checkpoint"
        return f"the checkpoint of step {step} in {self.folder.checkpoints} is good"

    def _validate(self, metrics: list[StepMetrics], seconds: float) -> None:
        """Measure the accuracy on the validation episodes, log it, and keep the best weights.

        Args:
            metrics: Loss and accuracy of each step since the last validation.
            seconds: Time that these steps took.
        """
        learner = self.learner
        with learner.remembering() if isinstance(learner, ComponentMatching) else nullcontext():
            answers = self._validation_answers()
        figures = {
            "val_accuracy": float(answers.mean()),
            "val_ci95": ci95(answers, self._validation_design),
            "val_episode_ci95": episode_ci95(answers.mean(axis=1)),
            **self._objective.measure(),
        }
        line = {
            "step": self.step,
            "loss": fmean(each.loss for each in metrics),
            "accuracy": fmean(each.accuracy for each in metrics),
            "seconds": seconds,
            **figures,
            "lr": self._optimizer.param_groups[0]["lr"],
        }
        self._log.append(line)
        logger.info("step %d: %s", self.step, line)
        if self._tensorboard is not None and self.group.rank == 0:
            for name, value in line.items():
                self._tensorboard.add_scalar(name, value, self.step)
            self._tensorboard.flush()
        if figures["val_accuracy"] > self.best["accuracy"]:
            self.best = {"step": self.step, "accuracy": figures["val_accuracy"]}
            if self.group.rank == 0:
                self._weights(measured=figures).save(self.folder.best)

    @cached_property
    def _validation_design(self) -> RecordingDesign:
        """Which recordings the validation episodes share."""
        return recording_design([self._episodes])

    def _validation_answers(self) -> npt.NDArray[np.bool_]:
        """Return which validation queries are answered correctly, [episodes, queries].

        The processes share the episodes.
        """
        shape = len(self._episodes), self._episodes.ways * self._episodes.queries
        answers = torch.zeros(shape, dtype=torch.float32, device="cpu")
        for index in self.group.share(len(self._episodes)):
            with self._autocast():
                answers[index] = learner_answers(
                    self.learner, self._episodes[index], self.config.ways
                ).float()
        if self.group.size > 1:
            answers = answers.to(self.device)
            self.group.sum([answers])
        return answers.cpu().numpy() > 0

    def _weights(self, measured: Mapping[str, float] | None = None) -> Weights:
        """Return the current weights, with a record of the current step."""
        record = replace(
            self.record,
            step=self.step,
            measured=self.record.measured if measured is None else measured,
        )
        return Weights(self._objective.module.state_dict(), self.config, record)

    def _save_checkpoint(self) -> None:
        """Write a checkpoint, in the first process only."""
        if self.group.rank == 0:
            optimizer = {
                "adam": _on_cpu(self._optimizer.state_dict()),
                "schedule": self._schedule.state_dict(),
            }
            self.folder.save_checkpoint(
                Checkpoint(self._weights(), optimizer, self.best, self._log)
            )


def _on_cpu(state: Any) -> Any:
    """Return the state of an optimizer with its tensors on the CPU, for a file."""
    if isinstance(state, dict):
        return {name: _on_cpu(value) for name, value in state.items()}
    return state.cpu() if isinstance(state, Tensor) else state


def _summary_writer(folder: Path) -> Any:
    """Return TensorBoard's writer for a run's folder."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard needs the package tensorboard; run `pip install tensorboard`"
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))


def train(
    config: RunConfig,
    archive: PathLike,
    out: PathLike,
    *,
    start_from: PathLike | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Train from the first step to the last.

    A configuration with pre-training, if no `start_from` is given, first trains that run in the
    folder `pretrain` inside `out`.

    Args:
        config: What to train.
        archive: The archive, or the folder that holds it.
        out: The run's folder.
        start_from: A run's folder or a weights file to start from, in place of pre-training.
        options: `resume`, `device`, `progress`, `tensorboard`; see `TrainingRun`.

    Returns:
        The file with the best `weights`, their `step` and their `val_accuracy`; None in all
        processes but the first.

    Raises:
        TrainingError: A loss is not a number, or the GPU's memory is too small.
        UsageError: See `TrainingRun`.
        MissingError: See `TrainingRun`.
    """
    folder = RunFolder(out)
    with process_group(pick_device(options.get("device", "auto"))):
        if config.pretrain_steps and start_from is None:
            start_from = folder.path / "pretrain"
            if not folder.holds_run:
                TrainingRun(config.pretraining, archive, start_from, **options).run()
        run = TrainingRun(config, archive, out, start_from=start_from, **options)
        weights = run.run()
    if run.group.rank:
        return None
    return {"weights": str(weights), "step": run.best["step"], "val_accuracy": run.best["accuracy"]}
