"""The report of an evaluation, and the entry made from it: a JSON document and a prediction file.

What an entry must hold to enter the leaderboard is left to `metaevents.benchmark.validation`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np

from metaevents.benchmark.amounts import describe_costs
from metaevents.benchmark.entries import setting_name
from metaevents.benchmark.json_values import to_json
from metaevents.benchmark.predictions import Predictions, write_result
from metaevents.benchmark.protocols import Protocol  # noqa: F401  type of an inherited field
from metaevents.benchmark.schema_errors import method_problem
from metaevents.benchmark.scoring import Score
from metaevents.benchmark.statistics import repeated
from metaevents.errors import MissingError, UsageError
from metaevents.files import PathLike, user_path
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
"""The fields by which an entry describes its method."""


_ROW = re.compile(r"^  (?P<name>\S.*?)(?:\s{2,}|: )(?P<value>.*)$")  # a line of a report's text


@dataclass(frozen=True)
class EpisodeFacts:
    """What an evaluation measured on one episode besides its accuracy.

    Attributes:
        classes: Class names in the order of the labels.
        adapt_ms: Milliseconds to adapt.
        classify_ms: Milliseconds to classify all queries.
    """

    classes: tuple[str, ...]
    adapt_ms: float
    classify_ms: float


@dataclass(kw_only=True)
class Report(Score):
    """A score, and what the evaluation measured besides; has all attributes of `Score`.

    Attributes:
        metaevents_version: Version of the release that wrote the report.
        trials: Over repeated trials: seeds, mean, deviation, accuracies; None if only one was run.
        training_seeds: The same over several trainings of the method; see `over_training_seeds`.
        transductive: Whether the scores of a query depend on the other queries; None if the learner
            was not probed. See `metaevents.benchmark.transduction`.
        transductive_evidence: The observation behind `transductive`; None if nothing changed.
        stateful: Whether the same queries, asked twice without adapting anew, got other scores;
            None if that was not measured.
        stateful_evidence: The observation that shows it; None if it is not stateful.
        deterministic: Whether adapting twice from the same seed gave bit-identical scores; None if
            the learner was not probed.
        time: Median milliseconds per episode to adapt (adapt_ms) and to classify (classify_ms),
            seconds that the probe took (probe_s, None if there was none), and seconds in total
            (total_s).
        peak_memory_mb: Peak memory in MiB: allocated on the GPU for a learner on a GPU, else the
            process's resident set; None if the system does not report it.
        parameters: Number of parameters, as the learner reports it.
        spikes_per_sample: Mean number of spikes, as the learner reports it.
        synaptic_operations_per_sample: Mean number, as the learner reports it.
        costs: What one sample and one adaptation cost, as the learner reports it: operations,
            memory and sparsity; see `metaevents.benchmark.learner_metrics.cost_fields`.
        learner: Import path of the learner, or the name given on the command line.
        seen: What the weights were trained on, as the learner reports it.
        overlap: What of the test data they were trained on, as the learner reports it.
        predictions: The predictions. They are not part of the document, and None in a report that
            was read from one.
        episode_facts: Classes and times of each episode, in order. They are not part of the
            document, and None in a report that was read from one.
    """

    metaevents_version: str
    trials: dict[str, Any] | None
    training_seeds: dict[str, Any] | None
    transductive: bool | None
    transductive_evidence: str | None
    stateful: bool | None
    stateful_evidence: str | None
    deterministic: bool | None
    time: dict[str, float | None]
    peak_memory_mb: float | None
    parameters: int | None
    spikes_per_sample: float | None
    synaptic_operations_per_sample: float | None
    costs: dict[str, Any] | None
    learner: str
    seen: dict[str, Any] | None
    overlap: str | None
    predictions: Predictions | None = field(default=None, repr=False, compare=False)
    episode_facts: Sequence[EpisodeFacts] | None = field(default=None, repr=False, compare=False)
    _file: dict[str, str] | None = field(default=None, init=False, repr=False, compare=False)

    def _more_lines(self) -> list[str]:
        """Return the lines of the text that a score does not have."""
        lines = [
            f"  {name:<13} {summary['mean']:.2%} +- {summary['deviation']:.2%} "
            f"(standard deviation over {summary['seeds']})"
            for name, summary in (("trials", self.trials), ("trainings", self.training_seeds))
            if summary
        ]
        evidence = f" ({self.transductive_evidence})" if self.transductive_evidence else ""
        lines.append(f"  setting       {setting_name(self.transductive)}{evidence}")
        if self.stateful:
            lines.append(f"  stateful      yes: {self.stateful_evidence}")
        if self.deterministic is False:
            lines.append("  repeatable    no: adapting twice from one seed gave different scores")
        if self.overlap:
            lines.append(f"  SEEN BEFORE   {self.overlap}")
        if costs := self.costs:
            adaptation = costs.get("adaptation") or {}
            described = {
                "per sample": describe_costs(costs, self.spikes_per_sample),
                "to adapt": describe_costs(adaptation, adaptation.get("spikes")),
            }
            lines += [f"  {name:<13} {text}" for name, text in described.items() if text]
        time = self.time
        texts = {name: "?" if value is None else f"{value:.1f}" for name, value in time.items()}
        probe = "" if time["probe_s"] is None else f"{texts['probe_s']} s to probe, "
        return [
            *lines,
            f"  time          {texts['adapt_ms']} ms to adapt, {texts['classify_ms']} ms to "
            f"classify per episode (medians); {probe}{texts['total_s']} s in total",
        ]

    def _repr_html_(self) -> str:
        """Return the text of the report as an HTML table, which notebooks show."""
        title, *lines = str(self).splitlines()
        rows = []
        for line in lines:
            match = _ROW.match(line)
            name, value = match.group("name", "value") if match else ("", line)
            cells = "".join(
                f'<t{kind} style="text-align: left; vertical-align: top">{escape(text.strip())}'
                f"</t{kind}>"
                for kind, text in (("h", name), ("d", value))
            )
            rows.append(f"<tr>{cells}</tr>")
        caption = f'<caption style="text-align: left">{escape(title)}</caption>'
        return f"<table>{caption}<tbody>{''.join(rows)}</tbody></table>"

    def to_frame(self) -> Any:
        """Return the episodes as a table of pandas.

        Returns:
            One row per episode, in order: `episode` (the index of the frame, from 0), `accuracy` (0
            to 1), `classes` (names in the order of the labels, as a tuple), `adapt_ms` and
            `classify_ms`. The last three columns are missing in a report that was read from an
            entry.

        Raises:
            MissingError: pandas is not installed.

        Example:
            report.to_frame().explode("classes").groupby("classes").accuracy.mean()
        """
        try:
            pandas: Any = import_module("pandas")
        except ImportError as error:
            raise MissingError(
                "to_frame() needs pandas, which is not installed; run `pip install pandas`, or use "
                "report.per_episode"
            ) from error
        columns: dict[str, Any] = {"accuracy": self.per_episode}
        for name in ("classes", "adapt_ms", "classify_ms") if self.episode_facts else ():
            columns[name] = [getattr(facts, name) for facts in self.episode_facts or ()]
        index = pandas.RangeIndex(len(self.per_episode), name="episode")
        return pandas.DataFrame(columns, index=index)

    def save_predictions(self, path: PathLike, scores: bool = False) -> str:
        """Write the prediction file.

        Args:
            path: The file, which is replaced.
            scores: Include all class scores.

        Returns:
            Hex SHA-256 of the file.

        Raises:
            UsageError: The report was read from an entry, so it holds no predictions, or the file
                cannot be written. The message of the latter says where it was written instead.
        """
        path = user_path(path)
        content = self._require_predictions().to_bytes(scores)
        write_result(path, content)
        self._file = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
        return self._file["sha256"]

    def save(self, path: PathLike, **method: Any) -> None:
        """Write an entry: the method, the report, and name and digest of the prediction file.

        The prediction file is the one that `save_predictions` wrote last. Before any call of it,
        the entry names "predictions.npz", which is not written. It belongs beside the entry.

        Args:
            path: The JSON document, which is replaced.
            method: name, authors (a list), citation, code, commit, command, other_data, hardware
                and notes of the method. Fields not given are null.

        Raises:
            UsageError: A method field is unknown or cannot be written, the report was read from an
                entry, or the file cannot be written. The message of the last says where the entry
                was written instead.
        """
        fields = _method_fields(method)
        digest = hashlib.sha256(self._require_predictions().to_bytes()).hexdigest()
        entry = {
            "format": ENTRY_FORMAT,
            "format_version": ENTRY_FORMAT_VERSION,
            "method": {name: fields.get(name) for name in METHOD_FIELDS},
            "report": {**self.to_dict(), "seen": to_json("seen", self.seen)},
            "predictions": self._file or {"file": "predictions.npz", "sha256": digest},
        }
        try:
            text = readable_json(entry) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"the report cannot be written as JSON ({error}); restore the fields that were "
                "changed after the evaluation"
            ) from error
        write_result(user_path(path), text.encode())

    def _require_predictions(self) -> Predictions:
        """Return the predictions, or raise a UsageError if the report holds none."""
        if self.predictions is None:
            raise UsageError(
                "this report was read from an entry and holds no predictions; use the prediction "
                "file beside the entry"
            )
        return self.predictions


def check_method(method: Mapping[str, Any]) -> None:
    """Check method fields of an entry before the work, as `metaevents validate` will check them.

    Args:
        method: The fields by name; those that are None are not checked.

    Raises:
        UsageError: A field is unknown, or is not what the schema of entries describes.
    """
    fields = _method_fields(method)
    for name in METHOD_FIELDS:
        if fields.get(name) is not None and (problem := method_problem(name, fields[name])):
            raise UsageError(problem)


def _method_fields(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return the method fields of an entry as JSON can write them."""
    if unknown := sorted(set(method) - set(METHOD_FIELDS)):
        raise UsageError(f"no method field {unknown[0]!r}; choose among {', '.join(METHOD_FIELDS)}")
    return {name: to_json(f"method field {name}", value) for name, value in method.items()}


