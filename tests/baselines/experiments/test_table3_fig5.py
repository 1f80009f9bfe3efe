"""Table 3 and figure 5: the magnitudes of updates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.experiment_runs import document

from baselines.experiments import Study
from metaevents.episodes import EpisodeLoader


def test_magnitudes_are_those_of_the_updates(outputs: Path, study: Study) -> None:
    rows = {(row["loop"], row["thresholded"]): row for row in document(outputs, "table3")["rows"]}
    run = study.runs.get("snn-maml")
    x = [EpisodeLoader(study.test, 5, 1, 1, episodes=2)[index] for index in range(2)]
    changes = []
    for episode in x:
        params = {
            name: value.detach().requires_grad_() for name, value in run.maml.net.named_parameters()
        }
        loss = torch.nn.functional.cross_entropy(
            run.maml.net.apply_params(params, episode.support_x), episode.support_y
        )
        (gradient,) = torch.autograd.grad(loss, [params["head.weight"]])
        changes.append(run.maml.inner_lrs[run.maml.learning.index("head.weight")] * gradient)
    magnitude = torch.stack(changes).detach().abs()
    assert rows["inner", "no"]["average"] == pytest.approx(float(magnitude.mean()), rel=1e-3)
    assert rows["inner", "no"]["maximum"] == pytest.approx(float(magnitude.max()), rel=1e-3)
    for loop in ("outer", "inner", "non-meta"):
        assert 0 < rows[loop, "yes"]["nonzero share"] <= rows[loop, "no"]["nonzero share"] <= 1
        assert rows[loop, "yes"]["maximum"] == rows[loop, "no"]["maximum"]
    histogram = [row for row in document(outputs, "fig5")["rows"] if row["panel"] == "histogram"]
    for name in ("outer", "inner, thresholded", "non-meta"):
        assert sum(row[name] for row in histogram) == pytest.approx(1, abs=1e-2)
