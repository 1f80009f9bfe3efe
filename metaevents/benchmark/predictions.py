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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metaevents import __version__
from metaevents.benchmark import statistics
from metaevents.benchmark.protocols import EpisodeList, Protocol, episode_list, published_digest
from metaevents.double import ComposedDataset, PathLike, load
from metaevents.errors import MissingError, UsageError

FORMAT = "metaevents-predictions"
FORMAT_VERSION = 1
_MAX_BYTES = 1 << 28  # of unpacked arrays; the largest protocol with its scores has 15 million numbers


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
        raise MissingError(f"no prediction file {path}; `metaevents evaluate ... --predictions FILE` writes one")
    problem = f"{path} is no prediction file of metaevents"
    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > _MAX_BYTES:
                raise UsageError(
                    f"{path} unpacks to {size:,} bytes, at most {_MAX_BYTES:,} are expected; leave the scores out"
                )
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in ("header", "episodes", "predictions", "scores") if name in loaded}
        header = json.loads(str(arrays["header"]))
    except UsageError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError) as error:
        raise UsageError(f"{problem} ({error}); write it with `metaevents evaluate ... --predictions FILE`") from None
    wanted = {"protocol": dict, "fingerprint": str, "episodes_digest": str}
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UsageError(f"{problem}: its header does not say format {FORMAT!r}; write it with `metaevents evaluate`")
    if header.get("format_version") != FORMAT_VERSION:
        raise UsageError(
            f"{path} has format version {header.get('format_version')}, this release reads {FORMAT_VERSION}; upgrade metaevents"
        )
    for name, kind in wanted.items():
        if not isinstance(header.get(name), kind):
            raise UsageError(f"{problem}: its header has no {name}; write it with `metaevents evaluate`")
    if "predictions" not in arrays:
        raise UsageError(f"{problem}: it holds no array 'predictions'; write it with `metaevents evaluate`")
    return header, arrays


