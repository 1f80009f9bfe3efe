"""Few-shot learning on event cameras: Double N-MNIST and Double ASL-DVS as archives, episodes and a leaderboard.

    import metaevents as me
    ds = me.DoubleNMNIST("data", split="test")
    for episode in me.EpisodeLoader(ds, ways=5, shots=1, queries=15, episodes=600): ...

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metaevents._version import __version__ as __version__

if TYPE_CHECKING:
    from metaevents.archive.reader import Archive
    from metaevents.benchmark import Report, evaluate
    from metaevents.composition import compose
    from metaevents.datasets import ComposedDataset, DoubleASLDVS, DoubleDataset, DoubleNMNIST, load
    from metaevents.episodes import Episode, EpisodeLoader
    from metaevents.errors import (
        ArchiveError,
        FetchError,
        MetaeventsError,
        MissingError,
        RecordingError,
        UsageError,
    )

_HOME = {
    "Archive": "archive",
    "ComposedDataset": "datasets",
    "DoubleASLDVS": "datasets",
    "DoubleDataset": "datasets",
    "DoubleNMNIST": "datasets",
    "compose": "composition",
    "load": "datasets",
    "Episode": "episodes",
    "EpisodeLoader": "episodes",
    "Report": "benchmark",
    "evaluate": "benchmark",
    "ArchiveError": "errors",
    "FetchError": "errors",
    "MetaeventsError": "errors",
    "MissingError": "errors",
    "RecordingError": "errors",
    "UsageError": "errors",
}

__all__ = [  # noqa: RUF022  in the order in which a user meets them
    "DoubleNMNIST",
    "DoubleASLDVS",
    "load",
    "compose",
    "EpisodeLoader",
    "Episode",
    "evaluate",
    "Report",
    "Archive",
    "ComposedDataset",
    "DoubleDataset",
    "MetaeventsError",
    "UsageError",
    "MissingError",
    "ArchiveError",
    "RecordingError",
    "FetchError",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"metaevents.{_HOME[name]}"), name)
    try:
        return import_module(f"metaevents.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"metaevents.{name}":
            raise
        raise AttributeError(f"module 'metaevents' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
