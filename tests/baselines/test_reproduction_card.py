"""The reproduction card: its verdicts follow from the entries, the results and the weights."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.config import recipe
from baselines.experiments.claims import VERDICTS
from baselines.learners import SHIPPED
from baselines.reproduction_card import (
    VALUES_MARK,
    VERDICTS_MARK,
    Facts,
    entry_difference,
    recipe_differences,
    reproduction_card,
    trainings_difference,
)
from baselines.weights_file import read_weights
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.validation import admit
from metaevents.errors import UsageError
from metaevents.generated_files import PART_END

CARDS = Path(__file__).parents[2] / "cards"
TEXT = f"a\n{VERDICTS_MARK}\n{PART_END}\nb\n{VALUES_MARK}\n{PART_END}\n"


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return [each for each in admit(CARDS / "entries") if not each.name.startswith("floor")]


def with_seeds(entry: Entry, mean: float, deviation: float, seeds: int) -> Entry:
    trainings = {"mean": mean, "deviation": deviation, "seeds": seeds}
    report = {**entry.report, "training_seeds": trainings}
    return replace(entry, document={**entry.document, "report": report})


def find(entries: list[Entry], name: str) -> Entry:
    found = Facts(tuple(entries), {}, ()).entry(name, 1, "published", "all")
    assert found is not None
    return found


def find_pair(entries: list[Entry], name: str, other: str) -> tuple[Entry, Entry]:
    found = Facts(tuple(entries), {}, ()).pair(name, other, 1, "published", "all")
    assert found is not None
    return found


def lines(card: str) -> list[list[str]]:
    rows = [line for line in card.splitlines() if line.startswith("| ") and " | **" in line]
    return [re.split(r" ?\| ?", row)[1:-1] for row in rows]


def test_without_data_everything_is_not_tested(tmp_path: Path) -> None:
    card = reproduction_card(TEXT, tmp_path / "c.md", [], tmp_path, [])
    assert not lines(card)
    assert card.startswith("a\n")
    for text in groups(card).values():
        assert text.strip().startswith("**Not tested**")
    with pytest.raises(UsageError, match=r"c\.md has no lines '<!-- verdicts"):
        reproduction_card("text", tmp_path / "c.md", [], tmp_path, [])


def groups(card: str) -> dict[str, str]:
    """The parts below the headings of the verdicts."""
    generated = card[card.index(VERDICTS_MARK) : card.index(PART_END)]
    parts = generated.split("\n### ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def test_every_line_has_one_verdict_and_says_what_differs() -> None:
    card = (CARDS / "reproduction.md").read_text("utf-8")
    assert len(lines(card)) > 20
    for text in groups(card).values():
        above = text.partition("\n| Claim")[0]
        for claim, _, verdict, measured, differs in lines(text):
            assert verdict.strip("*") in VERDICTS
            if verdict != "**not tested**":
                assert measured
                assert "trained with pairing" in above + differs
                if "this package's recipe" in claim:
                    for words in ("pre-training", "learned inner rates", "steps at test", "4 ms"):
                        assert words in differs


def test_what_differs_is_that_of_the_network_of_the_claim(tmp_path: Path) -> None:
    runs = [
        {"model": model, "recipe": "best", "ways": 5, "steps": 2000, "pairing": "all"}
        for model in ("cnn-reptile", "cnn-maml", "snn-maml")
    ]
    rows = [
        {"panel": "claims", "network": network, "claim": f"claim of {network}", "verdict": verdict}
        | ({"difference": 0.1, "difference_ci95": 0.2} if network else {})
        for network, verdict in (("cnn", "holds"), ("snn", "holds"))
    ]
    rows.append({"panel": "claims", "network": "snn", "claim": "gap", "verdict": "not tested"})
    rows.append({**rows[0], "claim": "claim on two trainings", "trainings": 1})
    document = {
        "experiment": "reptile", "runs": runs, "rows": rows, "data": "sample", "episodes": 7,
    }  # fmt: skip
    path = tmp_path / "double-nmnist" / "published" / "all" / "reptile.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document), "utf-8")
    text = groups(reproduction_card(TEXT, tmp_path / "c.md", [], tmp_path, []))["REPTILE"]
    (cnn, snn, apart) = lines(text)
    assert "REPTILE" not in cnn[4]
    assert "CNN-MAML: learned inner rates" in apart[4]
    assert "CNN-REPTILE: " not in apart[4], "it has nothing that CNN-MAML has not"
    assert "group normalization" in cnn[4]
    assert "4 ms" not in cnn[4]
    assert "4 ms" in snn[4]
    assert "group normalization" not in snn[4]
    above = text.partition("\n| Claim")[0]
    assert "In all lines" in above
    assert "7 episodes" in above
    assert "- SNN: gap: `all`" in text


def test_what_differs_in_both_methods_is_said_once(entries: list[Entry], tmp_path: Path) -> None:
    pair = find_pair(entries, "SNN-MAML", "CNN-MAML")
    card = reproduction_card(TEXT, tmp_path / "c.md", pair, tmp_path, [])
    differs = next(line[4] for line in lines(card) if "does as well" in line[0])
    assert differs.count("learned inner rates") == 1
    assert re.search("CNN-MAML: group normalization and shift augmentation", differs)


def test_a_comparison_of_one_training_each_is_not_resolved(
    entries: list[Entry], tmp_path: Path
) -> None:
    a, b = find_pair(entries, "SNN-MAML", "SNN-FOMAML")

    def verdict(seeds: int) -> str:
        pair = [with_seeds(a, 0.96, 0.002, seeds), with_seeds(b, 0.90, 0.002, seeds)]
        card = reproduction_card(TEXT, tmp_path / "c.md", pair, tmp_path, [])
        return next(line[2] for line in lines(card) if "SNN-MAML minus SNN-FOMAML" in line[0])

    assert verdict(1) == verdict(2) == "**not resolved**"
    # With three trainings the grid of inner steps at test is still unknown: no weights are given.
    assert verdict(3) == "**not resolved**"


def test_trainings_are_compared_by_welchs_interval(entries: list[Entry]) -> None:
    a, b = find(entries, "SNN-MAML"), find(entries, "CNN-MAML")
    assert trainings_difference(with_seeds(a, 0.9, 0.1, 2), with_seeds(b, 0.8, 0.1, 3)) is None
    result = trainings_difference(with_seeds(a, 0.9, 0.01, 3), with_seeds(b, 0.8, 0.01, 3))
    assert result is not None
    # Equal deviations and numbers: t(0.975, 4) * 0.01 * sqrt(2 / 3).
    assert result == pytest.approx((0.1, 2.7764 * 0.01 * (2 / 3) ** 0.5), rel=1e-4)
    assert trainings_difference(with_seeds(a, 0.9, 0.0, 3), with_seeds(b, 0.8, 0.0, 3)) == (
        pytest.approx(0.1),
        0.0,
    )


def test_entries_over_other_episodes_have_no_interval(entries: list[Entry]) -> None:
    a, b = find_pair(entries, "SNN-MAML", "CNN-MAML")
    assert a.protocol["version"] == b.protocol["version"]
    half_width = entry_difference(a, b)
    assert half_width is not None
    assert 0 < half_width < 0.1
    other: dict[str, Any] = {**b.document, "report": {**b.report, "episodes_digest": "0" * 64}}
    assert entry_difference(a, replace(b, document=other)) is None


def test_what_differs_from_the_papers_recipe_is_said_in_words() -> None:
    assert recipe_differences(recipe("snn-maml", "paper")) == ["trained with pairing all"]
    best = recipe_differences(recipe("cnn-maml", "best", test_steps=7))
    for words in (
        "800 steps of pre-training", "learned inner rates", "group normalization",
        "shift augmentation", "2,000 steps (paper 20,000)", "7 inner steps at test (paper 1)",
    ):  # fmt: skip
        assert words in best


def test_entries_are_results_of_the_weights_of_the_release(entries: list[Entry]) -> None:
    weights = [read_weights(path) for path in sorted(SHIPPED.glob("*.safetensors"))]
    facts, checked = Facts(tuple(entries), {}, tuple(weights)), 0
    for entry in entries:
        if entry.protocol["version"] != 2 or not (entry.report["seen"] or {}).get("config"):
            continue
        found = facts.weights_of(entry)
        assert found is not None, entry.path
        assert found.record.step == entry.report["seen"]["step"], entry.path
        checked += 1
    assert checked > 40
