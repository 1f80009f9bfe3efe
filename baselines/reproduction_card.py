"""The generated parts of `cards/reproduction.md`: verdicts, and published beside measured values.

All numbers are read from the leaderboard's entries, the results of experiments and the records of
the weights, and every verdict follows from them by one rule (`baselines.experiments.verdicts`). So
the card cannot contradict them. What the card says beside is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from baselines.config import RECIPES, RunConfig
from baselines.experiments.claims import Judged, judged, percent, points
from baselines.experiments.names import EXPERIMENT_MODULES
from baselines.experiments.verdicts import (
    MARGIN,
    NOT_RESOLVED,
    NOT_TESTED,
    TRAININGS,
    over_trainings,
    verdict,
)
from baselines.inner_steps import is_inside
from baselines.weights_file import Weights
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.episode_files import read_episode_file
from metaevents.benchmark.markdown import escape_markdown, table
from metaevents.benchmark.predictions import Predictions
from metaevents.benchmark.protocols import Protocol
from metaevents.benchmark.recording_variance import RecordingDesign
from metaevents.benchmark.statistics import difference_half_width
from metaevents.errors import MissingError
from metaevents.generated_files import with_part
from metaevents.specs import PAIRINGS

VERDICTS_MARK = "<!-- verdicts: written by `python -m baselines cards`; do not edit -->"
"""The line before the table of verdicts."""

VALUES_MARK = "<!-- values: written by `python -m baselines cards`; do not edit -->"
"""The line before the table of published values."""

_MODELS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"SNN-MAML": (0.9823, 0.0112), "CNN-MAML": (0.9835, 0.0126), "SNN-FOMAML": (0.9263, 0.0074)}
)
"""Name of a method -> its published accuracy and deviation over ten streams of episodes (Double
N-MNIST, 5-way 1-shot, meta-test)."""

_PAPERS_RECIPE = {
    "SNN-MAML (paper)": "all",
    "SNN-MAML (paper, trained with pairing published)": "published",
}
"""Name of a method with the paper's recipe -> pairing of its training."""

_STREAMS = 10  # of episodes, in the paper

_PAPERS_AVERAGES = {"outer": 7.72e-5, "inner": 0.0044, "non-meta": 0.0005}

_SETTINGS = (("published", "all"), ("published", "published"), ("novel-components", "all"))
"""Class split and pairing of the results, in the order of the card."""


def reproduction_card(
    text: str, path: Path, entries: Sequence[Entry], results: Path, weights: Sequence[Weights]
) -> str:
    """Return the card with its generated parts renewed.

    Args:
        text: The card.
        path: Where it is from, for messages.
        entries: Entries of the baselines.
        results: Folder of the results of experiments.
        weights: The weights of the release.

    Raises:
        UsageError: The card has no place for a part.
    """
    facts = Facts.read(entries, results, weights)
    for mark, content in ((VERDICTS_MARK, _verdicts(facts)), (VALUES_MARK, _values(facts))):
        text = with_part(text, mark, content, path)
    return text


