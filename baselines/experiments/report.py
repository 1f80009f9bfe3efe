"""The files of an experiment's results: JSON, CSV, a Markdown table, and a figure as PNG and SVG.

All hold the same numbers and say on what data, with which weights and by which command they were
made. No other module needs matplotlib.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.experiments.rows import Row, grouped
from baselines.experiments.study import Study
from baselines.experiments.verdicts import without_verdicts
from metaevents._version import __version__
from metaevents.benchmark.markdown import table
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError
from metaevents.files import write_atomic
from metaevents.hashing import readable_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL = "panel"


def check_matplotlib() -> None:
    """Check that matplotlib is installed, before the work rather than after it.

    Raises:
        UsageError: It is not.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError(
            "figures need matplotlib; run `pip install matplotlib`, or install the extra "
            "`metaevents[reproduce]`"
        ) from None


def write(study: Study, rows: Sequence[Row], command: str) -> list[Path]:
    """Write the five files of a result.

    Args:
        study: The study that measured it.
        rows: The experiment's rows.
        command: The command that made them.

    Returns:
        The files.
    """
    document = _document(study, study.experiment.beside_published(rows), command)
    study.results.mkdir(parents=True, exist_ok=True)
    contents: dict[str, str | bytes] = {
        "json": readable_json(document) + "\n",
        "csv": csv_text(document),
        "md": markdown(document),
        **figures(document, study.experiment.plot),
    }
    paths = [study.results / f"{study.experiment.name}.{kind}" for kind in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomic(path, content)
    return paths


def _document(study: Study, rows: list[Row], command: str) -> dict[str, Any]:
    """Return the JSON document of a result."""
    test, budget = study.test, study.budget
    return {
        "format": "metaevents-experiment",
        "experiment": study.experiment.name,
        "title": study.experiment.title,
        "claim": study.experiment.claim,
        "data": _data(test),
        "dataset": test.name,
        "source": test.archive.source,
        "fingerprint": test.fingerprint,
        "pairing": test.pairing,
        "classes": test.class_split,
        "budget": study.budget_name,
        "episodes": budget.episodes,
        "seeds": list(range(budget.trials)),
        "command": command,
        "metaevents": __version__,
        "runs": [run.summary() for run in study.runs.used.values()],
        "notes": study.notes,
        "rows": rows,
    }


def _data(test: ComposedDataset) -> str:
    """Return the kind of the recordings: "SIMULATED", "sample" or "full data"."""
    if test.simulated:
        return "SIMULATED"
    return "sample" if test.archive.source.endswith("-subset") else "full data"


def _facts(document: Mapping[str, Any]) -> str:
    """Return the line about data and episodes that all files have."""
    seeds = document["seeds"]
    trials = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return (
        f"{document['data']}: {document['dataset']} from {document['source']}, "
        f"fingerprint {document['fingerprint'][:16]}; pairing {document['pairing']}, "
        f"classes {document['classes']}; {document['episodes']} episodes of {trials}, "
        f"budget {document['budget']}"
    )


def csv_text(document: Mapping[str, Any]) -> str:
    """Return the CSV file of a result: comments with the facts, then the rows.

    Args:
        document: The JSON document of the result.
    """
    rows = document["rows"]
    text = io.StringIO()
    for line in (document["title"], _facts(document), document["command"]):
        text.write(f"# {line}\n")
    writer = csv.DictWriter(text, _columns(rows), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown(document: Mapping[str, Any]) -> str:
    """Return the Markdown file of a result.

    Args:
        document: The JSON document of the result.
    """
    parts = [f"# {document['title']}", f"{_facts(document)}."]
    if document["claim"]:
        parts.append(document["claim"])
    for panel, rows in grouped(document["rows"], [_PANEL]).items():
        if panel:
            parts.append(f"## {panel[0].upper()}{panel[1:]}")
        parts.append(
            _table([{name: v for name, v in row.items() if name != _PANEL} for row in rows])
        )
    parts.append(f"![{document['title']}]({document['experiment']}.svg)")
    if document["notes"]:
        parts.append("\n".join(f"- {note}" for note in document["notes"]))
    parts += ["Trained runs:", _table(document["runs"]), f"Made by `{document['command']}`."]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    columns = _columns(rows)
    return table(columns, [[row.get(column) for column in columns] for row in rows])


def _columns(rows: Iterable[Row]) -> list[str]:
    """Return the columns in which any row has a value, in order of appearance."""
    rows = list(rows)
    return [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(row.get(name) is not None for row in rows)
    ]


def figures(
    document: Mapping[str, Any], plot: Callable[[Figure, Sequence[Row]], None]
) -> dict[str, bytes]:
    """Return the figure of a result as PNG and SVG.

    Args:
        document: The JSON document of the result.
        plot: Draws the measured rows into an empty figure.

    Returns:
        "png" and "svg" -> content of the file.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": document["experiment"], "font.size": 9}
    metadata = {
        "Title": document["title"],
        "Description": f"{_facts(document)}; {document['command']}",
    }
    contents = {}
    with rc_context(style):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        figure.suptitle(f"{document['title']} ({document['data']})")
        plot(figure, without_verdicts(document["rows"]))
        figure.supxlabel(_facts(document), fontsize=6, color="gray")
        for kind, extra in (("png", {}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata={**metadata, **extra})
            contents[kind] = buffer.getvalue()
    return contents
