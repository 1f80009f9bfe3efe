"""Weights that know their past: safetensors files that carry their configuration and what they were trained and chosen on.

A `Record` says which classes and recordings were seen; `Record.overlap` says which of a test are among them. Files are
written aside and renamed. When weights are written is for `training`, what learns with them for `learners`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from baselines.config import RunConfig
from baselines.provenance import Record
from metaevents._version import __version__
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike, write_atomic

FORMAT = "metaevents-baseline"

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Weights:
    """Parameters by name, and where they come from."""

    tensors: Mapping[str, Tensor]
    config: RunConfig
    record: Record

    def save(self, path: Path) -> None:
        from safetensors.torch import save

        metadata = {
            "format": FORMAT, "format_version": str(FORMAT_VERSION), "metaevents": __version__,
            "config": json.dumps(self.config.to_dict()), "record": json.dumps(self.record.to_dict()),
        }  # fmt: skip
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        write_atomic(path, save(tensors, metadata))


def read_weights(path: PathLike) -> Weights:
    """Read a weights file.

    Raises:
        MissingError: no such file.
        UsageError: a file that is truncated, not one of ours, or of a newer release.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingError(
            f"no weights {path}; give a run's folder, a .safetensors file or the name of a baseline"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except SafetensorError as error:
        raise UsageError(
            f"{path} is no whole safetensors file ({error}); copy or train it again"
        ) from None
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path} has no record of its training; give weights that `python -m baselines train` wrote"
        )
    if int(metadata["format_version"]) > FORMAT_VERSION:
        raise UsageError(
            f"{path} was written by metaevents {metadata['metaevents']}; update this one ({__version__})"
        )
    config = RunConfig.from_dict(json.loads(metadata["config"]))
    return Weights(tensors, config, Record.from_dict(json.loads(metadata["record"])))


def fill(module: torch.nn.Module, weights: Weights, path: PathLike) -> None:
    """Put weights into a module.

    Raises:
        UsageError: weights of another architecture, with the first parameter that does not fit.
    """
    own = module.state_dict()
    for name in {**own, **weights.tensors}:
        have, need = (
            tuple(side[name].shape) if name in side else None for side in (weights.tensors, own)
        )
        if have != need:
            raise UsageError(
                f"{path} is of another architecture: {name} is {have or 'missing'} there and {need or 'absent'} in the "
                f"configured {weights.config.model}; use the configuration that it was trained with"
            )
    module.load_state_dict(dict(weights.tensors))