@dataclass(frozen=True)
class Facts:
    """What the card is made from.

    Attributes:
        entries: Entries of the baselines.
        documents: Class split, pairing and name of an experiment -> its result on Double N-MNIST.
        weights: The weights of the release.
    """

    entries: tuple[Entry, ...]
    documents: Mapping[tuple[str, str, str], Mapping[str, Any]]
    weights: tuple[Weights, ...]

    @classmethod
    def read(cls, entries: Sequence[Entry], results: Path, weights: Sequence[Weights]) -> Facts:
        """Read the results of experiments in a folder."""
        documents = {}
        for classes, pairing in _SETTINGS:
            for name in EXPERIMENT_MODULES:
                path = results / "double-nmnist" / classes / pairing / f"{name}.json"
                if path.is_file():
                    documents[classes, pairing, name] = json.loads(path.read_text("utf-8"))
        return cls(tuple(entries), documents, tuple(weights))

    def entry(self, name: str, shots: int, classes: str, pairing: str) -> Entry | None:
        """Return a method's 5-way entry with the newest version of its protocol, or None."""
        found = self._by_version(name, shots, classes, pairing)
        return found[max(found)] if found else None

    def pair(
        self, name: str, other: str, shots: int, classes: str, pairing: str
    ) -> tuple[Entry, Entry] | None:
        """Return the 5-way entries of two methods, of the newest version that both have."""
        of_both = [self._by_version(each, shots, classes, pairing) for each in (name, other)]
        shared = set(of_both[0]) & set(of_both[1])
        return (of_both[0][max(shared)], of_both[1][max(shared)]) if shared else None

    def _by_version(self, name: str, shots: int, classes: str, pairing: str) -> dict[int, Entry]:
        """Return a method's 5-way entries by the version of their protocol."""
        return {
            entry.protocol["version"]: entry
            for entry in self.entries
            if entry.name == name
            and entry.protocol["dataset"] == "double-nmnist"
            and (entry.protocol["ways"], entry.protocol["shots"]) == (5, shots)
            and (entry.protocol["classes"], entry.protocol["pairing"]) == (classes, pairing)
        }

    def on_validation(self, recipe: str, pairing: str) -> str:
        """Return the validation accuracy of SNN-MAML's weights of a recipe, in words."""
        for each in self.weights:
            config, measured = each.config, each.record.measured or {}
            if (config.model, config.recipe, config.classes) == (
                "snn-maml",
                recipe,
                "published",
            ) and (config.pairing, config.seed, config.ways) == (pairing, 0, 5):
                value = percent(measured["val_accuracy"], measured["val_ci95"])
                steps = f"{each.record.step:,} of {config.steps:,} steps"
                return f"{value} on validation episodes, after {steps}"
        return ""

    def weights_of(self, entry: Entry) -> Weights | None:
        """Return the weights of the release whose result an entry is, or None."""
        config = RunConfig.from_dict(entry.report["seen"]["config"])
        return next((each for each in self.weights if each.config == config), None)


