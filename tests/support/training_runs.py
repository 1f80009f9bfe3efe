"""Small training runs: configurations, command lines, child processes, comparisons."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from baselines.config import RunConfig, recipe
from baselines.training.folder import learning_curve

ROOT = Path(__file__).parents[2]

SMALL: dict[str, Any] = {
    "channels": (4, 4, 8),
    "time_stride": 10,
    "burn_in": 50,
    "steps": 6,
    "val_every": 2,
    "val_episodes": 3,
    "queries": 3,
    "meta_batch_size": 2,
    "pretrain_steps": 0,
    "batch_size": 8,
}


def small(model: str = "snn-maml", **changes: Any) -> RunConfig:
    """A configuration that trains in seconds."""
    return recipe(model, "paper", **{**SMALL, **changes})


def train_words(
    archive: Path, out: Path, *options: str, model: str = "snn-maml", **changes: Any
) -> list[str]:
    """The words after `python -m baselines` that train such a configuration."""
    words = ["train", model, "--recipe", "paper", "--archive", str(archive), "--out", str(out)]
    for name, value in {**SMALL, **changes}.items():
        values = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
        words += [f"--{name.replace('_', '-')}", *values]
    return [*words, *options]


def python_words(*words: str) -> list[str]:
    """The command line of `python -m baselines`."""
    return [sys.executable, "-m", "baselines", *words]


def environment() -> dict[str, str]:
    """The environment of child processes: one thread, no GPU, this repository."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
    }


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start `python -m baselines WORDS`."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        python_words(*words), stdout=pipe, stderr=pipe, text=True, env=environment()
    )


def complete(words: list[str]) -> None:
    """Run `python -m baselines WORDS`, which must succeed."""
    subprocess.run(python_words(*words), check=True, capture_output=True, env=environment())


def wait_for(path: Path, process: subprocess.Popen[str], text: str = "") -> None:
    """Wait until a file exists and holds some text."""
    deadline = time.monotonic() + 120
    while not (path.is_file() and text in path.read_text("utf-8")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def same_weights(a: Path, b: Path) -> bool:
    """Whether two weights files hold the same tensors, bit for bit."""
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def without_time(out: Path) -> list[dict[str, float]]:
    """The learning curve of a run without the times that it took."""
    return [
        {name: value for name, value in line.items() if name != "seconds"}
        for line in learning_curve(out)
    ]
