"""Reference models for metaevents: MAML, first-order MAML, REPTILE, transfer, component matching.

After Stewart and Neftci 2022, "Meta-learning spiking neural networks with surrogate gradient
descent", doi 10.1088/2634-4386/ac8828. `load` returns a trained model as a learner for
`metaevents.evaluate`; `python -m baselines` trains, evaluates and reproduces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.learners import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is first used, since it needs torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from baselines.learners import load

    return load
