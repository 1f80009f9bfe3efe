"""The paper's tables and figures; `python -m baselines reproduce` runs them.

`names` lists the experiments, one module per table or figure defines them, `study` runs one of them
with trained `runs`, `accuracy` and the cache of results, `report` writes what it gives. `variants`
and `tuning` change a trained run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.experiments.plasticity import compare_rules
    from baselines.experiments.reproduction import EXPERIMENTS, reproduce
    from baselines.experiments.study import BUDGETS, Budget, Experiment, Study
    from baselines.experiments.variants import variant

_MODULES = {
    "BUDGETS": "study",
    "Budget": "study",
    "EXPERIMENTS": "reproduction",
    "Experiment": "study",
    "Study": "study",
    "compare_rules": "plasticity",
    "reproduce": "reproduction",
    "variant": "variants",
}

__all__ = [
    "BUDGETS",
    "EXPERIMENTS",
    "Budget",
    "Experiment",
    "Study",
    "compare_rules",
    "reproduce",
    "variant",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, since it needs torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
