"""Direct feedback alignment and REPTILE as experiments: what is measured, and what is not."""

from __future__ import annotations

from pathlib import Path

from support.experiment_runs import OPTIONS, document

from baselines.experiments import reproduce


def test_the_result_compares_direct_feedback_before_and_after_meta_training(outputs: Path) -> None:
    rows = document(outputs, "direct-feedback")["rows"]
    measured = [row for row in rows if "verdict" not in row]
    assert [row["model"] for row in measured] == ["cnn-maml"] * 8 + ["snn-maml"] * 8
    assert [row["rule"] for row in measured[::2]] == 2 * [
        "gradient", "feedback-alignment", "direct-feedback", "learned-direct-feedback",
    ]  # fmt: skip
    verdicts = [row for row in rows if "verdict" in row]
    assert len(verdicts) == 8
    assert {row["verdict"] for row in verdicts} <= {"holds", "does not hold", "not resolved"}


def test_a_model_that_is_not_given_is_not_tested(archive: Path, runs: Path, tmp_path: Path) -> None:
    reproduce("direct-feedback", archive, tmp_path, runs=[runs / "cnn-maml"], **OPTIONS)
    found = document(tmp_path, "direct-feedback")
    assert {run["model"] for run in found["runs"]} == {"cnn-maml"}
    verdicts = {row["model"]: [] for row in found["rows"] if "verdict" in row}
    for row in found["rows"]:
        if "verdict" in row:
            verdicts[row["model"]].append(row["verdict"])
    assert verdicts["snn-maml"] == ["not tested"] * 4
    assert "not tested" not in verdicts["cnn-maml"]
    assert "## Claims" in (
        tmp_path / "double-nmnist" / "published" / "all" / "direct-feedback.md"
    ).read_text("utf-8")
