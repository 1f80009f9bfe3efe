"""Training runs: steps, validation, checkpoints, and going on where a run stopped.

A run lives in a folder: `config.json`, `log.jsonl` (a line for every validation), `best.safetensors` (the weights of the best
validation, which is what counts) and `last/` with the newest checkpoint: weights, optimizer state and a `state.json` that
names them and is replaced last. Everything drawn at random follows from the seed and the number of the step, so a run that
is killed goes on bit for bit as if it had not been.

Started by `torchrun`, the tasks (or samples) of every step are shared among the processes and gradients summed.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from baselines.config import RunConfig
from baselines.init import lsuv_init
from baselines.maml import MAML, adam_cosine
from baselines.provenance import Record
from baselines.training.objectives import OBJECTIVES, Objective
from baselines.transfer import Transfer
from baselines.weights_file import Weights, fill, read_weights
from metaevents.archive.reader import Archive
from metaevents.datasets import ComposedDataset, load
from metaevents.episodes import EpisodeLoader
from metaevents.errors import MetaeventsError, MissingError, UsageError
from metaevents.files import PathLike, write_atomic

logger = logging.getLogger(__name__)


class TrainingError(MetaeventsError, ArithmeticError):
    """A run that cannot take its next step: the loss is no number, or a GPU's memory does not hold a task."""


class Stopped(KeyboardInterrupt):
    """A run that was interrupted and stands at a checkpoint."""


