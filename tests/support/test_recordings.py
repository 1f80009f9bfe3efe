"""The helpers that write recordings write what other readers read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from support.packages import import_or_skip
from support.recordings import nmnist_bytes, random_events


def test_nmnist_bytes_are_what_tonic_reads(tmp_path: Path) -> None:
    tonic_io = import_or_skip("tonic.io", "pip install 'metaevents[tonic]'")
    events = random_events(9, 300)
    (tmp_path / "x.bin").write_bytes(nmnist_bytes(events))
    read = tonic_io.read_mnist_file(os.fspath(tmp_path / "x.bin"), dtype=tonic_io.events_struct)
    assert np.array_equal(read, events)
