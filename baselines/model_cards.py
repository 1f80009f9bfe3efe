"""Model cards: one card per weights file of the release, and the table of all baselines.

Cards are written from the records in the weights files and from the leaderboard's entries, so they
cannot contradict them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from baselines.config import RECIPES, RunConfig
from baselines.learners import SHIPPED
from baselines.publish import TEST_STEPS
from baselines.weights_file import Weights, read_weights
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.markdown import table
from metaevents.benchmark.validation import admit
from metaevents.generated_files import check_generated, write_generated
from metaevents.specs import PAIRINGS

_METHODS = {"maml": "MAML", "fomaml": "first-order MAML", "transfer": "transfer learning"}

_NETWORKS = {"snn": "spiking network", "cnn": "convolutional network on summed counts"}

_SOURCES = {
    "n-mnist-subset": "a sample of N-MNIST (so these weights show what the code does, not what the "
    "method can do)",
    "n-mnist": "N-MNIST",
    "simulated": "SIMULATED recordings",
}


def write(cards: Path) -> list[Path]:
    """Write the card of every weights file of the release, and the table of all baselines.

    Args:
        cards: Folder of the cards, with the entries in `entries`.

    Returns:
        The files that were written.
    """
    files = _files(cards)
    write_generated(files)
    return list(files)


def check(cards: Path) -> list[Path]:
    """Check that all files that `write` would write exist with the same content.

    Args:
        cards: Folder of the cards, with the entries in `entries`.

    Returns:
        The files.

    Raises:
        UsageError: A file is missing or differs.
    """
    files = _files(cards)
    check_generated(files, inputs="the weights and entries", command="python -m baselines cards")
    return list(files)


def _files(cards: Path) -> dict[Path, str]:
    """Return the content of every generated file, by path."""
    entries = [
        entry
        for entry in admit(cards / "entries")
        if entry.report["learner"].startswith("baselines:")
    ]
    shipped = {path: read_weights(path) for path in sorted(SHIPPED.glob("*.safetensors"))}
    files = {
        cards / "models" / f"{path.stem}.md": _card(
            path, weights, [entry for entry in entries if _is_result_of(entry, weights)]
        )
        for path, weights in shipped.items()
    }
    return {**files, cards / "results" / "baselines.md": _all_results(entries)}


def _is_result_of(entry: Entry, weights: Weights) -> bool:
    """Return whether an entry is the result of these weights."""
    seen = entry.report["seen"]
    return bool(
        RunConfig.from_dict(seen["config"]) == weights.config
        and seen["fingerprint"] == weights.record.fingerprint
        and seen["step"] == weights.record.step
    )


def _card(path: Path, weights: Weights, entries: Sequence[Entry]) -> str:
    """Return the card of one weights file."""
    config, record = weights.config, weights.record
    content = path.read_bytes()
    options = "".join(
        f", {name}={json.dumps(getattr(config, name))}"
        for name, default in (("classes", "published"), ("ways", 5), ("recipe", "best"))
        if getattr(config, name) != default
    )
    parameters = sum(value.numel() for value in weights.tensors.values())
    network, method = config.model.split("-")
    ways = f", {config.ways}-way" if config.kind.method == "maml" else ""
    trained, chosen = record.trained, record.chosen
    lines = [
        f"# {config.model.upper()}, recipe “{config.recipe}”: {config.dataset}, {config.classes} "
        f"classes{ways}",
        "",
        f"<!-- Written by `python -m baselines cards` from {path.name} and cards/entries; do not "
        "edit. -->",
        "",
        f"A {_NETWORKS[network]} trained by {_METHODS[method]}, after Stewart and Neftci 2022 "
        "(doi 10.1088/2634-4386/ac8828).",
        "",
        "```python",
        "import baselines",
        "",
        f'learner = baselines.load("{config.model}", dataset="{config.dataset}"{options})',
        "```",
        "",
        f"- File: `baselines/weights/{path.name}`, {len(content):,} bytes, {parameters:,} "
        "parameters, SHA-256",
        f"  `{hashlib.sha256(content).hexdigest()}`",
        f"- Trained on: {_SOURCES.get(record.source, record.source)}, "
        f"{len(trained.recordings):,} recordings, {len(trained.classes)} classes, pairing "
        f"“{config.pairing}”, fingerprint `{record.fingerprint}`",
        f"- Selected on: {len(chosen.recordings):,} other recordings, {len(chosen.classes)} other "
        f"classes; step {record.step:,} of {config.steps:,}",
        "- Never seen: recordings and classes of the test split. `evaluate` refuses a test that "
        "overlaps with what the weights have seen.",
        "- License: Apache-2.0 for the weights; the recordings are N-MNIST's, CC BY-SA 4.0.",
        "",
        "## Configuration",
        "",
        *_differences(config),
        "",
        *_test_steps(record.measured or {}),
        "## Results",
        "",
        _results(entries) if entries else "No entry yet.",
        "",
        "## Learning curve",
        "",
        *_curve(record.curve),
    ]
    return "\n".join(lines) + "\n"


def _differences(config: RunConfig) -> list[str]:
    """Return lines about the fields in which a configuration differs from the paper's recipe."""
    paper = RECIPES[config.model]["paper"]
    names = [
        field.name
        for field in fields(RunConfig)
        if getattr(config, field.name) != getattr(paper, field.name)
    ]
    if names in ([], ["recipe"]):
        return ["The paper's recipe, unchanged."]
    rows = [[name, getattr(config, name), getattr(paper, name)] for name in names]
    return [
        "Differences from the paper's recipe (`baselines.config`):",
        "",
        table(["Field", "Here", "Paper"], rows, "lrr"),
    ]