# --- verdicts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """A line of a table of verdicts.

    Attributes:
        judged: The claim and its verdict.
        tests: Class split and pairing of each test.
        differs: What differs from the paper: recipe, training, data.
    """

    judged: Judged
    tests: tuple[tuple[str, str], ...]
    differs: tuple[str, ...] = ()

    def cells(self, stated: Sequence[str] = ()) -> list[str]:
        """Return the cells of the line.

        Args:
            stated: What differs according to the text above the table.
        """
        own = ", ".join(text for text in self.differs if text not in stated)
        return [
            self.judged.claim,
            self.where,
            f"**{self.judged.verdict}**",
            escape_markdown(self.judged.measured),
            escape_markdown("; ".join(text for text in (self.judged.differs, own) if text)),
        ]

    @property
    def where(self) -> str:
        """Words for the class splits and pairings of the tests."""
        return "; ".join(_test(*each) for each in self.tests)

    @property
    def is_plain_gap(self) -> bool:
        """Whether nothing is known that a table could show."""
        return self.judged.verdict == NOT_TESTED and not self.judged.measured


def _test(classes: str, pairing: str) -> str:
    """Return the words for the class split and the pairing of a test."""
    return f"`{pairing}`" + (", novel components" if classes == "novel-components" else "")


_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "The inner loop: figures 3, 4 and 5, table 3": ("fig3", "fig4", "table3", "fig5"),
        "Transfer learning: figure 6": ("fig6",),
        "Low precision": ("quantization",),
        "Approximate learning rules": ("plasticity", "direct-feedback"),
        "REPTILE": ("reptile",),
        "Online adaptation and relearning": ("online", "relearning"),
    }
)
"""Heading -> the experiments that are judged below it. Table 2 is judged from entries, which have
more episodes."""


def _verdicts(facts: Facts) -> str:
    """Return the tables of verdicts, one per topic."""
    parts = [_group("Accuracy: table 2", _reaching(facts), share=False)]
    parts.append(
        _group("Spiking and not; second order, first order and REPTILE", _comparisons(facts))
    )
    parts += [_group(title, _experiments(facts, names)) for title, names in _GROUPS.items()]
    return "\n\n".join(parts)


def _group(title: str, lines: Sequence[_Line], share: bool = True) -> str:
    """Return a heading and a table of verdicts.

    Args:
        title: The heading.
        lines: The lines. Those of which nothing is known become one sentence.
        share: Whether what differs in all lines is said once, above the table.
    """
    shown = [line for line in lines if not line.is_plain_gap]
    with_differences = [line.differs for line in shown if line.differs]
    stated = [
        text
        for text in (with_differences[0] if share and len(with_differences) > 1 else ())
        if all(text in each for each in with_differences)
    ]
    parts = [f"### {title}"]
    if stated:
        parts.append(f"In all lines, this differs from the paper: {', '.join(stated)}.")
    if shown:
        header = ["Claim", "Pairing", "Verdict", "Measured", "What differs from the paper"]
        parts.append(table(header, [line.cells(stated) for line in shown], "lllll"))
    gaps: dict[str, list[str]] = {}
    for line in lines:
        if line.is_plain_gap:
            gaps.setdefault(line.judged.claim, []).append(line.where)
    if gaps:
        items = [f"- {claim}: {'; '.join(where)}" for claim, where in gaps.items()]
        parts.append("\n".join([f"**{NOT_TESTED.capitalize()}**:\n", *items]))
    return "\n\n".join(parts)


def _reaching(facts: Facts) -> list[_Line]:
    """Return the lines on SNN-MAML's accuracy, with this package's recipe and the paper's."""
    published, _ = _MODELS["SNN-MAML"]
    lines = []
    for name in ("SNN-MAML", *_PAPERS_RECIPE):
        recipe = "the paper's recipe" if name in _PAPERS_RECIPE else "this package's recipe"
        claim = f"SNN-MAML reaches {percent(published)}, 5-way 1-shot, {recipe}"
        if name in _PAPERS_RECIPE:
            claim += f" trained with pairing {_PAPERS_RECIPE[name]}"
        for pairing in PAIRINGS:
            entry = facts.entry(name, 1, "published", pairing)
            if entry is None:
                trained = _PAPERS_RECIPE.get(name)
                measured = facts.on_validation("paper", pairing) if trained == pairing else ""
                judged = Judged(claim, NOT_TESTED, measured)
                lines.append(_Line(judged, (("published", pairing),)))
                continue
            report = entry.report
            outcome = verdict(report["accuracy"], report["ci95"], published)
            measured = f"{percent(report['accuracy'], report['ci95'])}{_over_trainings(entry)}"
            lines.append(
                _Line(
                    Judged(claim, outcome, measured),
                    (("published", pairing),),
                    tuple(differences(entry)),
                )
            )
    return lines


def _comparisons(facts: Facts) -> list[_Line]:
    """Return the lines on two methods."""
    return [*_as_well(facts), *_second_order(facts), *_reptile(facts)]


def _as_well(facts: Facts) -> list[_Line]:
    """Return the lines on SNN-MAML beside CNN-MAML."""
    claim = "SNN-MAML does as well as CNN-MAML (at most one point less), {}-shot"
    cases = [("published", pairing, shots) for shots in (1, 5) for pairing in PAIRINGS]
    return [
        _comparison(facts, "SNN-MAML", "CNN-MAML", case, claim.format(case[2]), -MARGIN)
        for case in [*cases, ("novel-components", "all", 1)]
    ]


def _second_order(facts: Facts) -> list[_Line]:
    """Return the lines on MAML beside first-order MAML."""
    return [
        _comparison(
            facts, f"{network}-MAML", f"{network}-FOMAML", ("published", pairing, 1),
            f"Without second-order terms accuracy falls ({network}-MAML minus {network}-FOMAML, "
            "1-shot)",
            0.0, tuned=True,
        )
        for network in ("SNN", "CNN")
        for pairing in PAIRINGS
    ]  # fmt: skip


def _reptile(facts: Facts) -> list[_Line]:
    """Return the lines on MAML beside REPTILE."""
    claim = "MAML is more accurate than REPTILE ({0}-MAML minus {0}-REPTILE, 1-shot)"
    return [
        _comparison(
            facts, f"{network}-MAML", f"{network}-REPTILE", ("published", pairing, 1),
            claim.format(network), 0.0,
        )
        for network in ("SNN", "CNN")
        for pairing in PAIRINGS
    ]  # fmt: skip


