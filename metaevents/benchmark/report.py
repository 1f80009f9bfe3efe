"""The report of an evaluation, and how it becomes an entry: a JSON document with a prediction file beside it.

What an entry must hold to stand on the leaderboard is left to `metaevents.benchmark.entries`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.scoring import Score
from metaevents.benchmark.statistics import repeated
from metaevents.errors import UsageError
from metaevents.files import PathLike
from metaevents.hashing import readable_json

ENTRY_FORMAT = "metaevents-entry"
ENTRY_FORMAT_VERSION = 1
METHOD_FIELDS = (
    "name",
    "authors",
    "citation",
    "code",
    "commit",
    "command",
    "other_data",
    "hardware",
    "notes",
)


@dataclass(kw_only=True)
class Report(Score):
    """A score, and what was found out about the learner on the way.

    Attributes:
        metaevents_version: of the release that wrote it.
        trials: over repeated trials: seeds, mean, deviation, accuracies; None where one was run.
        training_seeds: the same over several trainings of the method; see `over_training_seeds`.
        transductive: whether the scores of a query depend on the other queries; see `metaevents.benchmark.transduction`.
        transductive_evidence: what gave it away, or what was seen in its favor; None where nothing moved.
        deterministic: whether adapting twice from the same seed gave the same scores, bit for bit.
        time: median milliseconds an episode to adapt (adapt_ms) and to classify (classify_ms), seconds in all (total_s).
        peak_memory_mb: the most that the process held in MiB: on the GPU for a learner there, else resident; None where the
            system does not tell.
        parameters: as the learner offers them.
        spikes_per_sample, synaptic_operations_per_sample: as the learner offers them.
        learner: import path or class name.
        seen: what the weights were trained on, as the learner offers it.
        overlap: what of the test data was among that, as the learner offers it.
        predictions: the answers; not part of the document, None in a report that was read from one.
    """

    metaevents_version: str
    trials: dict[str, Any] | None
    training_seeds: dict[str, Any] | None
    transductive: bool
    transductive_evidence: str | None
    deterministic: bool
    time: dict[str, float]
    peak_memory_mb: float | None
    parameters: int | None
    spikes_per_sample: float | None
    synaptic_operations_per_sample: float | None
    learner: str
    seen: dict[str, Any] | None
    overlap: str | None
    predictions: Predictions | None = field(default=None, repr=False, compare=False)
    _file: dict[str, str] | None = field(default=None, init=False, repr=False, compare=False)

    def _more_lines(self) -> list[str]:
        lines = [
            f"  {name:<13} {runs['mean']:.2%} +- {runs['deviation']:.2%} (deviation over {runs['seeds']})"
            for name, runs in (("trials", self.trials), ("trainings", self.training_seeds))
            if runs
        ]
        evidence = f" ({self.transductive_evidence})" if self.transductive_evidence else ""
        lines.append(
            f"  setting       {'transductive' if self.transductive else 'inductive'}{evidence}"
        )
        if not self.deterministic:
            lines.append("  repeatable    no: adapting twice from one seed gave other scores")
        if self.overlap:
            lines.append(f"  SEEN BEFORE   {self.overlap}")
        adapt, classify = self.time["adapt_ms"], self.time["classify_ms"]
        return [
            *lines,
            f"  time          {adapt:.1f} ms to adapt, {classify:.1f} ms to classify an episode",
        ]

    def save_predictions(self, path: PathLike, scores: bool = False) -> str:
        """Write the prediction file; returns its hex SHA-256. `scores` adds every class score to it.

        Raises:
            UsageError: a report that was read from an entry holds no predictions.
        """
        path = Path(path).expanduser()
        self._file = {"file": path.name, "sha256": self._own_predictions().save(path, scores)}
        return self._file["sha256"]

    def save(self, path: PathLike, **method: Any) -> None:
        """Write an entry: method, report, and name and digest of the prediction file, which belongs beside it.

        The prediction file is the one that `save_predictions` wrote last, or else "predictions.npz", still to be written.

        Args:
            path: the JSON document.
            method: name, authors (a list), citation, code, commit, command, other_data, hardware, notes; null where not given.

        Raises:
            UsageError: another method field, or a report that was read from an entry.
        """
        if unknown := sorted(set(method) - set(METHOD_FIELDS)):
            raise UsageError(
                f"no method field {unknown[0]!r}; choose among {', '.join(METHOD_FIELDS)}"
            )
        digest = hashlib.sha256(self._own_predictions().to_bytes()).hexdigest()
        entry = {
            "format": ENTRY_FORMAT,
            "format_version": ENTRY_FORMAT_VERSION,
            "method": {name: method.get(name) for name in METHOD_FIELDS},
            "report": self.to_dict(),
            "predictions": self._file or {"file": "predictions.npz", "sha256": digest},
        }
        Path(path).expanduser().write_text(readable_json(entry) + "\n", "utf-8")

    def _own_predictions(self) -> Predictions:
        if self.predictions is None:
            raise UsageError(
                "this report was read from an entry and holds no predictions; use the prediction file beside it"
            )
        return self.predictions


def over_training_seeds(reports: Sequence[Report]) -> Report:
    """The first of several reports of one method, trained from different seeds, with `training_seeds` filled from all of them.

    Raises:
        UsageError: fewer than two reports, or reports that are not over the same episodes.
    """
    summary = repeated([report.accuracy for report in reports])
    if (
        len(
            {
                (report.protocol, report.archive["fingerprint"], report.episodes_digest)
                for report in reports
            }
        )
        > 1
    ):
        raise UsageError(
            "the reports are over different episodes; evaluate all trainings under one protocol and archive"
        )
    return replace(reports[0], training_seeds=summary)
