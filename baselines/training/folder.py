"""The folder of a training run: configuration, log, weights and checkpoints.

    config.json                      the configuration
    log.jsonl                        one line per validation
    best.safetensors                 weights of the best validation: the result of the run
    last/                            the newest checkpoint
        step-0000250.safetensors     weights
        step-0000250.optimizer.pt    state of the optimizer and of its schedule
        state.json                   names the two files above

Every file is written atomically and `state.json` last, so a run that is killed at any moment can
continue from the newest complete checkpoint.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from baselines.config import RunConfig
from baselines.weights_file import BEST_WEIGHTS, Weights, read_weights
from metaevents.arguments import finite_number, whole_number
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike, exclusive_lock, user_path, write_atomic
from metaevents.untrusted import describe, parse_json, read_bytes

_LOG = "log.jsonl"

_MAX_TEXT = 1 << 26  # bytes of a configuration, a state or a log
_MAX_OPTIMIZER = 1 << 32  # bytes

Value = TypeVar("Value")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after some step.

    Attributes:
        weights: The parameters; their record holds the number of the step.
        optimizer: State of the optimizer ("adam") and of its schedule ("schedule"). What is read
            from a file is checked by the run, which has the parameters.
        best: Step and accuracy of the best validation so far.
        log: All lines of the log so far.
    """

    weights: Weights
    optimizer: Mapping[str, Any]
    best: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]


class RunFolder:
    """The files of one training run.

    Args:
        path: The folder, which need not exist.

    Attributes:
        path: The folder.
        best: The file with the weights of the best validation.
        checkpoints: The folder of the newest checkpoint.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = user_path(path).absolute()
        self.best = self.path / BEST_WEIGHTS
        self.checkpoints = self.path / "last"
        self._config_file = self.path / "config.json"
        self._state_file = self.checkpoints / "state.json"

    @property
    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return self._state_file.is_file()

    def choose_config(self, config: RunConfig | None, resume: bool) -> RunConfig:
        """Return the configuration to train with.

        Args:
            config: The configuration that was asked for; None takes that of the folder.
            resume: Whether to continue a run that the folder holds.

        Raises:
            UsageError: The folder holds a run, and `resume` is False or the configurations differ;
                or the saved configuration is damaged.
            MissingError: `config` is None and the folder holds no run.
        """
        if self.holds_run and not resume:
            raise UsageError(
                f"{self.path} holds a run; give --resume to continue it, or another folder"
            )
        if self.holds_run and self._config_file.is_file():
            saved = _read(self._config_file, lambda data: RunConfig.from_dict(_json(data)))
            if config is not None and config != saved:
                new, old = config.to_dict(), saved.to_dict()
                field = next(name for name in new if new[name] != old[name])
                raise UsageError(
                    f"{self.path} was started with {field}={old[field]!r} and cannot continue with "
                    f"{field}={new[field]!r}; keep the options, or give another folder"
                )
            return saved
        if config is None:
            raise MissingError(f"no run in {self.path}; name a model to train")
        return config

    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder against other training processes.

        Raises:
            UsageError: Another process is training here.
        """
        return exclusive_lock(
            self.checkpoints,
            wait=False,
            waiting=f"another process is training in {self.path}; wait until it ends, or give "
            "another folder",
        )

    def prepare(self, config: RunConfig) -> None:
        """Make the folder and write the configuration."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_atomic(self._config_file, json.dumps(config.to_dict(), indent=1) + "\n")

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and the log, and remove the previous checkpoint."""
        step = checkpoint.weights.record.step
        stem = f"step-{step:07d}"
        checkpoint.weights.save(self.checkpoints / f"{stem}.safetensors")
        buffer = io.BytesIO()
        torch.save(dict(checkpoint.optimizer), buffer)
        write_atomic(self.checkpoints / f"{stem}.optimizer.pt", buffer.getvalue())
        write_atomic(self.path / _LOG, "".join(json.dumps(line) + "\n" for line in checkpoint.log))
        state = {
            "step": step,
            "files": stem,
            "best": checkpoint.best,
            "log": list(checkpoint.log),
        }
        write_atomic(self._state_file, json.dumps(state))
        for old in self.checkpoints.glob("step-*"):
            if not old.name.startswith(stem):
                old.unlink(missing_ok=True)

    def load_checkpoint(self) -> Checkpoint:
        """Return the newest complete checkpoint; its tensors are on the CPU.

        Raises:
            MissingError: A file of it is missing.
            UsageError: A file of it is damaged, or is of another step.
        """
        state = _read(self._state_file, _state)
        stem = self.checkpoints / state["files"]
        weights = read_weights(f"{stem}.safetensors")
        if weights.record.step != state["step"]:
            raise UsageError(
                f"{stem}.safetensors has the weights of step {weights.record.step}, and "
                f"{self._state_file} says {state['step']}; {_ADVICE}"
            )
        return Checkpoint(
            weights=weights,
            optimizer=_read(Path(f"{stem}.optimizer.pt"), _optimizer, _MAX_OPTIMIZER),
            best=state["best"],
            log=state["log"],
        )

    def checkpoint_step(self) -> int | None:
        """Return the step of the newest checkpoint, or None if there is none.

        Raises:
            UsageError: The file that names it is damaged.
        """
        if not self.holds_run:
            return None
        return int(_read(self._state_file, _state)["step"])


