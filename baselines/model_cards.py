"""Model cards: one card per weights file of the release, and the tables of all baselines.

Cards are written from the records in the weights files and from the leaderboard's entries, so they
cannot contradict them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from baselines.config import RECIPES, SAME_WEIGHTS, RunConfig
from baselines.energy_card import energy_card
from baselines.inner_steps import is_inside, measured_steps
from baselines.released import SHIPPED
from baselines.reproduction_card import reproduction_card
from baselines.weights_file import Weights, read_weights
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.markdown import table
from metaevents.benchmark.validation import admit
from metaevents.benchmark.wording import unshared
from metaevents.generated_files import check_generated, write_generated
from metaevents.hub_metadata import TAGS, TASK, front_matter
from metaevents.specs import PAIRINGS, get_spec

_RESULTS_NOTE = (
    "Accuracy: ± half of the 95 % interval over fresh recordings and episodes, for this one "
    "training ([statistics](../statistics.md)). Unshared queries: the accuracy on the queries "
    "none of whose recordings is in the support of another class of the episode, and their share."
)

_LOAD_DEFAULTS: Mapping[str, Any] = {
    "classes": "published",
    "ways": 5,
    "recipe": "best",
    "pairing": "all",
    "seed": 0,
}
"""Options of `baselines.load` and their defaults."""

_METHODS = {
    "maml": "MAML",
    "fomaml": "first-order MAML",
    "reptile": "REPTILE",
    "transfer": "transfer learning",
    "components": "component matching",
}

_ENTRIES = "../entries/{}"
"""Address of an entry's file, relative to a model card."""

_NETWORKS = {"snn": "spiking network", "cnn": "convolutional network on summed counts"}

_SOURCES = {
    "n-mnist-subset": "a sample of N-MNIST (so these weights show what the code does, not what the "
    "method can do)",
    "n-mnist": "N-MNIST",
    "simulated": "SIMULATED recordings",
}


def write(cards: Path) -> list[Path]:
    """Write the card of every weights file of the release, and the tables of all baselines.

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
    files |= {
        cards / "results" / "baselines.md": _all_results(entries),
        cards / "energy.md": energy_card(entries),
    }
    path = cards / "reproduction.md"
    if path.is_file():
        text = path.read_text("utf-8")
        weights = list(shipped.values())
        files[path] = reproduction_card(text, path, entries, cards / "results", weights)
    return files


def _is_result_of(entry: Entry, weights: Weights) -> bool:
    """Return whether an entry is the result of these weights, under any recipe that takes them."""
    seen = entry.report["seen"]
    config = RunConfig.from_dict(seen["config"])
    if {config.recipe, weights.config.recipe} <= set(SAME_WEIGHTS):
        config = replace(config, recipe=weights.config.recipe, sharing=weights.config.sharing)
    return bool(
        config == weights.config
        and seen["fingerprint"] == weights.record.fingerprint
        and seen["step"] == weights.record.step
    )


def _card(path: Path, weights: Weights, entries: Sequence[Entry]) -> str:
    """Return the card of one weights file."""
    config, record = weights.config, weights.record
    content = path.read_bytes()
    options = "".join(
        f", {name}={json.dumps(getattr(config, name))}"
        for name, default in _LOAD_DEFAULTS.items()
        if getattr(config, name) != default
    )
    parameters = sum(value.numel() for value in weights.tensors.values())
    ways = f", {config.ways}-way" if config.kind.method == "maml" else ""
    trained, chosen = record.trained, record.chosen
    lines = [
        *front_matter(_hub_fields(path.stem, config, entries)).splitlines(),
        "",
        f"# {config.model.upper()}, recipe “{config.recipe}”: {config.dataset}, {config.classes} "
        f"classes{ways}{_training(config)}",
        "",
        f"<!-- Written by `python -m baselines cards` from {path.name} and cards/entries; do not "
        "edit. -->",
        "",
        _introduction(config),
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


def _introduction(config: RunConfig) -> str:
    """Return the sentence about a model."""
    network, method = config.model.split("-")
    source = "after Stewart and Neftci 2022 (doi 10.1088/2634-4386/ac8828)."
    if method != "components":
        return f"A {_NETWORKS[network]} trained by {_METHODS[method]}, {source}"
    return (
        f"A {_NETWORKS[network]}, {source[:-1]}, trained to classify single components of the "
        "train classes, whole or stitched from two. The outputs of its convolutions are compared "
        'after alignment (`baselines.components`). With `recipe="own"`, a side of a query is '
        "compared with the sides of each class; by default also with all other sides of the "
        "support."
    )


def _training(config: RunConfig) -> str:
    """Return the words of a title that tell trainings of one recipe apart."""
    pairing = f", trained with pairing {config.pairing}" if config.pairing != "all" else ""
    return pairing + (f", seed {config.seed}" if config.seed else "")


def _hub_fields(name: str, config: RunConfig, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what the Hugging Face Hub reads from the card of one weights file."""
    network, method = config.model.split("-")
    tags = ["spiking-neural-networks"] if network == "snn" else []
    fields: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "metaevents",
        "pipeline_tag": TASK,
        "datasets": [config.dataset],
        "metrics": ["accuracy"],
        "tags": [*TAGS, *tags, _METHODS[method].replace(" ", "-").lower()],
    }
    if entries:
        results = [_hub_result(entry) for entry in _in_order(entries)]
        fields["model-index"] = [{"name": name, "results": results}]
    return fields


