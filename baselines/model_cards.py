"""The weights that ship, and a card for each: what it was trained on, how it learned, what it scores.

Cards are written from the weights' own record and the leaderboard's entries, so that they cannot say anything else than those.
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
from metaevents.benchmark.validation import admit
from metaevents.errors import UsageError

_TITLES = {"maml": "MAML", "fomaml": "first-order MAML", "transfer": "transfer learning"}

_NETWORKS = {"snn": "spiking network", "cnn": "convolutional network on summed counts"}


def write(cards: Path) -> list[Path]:
    """Write the card of every weights file that ships, and the table of all of them."""
    files = _files(cards)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
    return list(files)


def check(cards: Path) -> list[Path]:
    """The files that `write` would write, which must be there and say the same.

    Raises:
        UsageError: one that does not.
    """
    files = _files(cards)
    stale = [
        str(path)
        for path, text in files.items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]
    if stale:
        raise UsageError(
            f"{' and '.join(stale)}: not what weights and entries give; run `python -m baselines cards`"
        )
    return list(files)


def _files(cards: Path) -> dict[Path, str]:
    entries = [
        entry
        for entry in admit(cards / "entries")
        if entry.report["learner"].startswith("baselines:")
    ]
    shipped = {path: read_weights(path) for path in sorted(SHIPPED.glob("*.safetensors"))}
    files = {
        cards / "models" / f"{path.stem}.md": _card(
            path, weights, [e for e in entries if _trained_as(e, weights)]
        )
        for path, weights in shipped.items()
    }
    return {**files, cards / "results" / "baselines.md": _results(entries)}


def _trained_as(entry: Entry, weights: Weights) -> bool:
    seen = entry.report["seen"]
    return bool(
        RunConfig.from_dict(seen["config"]) == weights.config
        and seen["fingerprint"] == weights.record.fingerprint
        and seen["step"] == weights.record.step
    )


def _card(path: Path, weights: Weights, entries: Sequence[Entry]) -> str:
    config, record = weights.config, weights.record
    content = path.read_bytes()
    options = "".join(
        f", {name}={json.dumps(getattr(config, name))}"
        for name, default in (("classes", "published"), ("ways", 5), ("recipe", "best"))
        if getattr(config, name) != default
    )
    numbers = sum(value.numel() for value in weights.tensors.values())
    network, method = config.model.split("-")
    ways = f", {config.ways}-way" if config.kind.method == "maml" else ""
    trained, chosen = record.trained, record.chosen
    lines = [
        f"# {config.model.upper()}, recipe “{config.recipe}”: {config.dataset}, {config.classes} classes{ways}",
        "",
        f"<!-- Written by `python -m baselines cards` from {path.name} and cards/entries; do not edit. -->",
        "",
        f"A {_NETWORKS[network]} trained by {_TITLES[method]}, after Stewart and Neftci 2022 (doi 10.1088/2634-4386/ac8828).",
        "",
        "```python",
        "import baselines",
        "",
        f'learner = baselines.load("{config.model}", dataset="{config.dataset}"{options})',
        "```",
        "",
        f"- File: `baselines/weights/{path.name}`, {len(content):,} bytes, {numbers:,} parameters, SHA-256",
        f"  `{hashlib.sha256(content).hexdigest()}`",
        f"- Trained on: {_source(record.source)}, {len(trained.recordings):,} recordings, {len(trained.classes)} classes, "
        f"pairing “{config.pairing}”, fingerprint `{record.fingerprint}`",
        f"- Chosen on: {len(chosen.recordings):,} other recordings, {len(chosen.classes)} other classes; step {record.step:,} of "
        f"{config.steps:,}",
        "- Never seen: recordings and classes of the test split. `evaluate` refuses a test that overlaps with what was seen.",
        "- License: Apache-2.0 for the weights; the recordings are N-MNIST's, CC BY-SA 4.0.",
        "",
        "## Configuration",
        "",
        *_differences(config),
        "",
        *_test_steps(record.measured or {}),
        "## Results",
        "",
        *(_table(entries) if entries else ["No entry yet."]),
        "",
        "## Learning curve",
        "",
        *_curve(record.curve),
    ]
    return "\n".join(lines) + "\n"


def _source(source: str) -> str:
    return {
        "n-mnist-subset": "a sample of N-MNIST (so these weights show what the code does, not what the method can do)",
        "n-mnist": "N-MNIST",
        "simulated": "SIMULATED recordings",
    }.get(source, source)


def _differences(config: RunConfig) -> list[str]:
    paper = RECIPES[config.model]["paper"]
    names = [
        field.name
        for field in fields(RunConfig)
        if getattr(config, field.name) != getattr(paper, field.name)
    ]
    if names in ([], ["recipe"]):
        return ["As the paper's recipe."]
    rows = [f"| {name} | {getattr(config, name)} | {getattr(paper, name)} |" for name in names]
    return [
        "Where it differs from the paper's recipe (`baselines.config`):",
        "",
        "| Field | Here | Paper |",
        "|:--|--:|--:|",
        *rows,
    ]


def _test_steps(measured: Mapping[str, float]) -> list[str]:
    """What different numbers of inner steps gave on validation, where that was asked."""
    found = {
        steps: measured[name]
        for steps in TEST_STEPS
        if (name := f"val_accuracy_{steps}_steps") in measured
    }
    if not found:
        return []
    told = ", ".join(f"{steps}: {100 * accuracy:.1f} %" for steps, accuracy in found.items())
    return [f"Inner steps at test were chosen on validation episodes ({told}).", ""]


def _curve(curve: Sequence[Mapping[str, float]]) -> list[str]:
    rows = [
        f"| {line['step']:,} | {line['loss']:.3f} | {100 * line['accuracy']:.1f} | {100 * line['val_accuracy']:.1f} ± "
        f"{100 * line['val_ci95']:.1f} |"
        for line in curve
    ]
    best = max(curve, key=lambda line: line["val_accuracy"])
    verdict = (
        "The last validation is the best: it was still rising."
        if best is curve[-1]
        else f"The best validation is that of step {best['step']:,}; none after it was better."
    )
    aside = best.get("held_out_accuracy")
    kept = (
        f" On train-class samples of recordings kept aside, that step classifies {100 * aside:.1f} % rightly."
        if aside
        else ""
    )
    head = "| Step | Training loss | Training accuracy (%) | Validation accuracy (%) |"
    return [head, "|--:|--:|--:|--:|", *rows, "", verdict + kept]


def _table(entries: Sequence[Entry]) -> list[str]:
    rows = [
        f"| {entry.protocol['name']} | {entry.protocol['classes']} | {entry.protocol['pairing']} | {_accuracy(entry.report)} | "
        f"{_low_to_high(entry.report)} |"
        for entry in sorted(
            entries, key=lambda e: tuple(str(e.protocol[k]) for k in ("name", "classes", "pairing"))
        )
    ]
    return [
        "| Protocol | Classes | Pairing | Accuracy (%) | Over recordings (%) |",
        "|:--|:--|:--|--:|--:|",
        *rows,
    ]


def _accuracy(report: Mapping[str, Any]) -> str:
    text = f"{100 * report['accuracy']:.1f} ± {100 * report['ci95']:.1f}"
    if trainings := report["training_seeds"]:
        text += f"; {100 * trainings['mean']:.1f} ± {100 * trainings['deviation']:.1f} over {trainings['seeds']} trainings"
    return text


def _low_to_high(report: Mapping[str, Any]) -> str:
    low, high = report["bootstrap95"]
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _results(entries: Sequence[Entry]) -> str:
    """A table for each protocol and class split, both pairings side by side."""
    parts = [
        "# Baselines",
        "<!-- Written by `python -m baselines cards` from cards/entries; do not edit. -->",
        "Accuracy in %, mean ± half of the 95 % confidence interval over the episodes of the test split. With pairing "
        "`published` the test draws from recordings that validation draws from, by its definition. Each entry's command is in "
        "its file.",
    ]
    by_setting: dict[tuple[str, str], dict[str, dict[str, Entry]]] = {}
    for entry in sorted(entries, key=lambda e: -e.accuracy):
        setting = entry.protocol["name"], entry.protocol["classes"]
        by_setting.setdefault(setting, {}).setdefault(entry.name, {})[entry.protocol["pairing"]] = (
            entry
        )
    for (protocol, classes), methods in sorted(by_setting.items()):
        lines = [
            f"## {protocol}, classes {classes}",
            "",
            "| Baseline | pairing `all` | pairing `published` |",
            "|:--|--:|--:|",
        ]
        for name, found in methods.items():
            cells = [
                _accuracy(found[p].report) if p in found else "not run"
                for p in ("all", "published")
            ]
            lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
