"""The benchmark: protocols, evaluation, prediction files, baselines, entries and the leaderboard.

    report = me.evaluate(learner, ds, protocol="5way-1shot")
    report.save_predictions("predictions.npz")
    report.save("entry.json", name="My method", ...)

Names are imported on first use, as in the package `metaevents` itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaevents.benchmark.deals import OverDeals, over_deals
    from metaevents.benchmark.evaluation import evaluate
    from metaevents.benchmark.predictions import Predictions
    from metaevents.benchmark.protocols import Protocol
    from metaevents.benchmark.report import Report, over_training_seeds
    from metaevents.benchmark.scoring import Score, score

_HOME = {
    "OverDeals": "deals",
    "Predictions": "predictions",
    "Protocol": "protocols",
    "Report": "report",
    "Score": "scoring",
    "evaluate": "evaluation",
    "over_deals": "deals",
    "over_training_seeds": "report",
    "score": "scoring",
}

__all__ = [
    "OverDeals",
    "Predictions",
    "Protocol",
    "Report",
    "Score",
    "evaluate",
    "over_deals",
    "over_training_seeds",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"metaevents.benchmark.{_HOME[name]}"), name)
    raise AttributeError(f"module 'metaevents.benchmark' has no attribute {name!r}")
