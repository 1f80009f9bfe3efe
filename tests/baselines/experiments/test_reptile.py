"""REPTILE as an experiment: beside MAML and first-order MAML."""

from __future__ import annotations

from pathlib import Path

from support.experiment_runs import document


def test_each_network_is_compared_with_the_methods_that_are_given(outputs: Path) -> None:
    rows = document(outputs, "reptile")["rows"]
    measured = [(row["network"], row["method"]) for row in rows if "verdict" not in row]
    assert measured == [("cnn", "maml"), ("cnn", "reptile"), ("snn", "maml"), ("snn", "fomaml")]
    verdicts = {(row["network"], row["claim"]): row["verdict"] for row in rows if "verdict" in row}
    assert len(verdicts) == 4
    claim = "MAML with second-order gradients is more accurate than {}"
    assert verdicts["cnn", claim.format("first-order MAML")] == "not tested"
    assert verdicts["snn", claim.format("REPTILE")] == "not tested"
    assert verdicts["cnn", claim.format("REPTILE")] != "not tested"
