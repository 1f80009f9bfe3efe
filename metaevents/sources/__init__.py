"""Labeled recordings on a user's disk, behind one small protocol.

`NMNIST`, `ASLDVS` and `NOmniglot` read the official files. `metaevents.simulation` writes files of
these forms, so the same readers read them. `DatasetSource` wraps any dataset of (events, label)
pairs, such as tonic's datasets. `metaevents.archive` stores the recordings of a source.
"""

from metaevents.sources.asl_dvs import ASLDVS
from metaevents.sources.base import RecordingRef, Source
from metaevents.sources.dataset import DatasetSource
from metaevents.sources.n_omniglot import NOmniglot
from metaevents.sources.nmnist import NMNIST

__all__ = ["ASLDVS", "NMNIST", "DatasetSource", "NOmniglot", "RecordingRef", "Source"]
