"""Prediction files, and the score that follows from one: everything recomputed from the predictions and the archive.

A prediction file is a .npz of three arrays (and an optional fourth), so small that an entry carries it along:

    header       a JSON string: format, format_version, metaevents_version, protocol, fingerprint, episodes_digest
    episodes     [n] int32, the number of the episode in every row; absent where rows are in order
    predictions  [n, ways * queries] uint8 or int16, labels within the episode, in the order of its queries
    scores       [n, ways * queries, ways] float32, optional, not read by scoring

Who made the predictions, and how, is left to `metaevents.benchmark.evaluation` and to whoever has a program of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metaevents._version import __version__
from metaevents.benchmark.protocols import Protocol
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike

FORMAT = "metaevents-predictions"

FORMAT_VERSION = 1

_MAX_BYTES = (
    1 << 28
)  # of unpacked arrays; the largest protocol with its scores has 15 million numbers


@dataclass(frozen=True)
class Predictions:
    """What a learner answered to every query of a run.

    Attributes:
        protocol: the run.
        fingerprint: of the archive.
        episodes_digest: over all episodes in order.
        labels: [episodes, ways * queries] labels within the episode, in the order of its queries.
        scores: [episodes, ways * queries, ways] float32, or None.
    """

    protocol: Protocol
    fingerprint: str
    episodes_digest: str
    labels: np.ndarray
    scores: np.ndarray | None = field(default=None, repr=False)

    def to_bytes(self, scores: bool = False) -> bytes:
        """The prediction file; equal predictions give equal bytes."""
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
            "episodes": np.arange(len(self.labels), dtype=np.int32),
            "predictions": self.labels.astype(np.uint8 if self.protocol.ways <= 256 else np.int16),
        }
        if scores:
            if self.scores is None:
                raise UsageError("these predictions hold no scores; save them without")
            arrays["scores"] = self.scores.astype(np.float32)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    def save(self, path: PathLike, scores: bool = False) -> str:
        """Write the prediction file; returns its hex SHA-256."""
        content = self.to_bytes(scores)
        Path(path).expanduser().write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    @classmethod
    def load(cls, path: PathLike) -> Predictions:
        """Read a prediction file.

        Raises:
            MissingError: no such file.
            UsageError: no prediction file, or one whose predictions are missing, there twice or out of range.
        """
        path = Path(path).expanduser()
        header, arrays = _read(path)
        protocol = Protocol.from_dict(header["protocol"])
        labels, scores = _in_order(path, protocol, arrays)
        return cls(protocol, header["fingerprint"], header["episodes_digest"], labels, scores)


def _read(path: Path) -> tuple[Mapping[str, Any], Mapping[str, np.ndarray]]:
    """The header and the arrays of a prediction file."""
    if not path.is_file():
        raise MissingError(
            f"no prediction file {path}; `metaevents evaluate ... --predictions FILE` writes one"
        )
    problem = f"{path} is no prediction file of metaevents"
    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > _MAX_BYTES:
                raise UsageError(
                    f"{path} unpacks to {size:,} bytes, at most {_MAX_BYTES:,} are expected; leave the scores out"
                )
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {
                name: loaded[name]
                for name in ("header", "episodes", "predictions", "scores")
                if name in loaded
            }
        header = json.loads(str(arrays["header"]))
    except UsageError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError) as error:
        raise UsageError(
            f"{problem} ({error}); write it with `metaevents evaluate ... --predictions FILE`"
        ) from None
    wanted = {"protocol": dict, "fingerprint": str, "episodes_digest": str}
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UsageError(
            f"{problem}: its header does not say format {FORMAT!r}; write it with `metaevents evaluate`"
        )
    if header.get("format_version") != FORMAT_VERSION:
        raise UsageError(
            f"{path} has format version {header.get('format_version')}, this release reads {FORMAT_VERSION}; upgrade metaevents"
        )
    for name, kind in wanted.items():
        if not isinstance(header.get(name), kind):
            raise UsageError(
                f"{problem}: its header has no {name}; write it with `metaevents evaluate`"
            )
    if "predictions" not in arrays:
        raise UsageError(
            f"{problem}: it holds no array 'predictions'; write it with `metaevents evaluate`"
        )
    return header, arrays


def _in_order(
    path: Path, protocol: Protocol, arrays: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions (and scores, where there are some) in order of the episodes, everything there once and in range."""
    predictions = arrays["predictions"]
    if predictions.ndim != 2 or predictions.dtype.kind not in "iu":
        raise UsageError(
            f"{path}: predictions are {predictions.dtype} of shape {predictions.shape}, expected whole numbers "
            f"[{protocol.episodes}, {protocol.n_queries}]"
        )
    rows, columns = predictions.shape
    if columns != protocol.n_queries:
        raise UsageError(
            f"{path}: {columns} predictions an episode, expected {protocol.n_queries} ({protocol.ways} ways x "
            f"{protocol.queries} queries); give one for every query"
        )
    episodes = arrays.get("episodes", np.arange(rows))
    if episodes.shape != (rows,) or episodes.dtype.kind not in "iu":
        raise UsageError(
            f"{path}: episodes are {episodes.dtype} of shape {episodes.shape}, expected whole numbers [{rows}]"
        )
    if len(wrong := episodes[(episodes < 0) | (episodes >= protocol.episodes)]):
        raise UsageError(
            f"{path}: episode {wrong[0]} is not one of 0 to {protocol.episodes - 1}; predict those alone"
        )
    order = np.argsort(episodes, kind="stable")
    found, times = np.unique(episodes, return_counts=True)
    if len(twice := found[times > 1]):
        raise UsageError(
            f"{path}: {len(twice)} episodes are there more than once, the first is {twice[0]}; give each once"
        )
    if rows < protocol.episodes:
        first = next((i for i, episode in enumerate(found) if i != episode), rows)
        raise UsageError(
            f"{path}: {protocol.episodes - rows} of {protocol.episodes} episodes are missing, the first is {first}; predict all"
        )
    labels = predictions[order]
    wrong_at = np.argwhere((labels < 0) | (labels >= protocol.ways))
    if len(wrong_at):
        episode, query = wrong_at[0]
        raise UsageError(
            f"{path}: {len(wrong_at)} predictions are out of range, the first is {labels[episode, query]} for query {query} of "
            f"episode {episode}; give a label from 0 to {protocol.ways - 1}"
        )
    scores = arrays.get("scores")
    if scores is not None:
        if scores.shape != (rows, columns, protocol.ways):
            raise UsageError(
                f"{path}: scores have shape {scores.shape}, expected {(rows, columns, protocol.ways)}"
            )
        scores = scores[order]
    return labels.astype(np.int16), scores
