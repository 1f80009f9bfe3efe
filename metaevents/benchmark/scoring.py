"""Scoring: the score that follows from predictions and an archive.

Reading prediction files is left to `metaevents.benchmark.predictions`, the formulas are left to
`metaevents.benchmark.statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from metaevents.benchmark import statistics
from metaevents.benchmark.episode_digests import published_digest
from metaevents.benchmark.predictions import Predictions, check_labels
from metaevents.benchmark.protocols import EpisodeList, Protocol, episode_list, split_name
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.schema_errors import report_problem
from metaevents.datasets import ComposedDataset, load
from metaevents.errors import UsageError, printable
from metaevents.files import PathLike

S = TypeVar("S", bound="Score")


@dataclass(kw_only=True)
class Score:
    """The score of predictions. All of it can be recomputed from them and the archive.

    Attributes:
        protocol: The protocol, or the modified copy of it that was run.
        is_protocol: Whether it is the protocol itself, on the published episodes.
        deviations: How it deviates; empty if it is the protocol.
        archive: fingerprint, source, simulated and recordings (their number).
        episodes_digest: Hex SHA-256 over the digests of all episodes, in order.
        accuracy: Mean over episodes, 0 to 1.
        ci95: Half the width of the 95 % interval over fresh recordings and episodes; see
            `statistics.ci95`.
        episode_ci95: Half the width of the 95 % interval over episodes of these recordings; see
            `statistics.episode_ci95`.
        unshared_accuracy: Mean over the unshared queries, 0 to 1; None if there are none. A query
            is unshared if no recording of it is in the support of another class of its episode.
        unshared_queries: Share of the queries that are unshared, 0 to 1.
        per_class: Class name to the accuracy on its queries, for every class that occurred.
        per_episode: Accuracy of each episode, in order.
    """

    protocol: Protocol
    is_protocol: bool
    deviations: list[str]
    archive: dict[str, Any]
    episodes_digest: str
    accuracy: float
    ci95: float
    episode_ci95: float
    unshared_accuracy: float | None
    unshared_queries: float
    per_class: dict[str, float]
    per_episode: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON can write it."""
        document = {name: getattr(self, name) for name in self.document_fields()}
        return {**document, "protocol": self.protocol.to_dict()}

    @classmethod
    def from_dict(cls: type[S], document: Mapping[str, Any]) -> S:
        """Return the score of a document that `to_dict` returned.

        Args:
            document: All fields by name.

        Returns:
            The score.

        Raises:
            UsageError: The document is no dictionary, or a field is missing, unknown or damaged.
        """
        kind = cls.__name__.lower()
        if not isinstance(document, Mapping):
            raise UsageError(f"a {kind} is read from a dictionary, got {type(document).__name__}")
        if differing := set(cls.document_fields()) ^ set(document):
            raise UsageError(
                f"no {kind} of this release: missing or unknown are "
                f"{', '.join(sorted(map(str, differing)))[:300]}; read it with the release that "
                "wrote it"
            )
        protocol = Protocol.from_dict(document["protocol"])
        others = {name: value for name, value in document.items() if name != "protocol"}
        if problem := report_problem(others):
            raise UsageError(f"{problem}; restore what the evaluation wrote")
        return cls(**{**document, "protocol": protocol})

    def __str__(self) -> str:
        protocol = self.protocol
        lines = [
            f"{protocol.name}, version {protocol.version}, on {protocol.dataset}, pairing "
            f"{protocol.pairing}, "
            f"classes {protocol.classes}",
            f"  accuracy      {self.accuracy:.2%} +- {self.ci95:.2%} "
            f"(95 %, over fresh recordings and episodes)",
            f"  spread        +- {self.episode_ci95:.2%} (95 %, over {protocol.episodes} episodes "
            "of these recordings only)",
            f"  unshared      {self._unshared()}",
            *self._more_lines(),
            f"  fingerprint   {self.archive['fingerprint']} ({self.archive['source']})",
            f"  episodes      {self.episodes_digest}",
        ]
        if not self.is_protocol:
            lines.append(f"  NOT THE PROTOCOL: {'; '.join(self.deviations)}")
        if self.archive["simulated"]:
            lines.append("  SIMULATED recordings: no result on real data")
        return "\n".join(map(_visible_line, lines))

    def _unshared(self) -> str:
        """Return the accuracy on unshared queries in words."""
        rest = "of the queries, with no recording in another class's support"
        if self.unshared_accuracy is None:
            return f"0.00% {rest}"
        return f"{self.unshared_accuracy:.2%} on the {self.unshared_queries:.2%} {rest}"

    def _more_lines(self) -> list[str]:
        """Return the lines of the text that a subclass adds."""
        return []

    @classmethod
    def document_fields(cls) -> list[str]:
        """Return the names of the fields that `to_dict` writes."""
        return [field.name for field in fields(cls) if field.compare]


