"""The claims of tables and figures, judged from rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baselines.experiments import EXPERIMENTS
from baselines.experiments.claims import VERDICTS, judged, percent, points
from baselines.experiments.verdicts import DOES_NOT_HOLD, HOLDS, NOT_RESOLVED

RESULTS = Path(__file__).parents[3] / "cards" / "results"


def steps(gain: float, half_width: float | None) -> list[dict[str, Any]]:
    return [
        {"model": "snn-maml", "inner steps at test": n, "accuracy": accuracy, **change}
        for n, accuracy, change in (
            (0, 0.2, {}), (1, 0.9, {}), (10, 0.9 + gain, {"change_ci95": half_width}),
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "half_width", "expected"),
    [
        (0.005, 0.004, HOLDS),
        (-0.02, 0.01, HOLDS),
        (0.005, 0.006, NOT_RESOLVED),
        (0.03, 0.01, DOES_NOT_HOLD),
        (0.0, None, NOT_RESOLVED),
    ],
)
def test_one_step_is_enough_if_more_gain_at_most_a_point(
    gain: float, half_width: float | None, expected: str
) -> None:
    (one,) = judged("fig3", steps(gain, half_width))
    assert one.verdict == expected
    assert "90.0 % after it" in one.measured


@pytest.mark.parametrize(
    ("least", "greatest", "expected"),
    [
        ("9", "10", HOLDS),
        ("10", "10", HOLDS),
        ("8", "10", NOT_RESOLVED),
        ("9", "more than 20", NOT_RESOLVED),
        ("9", "more than 9", NOT_RESOLVED),
        ("2", "3", DOES_NOT_HOLD),
        ("11", "more than 20", DOES_NOT_HOLD),
        ("more than 12", "more than 12", DOES_NOT_HOLD),
        (None, None, NOT_RESOLVED),
    ],
)
def test_the_shots_needed_are_judged_by_their_interval(
    least: str | None, greatest: str | None, expected: str
) -> None:
    row = {"ways": 20, "shots needed": "9", "least": least, "greatest": greatest}
    (one,) = judged("fig6", [row])
    assert one.verdict == expected


def test_what_an_experiment_judged_itself_is_kept() -> None:
    row = {
        "panel": "claims", "model": "snn-maml", "claim": "It learns", "difference": 0.1,
        "difference_ci95": 0.05, "bound": 0.0, "verdict": HOLDS,
    }  # fmt: skip
    (one,) = judged("relearning", [{"panel": "other"}, row])
    assert (one.claim, one.verdict) == ("SNN-MAML: It learns", HOLDS)
    assert one.measured == "+10.0 ± 5.0 points"


def test_numbers_are_written_with_their_interval() -> None:
    assert percent(0.961, 0.034) == "96.1 ± 3.4 %"
    assert points(-0.0049, 0.004) == "-0.5 ± 0.4 points"
    assert points(-0.0001, 0.001) == "0.0 ± 0.1 points"
    assert points(0.01) == "+1.0 points (interval not known)"


def test_magnitudes_of_one_training_have_no_interval_and_resolve_nothing() -> None:
    rows = [
        {"loop": loop, "thresholded": "no", "average": average}
        for loop, average in (("inner", 0.03), ("outer", 0.0001), ("non-meta", 0.0001))
    ]
    (one,) = judged("table3", rows)
    assert one.verdict == NOT_RESOLVED


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*/*/*.json")), ids=lambda path: path.stem)
def test_every_committed_result_can_be_judged(path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    for one in judged(document["experiment"], document["rows"]):
        assert one.verdict in VERDICTS
        assert one.measured or one.verdict == "not tested"


def test_every_experiment_with_a_judge_exists() -> None:
    from baselines.experiments import claims

    assert set(claims._JUDGES) <= set(EXPERIMENTS)
