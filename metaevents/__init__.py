"""Few-shot learning on event cameras: Double N-MNIST, Double ASL-DVS and N-Omniglot.

Archives of recordings, reproducible episodes, an evaluation and a leaderboard:

    import metaevents as me

    dataset = me.DoubleNMNIST("data", split="test")
    for episode in me.EpisodeLoader(dataset, ways=5, shots=1, queries=15, episodes=600):
        ...

The public names below and the submodules are imported at their first use, so that
`import metaevents` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metaevents._version import __version__ as __version__

if TYPE_CHECKING:
    from metaevents.archive.reader import Archive
    from metaevents.benchmark import Report, evaluate
    from metaevents.composition import compose
    from metaevents.datasets import ComposedDataset, DoubleASLDVS, DoubleNMNIST, NOmniglot, load
    from metaevents.episodes import Episode, EpisodeLoader
    from metaevents.errors import (
        ArchiveError,
        FetchError,
        MetaeventsError,
        MissingError,
        RecordingError,
        UsageError,
    )

__all__ = [  # noqa: RUF022  in the order in which a user needs them
    "DoubleNMNIST",
    "DoubleASLDVS",
    "NOmniglot",
    "load",
    "compose",
    "EpisodeLoader",
    "Episode",
    "evaluate",
    "Report",
    "Archive",
    "ComposedDataset",
    "MetaeventsError",
    "UsageError",
    "MissingError",
    "ArchiveError",
    "RecordingError",
    "FetchError",
]

_MODULE_OF = {
    "DoubleNMNIST": "datasets",
    "DoubleASLDVS": "datasets",
    "NOmniglot": "datasets",
    "load": "datasets",
    "compose": "composition",
    "EpisodeLoader": "episodes",
    "Episode": "episodes",
    "evaluate": "benchmark",
    "Report": "benchmark",
    "Archive": "archive.reader",
    "ComposedDataset": "datasets",
    "MetaeventsError": "errors",
    "UsageError": "errors",
    "MissingError": "errors",
    "ArchiveError": "errors",
    "RecordingError": "errors",
    "FetchError": "errors",
}

_SUBMODULES = (
    "archive",
    "archive_info",
    "arguments",
    "augmentation",
    "benchmark",
    "building",
    "cache",
    "class_splits",
    "classification",
    "cli",
    "component_deals",
    "composition",
    "custom_rules",
    "dataset_card",
    "datasets",
    "device_frames",
    "distributed",
    "download",
    "episodes",
    "errors",
    "events",
    "files",
    "frames",
    "generated_files",
    "global_state",
    "hashing",
    "hub_metadata",
    "json_schema",
    "quickstart",
    "recording_pools",
    "rng",
    "sampling",
    "show",
    "simulation",
    "sources",
    "specs",
    "untrusted",
    "workers",
)


def __getattr__(name: str) -> Any:
    """Import a public name or a submodule at its first use."""
    if name in _MODULE_OF:
        return getattr(import_module(f"metaevents.{_MODULE_OF[name]}"), name)
    if name in _SUBMODULES:
        return import_module(f"metaevents.{name}")
    raise AttributeError(f"module 'metaevents' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names and the submodules, imported or not."""
    return sorted({*globals(), *_MODULE_OF, *_SUBMODULES})
