"""Weights that know their past: safetensors files that carry their configuration and what they were trained and chosen on.

A `Record` says which classes and recordings were seen; `Record.overlap` says which of a test are among them. Files are
written aside and renamed. When weights are written is for `training`, what learns with them for `learners`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.recipes import RunConfig
from metaevents import __version__
from metaevents.double import ComposedDataset, PathLike
from metaevents.errors import MissingError, UsageError

FORMAT = "metaevents-baseline"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Seen:
    """Classes and recordings of one split.

    Attributes:
        classes: class names.
        recordings: ids, sorted.
    """

    classes: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: ComposedDataset) -> Seen:
        """All that episodes of a dataset may draw from."""
        ids = dataset.archive.ids
        indices = {int(index) for label in dataset.labels for index in dataset.pool(label)}
        return cls(dataset.classes, tuple(sorted(ids[index] for index in indices)))

    def __or__(self, other: Seen) -> Seen:
        def joined(a: Iterable[str], b: Iterable[str]) -> tuple[str, ...]:
            return tuple(sorted({*a, *b}))

        return Seen(joined(self.classes, other.classes), joined(self.recordings, other.recordings))

    def digest(self) -> str:
        """Hex SHA-256 over the sorted recording ids."""
        return hashlib.sha256("\n".join(self.recordings).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        packed = zlib.compress("\n".join(self.recordings).encode(), 9)
        return {"classes": list(self.classes), "recordings_zlib_base64": base64.b64encode(packed).decode()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Seen:
        packed = base64.b64decode(values["recordings_zlib_base64"])
        return cls(tuple(values["classes"]), tuple(zlib.decompress(packed).decode().split("\n")))


@dataclass(frozen=True)
class Record:
    """What weights have seen.

    Attributes:
        dataset, source, fingerprint: of the archive.
        simulated: whether its recordings are simulated; ids then name other recordings than the official ones.
        frame_shape: (T, P, H, W) of the dataset.
        trained, chosen: what gradients came from, and what the best step was chosen on.
        step: outer steps behind the weights.
        measured: figures of the validation that chose the weights.
        curve: all validations of the run, where the weights were published after it.
    """

    dataset: str
    source: str
    fingerprint: str
    simulated: bool
    frame_shape: tuple[int, int, int, int]
    trained: Seen
    chosen: Seen
    step: int = 0
    measured: Mapping[str, float] | None = None
    curve: tuple[Mapping[str, float], ...] = ()

    @classmethod
    def of(cls, train: ComposedDataset, val: ComposedDataset) -> Record:
        archive = train.archive
        return cls(
            train.name, archive.source, train.fingerprint, archive.simulated, train.frame_shape, Seen.of(train), Seen.of(val)
        )  # fmt: skip

    def overlap(self, dataset: ComposedDataset) -> tuple[str, ...]:
        """What of a test has been seen, a phrase each: classes, recordings trained on, recordings chosen on."""
        if dataset.name != self.dataset or dataset.archive.simulated != self.simulated:
            return ()
        test = Seen.of(dataset)
        shared = {
            "{} of its {} classes were trained on": (self.trained.classes, test.classes),
            "{} of its {} recordings were trained on": (self.trained.recordings, test.recordings),
            "{} of its {} recordings were used to choose the weights": (self.chosen.recordings, test.recordings),
        }
        counts = {phrase: (len(set(seen) & set(tested)), len(tested)) for phrase, (seen, tested) in shared.items()}
        return tuple(phrase.format(*numbers) for phrase, numbers in counts.items() if numbers[0])

    def summary(self) -> dict[str, Any]:
        """What an entry says of it: numbers and digests, no list of recordings."""

        def of(seen: Seen) -> dict[str, Any]:
            return {
                "classes": len(seen.classes),
                "recordings": len(seen.recordings),
                "recordings_sha256": seen.digest(),
            }

        return {
            "dataset": self.dataset, "source": self.source, "fingerprint": self.fingerprint, "step": self.step,
            "trained": of(self.trained), "chosen": of(self.chosen),
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        parts = {"trained": self.trained.to_dict(), "chosen": self.chosen.to_dict()}
        return {**vars(self), "frame_shape": list(self.frame_shape), "curve": list(self.curve), **parts}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        parts = {name: Seen.from_dict(values[name]) for name in ("trained", "chosen")}
        time, polarities, height, width = values["frame_shape"]
        shape = (time, polarities, height, width)
        return cls(**{**values, **parts, "frame_shape": shape, "curve": tuple(values.get("curve", ()))})


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
        write_aside(path, save(tensors, metadata))


def read_weights(path: PathLike) -> Weights:
    """Read a weights file.

    Raises:
        MissingError: no such file.
        UsageError: a file that is truncated, not one of ours, or of a newer release.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingError(f"no weights {path}; give a run's folder, a .safetensors file or the name of a baseline")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except SafetensorError as error:
        raise UsageError(f"{path} is no whole safetensors file ({error}); copy or train it again") from None
    if metadata.get("format") != FORMAT:
        raise UsageError(f"{path} has no record of its training; give weights that `python -m baselines train` wrote")
    if int(metadata["format_version"]) > FORMAT_VERSION:
        raise UsageError(f"{path} was written by metaevents {metadata['metaevents']}; update this one ({__version__})")
    config = RunConfig.from_dict(json.loads(metadata["config"]))
    return Weights(tensors, config, Record.from_dict(json.loads(metadata["record"])))


def fill(module: torch.nn.Module, weights: Weights, path: PathLike) -> None:
    """Put weights into a module.

    Raises:
        UsageError: weights of another architecture, with the first parameter that does not fit.
    """
    own = module.state_dict()
    for name in {**own, **weights.tensors}:
        have, need = (tuple(side[name].shape) if name in side else None for side in (weights.tensors, own))
        if have != need:
            raise UsageError(
                f"{path} is of another architecture: {name} is {have or 'missing'} there and {need or 'absent'} in the "
                f"configured {weights.config.model}; use the configuration that it was trained with"
            )
    module.load_state_dict(dict(weights.tensors))


def write_aside(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it into place, so that it is always whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
