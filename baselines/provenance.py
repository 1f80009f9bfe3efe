"""What weights were trained and selected on: classes and recordings, and their overlap with a test.

Recordings are compared by their events, not by their ids. A subset of a dataset may have dealt its
recordings anew: "Test/3/00031" of the 1,000-recording subset is an official training recording. The
events are those that an archive keeps, so the recordings of a composition with another time window
are not recognized.

A `Record` is stored in every weights file (`baselines.weights_file`). Learners use it to refuse a
test that they have seen (`baselines.learners`).
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metaevents.arguments import finite_number, whole_number
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError

# Limits of unpacked recording ids, in bytes. The ids of real data shrink by a factor of 4 to 20.
_MAX_IDS = 1 << 26
_MAX_EXPANSION = 100
_SMALL_IDS = 1 << 16

_MAX_NAME = 1000  # characters of a name

# Bytes of a recording's digest that are kept. Among 10^5 recordings trained on and 10^5 tested, two
# different ones agree in them with a probability of 10^-9.
_CONTENT_BYTES = 8


@dataclass(frozen=True)
class Seen:
    """Classes and recordings of one or several splits.

    Attributes:
        classes: Class names.
        recordings: Recording ids, sorted.
        contents: Hex digests of the recordings' events, sorted; the first bytes of those that the
            archive holds.
    """

    classes: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: ComposedDataset) -> Seen:
        """Return all classes and recordings that episodes of a dataset may draw."""
        archive = dataset.archive
        indices = sorted({int(index) for label in dataset.labels for index in dataset.pool(label)})
        contents = {archive.digests[index].tobytes()[:_CONTENT_BYTES].hex() for index in indices}
        return cls(
            dataset.classes,
            tuple(sorted(archive.ids[index] for index in indices)),
            tuple(sorted(contents)),
        )

    def __or__(self, other: Seen) -> Seen:
        """Return the union of both."""

        def union(a: Iterable[str], b: Iterable[str]) -> tuple[str, ...]:
            """Return the sorted union."""
            return tuple(sorted({*a, *b}))

        return Seen(
            union(self.classes, other.classes),
            union(self.recordings, other.recordings),
            union(self.contents, other.contents),
        )

    def digest(self) -> str:
        """Return the hex SHA-256 of the recording ids, joined by newlines."""
        return hashlib.sha256("\n".join(self.recordings).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object; the recording ids are compressed."""
        packed = zlib.compress("\n".join(self.recordings).encode(), 9)
        contents = bytes.fromhex("".join(self.contents))
        return {
            "classes": list(self.classes),
            "recordings_zlib_base64": base64.b64encode(packed).decode(),
            "contents_base64": base64.b64encode(contents).decode(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Seen:
        """Return what `to_dict` was called on.

        Args:
            values: A JSON object from any source.

        Raises:
            ValueError: It is no such object.
            Exception: Whatever else its damage leads to.
        """
        classes = tuple(_name("a class", name) for name in values["classes"])
        packed = base64.b64decode(values["recordings_zlib_base64"], validate=True)
        text = _unpack(packed).decode()
        recordings = tuple(text.split("\n")) if text else ()
        digests = base64.b64decode(values["contents_base64"], validate=True)
        if len(digests) % _CONTENT_BYTES:
            raise ValueError("a digest of a recording is cut off")
        contents = tuple(
            digests[start : start + _CONTENT_BYTES].hex()
            for start in range(0, len(digests), _CONTENT_BYTES)
        )
        for what, names in (
            ("classes", classes), ("recording ids", recordings), ("digests", contents),
        ):  # fmt: skip
            if "" in names or len(set(names)) < len(names):
                raise ValueError(f"its {what} are not all different")
        if len(contents) > len(recordings):
            raise ValueError(f"it has {len(contents)} digests of {len(recordings)} recordings")
        return cls(classes, recordings, contents)


def _unpack(packed: bytes) -> bytes:
    """Return what zlib unpacks, which is bounded by the size of the packed bytes."""
    most = min(_MAX_IDS, max(_SMALL_IDS, _MAX_EXPANSION * len(packed)))
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, most)
    if unpacker.unconsumed_tail or (not unpacker.eof and len(data) == most):
        raise ValueError(f"its recording ids unpack to more than {most:,} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("its recording ids are cut off, or something follows them")
    return data


def _kind(source: str) -> str:
    """Return what recordings a source has, all of them or a subset."""
    return source.removesuffix("-subset")


def _name(what: str, value: Any) -> str:
    """Return a name of bounded length, or raise ValueError."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        raise ValueError(f"{what} is {str(value)[:60]!r}, expected a name")
    return value


def _figures(what: str, value: Any) -> dict[str, float]:
    """Return a JSON object of finite numbers as it is, or raise ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {type(value).__name__}, expected an object of numbers")
    for name, number in value.items():
        finite_number(f"{what}.{name}", number)
    return dict(value)


@dataclass(frozen=True)
class Record:
    """What weights were trained and selected on.

    Attributes:
        dataset: Name of the dataset.
        source: Source of the archive's recordings: "n-mnist", "simulated" ...
        fingerprint: Fingerprint of the archive.
        simulated: Whether the recordings are simulated.
        frame_shape: (T, P, H, W) of the network's input: a sample, or one side of it.
        trained: What the gradients came from.
        chosen: What the best step was selected on.
        step: Number of outer steps that the weights were trained for.
        measured: Figures of the validation that selected the weights.
        curve: All validations of the run, for published weights; see
            `baselines.training.folder.learning_curve`.
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
    def of(
        cls,
        train: ComposedDataset,
        val: ComposedDataset,
        frame_shape: tuple[int, int, int, int] | None = None,
    ) -> Record:
        """Return the record of a run that trains on one split and selects on another.

        Args:
            train: The train split.
            val: The val split.
            frame_shape: (T, P, H, W) of the network's input; by default that of a sample.
        """
        return cls(
            dataset=train.name,
            source=train.archive.source,
            fingerprint=train.fingerprint,
            simulated=train.simulated,
            frame_shape=frame_shape or train.frame_shape,
            trained=Seen.of(train),
            chosen=Seen.of(val),
        )

    def overlap(self, dataset: ComposedDataset) -> tuple[str, ...]:
        """Return what of a test split the weights have seen.

        Classes are compared where the recordings are of one kind: of N-MNIST, of ASL-DVS ..., or
        simulated. Recordings are compared by their events, whatever their ids and whichever dataset
        they are composed to.

        Args:
            dataset: The test split.

        Returns:
            One phrase each for classes trained on, recordings trained on, and recordings used to
            choose the weights; without those that do not overlap.
        """
        test = Seen.of(dataset)
        alike = dataset.simulated == self.simulated and (
            dataset.name == self.dataset or _kind(dataset.archive.source) == _kind(self.source)
        )
        pairs = {
            "{} of its {} classes were trained on": (
                self.trained.classes if alike else (),
                test.classes,
            ),
            "{} of its {} recordings were trained on": (self.trained.contents, test.contents),
            "{} of its {} recordings were used to choose the weights": (
                self.chosen.contents,
                test.contents,
            ),
        }
        counts = {
            phrase: (len(set(seen) & set(tested)), len(tested))
            for phrase, (seen, tested) in pairs.items()
        }
        return tuple(phrase.format(*numbers) for phrase, numbers in counts.items() if numbers[0])

    def summary(self) -> dict[str, Any]:
        """Return what a leaderboard entry has of it: numbers and digests, no list of recordings."""

        def summarize(seen: Seen) -> dict[str, Any]:
            """Return the numbers and the digest of classes and recordings."""
            return {
                "classes": len(seen.classes),
                "recordings": len(seen.recordings),
                "recordings_sha256": seen.digest(),
            }

        return {
            "dataset": self.dataset,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "step": self.step,
            "trained": summarize(self.trained),
            "chosen": summarize(self.chosen),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            **vars(self),
            "frame_shape": list(self.frame_shape),
            "curve": list(self.curve),
            "trained": self.trained.to_dict(),
            "chosen": self.chosen.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Return what `to_dict` was called on.

        Args:
            values: A JSON object from any source. Every field is checked.

        Raises:
            UsageError: It is no such object.
        """
        try:
            return cls._from_dict(values)
        except UsageError:
            raise
        except Exception as error:  # whatever a damaged object leads to
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(
                f"the record of the training is damaged ({reason[:200]}); get the weights again"
            ) from error

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Return what `to_dict` was called on, or raise any exception."""
        time, polarities, height, width = (
            whole_number("a size in frame_shape", size, least=1) for size in values["frame_shape"]
        )
        if not isinstance(values["simulated"], bool):
            raise ValueError(f"simulated is {values['simulated']!r}, expected true or false")
        if not re.fullmatch("[0-9a-f]{64}", values["fingerprint"]):
            raise ValueError("the fingerprint is no SHA-256")
        measured = values.get("measured")
        decoded = {
            "dataset": _name("dataset", values["dataset"]),
            "source": _name("source", values["source"]),
            "frame_shape": (time, polarities, height, width),
            "step": whole_number("step", values.get("step", 0), least=0),
            "measured": None if measured is None else _figures("measured", measured),
            "curve": tuple(_figures("curve", line) for line in values.get("curve", ())),
            "trained": Seen.from_dict(values["trained"]),
            "chosen": Seen.from_dict(values["chosen"]),
        }
        return cls(**{**values, **decoded})
