"""Prediction files: writing them, and reading them with every check that needs no archive.

A prediction file is a .npz file with three arrays and an optional fourth. It is small, so that an
entry can carry it along:

    header       JSON text: format, format_version, metaevents_version, protocol, fingerprint,
                 episodes_digest
    episodes     [n] int32, the episode's index in every row; if absent, the rows are in order
    predictions  [n, ways * queries] uint8, labels within the episode, in the order of its queries;
                 int16 or int32 for more than 256 ways
    scores       [n, ways * queries, ways] float32, optional, ignored by scoring

Making predictions is left to `metaevents.benchmark.evaluation` or to any other program; scoring
them is left to `metaevents.benchmark.scoring`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from metaevents._version import __version__
from metaevents.benchmark.protocols import Protocol, index_dtype
from metaevents.errors import UsageError
from metaevents.files import PathLike, user_path, write_atomic
from metaevents.json_schema import brief
from metaevents.untrusted import describe, parse_json, read_arrays, read_bytes

FORMAT = "metaevents-predictions"
FORMAT_VERSION = 1

MAX_PREDICTIONS_BYTES = 1 << 28
"""Largest size of a file, packed and unpacked. The scores of the largest protocol have 14 MB."""

_MAX_HEADER_BYTES = 1 << 18

# Samples that any file may name, and samples per byte of a larger file. The largest protocol has
# 240,000 samples. Predictions of 5-way episodes have a byte per 3 samples, uncompressed ones more.
_FREE_SAMPLES = 1_000_000
_SAMPLES_PER_BYTE = 8

_ARRAYS = ("header", "episodes", "predictions", "scores")

_ADVICE = "write it with `metaevents evaluate ... --predictions FILE`"


@dataclass(frozen=True)
class Predictions:
    """A learner's answers to all queries of a protocol.

    Attributes:
        protocol: The protocol.
        fingerprint: Fingerprint of the archive.
        episodes_digest: Digest of all episodes, in order.
        labels: [episodes, ways * queries] labels within the episode, in the order of its queries.
        scores: [episodes, ways * queries, ways] float32, or None.
    """

    protocol: Protocol
    fingerprint: str
    episodes_digest: str
    labels: np.ndarray
    scores: np.ndarray | None = field(default=None, repr=False)

    def to_bytes(self, scores: bool = False) -> bytes:
        """Return the content of the prediction file; equal predictions give equal bytes.

        Args:
            scores: Include the scores.

        Returns:
            The content of a .npz file.

        Raises:
            UsageError: The labels or scores have another shape or type than the protocol needs, a
                label is out of range, or `scores` is true and there are none.
        """
        labels = check_labels("the predictions to save", self.protocol, self.labels)
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "metaevents_version": __version__,
            "protocol": self.protocol.to_dict(),
            "fingerprint": self.fingerprint,
            "episodes_digest": self.episodes_digest,
        }
        arrays = {
            "header": np.array(json.dumps(header)),
            "episodes": np.arange(len(labels), dtype=np.int32),
            "predictions": labels.astype(np.uint8) if self.protocol.ways <= 256 else labels,
        }
        if scores:
            if self.scores is None:
                raise UsageError("these predictions hold no scores; save them with scores=False")
            arrays["scores"] = _check_scores(
                "the predictions to save", self.protocol, self.scores
            ).astype(np.float32)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **cast(Any, arrays))
        return buffer.getvalue()

    def save(self, path: PathLike, scores: bool = False) -> str:
        """Write the prediction file.

        Args:
            path: The file, which is replaced.
            scores: Include the scores.

        Returns:
            Hex SHA-256 of the file.

        Raises:
            UsageError: As for `to_bytes`, or the file cannot be written; see `write_result`.
        """
        content = self.to_bytes(scores)
        write_result(user_path(path), content)
        return hashlib.sha256(content).hexdigest()

    @classmethod
    def load(cls, path: PathLike) -> Predictions:
        """Read a prediction file.

        Args:
            path: The file.

        Returns:
            The predictions, in order of the episodes.

        Raises:
            MissingError: There is no such file.
            UsageError: The file is no prediction file or cannot be read, predictions are missing,
                duplicated or out of range, or the file names far more samples than its size
                explains.
        """
        path = user_path(path)
        return cls.from_bytes(
            read_bytes(path, MAX_PREDICTIONS_BYTES, "prediction file", _ADVICE), str(path)
        )

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Predictions:
        """Read the content of a prediction file.

        Args:
            content: The content of the file.
            name: The file's name, for messages.

        Returns:
            The predictions, in order of the episodes.

        Raises:
            UsageError: As for `load`.
        """
        header, arrays = _parse(content, name)
        try:
            protocol = Protocol.from_dict(header["protocol"])
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        _check_samples(name, protocol, len(content))
        order = _episode_order(name, protocol, arrays)
        labels = check_labels(name, protocol, arrays["predictions"][order])
        scores = arrays.get("scores")
        if scores is not None:
            scores = _check_scores(name, protocol, scores)[order]
        return cls(protocol, header["fingerprint"], header["episodes_digest"], labels, scores)


def _parse(content: bytes, name: str) -> tuple[Mapping[str, Any], Mapping[str, np.ndarray]]:
    """Return the header and the arrays of a prediction file.

    Whatever a parser trips over becomes a UsageError here.
    """
    problem = f"{name} is no prediction file of metaevents"
    try:
        arrays = read_arrays(content, _ARRAYS, MAX_PREDICTIONS_BYTES)
        header = parse_json(_header_text(arrays))
    except Exception as error:
        raise UsageError(f"{problem} ({describe(error)}); {_ADVICE}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UsageError(f"{problem}: its header does not say format {FORMAT!r}; {_ADVICE}")
    version = header.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UsageError(
            f"{name} has format version {brief(version)}, this release reads {FORMAT_VERSION}; "
            "upgrade metaevents"
        )
    for key, kind in {"protocol": dict, "fingerprint": str, "episodes_digest": str}.items():
        if not isinstance(header.get(key), kind):
            raise UsageError(f"{problem}: its header has no {key}; {_ADVICE}")
    if "predictions" not in arrays:
        raise UsageError(f"{problem}: it holds no array 'predictions'; {_ADVICE}")
    return header, arrays


def _header_text(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the header of a prediction file, which is an array of a single text."""
    if "header" not in arrays:
        raise ValueError("it holds no array 'header'")
    array = arrays["header"]
    if array.shape or array.dtype.kind != "U" or array.nbytes > _MAX_HEADER_BYTES:
        raise ValueError(f"its header is {array.dtype} of shape {array.shape}, expected a text")
    return str(array[()])


