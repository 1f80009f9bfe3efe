"""Training runs: steps, validation, checkpoints, and going on where a run stopped.

A run lives in a folder: `config.json`, `log.jsonl` (a line for every validation), `best.safetensors` (the weights of the best
validation, which is what counts) and `last/` with the newest checkpoint: weights, optimizer state and a `state.json` that
names them and is replaced last. Everything drawn at random follows from the seed and the number of the step, so a run that
is killed goes on bit for bit as if it had not been.

Started by `torchrun`, the tasks (or samples) of every step are shared among the processes and gradients summed.
"""

from __future__ import annotations

import json
from pathlib import Path

from metaevents.errors import MissingError
from metaevents.files import PathLike


def learning_curve(out: PathLike) -> list[dict[str, float]]:
    """The lines of a run's log: step, loss, accuracy, val_accuracy, val_ci95, seconds ..."""
    path = Path(out).expanduser() / "log.jsonl"
    if not path.is_file():
        raise MissingError(f"no run in {out}; train one first")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