def learning_curve(folder: PathLike) -> list[dict[str, float]]:
    """Return the lines of a run's log, one per validation.

    Args:
        folder: The run's folder.

    Returns:
        For each validation the step, loss, accuracy, val_accuracy, val_ci95, val_episode_ci95,
        seconds, lr, and for pre-training held_out_accuracy.

    Raises:
        MissingError: The folder holds no log.
        UsageError: The log is damaged.
    """
    path = user_path(folder) / _LOG
    if not path.is_file():
        raise MissingError(f"no run in {folder}; train one first")
    return _read(path, lambda data: [_figures(_json(line)) for line in data.splitlines()])


# --- reading files, which may be damaged ----------------------------------------------------------

_ADVICE = "restore the folder from a copy, or train in another folder"


def _read(path: Path, parse: Callable[[bytes], Value], most: int = _MAX_TEXT) -> Value:
    """Return what a file of a run holds.

    Args:
        path: The file.
        parse: Makes the value from the content of the file. It may raise anything.
        most: Largest number of bytes.

    Raises:
        MissingError: There is no such file.
        UsageError: The file is too large, or `parse` failed.
    """
    content = read_bytes(path, most, "file of the run", _ADVICE)
    try:
        return parse(content)
    except Exception as error:  # whatever damage leads to
        reason = f"no field {error}" if isinstance(error, KeyError) else describe(error)
        raise UsageError(f"{path} is damaged ({reason}); {_ADVICE}") from error


def _json(content: bytes) -> Any:
    """Return the value of a JSON document."""
    return parse_json(content.decode("utf-8"))


def _figures(line: Any) -> dict[str, float]:
    """Return a line of the log: an object of finite numbers."""
    if not isinstance(line, dict) or "step" not in line:
        raise ValueError("a line of the log is no object with a step")
    whole_number("step", line["step"], least=0)
    for name, value in line.items():
        finite_number(name, value)
    return line


def _state(content: bytes) -> dict[str, Any]:
    """Return the content of `state.json`."""
    state = _json(content)
    step = whole_number("step", state["step"], least=0)
    if state["files"] != f"step-{step:07d}":
        raise ValueError(f"the files of step {step} are not {str(state['files'])[:60]!r}")
    best = state["best"]
    whole_number("best.step", best["step"], least=-1, most=step)
    finite_number("best.accuracy", best["accuracy"], least=-1, most=1)
    log = state["log"]
    if not isinstance(log, list) or not isinstance(best, dict):
        raise ValueError("its log is no list, or its best is no object")
    return {"step": step, "files": state["files"], "best": best, "log": list(map(_figures, log))}


def _optimizer(content: bytes) -> dict[str, Any]:
    """Return the content of `*.optimizer.pt`: plain values and tensors, no other object."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it has a compressed member, which torch does not write")
        if (member := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {member} is wrong")
    state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return {"adam": state["adam"], "schedule": state["schedule"]}