def over_training_seeds(reports: Sequence[Report]) -> Report:
    """Combine the reports of one method that was trained from different seeds.

    Args:
        reports: One report per training, all over the same episodes.

    Returns:
        The first report, with `training_seeds` computed over all of them.

    Raises:
        UsageError: There are fewer than two reports, they are not over the same episodes, two of
            them are of one training, or they are of different methods, as far as the reports tell.
    """
    summary = repeated([report.accuracy for report in reports])
    episodes = {
        (report.protocol, report.archive["fingerprint"], report.episodes_digest)
        for report in reports
    }
    if len(episodes) > 1:
        raise UsageError(
            "the reports are over different episodes; evaluate all trainings under one protocol "
            "and archive"
        )
    for one, other in combinations(reports, 2):
        if _same_training(one, other):
            raise UsageError("two of the reports are of one training; give one report per training")
    configs = [_config_but_seed(report) for report in reports]
    if any(config != configs[0] for config in configs):
        raise UsageError(
            "the reports are of different methods, as their `seen` says; give trainings that "
            "differ by their seed alone"
        )
    return replace(reports[0], training_seeds=summary)


def _same_training(one: Report, other: Report) -> bool:
    """Return whether two reports are the same, or have the same scores."""
    if one is other:
        return True
    a, b = (report.predictions.scores if report.predictions else None for report in (one, other))
    return a is not None and b is not None and np.array_equal(a, b)


def _config_but_seed(report: Report) -> dict[str, Any] | None:
    """Return the configuration that a report's learner states, without the seed; None if none."""
    config = (report.seen or {}).get("config")
    if not isinstance(config, Mapping):
        return None
    return {name: value for name, value in config.items() if name != "seed"}
