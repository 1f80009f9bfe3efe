"""Weights that know their past: safetensors files that carry their configuration and what they were trained and chosen on.

A `Record` says which classes and recordings were seen; `Record.overlap` says which of a test are among them. Files are
written aside and renamed. When weights are written is for `training`, what learns with them for `learners`.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metaevents.datasets import ComposedDataset


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
        return {
            "classes": list(self.classes),
            "recordings_zlib_base64": base64.b64encode(packed).decode(),
        }

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
            "{} of its {} recordings were used to choose the weights": (
                self.chosen.recordings,
                test.recordings,
            ),
        }
        counts = {
            phrase: (len(set(seen) & set(tested)), len(tested))
            for phrase, (seen, tested) in shared.items()
        }
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
        return {
            **vars(self),
            "frame_shape": list(self.frame_shape),
            "curve": list(self.curve),
            **parts,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        parts = {name: Seen.from_dict(values[name]) for name in ("trained", "chosen")}
        time, polarities, height, width = values["frame_shape"]
        shape = (time, polarities, height, width)
        return cls(
            **{**values, **parts, "frame_shape": shape, "curve": tuple(values.get("curve", ()))}
        )
