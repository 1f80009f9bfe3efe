"""Prediction files, and the score that follows from one: everything recomputed from the predictions and the archive.

A prediction file is a .npz of three arrays (and an optional fourth), so small that an entry carries it along:

    header       a JSON string: format, format_version, metaevents_version, protocol, fingerprint, episodes_digest
    episodes     [n] int32, the number of the episode in every row; absent where rows are in order
    predictions  [n, ways * queries] uint8 or int16, labels within the episode, in the order of its queries
    scores       [n, ways * queries, ways] float32, optional, not read by scoring

Who made the predictions, and how, is left to `metaevents.benchmark.evaluation` and to whoever has a program of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from metaevents.benchmark import statistics
from metaevents.benchmark.episode_digests import published_digest
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import EpisodeList, Protocol, episode_list
from metaevents.datasets import ComposedDataset, load
from metaevents.errors import UsageError
from metaevents.files import PathLike

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
        return cls(
            **{
                **document,
                "protocol": Protocol.from_dict(document["protocol"]),
                "bootstrap95": (low, high),
            }
        )

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


def grade(
    dataset: ComposedDataset, run: Protocol, episodes: EpisodeList, labels: np.ndarray
) -> Score:
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
    labels_here = sorted(
        {label for components in dataset.components.values() for label in components}
    )
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
        per_class={
            name: float(answered[i] / asked[i])
            for i, name in enumerate(dataset.classes)
            if asked[i]
        },
        per_episode=per_episode.tolist(),
    )


def score(
    predictions: Predictions | PathLike, archive: PathLike, protocol: str | None = None
) -> Score:
    """Recompute the score of a prediction file from the archive.

    Args:
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
        raise UsageError(
            f"{where}: made under protocol {run.name}, expected {protocol}; give the other file"
        )
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