def _test_steps(measured: Mapping[str, float]) -> list[str]:
    """Return lines about the selection of the inner steps at test, if there was one."""
    accuracies = {
        steps: measured[name]
        for steps in TEST_STEPS
        if (name := f"val_accuracy_{steps}_steps") in measured
    }
    if not accuracies:
        return []
    text = ", ".join(f"{steps}: {100 * value:.1f} %" for steps, value in accuracies.items())
    return [f"The inner steps at test were selected on validation episodes ({text}).", ""]


def _curve(curve: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the table of all validations and a sentence about the best one."""
    rows = [
        [
            f"{line['step']:,}",
            f"{line['loss']:.3f}",
            f"{100 * line['accuracy']:.1f}",
            f"{100 * line['val_accuracy']:.1f} ± {100 * line['val_ci95']:.1f}",
        ]
        for line in curve
    ]
    header = ["Step", "Training loss", "Training accuracy (%)", "Validation accuracy (%)"]
    best = max(curve, key=lambda line: line["val_accuracy"])  # the first of equals
    verdict = _verdict(curve, best)
    if held_out := best.get("held_out_accuracy"):
        verdict += (
            f" At that step, {100 * held_out:.1f} % of the samples of train classes, from held-out "
            "recordings, are classified correctly."
        )
    return [table(header, rows, "rrrr"), "", verdict]


def _verdict(curve: Sequence[Mapping[str, float]], best: Mapping[str, float]) -> str:
    """Return a sentence that says whether longer training might help."""
    if best is not curve[-1]:
        return f"The best validation is that of step {best['step']:,}; no later one is better."
    if len(curve) < 2:
        return "There is only one validation."
    if best["val_accuracy"] - curve[-2]["val_accuracy"] > best["val_ci95"]:
        return "The last validation is the best; the accuracy was still rising."
    return "The last validation is the best; the rise since the one before is within its interval."


def _results(entries: Sequence[Entry]) -> str:
    """Return the table of the entries of one weights file."""
    names = ("name", "classes", "pairing")
    rows = [
        [
            *(entry.protocol[name] for name in names),
            _accuracy(entry.report),
            _bootstrap(entry.report),
        ]
        for entry in sorted(entries, key=lambda e: tuple(str(e.protocol[name]) for name in names))
    ]
    header = ["Protocol", "Classes", "Pairing", "Accuracy (%)", "Over recordings (%)"]
    return table(header, rows, "lllrr")


def _accuracy(report: Mapping[str, Any]) -> str:
    """Return accuracy and interval in %, and those over several trainings if there are any."""
    text = f"{100 * report['accuracy']:.1f} ± {100 * report['ci95']:.1f}"
    if trainings := report["training_seeds"]:
        text += (
            f"; {100 * trainings['mean']:.1f} ± {100 * trainings['deviation']:.1f} over "
            f"{trainings['seeds']} trainings"
        )
    return text


def _bootstrap(report: Mapping[str, Any]) -> str:
    """Return the interval of the bootstrap over recordings in %."""
    low, high = report["bootstrap95"]
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _all_results(entries: Sequence[Entry]) -> str:
    """Return a table per protocol and class split, with both pairings side by side."""
    parts = [
        "# Baselines",
        "<!-- Written by `python -m baselines cards` from cards/entries; do not edit. -->",
        "Accuracy in %, mean ± half of the 95 % confidence interval over the episodes of the test "
        "split. With pairing `published` the test draws from recordings of the val split, by its "
        "definition. The command of each entry is in its file.",
    ]
    by_setting: dict[tuple[str, str], dict[str, dict[str, Entry]]] = {}
    for entry in sorted(entries, key=lambda e: -e.accuracy):
        setting = entry.protocol["name"], entry.protocol["classes"]
        by_pairing = by_setting.setdefault(setting, {}).setdefault(entry.name, {})
        by_pairing[entry.protocol["pairing"]] = entry
    for (protocol, classes), methods in sorted(by_setting.items()):
        rows = [
            [
                name,
                *(
                    _accuracy(by_pairing[pairing].report) if pairing in by_pairing else "not run"
                    for pairing in PAIRINGS
                ),
            ]
            for name, by_pairing in methods.items()
        ]
        header = ["Baseline", *(f"pairing `{pairing}`" for pairing in PAIRINGS)]
        parts.append(f"## {protocol}, classes {classes}\n\n{table(header, rows, 'lrr')}")
    return "\n\n".join(parts) + "\n"