def _hub_result(entry: Entry) -> dict[str, Any]:
    """Return the result of an entry as an item of a model index."""
    protocol, report = entry.protocol, entry.report
    dataset = get_spec(protocol["dataset"]).title
    recordings = f", source {report['archive']['source']}" if entry.is_subset else ""
    recipe = _own_recipe(entry)
    return {
        "task": {
            "type": TASK,
            "name": f"{protocol['ways']}-way {protocol['shots']}-shot classification",
        },
        "dataset": {
            "type": protocol["dataset"],
            "name": f"{dataset}{recordings}",
            "config": f"{_versioned(protocol)}, classes {protocol['classes']}, pairing "
            f"{protocol['pairing']}" + (f", recipe {recipe}" if recipe else ""),
            "split": protocol["split"],
            "revision": report["archive"]["fingerprint"],
        },
        "metrics": [
            {
                "type": "accuracy",
                "name": f"Accuracy (%), ± {100 * report['ci95']:.1f} (95 % interval over fresh "
                "recordings and episodes)",
                "value": round(100 * report["accuracy"], 2),
                "verified": False,
            }
        ],
        "source": {"name": "Entry of the leaderboard", "url": _ENTRIES.format(entry.path.name)},
    }


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries in the order of protocol, classes and pairing; newest versions first."""
    names = ("name", "classes", "pairing")

    def key(entry: Entry) -> tuple[Any, ...]:
        protocol = entry.protocol
        return (-protocol["version"], *(str(protocol[name]) for name in names))

    return sorted(entries, key=key)


def _versioned(protocol: Mapping[str, Any]) -> str:
    """Return the name of a protocol with its version, such as "sample-5way-1shot, version 2"."""
    return f"{protocol['name']}, version {protocol['version']}"


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
    accuracies = measured_steps(measured)
    if not accuracies:
        return []
    text = ", ".join(f"{steps}: {100 * value:.1f} %" for steps, value in accuracies.items())
    cut = "" if is_inside(measured) else " The best number is the last one that was compared."
    return [f"The inner steps at test were selected on validation episodes ({text}).{cut}", ""]


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
    over = (
        "fresh recordings and episodes"
        if all("val_episode_ci95" in line for line in curve)
        else "episodes of the same recordings; the answers that one over recordings needs were not "
        "kept"
    )
    interval = f"± half of the 95 % interval over {over}."
    best = max(curve, key=lambda line: line["val_accuracy"])  # the first of equals
    verdict = _verdict(curve, best)
    if held_out := best.get("held_out_accuracy"):
        verdict += (
            f" At that step, {100 * held_out:.1f} % of the samples of train classes, from held-out "
            "recordings, are classified correctly."
        )
    return [table(header, rows, "rrrr"), "", interval, "", verdict]


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
    names = ("classes", "pairing")
    rows = [
        [
            _own_recipe(entry),
            _versioned(entry.protocol),
            *(entry.protocol[name] for name in names),
            _accuracy(entry.report),
            unshared(entry.report),
            _trainings(entry.report),
        ]
        for entry in _in_order(entries)
    ]
    header = [
        "Recipe",
        "Protocol",
        "Classes",
        "Pairing",
        "Accuracy (%)",
        "Unshared queries (%)",
        "Over trainings (%)",
    ]
    return "\n\n".join([_filled_table(header, rows, "llllrrl"), _RESULTS_NOTE])


def _own_recipe(entry: Entry) -> str | None:
    """Return the recipe of an entry where several recipes take the same weights, else None."""
    config = RunConfig.from_dict(entry.report["seen"]["config"])
    return config.recipe if config.kind.method == "components" else None


def _filled_table(header: Sequence[str], rows: Sequence[Sequence[object]], align: str) -> str:
    """Return a table without the columns in which no row has a value."""
    kept = [i for i in range(len(header)) if any(row[i] is not None for row in rows)]
    return table(
        [header[i] for i in kept],
        [[row[i] for i in kept] for row in rows],
        "".join(align[i] for i in kept),
    )


def _accuracy(report: Mapping[str, Any]) -> str:
    """Return accuracy and interval in %."""
    return f"{100 * report['accuracy']:.1f} ± {100 * report['ci95']:.1f}"


def _trainings(report: Mapping[str, Any]) -> str | None:
    """Return mean and deviation over training seeds in %, or None for a single training."""
    trainings = report["training_seeds"]
    if trainings is None:
        return None
    return (
        f"mean {100 * trainings['mean']:.1f}, deviation {100 * trainings['deviation']:.1f} over "
        f"{trainings['seeds']} trainings"
    )


def _all_results(entries: Sequence[Entry]) -> str:
    """Return a table per protocol and class split, with both pairings side by side."""
    parts = [
        "# Baselines",
        "<!-- Written by `python -m baselines cards` from cards/entries; do not edit. -->",
        "Accuracy in %: the mean over the episodes of the test split, ± half of its 95 % interval "
        "over fresh recordings and episodes ([statistics](../statistics.md)). It holds for the one "
        "training of the weights; the deviation over training seeds stands beside it where several "
        "were trained. With pairing `published` the test draws from recordings of the val split, "
        "by its definition. The command of each entry is in its file.",
    ]
    by_setting: dict[tuple[int, str, str], dict[str, dict[str, Entry]]] = {}
    for entry in sorted(entries, key=lambda e: -e.accuracy):
        protocol = entry.protocol
        setting = -protocol["version"], protocol["name"], protocol["classes"]  # newest first
        by_pairing = by_setting.setdefault(setting, {}).setdefault(entry.name, {})
        by_pairing[entry.protocol["pairing"]] = entry
    for (version, protocol_name, classes), methods in sorted(by_setting.items()):
        rows = [
            [
                name,
                *(
                    _accuracy(by_pairing[pairing].report) if pairing in by_pairing else "not run"
                    for pairing in PAIRINGS
                ),
                *(
                    _trainings(by_pairing[pairing].report) if pairing in by_pairing else None
                    for pairing in PAIRINGS
                ),
            ]
            for name, by_pairing in methods.items()
        ]
        header = [
            "Baseline",
            *(f"pairing `{pairing}`" for pairing in PAIRINGS),
            *(f"trainings, `{pairing}`" for pairing in PAIRINGS),
        ]
        heading = f"## {protocol_name}, version {-version}, classes {classes}"
        parts.append(f"{heading}\n\n{_filled_table(header, rows, 'lrrll')}")
    return "\n\n".join(parts) + "\n"