def _check_samples(name: str, protocol: Protocol, size: int) -> None:
    """Refuse a file that names far more samples than its size explains.

    Scoring draws every episode anew. So its time would be out of proportion to the file's size.
    """
    samples = protocol.episodes * protocol.ways * (protocol.shots + protocol.queries)
    if samples > max(_FREE_SAMPLES, _SAMPLES_PER_BYTE * size):
        raise UsageError(
            f"{name} has {size:,} bytes and names {protocol.episodes:,} episodes of "
            f"{samples // protocol.episodes:,} samples; more than {_FREE_SAMPLES:,} samples need a "
            f"byte per {_SAMPLES_PER_BYTE}; save it without compression, or give fewer episodes"
        )


def _episode_order(name: str, protocol: Protocol, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the rows in order of the episodes, [episodes]; every episode must have one row."""
    predictions = arrays["predictions"]
    if predictions.ndim != 2 or predictions.dtype.kind not in "iu":
        raise UsageError(
            f"{name}: predictions are {predictions.dtype} of shape {predictions.shape}, expected "
            f"whole numbers [{protocol.episodes}, {protocol.n_queries}]"
        )
    rows, columns = predictions.shape
    if columns != protocol.n_queries:
        raise UsageError(
            f"{name}: {columns} predictions per episode, expected {protocol.n_queries} "
            f"({protocol.ways} ways x {protocol.queries} queries); give one per query"
        )
    episodes = arrays.get("episodes", np.arange(rows))
    if episodes.shape != (rows,) or episodes.dtype.kind not in "iu":
        raise UsageError(
            f"{name}: episodes are {episodes.dtype} of shape {episodes.shape}, expected whole "
            f"numbers [{rows}]"
        )
    if len(unknown := episodes[(episodes < 0) | (episodes >= protocol.episodes)]):
        raise UsageError(
            f"{name}: episode {unknown[0]} is out of range; give episodes 0 to "
            f"{protocol.episodes - 1} only"
        )
    unique, counts = np.unique(episodes, return_counts=True)
    if len(repeated := unique[counts > 1]):
        raise UsageError(
            f"{name}: {len(repeated)} episodes occur more than once, the first is {repeated[0]}; "
            "give each once"
        )
    if rows < protocol.episodes:
        first = next((i for i, episode in enumerate(unique) if i != episode), rows)
        raise UsageError(
            f"{name}: {protocol.episodes - rows} of {protocol.episodes} episodes are missing, the "
            f"first is {first}; give all"
        )
    return np.argsort(episodes, kind="stable")


def _as_array(name: str, what: str, values: object) -> np.ndarray:
    """Return values as an array, such as a list of lists or a tensor."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"{name}: the {what} are a {type(values).__name__} that is no array; give a NumPy array"
        ) from None


