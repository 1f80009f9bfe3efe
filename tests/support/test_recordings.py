"""The helpers that write recordings write what other readers read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from support.recordings import nmnist_bytes, random_events


def test_nmnist_bytes_are_what_tonic_reads(tmp_path: Path) -> None:
    from tonic.io import events_struct, read_mnist_file

    events = random_events(9, 300)
    (tmp_path / "x.bin").write_bytes(nmnist_bytes(events))
    assert np.array_equal(
        read_mnist_file(os.fspath(tmp_path / "x.bin"), dtype=events_struct), events
    )
