"""Weights files with training provenance.

A weights file is a safetensors file whose metadata hold the configuration of the run and the record
of what the weights were trained on. When weights are written is left to `baselines.training`, what
learns with them to `baselines.learners`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.config import RunConfig
from baselines.inference_mode import leaves_inference_mode
from baselines.models import weight_shapes
from baselines.provenance import Record
from metaevents._version import __version__
from metaevents.errors import UsageError
from metaevents.files import PathLike, user_path, write_atomic
from metaevents.hashing import canonical_json
from metaevents.untrusted import describe, parse_json, read_bytes

FORMAT = "metaevents-baseline"

FORMAT_VERSION = 1

_MAX_FILE = 1 << 30  # bytes
_MAX_HEADER = 1 << 24  # bytes; a header of shipped weights has 8,000

BEST_WEIGHTS = "best.safetensors"
"""Name of the file with the best weights in a run's folder."""


@dataclass(frozen=True)
class Weights:
    """Parameters and where they come from.

    Attributes:
        tensors: Parameters by name.
        config: Configuration of the run.
        record: What they were trained and selected on.
    """

    tensors: Mapping[str, Tensor]
    config: RunConfig
    record: Record

    def digest(self) -> str:
        """Return the hex SHA-256 of parameters and configuration, which fix all predictions.

        The record does not count: a longer learning curve or another figure in it changes nothing.
        Fields of the configuration with their default do not count either, so that a release with
        a further field gives the same digest.
        """
        tensors = {name: value.detach().cpu() for name, value in self.tensors.items()}
        default = RunConfig()
        config = {
            name: value
            for name, value in self.config.to_dict().items()
            if getattr(self.config, name) != getattr(default, name)
        }
        return tensors_digest(tensors, json.dumps(config, sort_keys=True))

    def save(self, path: Path) -> None:
        """Write a weights file."""
        from safetensors.torch import save

        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "metaevents": __version__,
            "config": json.dumps(self.config.to_dict()),
            "record": json.dumps(self.record.to_dict()),
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        metadata["sha256"] = tensors_digest(tensors, metadata["config"], metadata["record"])
        write_atomic(path, save(tensors, metadata))


def tensors_digest(tensors: Mapping[str, Tensor], *texts: str) -> str:
    """Return the hex SHA-256 of tensors, with their names, types and shapes, and of texts.

    Args:
        tensors: Tensors on the CPU, by name.
        texts: What else the digest covers.
    """
    hasher = hashlib.sha256(canonical_json(texts))
    for name, value in sorted(tensors.items()):
        hasher.update(canonical_json([name, str(value.dtype), list(value.shape)]))
        hasher.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def weights_path(source: PathLike) -> Path:
    """Return the weights file of a run's folder, or the path itself if it is no folder."""
    path = user_path(source).absolute()
    return path / BEST_WEIGHTS if path.is_dir() else path


@leaves_inference_mode
def read_weights(path: PathLike) -> Weights:
    """Read a weights file from any source.

    The configuration and the record are checked, and the tensors have the shapes that follow from
    them. Memory and time are bounded by the size of the file.

    Args:
        path: The file.

    Returns:
        The weights, in float32 on the CPU; all are finite.

    Raises:
        MissingError: There is no such file.
        UsageError: The file is truncated or damaged, was not written by `python -m baselines`, or
            was written by a newer release.
    """
    path = user_path(path)
    content = read_bytes(
        path,
        _MAX_FILE,
        "weights",
        "give a run's folder, a .safetensors file or the name of a baseline",
    )
    try:
        header = _header(content)
    except Exception as error:  # whatever damage leads to
        raise _incomplete(path, error) from error
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path} has no record of its training; give weights that `python -m baselines train` "
            "wrote"
        )
    _check_version(path, metadata)
    try:
        config = RunConfig.from_dict(parse_json(metadata["config"]))
        record = Record.from_dict(parse_json(metadata["record"]))
        _check_tensors(header, config, record)
    except Exception as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else describe(error)
        raise UsageError(
            f"{path} does not fit its own description ({reason}); copy or train it again"
        ) from error
    tensors = _tensors(path, content)
    digest = tensors_digest(tensors, metadata["config"], metadata["record"])
    if metadata.get("sha256") != digest:
        raise UsageError(
            f"{path} has other numbers or another description than were written; copy or train it "
            "again"
        )
    return Weights(tensors, config, record)


def _header(content: bytes) -> dict[str, Any]:
    """Return the header of a safetensors file, or raise any exception."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(len(content) - 8, _MAX_HEADER):
        raise ValueError(f"its header states {size:,} bytes, the file has {len(content):,}")
    header = parse_json(content[8 : 8 + size].decode())
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


def _incomplete(path: Path, error: BaseException) -> UsageError:
    """Return the error for a file that is no safetensors file."""
    return UsageError(
        f"{path} is not a complete safetensors file ({describe(error)}); copy or train it again"
    )


def _check_version(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse a file of a newer release."""
    version = str(metadata.get("format_version"))
    if not version.isascii() or not version.isdigit() or len(version) > 9:
        raise UsageError(
            f"{path} has the format version {version[:60]!r}, expected {FORMAT_VERSION}; copy or "
            "train it again"
        )
    if int(version) > FORMAT_VERSION:
        raise UsageError(
            f"{path} was written by metaevents {str(metadata.get('metaevents'))[:60]}, which is "
            f"newer than this one ({__version__}); update metaevents"
        )


def _check_tensors(header: Mapping[str, Any], config: RunConfig, record: Record) -> None:
    """Raise ValueError unless the file's tensors are those of the configuration."""
    ways = None
    if config.kind.method != "maml":
        (ways,) = header["head.bias"]["shape"]
    expected = weight_shapes(config, record.frame_shape, ways)
    for name in sorted({*expected, *header}):
        shape = tuple(header[name]["shape"]) if name in header else "missing"
        if shape != expected.get(name):
            raise ValueError(
                f"{name[:60]} is {str(shape)[:60]}, the configured {config.model} has "
                f"{expected.get(name, 'no such tensor')}"
            )
        if header[name]["dtype"] != "F32":
            raise ValueError(f"{name} has the type {str(header[name]['dtype'])[:60]}, expected F32")


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file."""
    from safetensors.torch import load

    try:
        with torch.device("cpu"):
            tensors = load(content)
    except Exception as error:  # whatever damage leads to
        raise _incomplete(path, error) from error
    for name, values in tensors.items():
        if not bool(values.isfinite().all()):
            raise UsageError(
                f"{path} has numbers in {name} that are infinite or not a number; train it again"
            )
    return tensors


def fill(module: torch.nn.Module, weights: Weights, path: PathLike) -> None:
    """Put weights into a module.

    Args:
        module: Changed in place.
        weights: Tensors with the names and shapes of the module's.
        path: Where the weights come from, for the message.

    Raises:
        UsageError: The weights are of another architecture; names the first parameter that does not
            fit.
    """
    state = module.state_dict()
    for name in {**state, **weights.tensors}:
        actual, expected = (
            tuple(tensors[name].shape) if name in tensors else None
            for tensors in (weights.tensors, state)
        )
        if actual != expected:
            raise UsageError(
                f"{path} is of another architecture: {name} is {actual or 'missing'} there and "
                f"{expected or 'absent'} in the configured {weights.config.model}; use the "
                "configuration that it was trained with"
            )
    module.load_state_dict(dict(weights.tensors))
