"""What an experiment leaves: its rows as JSON, CSV and a Markdown table, its figure as PNG and SVG.

Each says what it was made on, and all hold the same numbers. Matplotlib is asked for here alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from baselines.experiments.accuracy import Row
from baselines.experiments.plots import grouped
from baselines.experiments.study import Study
from metaevents._version import __version__
from metaevents.errors import UsageError
from metaevents.files import write_atomic

_PANEL = "panel"


def check_matplotlib() -> None:
    """Complain before the work, not after it."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError(
            "figures need matplotlib; `pip install matplotlib`, or this package's extra `reproduce`"
        ) from None


def made_on(study: Study) -> str:
    """What of recordings an experiment ran on: "SIMULATED", "sample" or "full data"."""
    archive = study.test.archive
    if archive.simulated:
        return "SIMULATED"
    return "sample" if archive.source.endswith("-subset") else "full data"


def write(study: Study, rows: Sequence[Row], command: str) -> list[Path]:
    """Write an experiment's five files."""
    document = _document(study, study.experiment.beside_published(rows), command)
    study.out.mkdir(parents=True, exist_ok=True)
    contents = {
        "json": json.dumps(document, indent=1).encode() + b"\n",
        "csv": _csv(document).encode(),
        "md": _markdown(document).encode(),
        **_figures(study, document),
    }
    paths = [study.out / f"{study.experiment.name}.{kind}" for kind in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomic(path, content)
    return paths


def _document(study: Study, rows: list[Row], command: str) -> dict[str, Any]:
    test, budget = study.test, study.budget
    return {
        "format": "metaevents-experiment",
        "experiment": study.experiment.name,
        "title": study.experiment.title,
        "claim": study.experiment.claim,
        "data": made_on(study),
        "dataset": test.name,
        "source": test.archive.source,
        "fingerprint": test.fingerprint,
        "pairing": study.pairing,
        "classes": study.classes,
        "budget": study.budget_name,
        "episodes": budget.episodes,
        "seeds": list(range(budget.trials)),
        "command": command,
        "metaevents": __version__,
        "runs": [run.summary() for run in study.used.values()],
        "notes": study.notes,
        "rows": rows,
    }


def _facts(document: dict[str, Any]) -> str:
    seeds = document["seeds"]
    trials = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return (
        f"{document['data']}: {document['dataset']} from {document['source']}, fingerprint {document['fingerprint'][:16]}; "
        f"pairing {document['pairing']}, classes {document['classes']}; {document['episodes']} episodes of {trials}, budget "
        f"{document['budget']}"
    )


def _csv(document: dict[str, Any]) -> str:
    rows = document["rows"]
    text = io.StringIO()
    for line in (document["title"], _facts(document), document["command"]):
        text.write(f"# {line}\n")
    writer = csv.DictWriter(text, _columns(rows), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _markdown(document: dict[str, Any]) -> str:
    lines = [f"# {document['title']}", "", f"{_facts(document)}.", ""]
    lines += [f"{document['claim']}", ""] if document["claim"] else []
    for panel, rows in grouped(document["rows"], [_PANEL]).items():
        lines += [f"## {panel[0].upper()}{panel[1:]}", ""] if panel else []
        lines += [
            *_table(
                [{name: value for name, value in row.items() if name != _PANEL} for row in rows]
            ),
            "",
        ]
    lines += [f"![{document['title']}]({document['experiment']}.svg)", ""]
    lines += [*(f"- {note}" for note in document["notes"]), ""] if document["notes"] else []
    lines += [
        "Trained runs:",
        "",
        *_table(document["runs"]),
        "",
        f"Made by `{document['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> Iterable[str]:
    columns = _columns(rows)
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_text(row.get(column)) for column in columns)} |"


def _columns(rows: Iterable[Row]) -> list[str]:
    """The columns in which any row has a value, in order of appearance."""
    rows = list(rows)
    return [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(r.get(name) is not None for r in rows)
    ]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _figures(study: Study, document: dict[str, Any]) -> dict[str, bytes]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": document["experiment"], "font.size": 9}
    metadata = {
        "Title": document["title"],
        "Description": f"{_facts(document)}; {document['command']}",
    }
    with rc_context(style):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        figure.suptitle(f"{document['title']} ({document['data']})")
        study.experiment.plot(figure, document["rows"])
        figure.supxlabel(_facts(document), fontsize=6, color="gray")
        found = {}
        for kind, extra in (("png", {}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata={**metadata, **extra})
            found[kind] = buffer.getvalue()
    return found
