"""The plot of accuracy against operations."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from support.made_entries import write_entry

from metaevents.benchmark.charts import OperationsPlot, operations_plot
from metaevents.benchmark.entries import Entry
from metaevents.benchmark.leaderboard import Table, tables
from metaevents.benchmark.render_html import render_html
from metaevents.benchmark.render_markdown import render_markdown
from metaevents.benchmark.validation import read_entry

NARROW = 340  # pixels; the page's plot on a telephone
LETTER = 6.9

SPIKING: dict[str, Any] = {
    "episodes": 5,
    "footprint_bytes": 1_051_796,
    "activation_sparsity": 0.85,
    "spikes_per_layer": {"body.0": 20.0, "body.1": 10.0},
    "effective_macs": 1e6,
    "effective_acs": 3.4e7,
    "dense_operations": 2e8,
    "adaptation": {"effective_macs": 6.5e8, "effective_acs": 8.7e8},
}
PLAIN = {"effective_macs": 2.2e6, "effective_acs": 0, "dense_operations": 9.8e6}


def entry(folder: Path, name: str, accuracy: float, costs: dict[str, Any] | None) -> Entry:
    spikes = (
        sum(costs["spikes_per_layer"].values()) if costs and "spikes_per_layer" in costs else None
    )
    path = write_entry(
        folder, name.replace(" ", "-"), accuracy, method={"name": name}, costs=costs,
        spikes_per_sample=spikes, synaptic_operations_per_sample=None,
    )  # fmt: skip
    return read_entry(path)


@pytest.fixture
def board(tmp_path: Path) -> list[Table]:
    """One table: a spiking method, three others close together, and one without costs."""
    return tables(
        [
            entry(tmp_path, "spiking", 0.95, SPIKING),
            entry(tmp_path, "plain one", 0.94, PLAIN),
            entry(tmp_path, "plain two", 0.94, {**PLAIN, "effective_macs": 2.21e6}),
            entry(tmp_path, "w" * 60, 0.939, {**PLAIN, "effective_macs": 2.19e6}),
            entry(tmp_path, "silent", 0.3, None),
            entry(tmp_path, "nothing", 0.2, {"effective_macs": 0}),
        ]
    )


@pytest.fixture
def plot(board: list[Table]) -> OperationsPlot:
    (table,) = board
    plot = operations_plot(table)
    assert plot is not None
    return plot


def test_entries_with_operations_are_dots(plot: OperationsPlot) -> None:
    assert [dot.label for dot in plot.dots][:1] == ["spiking"]
    assert len(plot.dots) == 4
    assert plot.missing == 2
    assert [dot.spiking for dot in plot.dots] == [True, False, False, False]
    assert plot.dots[0].text.startswith("spiking: 9")
    assert plot.dots[0].text.endswith(" % with 35.0 M operations")


def test_dots_lie_on_a_logarithmic_and_a_logistic_axis(plot: OperationsPlot) -> None:
    assert [label for label, _ in plot.decades] == ["1 M", "10 M", "100 M"]
    xs = [x for _, x in plot.decades]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    spiking, *others = plot.dots
    assert spiking.x == pytest.approx(xs[1] + (xs[2] - xs[1]) * 0.5441, abs=0.1)  # log10(3.5)
    assert all(xs[0] < dot.x < xs[1] for dot in others)
    ys = [y for _, y in plot.accuracies]
    assert ys == sorted(ys, reverse=True)
    for dot in plot.dots:
        for high, low in (dot.episodes, dot.recordings):
            assert 0 < high <= dot.y + 0.2
            assert dot.y - 0.2 <= low < plot.height


def test_no_label_lies_on_a_dot_or_another_label_or_leaves_the_plot(plot: OperationsPlot) -> None:
    boxes = []
    for dot in plot.dots:
        width, center = len(dot.label) * LETTER, dot.x * NARROW / 100
        left = center + 9 if dot.side == "right" else center - 9 - width
        boxes.append((left, dot.label_y - 11, left + width, dot.label_y + 4))
        assert left >= -1
        assert left + width <= NARROW + 1
        assert dot.label_y >= 11
        assert dot.label_y + 4 <= plot.height
        assert len(dot.label) <= 24
    boxes += [
        (dot.x * NARROW / 100 - 4, dot.y - 4, dot.x * NARROW / 100 + 4, dot.y + 4)
        for dot in plot.dots
    ]
    for a, b in itertools.combinations(boxes[: len(plot.dots)], 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    for label, dot_box in itertools.product(boxes[: len(plot.dots)], boxes[len(plot.dots) :]):
        assert (
            label[2] <= dot_box[0]
            or dot_box[2] <= label[0]
            or label[3] <= dot_box[1]
            or dot_box[3] <= label[1]
        )


def test_fewer_than_two_entries_with_operations_make_no_plot(tmp_path: Path) -> None:
    (table,) = tables([entry(tmp_path, "one", 0.9, PLAIN), entry(tmp_path, "silent", 0.3, None)])
    assert operations_plot(table) is None
    assert '<figure class="plot">' not in render_html([table])


def test_equal_entries_and_whole_decades_have_a_scale(tmp_path: Path) -> None:
    costs = {"effective_macs": 1e6, "dense_operations": 1e6}
    (table,) = tables([entry(tmp_path, name, 0.9, costs) for name in ("a", "b", "c")])
    plot = operations_plot(table)
    assert plot is not None
    assert len({dot.label_y for dot in plot.dots} | {dot.side for dot in plot.dots}) > 2
    assert [label for label, _ in plot.decades] == ["1 M", "10 M"]


def test_both_documents_show_the_costs(board: list[Table]) -> None:
    page, text = render_html(board), render_markdown(board)
    assert '<desc id="' in page
    assert 'role="img"' in page
    assert "35.0 M operations" in page
    for shown in ("1.00 M", "34.0 M", "1.52 G", "1.05 MB"):
        assert shown in page
        assert shown in text
    assert "| Effective MACs | ACs | Adaptation | Footprint |" in text
    assert "Measured on" in page
    assert "body.0 20, body.1 10" in page
