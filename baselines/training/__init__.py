"""Training runs: objectives, the training step, the loop, validation, and the run's folder.

`train` trains from beginning to end; `python -m baselines train` calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.training.loop import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    """Import `train` when it is first used, since it needs torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from baselines.training.loop import train

    return train
