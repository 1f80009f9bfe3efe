"""Weights that were never trained, with the record of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import metaevents as me
from baselines.config import recipe
from baselines.models import build_maml, build_network
from baselines.provenance import Record
from baselines.weights_file import Weights

CONFIG = recipe("cnn-maml", "paper", channels=(4, 4, 8))


def untrained_weights(archive: Path, classes: str = "published", **changes: Any) -> Weights:
    """Weights with the record of a training on an archive; `changes` are fields of the record."""
    train, val = (
        me.load("double-nmnist", archive, split, classes=classes) for split in ("train", "val")
    )
    record = replace(Record.of(train, val), **changes)
    net = build_network(CONFIG, record.frame_shape)
    return Weights(build_maml(CONFIG, net).state_dict(), CONFIG, record)
