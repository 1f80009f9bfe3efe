"""Labelled recordings on a user's disk, behind one small protocol.

`NMNIST` and `ASLDVS` read the official files; `metaevents.simulation` writes files of both forms, so that the same
readers run; `DatasetSource` wraps any dataset of (events, label) pairs, tonic's for instance. What becomes of recordings is
left to `metaevents.archive`.
"""

from metaevents.sources.asl_dvs import ASLDVS
from metaevents.sources.base import RecordingRef, Source
from metaevents.sources.dataset import DatasetSource
from metaevents.sources.nmnist import NMNIST

__all__ = ["ASLDVS", "NMNIST", "DatasetSource", "RecordingRef", "Source"]