def _comparison(
    facts: Facts,
    name: str,
    other: str,
    case: tuple[str, str, int],
    claim: str,
    bound: float,
    *,
    tuned: bool = False,
) -> _Line:
    """Return the line on the difference of two methods.

    Args:
        facts: What the card is made from.
        name: A method.
        other: The method that is subtracted.
        case: Class split, pairing and shots.
        claim: The claim: that the difference is above `bound`.
        bound: The bound.
        tuned: Whether the verdict needs that the inner steps at test of both were selected from a
            grid with the best inside.
    """
    classes, pairing, shots = case
    pair = facts.pair(name, other, shots, classes, pairing)
    if pair is None:
        return _Line(Judged(claim, NOT_TESTED), ((classes, pairing),))
    a, b = pair
    difference, half_width = a.accuracy - b.accuracy, entry_difference(a, b)
    outcome = verdict(difference, half_width, bound)
    measured = [points(difference, half_width)]
    between = trainings_difference(a, b)
    if between is None:
        outcome = NOT_RESOLVED
        counts = " and ".join(f"{_trainings(each)}" for each in (a, b))
        measured.append(f"{counts} trainings, {TRAININGS} each are needed")
    else:
        measured.append(f"over trainings {points(*between)}")
        outcome = outcome if verdict(*between, bound) == outcome else NOT_RESOLVED
    if tuned:
        cut = [each.name for each in (a, b) if not _is_tuned(facts, each)]
        if cut:
            outcome = NOT_RESOLVED
            measured.append(
                f"the grid of inner steps at test ends before the best number of {', '.join(cut)}"
            )
    return _Line(
        Judged(claim, outcome, "; ".join(measured)),
        ((classes, pairing),),
        _of_each({each.name: differences(each) for each in (a, b)}),
    )


