"""Python programs in child processes: alone, or as two processes started by `torchrun`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` with the repository importable and torch on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def torchrun(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `torchrun WORDS` with two processes."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    return python(*launcher, *words, cwd=cwd)