def _in_order(path: Path, protocol: Protocol, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
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
        raise UsageError(f"{path}: episode {wrong[0]} is not one of 0 to {protocol.episodes - 1}; predict those alone")
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
            raise UsageError(f"{path}: scores have shape {scores.shape}, expected {(rows, columns, protocol.ways)}")
        scores = scores[order]
    return labels.astype(np.int16), scores


# --- scoring -----------------------------------------------------------------------------------------------------------

S = TypeVar("S", bound="Score")


@dataclass(kw_only=True)
class Score:
    """What predictions are worth; all of it follows from them and the archive.

    Attributes:
        protocol: the run.
        is_protocol: whether the run is the protocol whose name it bears.
        deviations: what makes it another one.
        archive: fingerprint, source, simulated, recordings.
        episodes_digest: hex SHA-256 over the digests of all episodes in order.
        accuracy: mean over episodes, 0 to 1.
        ci95: half the width of the 95 % confidence interval over episodes; see `statistics.ci95`.
        bootstrap95: ends of the 95 % interval over query recordings; see `statistics.bootstrap95`.
        per_class: class name -> accuracy on its queries, for every class that occurred.
        per_episode: accuracy of each episode, in order.
    """

    protocol: Protocol
    is_protocol: bool
    deviations: list[str]
    archive: dict[str, Any]
    episodes_digest: str
    accuracy: float
    ci95: float
    bootstrap95: tuple[float, float]
    per_class: dict[str, float]
    per_episode: list[float]

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON can write it."""
        out = {name: getattr(self, name) for name in self.document_fields()}
        return {**out, "protocol": self.protocol.to_dict(), "bootstrap95": list(self.bootstrap95)}

    @classmethod
    def from_dict(cls: type[S], document: Mapping[str, Any]) -> S:
        """The score that `to_dict` gave.

        Raises:
            UsageError: a field is missing or unknown.
        """
        if differing := set(cls.document_fields()) ^ set(document):
            raise UsageError(
                f"no {cls.__name__.lower()} of this release: missing or unknown are {', '.join(sorted(differing))}"
            )
        low, high = document["bootstrap95"]
        return cls(**{**document, "protocol": Protocol.from_dict(document["protocol"]), "bootstrap95": (low, high)})

    def __str__(self) -> str:
        run, (low, high) = self.protocol, self.bootstrap95
        lines = [
            f"{run.name} on {run.dataset}, pairing {run.pairing}, classes {run.classes}",
            f"  accuracy      {self.accuracy:.2%} +- {self.ci95:.2%} (95 %, over {run.episodes} episodes)",
            f"  recordings    {low:.2%} to {high:.2%} (95 %, bootstrap over query recordings)",
            *self._more_lines(),
            f"  fingerprint   {self.archive['fingerprint']} ({self.archive['source']})",
            f"  episodes      {self.episodes_digest}",
        ]
        if not self.is_protocol:
            lines.append(f"  NOT THE PROTOCOL: {'; '.join(self.deviations)}")
        if self.archive["simulated"]:
            lines.append("  SIMULATED recordings: no result on real data")
        return "\n".join(lines)

    def _more_lines(self) -> list[str]:
        return []

    @classmethod
    def document_fields(cls) -> list[str]:
        """The names of the fields that `to_dict` writes."""
        return [field.name for field in fields(cls) if field.compare]


def grade(dataset: ComposedDataset, run: Protocol, episodes: EpisodeList, labels: np.ndarray) -> Score:
    """The score of predictions [episodes, ways * queries] for the episodes of a run."""
    right = labels == episodes.labels
    classes = np.take_along_axis(episodes.classes, episodes.labels.astype(np.int64), axis=1)
    asked = np.bincount(classes.ravel(), minlength=len(dataset))
    answered = np.bincount(classes.ravel(), weights=right.ravel(), minlength=len(dataset))
    per_episode = right.mean(axis=1)
    deviations = run.deviations()
    published = published_digest(dataset.fingerprint, run)
    if published not in (None, episodes.digest):
        deviations.append(f"episodes_digest={episodes.digest} instead of {published}")
    labels_here = sorted({label for components in dataset.components.values() for label in components})
    return Score(
        protocol=run,
        is_protocol=not deviations,
        deviations=deviations,
        archive={
            "fingerprint": dataset.fingerprint,
            "source": dataset.archive.source,
            "simulated": dataset.simulated,
            "recordings": len(dataset.archive),
        },
        episodes_digest=episodes.digest,
        accuracy=float(right.mean()),
        ci95=statistics.ci95(per_episode),
        bootstrap95=statistics.bootstrap95(
            right.ravel(),
            episodes.queries.reshape(right.size, -1),
            {label: dataset.pool(label) for label in labels_here},
            key=episodes.digest,
        ),
        per_class={name: float(answered[i] / asked[i]) for i, name in enumerate(dataset.classes) if asked[i]},
        per_episode=per_episode.tolist(),
    )


def score(predictions: Predictions | PathLike, archive: PathLike, protocol: str | None = None) -> Score:
    """Recompute the score of a prediction file from the archive.

    Parameters:
        predictions: the file, or what `Predictions.load` gave.
        archive: the archive file, or the folder that holds it.
        protocol: the protocol that the predictions should be for; None takes the one that the file names.

    Raises:
        UsageError: predictions for another archive, protocol or list of episodes, or unfit ones; says which.
        MissingError, ArchiveError: no prediction file or archive, or an archive that is not whole.
    """
    where = "these predictions" if isinstance(predictions, Predictions) else str(predictions)
    given = predictions if isinstance(predictions, Predictions) else Predictions.load(predictions)
    run = given.protocol
    if protocol is not None and run.name != protocol:
        raise UsageError(f"{where}: made under protocol {run.name}, expected {protocol}; give the other file")
    run.deviations()  # refuses a protocol that this release does not know
    dataset = load(run.dataset, archive, run.split, pairing=run.pairing, classes=run.classes)
    if dataset.fingerprint != given.fingerprint:
        raise UsageError(
            f"{where}: made on the archive {given.fingerprint[:16]}..., {dataset.archive.path} is "
            f"{dataset.fingerprint[:16]}...; give the archive that they were made on"
        )
    episodes = episode_list(dataset, run)
    if episodes.digest != given.episodes_digest:
        raise UsageError(
            f"{where}: made on other episodes ({given.episodes_digest[:16]}...) than protocol {run.name} has on this archive "
            f"({episodes.digest[:16]}...); evaluate again with this release"
        )
    return grade(dataset, run, episodes, given.labels)
