"""Runs that were trained further."""

from __future__ import annotations

import torch

from baselines.experiments import Study, variant
from baselines.experiments.tuning import tuned


def test_a_tuned_run_is_kept(study: Study) -> None:
    run = study.runs.get("snn-maml")
    first, again = (tuned(study, run, "test", lambda net: variant(run.maml, net)) for _ in range(2))
    for a, b, before in zip(
        first.parameters(), again.parameters(), run.maml.net.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert not torch.equal(a, before)
    assert len([*(study.out / "tuned").iterdir()]) == 1
