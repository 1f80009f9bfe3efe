"""Figures of results: percent, named intervals, no legend on the data."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install matplotlib")

from matplotlib.figure import Figure

from baselines.experiments import EXPERIMENTS, plots, redraw
from baselines.experiments.verdicts import without_verdicts

RESULTS = Path(__file__).parents[3] / "cards" / "results"
DOCUMENTS = sorted(RESULTS.glob("*/*/*/*.json"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: "-".join(path.parts[-4:]))
def test_legends_stand_beside_the_axes_and_name_the_intervals(path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    EXPERIMENTS[document["experiment"]].plot(figure, without_verdicts(document["rows"]))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert not box.overlaps(axes.get_window_extent())
    words = " ".join(text.get_text() for text in legend.get_texts()).replace("\n", " ")
    if document["experiment"] != "table3":
        assert re.search("95 % interval over (episodes of these|fresh) recordings", words)
        labels = [axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
        assert any("accuracy, %" in label or "error, %" in label for label in labels)


def test_intervals_are_named_by_what_the_rows_have() -> None:
    fresh, kept = {"ci95": 0.1, "episode_ci95": 0.05}, {"ci95": None, "episode_ci95": 0.05}
    assert plots.interval_name([fresh]) == "95 % interval over fresh recordings and episodes"
    assert plots.interval_name([kept]) == "95 % interval over episodes of these recordings"
    assert "or" in plots.interval_name([fresh, kept])
    assert (plots.half_width(fresh), plots.half_width(kept)) == (0.1, 0.05)


def test_a_dot_is_in_percent_with_its_published_value() -> None:
    axes = Figure().subplots()
    row = {"accuracy": 0.95, "episode_ci95": 0.01, "m": "a", "p": "all", "published": 0.97}
    plots.dots(axes, [row, {**row, "p": "published"}], "accuracy", ["m"], ["p"])
    xs = [list(line.get_xdata()) for line in axes.get_lines()]
    assert [95.0] in xs
    assert xs.count([97.0]) == 1
    assert 90 < axes.get_xlim()[0] < 95


def test_figures_are_drawn_anew_from_stored_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(RESULTS / "double-nmnist/published/all/table3.json", tmp_path)
    assert redraw.main([str(tmp_path)]) == 0
    for kind in ("png", "svg"):
        assert (tmp_path / f"table3.{kind}").stat().st_size > 1000
    (tmp_path / "table3.json").write_text("{}", "utf-8")
    assert redraw.main([str(tmp_path)]) == 2
    assert redraw.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
