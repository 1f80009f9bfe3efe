"""The HDF5 archive: its format, its writer and its reader."""

from metaevents.archive.reader import Archive
from metaevents.archive.writer import ArchiveHeader, build

__all__ = ["Archive", "ArchiveHeader", "build"]