def _visible_line(text: str) -> str:
    """Return text on one line, with visible control characters: a field may be a stranger's."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def grade(
    dataset: ComposedDataset, protocol: Protocol, episodes: EpisodeList, labels: np.ndarray
) -> Score:
    """Score predicted labels.

    Args:
        dataset: The dataset that the protocol is bound to.
        protocol: The protocol.
        episodes: All of its episodes.
        labels: [episodes, ways * queries] predicted labels.

    Returns:
        The score.
    """
    correct = labels == episodes.labels
    classes = episodes.query_classes
    n_queries = np.bincount(classes.ravel(), minlength=len(dataset))
    n_correct = np.bincount(classes.ravel(), weights=correct.ravel(), minlength=len(dataset))
    per_episode = correct.mean(axis=1)
    deviations = protocol.deviations()
    published = published_digest(dataset.fingerprint, protocol)
    if published not in (None, episodes.digest):
        deviations.append(f"episodes_digest={episodes.digest} instead of {published}")
    unshared = statistics.unshared_queries(episodes.queries, episodes.labels, episodes.support)
    return Score(
        protocol=protocol,
        is_protocol=not deviations,
        deviations=deviations,
        archive={
            "fingerprint": dataset.fingerprint,
            "source": dataset.archive.source,
            "simulated": dataset.simulated,
            "recordings": len(dataset.archive),
        },
        episodes_digest=episodes.digest,
        accuracy=float(correct.mean()),
        ci95=statistics.ci95(correct, RecordingDesign.of(episodes, protocol.pairing)),
        episode_ci95=statistics.episode_ci95(per_episode),
        unshared_accuracy=float(correct[unshared].mean()) if unshared.any() else None,
        unshared_queries=float(unshared.mean()),
        per_class={
            name: float(n_correct[i] / n_queries[i])
            for i, name in enumerate(dataset.classes)
            if n_queries[i]
        },
        per_episode=per_episode.tolist(),
    )


def score(
    predictions: Predictions | PathLike, archive: PathLike, protocol: str | None = None
) -> Score:
    """Recompute the score of predictions from the archive.

    Args:
        predictions: A prediction file, or loaded predictions.
        archive: The archive file, or the folder that holds it.
        protocol: Name of the protocol that the predictions must be for, with or without a version;
            None accepts any.

    Returns:
        The score.

    Raises:
        UsageError: The predictions are for another archive, protocol or list of episodes, or the
            prediction file is not valid.
        MissingError: There is no such prediction file or archive.
        ArchiveError: The archive is corrupt, or of another dataset.
    """
    if isinstance(predictions, Predictions):
        return score_predictions(predictions, archive, protocol, "these predictions")
    return score_predictions(Predictions.load(predictions), archive, protocol, str(predictions))


def score_predictions(
    predictions: Predictions, archive: PathLike, protocol: str | None, name: str
) -> Score:
    """Recompute the score of loaded predictions from the archive.

    Args:
        predictions: The predictions.
        archive: The archive file, or the folder that holds it.
        protocol: Name of the protocol that the predictions must be for, with or without a version;
            None accepts any.
        name: Where the predictions come from, for messages.

    Returns:
        The score.

    Raises:
        UsageError: The predictions are for another archive, protocol or list of episodes, or have
            another shape.
        MissingError: There is no such archive.
        ArchiveError: The archive is corrupt, or of another dataset.
    """
    setting = predictions.protocol
    if protocol is not None:
        wanted, version = split_name(protocol)
        if setting.name != wanted or version not in (None, setting.version):
            made = setting.name if version is None else f"{setting.name}-v{setting.version}"
            raise UsageError(
                f"{name}: made under protocol {made}, expected {protocol}; give predictions made "
                "under that protocol"
            )
    setting.deviations()  # raises if this release does not know the protocol
    dataset = load(
        setting.dataset, archive, setting.split, pairing=setting.pairing, classes=setting.classes
    )
    if dataset.fingerprint != predictions.fingerprint:
        raise UsageError(
            f"{name}: made on the archive {predictions.fingerprint[:16]}..., "
            f"{dataset.archive.path} is {dataset.fingerprint[:16]}...; "
            "give the archive that they were made on"
        )
    episodes = episode_list(dataset, setting)
    if episodes.digest != predictions.episodes_digest:
        raise UsageError(
            f"{name}: made on other episodes ({predictions.episodes_digest[:16]}...) than protocol "
            f"{setting.name} has on this archive ({episodes.digest[:16]}...); "
            "evaluate again with this release"
        )
    labels = check_labels(name, setting, predictions.labels)
    return grade(dataset, setting, episodes, labels)