def _of_each(own: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return what differs from the paper in all of some methods, then in each.

    Args:
        own: Name of a method -> what differs in it.
    """
    first, *others = own.values()
    shared = [text for text in first if all(text in each for each in others)]
    rest = {name: [text for text in texts if text not in shared] for name, texts in own.items()}
    return *shared, *(f"{name}: {' and '.join(texts)}" for name, texts in rest.items() if texts)


def _is_tuned(facts: Facts, entry: Entry) -> bool:
    """Return whether the inner steps at test of an entry were selected inside the grid."""
    weights = facts.weights_of(entry)
    return weights is not None and is_inside(weights.record.measured)


def entry_difference(a: Entry, b: Entry) -> float | None:
    """Return half of the 95 % interval of the difference of two entries over the same episodes.

    Args:
        a: An entry, with its prediction file beside it.
        b: Another entry.

    Returns:
        Half the width, over fresh recordings and episodes; None if the episodes differ or their
        file is missing.
    """
    digest = a.report["episodes_digest"]
    if digest != b.report["episodes_digest"]:
        return None
    protocol = Protocol.from_dict(a.protocol)
    try:
        episodes = read_episode_file(a.path.parent, protocol, digest)
    except MissingError:
        return None
    correct = np.stack(
        [Predictions.load(each.predictions).labels == episodes.labels for each in (a, b)]
    )
    return difference_half_width(correct, RecordingDesign.of(episodes, protocol.pairing))


def trainings_difference(a: Entry, b: Entry) -> tuple[float, float] | None:
    """Return the difference of two methods' means over trainings and half of its 95 % interval.

    Args:
        a: An entry.
        b: Another entry.

    Returns:
        None if one of them has fewer than `TRAININGS` trainings.
    """
    seeds = [entry.report["training_seeds"] or {"seeds": 1} for entry in (a, b)]
    return over_trainings(seeds, [1, -1])


def _trainings(entry: Entry) -> int:
    """Return the number of trainings of an entry."""
    seeds = entry.report["training_seeds"]
    return 1 if seeds is None else int(seeds["seeds"])


def _over_trainings(entry: Entry) -> str:
    """Return mean and deviation over trainings as words."""
    seeds = entry.report["training_seeds"]
    if seeds is None:
        return "; one training"
    return (
        f"; over {seeds['seeds']} trainings mean {100 * seeds['mean']:.1f}, deviation "
        f"{100 * seeds['deviation']:.1f}"
    )


def _experiments(facts: Facts, names: Sequence[str]) -> list[_Line]:
    """Return the lines on the results of experiments.

    Args:
        facts: What the card is made from.
        names: Names of the experiments.
    """
    lines = []
    for name in names:
        missing = []
        for classes, pairing in _SETTINGS:
            document = facts.documents.get((classes, pairing, name))
            if document is None:
                missing.append((classes, pairing))
                continue
            for each in judged(name, document["rows"]):
                tested = each.verdict != NOT_TESTED
                differs = (
                    _document_differences(document, each.network, each.apart) if tested else ()
                )
                lines.append(_Line(each, ((classes, pairing),), differs))
        if missing:
            lines.append(_Line(Judged(f"all claims of `{name}`", NOT_TESTED), tuple(missing)))
    return lines


# --- what differs --------------------------------------------------------------------------------

_WORDS: Mapping[str, Callable[[Any, Any], str]] = MappingProxyType(
    {
        "pretrain_steps": lambda here, _: f"{here:,} steps of pre-training",
        "learn_inner_lrs": lambda *_: "learned inner rates",
        "time_stride": lambda here, _: f"time steps of {here} ms",
        "norm_groups": lambda *_: "group normalization",
        "shift": lambda *_: "shift augmentation",
        "steps": lambda here, paper: f"{here:,} steps (paper {paper:,})",
        "inner_steps": lambda here, paper: f"{here} inner steps in training (paper {paper})",
        "test_steps": lambda here, paper: f"{here} inner steps at test (paper {paper})",
        "queries": lambda here, paper: f"{here} queries in training (paper {paper})",
    }
)
"""Field of a configuration -> words about its value here and in the paper's recipe. Model cards
list all fields."""


def recipe_differences(config: RunConfig) -> list[str]:
    """Return what differs from the paper's recipe in a configuration, in words.

    Args:
        config: The configuration.
    """
    paper = _with_test_steps(RECIPES[config.model]["paper"])
    config = _with_test_steps(config)
    found = [
        words(getattr(config, name), getattr(paper, name))
        for name, words in _WORDS.items()
        if getattr(config, name) != getattr(paper, name)
    ]
    return [*found, f"trained with pairing {config.pairing}"]


def _with_test_steps(config: RunConfig) -> RunConfig:
    """Return the configuration with the number of inner steps that the test really has."""
    return replace(config, test_steps=config.test_steps or config.inner_steps)


def differences(entry: Entry) -> list[str]:
    """Return what differs from the paper in an entry: recipe, length and recordings."""
    seen = entry.report["seen"]
    config = RunConfig.from_dict(seen["config"])
    found = recipe_differences(config)
    if seen["step"] < config.steps:
        found.append(f"weights of step {seen['step']:,}")
    recordings = f"{seen['trained']['recordings']:,} recordings"
    sample = " of a sample" if str(seen["source"]).endswith("-subset") else ""
    return [*found, f"trained on {recordings}{sample}"]


def _document_differences(
    document: Mapping[str, Any], network: str = "", apart: bool = False
) -> tuple[str, ...]:
    """Return what differs from the paper in a result of an experiment.

    Args:
        document: The result.
        network: "cnn" or "snn" for the runs of that network; "" prefers 5-way SNN-MAML.
        apart: Whether all methods of that network count; otherwise one does.
    """
    runs = [each for each in document["runs"] if each["model"].startswith(network)]
    if not runs:
        return ()
    preferred = [each for each in runs if (each["model"], each["ways"]) == ("snn-maml", 5)]
    preferred += [each for each in runs if each["model"].endswith("-maml")]
    one = [*preferred, *runs][0]
    own: dict[str, list[str]] = {}
    for run in [one, *runs] if apart else [one]:
        recipe = RECIPES[run["model"]].get(run["recipe"])
        if recipe is None or run["model"] in own or run["ways"] != one["ways"]:
            continue
        # Figure 3 varies the inner steps at test.
        varied = document["experiment"] == "fig3"
        steps = RECIPES[run["model"]]["paper"].inner_steps if varied else run.get("test_steps")
        changed = replace(recipe, steps=run["steps"], pairing=run["pairing"])
        own[run["model"]] = recipe_differences(replace(changed, test_steps=steps or 0))
    named = {model.upper(): texts for model, texts in own.items()}
    data = "a sample" if document["data"] == "sample" else str(document["data"])
    return (*(_of_each(named) if named else ()), data, f"{document['episodes']} episodes")


# --- values --------------------------------------------------------------------------------------


def _values(facts: Facts) -> str:
    """Return the tables of published values beside measured ones."""
    return "\n\n".join(
        [
            "Accuracy, 5-way 1-shot, meta-test, pairing `published`, in %. Published: mean and "
            "deviation over ten streams of episodes of one training.",
            _accuracies(facts),
            "Average magnitude of an update of a weight of the output layer (table 3). The inner "
            "learning rate is learned here, and outer updates follow the schedule of their rate; "
            "so equal or unequal numbers say little.",
            _magnitudes(facts),
        ]
    )


def _accuracies(facts: Facts) -> str:
    """Return the table of accuracies."""
    rows = []
    for name in (*_MODELS, *_PAPERS_RECIPE):
        model = name.partition(" (")[0]
        mean, deviation = _MODELS[model]
        entry = facts.entry(name, 1, "published", "published")
        measured, seeds, differs = NOT_TESTED, NOT_TESTED, ""
        if entry is not None:
            measured = percent(entry.report["accuracy"], entry.report["ci95"])
            trainings = entry.report["training_seeds"]
            seeds = "one training"
            if trainings is not None:
                seeds = (
                    f"{100 * trainings['mean']:.1f}, deviation {100 * trainings['deviation']:.1f} "
                    f"({trainings['seeds']})"
                )
            differs = ", ".join(differences(entry))
        rows.append(
            [
                name,
                f"{100 * mean:.2f} ± {100 * deviation:.2f}",
                measured,
                seeds,
                _streams(facts, name),
                escape_markdown(differs),
            ]
        )
    header = [
        "Method",
        "Published",
        "Measured, ± over fresh recordings and episodes",
        "Over trainings",
        f"Over {_STREAMS} streams",
        "What differs",
    ]
    return table(header, rows, "lrrrrl")


def _streams(facts: Facts, name: str) -> str:
    """Return mean and deviation over ten streams of episodes of one training."""
    recipe = "paper" if name in _PAPERS_RECIPE else "best"
    training = _PAPERS_RECIPE.get(name, "all")
    for (classes, _, experiment), document in facts.documents.items():
        if (classes, experiment) != ("published", "table2"):
            continue
        recipes = {(run["model"], run["pairing"]): run["recipe"] for run in document["runs"]}
        for row in document["rows"]:
            model = name.partition(" (")[0].lower()
            if (
                (row["model"], row["training pairing"]) == (model, training)
                and (row["evaluation pairing"], row["phase"]) == ("published", "meta-test")
                and row["trials"] >= _STREAMS
                and recipes.get((model, training)) == recipe
            ):
                return f"{100 * row['accuracy']:.2f} ± {100 * row['deviation']:.2f}"
    return NOT_TESTED


def _magnitudes(facts: Facts) -> str:
    """Return the table of the magnitudes of updates."""
    document = facts.documents.get(("published", "all", "table3"))
    measured = {}
    if document is not None:
        measured = {
            row["loop"]: f"{row['average']:.6f}"
            for row in document["rows"]
            if row["thresholded"] == "no"
        }
    names = {"outer": "outer loop", "inner": "inner loop", "non-meta": "no meta-learning"}
    rows = [
        [names[loop], f"{average:.6f}", measured.get(loop, NOT_TESTED)]
        for loop, average in _PAPERS_AVERAGES.items()
    ]
    return table(["Loop", "Published", "Measured"], rows, "lrr")
