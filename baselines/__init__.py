"""Reference models for metaevents: SNN-MAML, its first-order form, CNN-MAML and transfer learning.

After Stewart and Neftci 2022, "Meta-learning spiking neural networks with surrogate gradient descent", doi
10.1088/2634-4386/ac8828. `load` gives a trained one; `python -m baselines` trains and scores them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.learners import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from baselines.learners import load

    return load