@dataclass(frozen=True)
class Group:
    """The processes of a run; rank r takes tasks r, r + size, ..."""

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> range:
        return range(self.rank, n, self.size)

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()

    def agree(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.size == 1:
            return flag
        said = torch.tensor(
            float(flag), device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        )
        torch.distributed.all_reduce(said)
        return bool(said)


class TrainingRun:
    """One training run in its folder.

    Args:
        config: what to train; None takes that of the folder.
        archive: the archive to train on (its train split) and to choose on (its val split).
        out: the run's folder.
        start_from: weights whose body the run starts from; their past becomes part of this run's.
        resume: go on with the run in the folder, if there is one.
        device: "auto" takes a GPU if there is one.
        progress: a progress bar; None shows it on a terminal.
        tensorboard: write scalars for TensorBoard into the folder.

    Raises:
        UsageError: the folder holds a run and `resume` is not given, or another one; the archive does not fit.
    """

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
        self.out = Path(out).expanduser()
        self._last, self._state_file = self.out / "last", self.out / "last" / "state.json"
        there = self._state_file.is_file()
        if there and not resume:
            raise UsageError(
                f"{self.out} holds a run; give --resume to go on with it, or another folder"
            )
        saved = self.out / "config.json"
        if there and saved.is_file():
            before = RunConfig.from_dict(json.loads(saved.read_text("utf-8")))
            if config is not None and config != before:
                told, now = config.to_dict(), before.to_dict()
                field = next(name for name in told if told[name] != now[name])
                raise UsageError(
                    f"{self.out} was started with {field}={now[field]!r} and is to go on with {told[field]!r}; leave the "
                    "options as they were, or give another folder"
                )
            config = before
        if config is None:
            raise MissingError(f"no run in {self.out} to go on with; name a model to train")
        self.config, self._progress = config, progress
        self.train, self.val = (self._split(archive, split) for split in ("train", "val"))
        self.device = pick_device(device)
        self.group = Group()
        self._objective: Objective = OBJECTIVES[config.kind.method](config, self.train, self.device)
        self._val = EpisodeLoader(
            self.val, val_ways(self.val, config), config.shots, _fitting_queries(self.val, config), episodes=config.val_episodes,
            seed=config.seed + 1, representation=self._objective.learner.representation,
        )  # fmt: skip
        self._optimizer, self._schedule = adam_cosine(
            self._objective.module.parameters(), config.lr, config.steps, config.min_lr_ratio
        )
        self.record = Record.of(self.train, self.val)
        self.step, self.best = 0, {"step": -1, "accuracy": -1.0}
        self._lines: list[dict[str, Any]] = []
        self._tensorboard = _scalars(self.out) if tensorboard else None
        if there:
            self._restore()
        else:
            self._begin(start_from)

    def _split(self, archive: PathLike, split: str) -> ComposedDataset:
        return load(
            self.config.dataset,
            archive,
            split,
            pairing=self.config.pairing,
            classes=self.config.classes,
        )

    @property
    def learner(self) -> MAML | Transfer:
        """The learner with the weights of the moment."""
        return self._objective.learner

    def run(self) -> Path:
        """Train to the last step; returns the file with the best weights.

        Raises:
            TrainingError: the loss is no number, or a GPU's memory too small; the last good checkpoint stays.
            Stopped: the user interrupted it; it stands at a checkpoint.
        """
        from tqdm import tqdm

        with _group(self.device) as self.group, _interrupts() as interrupted, self._alone():
            self.group.wait()  # until all have looked into the folder
            if self.group.rank == 0:
                self._prepare_folder()
            hidden = (
                True if self.group.rank else None if self._progress is None else not self._progress
            )
            bar = tqdm(
                total=self.config.steps,
                initial=self.step,
                desc=self.config.model,
                unit="step",
                disable=hidden,
            )
            began, losses, accuracies = time.perf_counter(), [], []
            with bar, self._in_memory():
                while self.step < self.config.steps:
                    loss, accuracy = self._take_step()
                    losses.append(loss)
                    accuracies.append(accuracy)
                    bar.update()
                    bar.set_postfix(
                        loss=f"{fmean(losses[-50:]):.3f}",
                        accuracy=f"{fmean(accuracies[-50:]):.1%}",
                        refresh=False,
                    )
                    done = self.step == self.config.steps
                    if done or self.step % self.config.val_every == 0:
                        line = {
                            "loss": fmean(losses),
                            "accuracy": fmean(accuracies),
                            "seconds": time.perf_counter() - began,
                        }
                        self._validate(line)
                        self._checkpoint()
                        began, losses, accuracies = time.perf_counter(), [], []
                    elif self.group.agree(bool(interrupted)):
                        self._checkpoint()
                    if not done and self.group.agree(bool(interrupted)):
                        raise Stopped(
                            f"stopped at the checkpoint of step {self.step} of {self.config.steps} in {self.out}; the same "
                            "command with --resume goes on"
                        )
            self.group.wait()  # until the first has written
        return self.out / "best.safetensors"

    def _take_step(self) -> tuple[float, float]:
        objective, group = self._objective, self.group
        self._optimizer.zero_grad()
        parameters = list(objective.module.parameters())
        loss = accuracy = torch.zeros((), device=self.device)
        share = group.share(objective.samples)
        if share:
            with self._precision():
                loss, accuracy = objective.accumulate(self.step, share)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        told = torch.stack([loss.float(), accuracy.float()])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        group.sum([*gradients, told])
        for gradient in gradients:
            gradient.div_(objective.samples)
        mean_loss, mean_accuracy = (told / objective.samples).tolist()
        if not math.isfinite(mean_loss) or not all(
            bool(gradient.isfinite().all()) for gradient in gradients
        ):
            raise TrainingError(self._not_a_number())
        self._optimizer.step()
        self._schedule.step()
        self.step += 1
        return mean_loss, mean_accuracy

    def _not_a_number(self) -> str:
        return (
            f"the loss or a gradient of step {self.step + 1} is no number (rate {self._schedule.get_last_lr()[0]:.2g}, "
            f"inner rate {self.config.inner_lr:g}); {self._what_is_kept()}; train again with a smaller --lr or --inner-lr"
        )

    @contextmanager
    def _in_memory(self) -> Iterator[None]:
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            smaller = "--batch-size" if self.config.kind.method == "transfer" else "--queries"
            raise TrainingError(
                f"after step {self.step} training needs more memory than {self.device} has left; {self._what_is_kept()}; close "
                f"what else uses it, or train with a smaller {smaller} or --device cpu"
            ) from None

    def _what_is_kept(self) -> str:
        if not self._state_file.is_file():
            return "no checkpoint is kept"
        return f"the checkpoint of step {self._kept()} in {self._last} is good"

    def _kept(self) -> int:
        return int(json.loads(self._state_file.read_text("utf-8"))["step"])

    def _precision(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _validate(self, line: dict[str, Any]) -> None:
        accuracies = torch.zeros(self.config.val_episodes, dtype=torch.float64)
        for index in self.group.share(len(self._val)):
            episode = self._val[index]
            with self._precision():
                classifier = self.learner.adapt(
                    episode.support_x, episode.support_y, self.config.ways
                )
                told = classifier(episode.query_x).argmax(-1).cpu()
            accuracies[index] = (told == episode.query_y).double().mean()
        self._sum_on_device(accuracies)
        values = accuracies.tolist()
        interval = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        figures = {"val_accuracy": fmean(values), "val_ci95": interval, **self._objective.measure()}
        self._lines.append(
            {"step": self.step, **line, **figures, "lr": self._optimizer.param_groups[0]["lr"]}
        )
        logger.info("step %d: %s", self.step, self._lines[-1])
        if self._tensorboard is not None and self.group.rank == 0:
            for name, value in self._lines[-1].items():
                self._tensorboard.add_scalar(name, value, self.step)
            self._tensorboard.flush()
        if figures["val_accuracy"] > self.best["accuracy"]:
            self.best = {"step": self.step, "accuracy": figures["val_accuracy"]}
            if self.group.rank == 0:
                measured = {name: figures[name] for name in figures if math.isfinite(figures[name])}
                record = replace(self.record, step=self.step, measured=measured)
                Weights(self._objective.module.state_dict(), self.config, record).save(
                    self.out / "best.safetensors"
                )

    def _sum_on_device(self, values: Tensor) -> None:
        moved_there = values.to(
            self.device if self.group.size > 1 and self.device.type == "cuda" else "cpu"
        )
        self.group.sum([moved_there])
        values.copy_(moved_there)

    # --- the folder ------------------------------------------------------------------------------------------------------------

    def _begin(self, start_from: PathLike | None) -> None:
        generator = torch.Generator().manual_seed(self.config.seed)
        net = self._objective.learner.net
        lsuv_init(net, self._objective.batch(), generator=generator)
        if start_from is None:
            return
        path = Path(start_from).expanduser()
        path = path / "best.safetensors" if path.is_dir() else path
        weights = read_weights(path)
        if weights.record.dataset != self.record.dataset:
            raise UsageError(
                f"{path} was trained on {weights.record.dataset}, this run is on {self.record.dataset}"
            )
        body = {
            name.removeprefix("net."): value
            for name, value in weights.tensors.items()
            if "body." in name
        }
        own = net.state_dict()
        unlike = [
            name
            for name in {**own, **body}
            if "body." in name and _shape(body, name) != _shape(own, name)
        ]
        if unlike:
            raise UsageError(
                f"{path} is of another architecture: {unlike[0]} is {_shape(body, unlike[0])} there and {_shape(own, unlike[0])} "
                "here; start from weights of the same network"
            )
        for side in (
            self.val,
            load(self.config.dataset, self.train.archive.path, "test", classes=self.config.classes),
        ):
            seen = weights.record.trained.classes
            if weights.record.simulated == self.record.simulated and set(seen) & set(side.classes):
                raise UsageError(
                    f"{path} was trained on classes of the {side.split} split; start from weights trained on classes="
                    f"{self.config.classes!r}"
                )
        # The body comes from there; the last layer starts from nothing, alike for all classes.
        net.load_state_dict({**own, **body})
        nn.init.zeros_(net.head["weight"])
        nn.init.zeros_(net.head["bias"])
        past = weights.record
        self.record = replace(
            self.record,
            trained=self.record.trained | past.trained,
            chosen=self.record.chosen | past.chosen,
        )

    def _prepare_folder(self) -> None:
        self._last.mkdir(parents=True, exist_ok=True)
        write_atomic(
            self.out / "config.json", json.dumps(self.config.to_dict(), indent=1).encode() + b"\n"
        )
        if not self._state_file.is_file():
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.group.rank:
            return
        import io

        stem = f"step-{self.step:07d}"
        record = replace(self.record, step=self.step)
        Weights(self._objective.module.state_dict(), self.config, record).save(
            self._last / f"{stem}.safetensors"
        )
        buffer = io.BytesIO()
        torch.save(
            {"adam": self._optimizer.state_dict(), "schedule": self._schedule.state_dict()}, buffer
        )
        write_atomic(self._last / f"{stem}.optimizer.pt", buffer.getvalue())
        lines = "".join(json.dumps(line) + "\n" for line in self._lines)
        write_atomic(self.out / "log.jsonl", lines.encode())
        state = {"step": self.step, "files": stem, "best": self.best, "log": self._lines}
        write_atomic(self._state_file, json.dumps(state).encode())
        for old in self._last.glob("step-*"):
            if not old.name.startswith(stem):
                old.unlink(missing_ok=True)

    def _restore(self) -> None:
        state = json.loads(self._state_file.read_text("utf-8"))
        path = self._last / f"{state['files']}.safetensors"
        weights = read_weights(path)
        if weights.record.fingerprint != self.record.fingerprint:
            raise UsageError(
                f"{self.out} was trained on an archive with the fingerprint {weights.record.fingerprint[:16]}..., this one has "
                f"{self.record.fingerprint[:16]}...; give the archive that it was started on"
            )
        fill(self._objective.module, weights, path)
        self.record = weights.record
        saved = torch.load(
            self._last / f"{state['files']}.optimizer.pt", weights_only=True, map_location="cpu"
        )
        self._optimizer.load_state_dict(saved["adam"])
        self._schedule.load_state_dict(saved["schedule"])
        self.step, self.best, self._lines = state["step"], state["best"], state["log"]
        # A best checkpoint that is newer than the state was written just before a kill; it will be written again.

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One run at a time in a folder."""
        if self.group.rank:
            yield
            return
        from filelock import FileLock, Timeout

        self.out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.out / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"another process is training in {self.out}; wait for it, or give another folder"
            ) from None
        try:
            yield
        finally:
            lock.release()


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU where there is one (under torchrun, this process's own), else the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        name = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(
            f"no device {name!r} here; give auto, cpu, or a GPU that is there"
        ) from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def archive_dataset(archive: PathLike) -> str:
    """The dataset of an archive file, or of the only archive in a folder."""
    path = Path(archive).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.h5"))
        if len(files) != 1:
            raise UsageError(f"{path} holds {len(files)} archives; give the file")
        path = files[0]
    return Archive(path).dataset


def _shape(tensors: dict[str, Tensor], name: str) -> str:
    return str(list(tensors[name].shape)) if name in tensors else "absent"


def val_ways(dataset: ComposedDataset, config: RunConfig) -> int:
    """The ways of validation episodes: those of training, or the split's classes where these are fewer."""
    if config.ways > len(dataset):
        logger.warning(
            "validation has %d ways, not %d, as its split has no more classes; outputs left over count as wrong",
            len(dataset), config.ways,
        )  # fmt: skip
    return min(config.ways, len(dataset))


def _fitting_queries(dataset: ComposedDataset, config: RunConfig) -> int:
    """As many queries as training has, or fewer where the validation split has fewer recordings."""
    for queries in range(config.queries, 0, -1):
        try:
            EpisodeLoader(dataset, val_ways(dataset, config), config.shots, queries)
        except UsageError:
            if queries == 1:
                raise
        else:
            return queries
    raise AssertionError


def _scalars(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard needs the package tensorboard; `pip install tensorboard`"
        ) from None
    return SummaryWriter(str(out / "tensorboard"))


@contextmanager
def _group(device: torch.device) -> Iterator[Group]:
    """The processes that `torchrun` started, or this one alone."""
    import torch.distributed as dist

    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_available():
        yield Group()
        return
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        if ours:
            dist.destroy_process_group()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C (and a polite kill) noted for the end of the step; a second one interrupts at once."""
    noted: list[int] = []

    def note(number: int, _: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        yield noted
        return
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    config: RunConfig,
    archive: PathLike,
    out: PathLike,
    *,
    start_from: PathLike | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Train from beginning to end: pre-training first, where the configuration asks for it and `start_from` gives nothing else.

    Args:
        config, archive, out, start_from: see `Run`.
        options: resume, device, progress, tensorboard; see `Run`.

    Returns:
        The weights file, and its step and validation accuracy; None in all processes but the first.
    """
    with _group(pick_device(options.get("device", "auto"))):
        if config.pretrain_steps and start_from is None:
            start_from = Path(out).expanduser() / "pretrain"
            if not (Path(out).expanduser() / "last" / "state.json").is_file():
                TrainingRun(config.pretraining, archive, start_from, **options).run()
        run = TrainingRun(config, archive, out, start_from=start_from, **options)
        weights = run.run()
    if run.group.rank:
        return None
    return {"weights": str(weights), "step": run.best["step"], "val_accuracy": run.best["accuracy"]}