def _check_scores(name: str, protocol: Protocol, scores: object) -> np.ndarray:
    """Return scores as an array [episodes, ways * queries, ways] of numbers."""
    scores = _as_array(name, "scores", scores)
    shape = (protocol.episodes, protocol.n_queries, protocol.ways)
    if scores.shape != shape or scores.dtype.kind not in "iuf":
        raise UsageError(
            f"{name}: scores have shape {scores.shape}, expected {shape}, and are "
            f"{scores.dtype}, expected numbers; {_ADVICE}"
        )
    return scores


def check_labels(name: str, protocol: Protocol, predictions: object) -> np.ndarray:
    """Return predictions as labels; every one must be in range.

    Args:
        name: Where the predictions come from, for messages.
        protocol: Their protocol.
        predictions: [episodes, ways * queries] whole numbers, in order of the episodes.

    Returns:
        [episodes, ways * queries] int16, or int32 if there are more than 32,768 ways.

    Raises:
        UsageError: They have another shape or type, or one is out of range.
    """
    predictions = _as_array(name, "predictions", predictions)
    shape = (protocol.episodes, protocol.n_queries)
    if predictions.shape != shape or predictions.dtype.kind not in "iu":
        raise UsageError(
            f"{name}: predictions are {predictions.dtype} of shape {predictions.shape}, expected "
            f"whole numbers {list(shape)}"
        )
    out_of_range = (predictions < 0) | (predictions >= protocol.ways)
    if n_wrong := int(np.count_nonzero(out_of_range)):
        episode, query = np.unravel_index(int(out_of_range.argmax()), shape)
        raise UsageError(
            f"{name}: {n_wrong} predictions are out of range, the first is "
            f"{predictions[episode, query]} for query {query} of episode {episode}; give labels "
            f"from 0 to {protocol.ways - 1}"
        )
    return predictions.astype(index_dtype(protocol.ways))


def write_result(path: Path, content: bytes) -> None:
    """Write a file that holds the result of long work.

    If that fails, the content is kept in the folder for temporary files.

    Args:
        path: The file, which is replaced.
        content: Its content.

    Raises:
        UsageError: The file cannot be written. The message says where the content is instead.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        problem = f"{path} cannot be written ({error.strerror or error})"
        try:
            descriptor, name = tempfile.mkstemp(prefix="metaevents-", suffix=path.suffix)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except OSError:
            raise UsageError(
                f"{problem}; check the path, its permissions and the free space"
            ) from error
        raise UsageError(f"{problem}; its content is in {name}, move it from there") from error
