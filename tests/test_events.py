"""The algebra of event arrays, as properties over random streams."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packages import import_or_skip

from metaevents import events as ev
from metaevents.errors import UsageError

WIDTH, HEIGHT, DURATION = 34, 30, 5000


@st.composite
def streams(draw: st.DrawFn, max_size: int = 60) -> ev.Events:
    n = draw(st.integers(0, max_size))
    column = lambda top: draw(st.lists(st.integers(0, top - 1), min_size=n, max_size=n))  # noqa: E731
    return ev.sort_by_time(
        ev.make_events(column(WIDTH), column(HEIGHT), column(DURATION), column(2))
    )


def as_multiset(events: ev.Events) -> list[tuple[int, ...]]:
    return sorted(map(tuple, events.tolist()))


def test_dtype_is_tonics() -> None:
    events_struct = import_or_skip("tonic.io", "pip install 'metaevents[tonic]'").events_struct

    assert events_struct == ev.EVENT_DTYPE


@given(streams(), st.sampled_from([1, 2, 3]), st.sampled_from([1, 10, 1000]))
def test_downsampling_conserves_every_event(events: ev.Events, space: int, time: int) -> None:
    coarse = ev.downsample(events, space, time)
    assert len(coarse) == len(events)
    assert np.array_equal(coarse["p"], events["p"])
    assert np.array_equal(coarse["x"], events["x"] // space)
    assert np.all((events["t"] - coarse["t"] >= 0) & (events["t"] - coarse["t"] < time))


@given(streams())
def test_rasterizing_conserves_counts_polarity_by_polarity(events: ev.Events) -> None:
    grid = ev.rasterize(events, (50, 2, HEIGHT, WIDTH), DURATION)
    assert grid.sum() == len(events)
    assert grid[:, 1].sum() == np.count_nonzero(events["p"])


@given(streams())
def test_rasterizing_puts_each_event_into_its_cell(events: ev.Events) -> None:
    grid = np.zeros((50, 2, HEIGHT, WIDTH), int)
    for x, y, t, p in events.tolist():
        grid[t * 50 // DURATION, int(p), y, x] += 1
    assert np.array_equal(ev.rasterize(events, grid.shape, DURATION), grid)


@given(streams(), st.randoms(use_true_random=False))
def test_rasterizing_does_not_depend_on_order(
    events: ev.Events, random: np.random.Generator
) -> None:
    order = list(range(len(events)))
    random.shuffle(order)  # type: ignore[arg-type]
    shape = (10, 2, HEIGHT, WIDTH)
    assert np.array_equal(
        ev.rasterize(events[order], shape, DURATION), ev.rasterize(events, shape, DURATION)
    )


@given(streams(), st.sampled_from([1, 2]))
def test_downsampling_then_rasterizing_is_summing_blocks(events: ev.Events, space: int) -> None:
    fine = ev.rasterize(events, (5, 2, HEIGHT, WIDTH), DURATION)
    coarse = ev.rasterize(
        ev.downsample(events, space), (5, 2, HEIGHT // space, WIDTH // space), DURATION
    )
    blocks = fine.reshape(5, 2, HEIGHT // space, space, WIDTH // space, space).sum((3, 5))
    assert np.array_equal(coarse, blocks)


@given(st.lists(streams(20), min_size=1, max_size=3))
def test_composing_then_cropping_gives_the_parts_back(parts: list[ev.Events]) -> None:
    whole = ev.side_by_side(parts, WIDTH)
    assert np.all(np.diff(whole["t"]) >= 0)
    for i, part in enumerate(parts):
        assert np.array_equal(ev.crop(whole, WIDTH, HEIGHT, left=i * WIDTH), part)


@given(streams(), streams())
def test_merging_keeps_all_events_and_is_stable(a: ev.Events, b: ev.Events) -> None:
    merged = ev.merge([a, b])
    assert as_multiset(merged) == as_multiset(np.concatenate([a, b]))
    tagged = ev.merge([ev.shift(a, dx=100), b])
    for t in np.unique(tagged["t"]):
        sides = tagged["x"][tagged["t"] == t] >= 100
        assert np.all(np.diff(sides.astype(int)) <= 0), (
            "at equal times the first stream comes first"
        )


@given(streams(), st.integers(-20, 20), st.integers(-20, 20), st.integers(-500, 500))
def test_shifting_back_is_the_identity(events: ev.Events, dx: int, dy: int, dt: int) -> None:
    assert np.array_equal(ev.shift(ev.shift(events, dx, dy, dt), -dx, -dy, -dt), events)


@given(streams(), st.integers(0, DURATION))
def test_windows_divide_a_stream(events: ev.Events, cut: int) -> None:
    first, second = ev.window(events, 0, cut), ev.window(events, cut, DURATION)
    assert np.array_equal(np.concatenate([first, second]), events)


@given(streams(), st.integers(0, 10_000))
def test_rebasing_removes_the_offset(events: ev.Events, offset: int) -> None:
    rebased = ev.rebase_time(ev.shift(events, dt=offset))
    assert np.array_equal(rebased, ev.rebase_time(events))
    assert not len(rebased) or rebased["t"][0] == 0


@given(streams())
@settings(max_examples=25)
def test_functions_leave_their_argument_alone(events: ev.Events) -> None:
    before = events.copy()
    ev.downsample(events, 2, 7)
    ev.shift(events, 1, 1, 1)
    ev.rebase_time(events)
    ev.crop(events, 3, 3)
    ev.side_by_side([events, events], WIDTH)
    assert np.array_equal(events, before)


def test_a_window_is_half_open() -> None:
    events = ev.make_events([0, 0, 0], [0, 0, 0], [0, 99_999, 100_000], [1, 1, 1])
    assert ev.window(events, 0, 100_000)["t"].tolist() == [0, 99_999]


def test_counts_above_255_do_not_wrap() -> None:
    n = 300
    events = ev.make_events(np.zeros(n), np.zeros(n), np.zeros(n), np.ones(n))
    assert ev.rasterize(events, (1, 2, 1, 1), 1000)[0, 1, 0, 0] == n


def test_an_event_outside_the_grid_is_refused_with_its_range() -> None:
    events = ev.make_events([40], [0], [0], [1])
    with pytest.raises(UsageError, match=r"x 40\.\.40.*32 x 16 pixels"):
        ev.rasterize(events, (1, 2, 16, 32), 1000)


def test_arrays_of_other_dtypes_are_converted() -> None:
    foreign = np.array([(5, 1, 3, 2)], dtype=[("t", "u4"), ("p", "i1"), ("x", "u2"), ("y", "u2")])
    assert ev.as_events(foreign).tolist() == [(3, 2, 5, True)]
    with pytest.raises(UsageError, match="lacks"):
        ev.as_events(foreign[["t", "x", "y"]])


def table(**columns: Any) -> np.ndarray:
    """A structured array with the given columns, in their order."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    out = np.zeros(len(arrays["x"]), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        out[name] = array
    return out


EXPECTED = [(3, 2, 5, True), (4, 1, 9, False)]
X, Y, T = [3, 4], [2, 1], [5, 9]


@pytest.mark.parametrize(
    "array",
    [
        table(t=np.array(T, "u8"), x=np.array(X, "u2"), y=np.array(Y, "u2"), on=[True, False]),
        table(x=X, y=Y, p=np.array([1, -1], "i1"), t=T),
        table(timestamp=T, x=np.array(X, "i2"), y=Y, polarity=np.array([1, 0], "u1")),
        table(ts=T, x=X, y=Y, pol=[1.0, 0.0]),
        table(x=X, y=Y, t=T, p=[1, 0], on=[0, 0], trigger=[7, 7]),
        {"t": T, "x": X, "y": Y, "p": [True, False]},
        {"t": np.array(T), "x": np.array(X, "f4"), "y": np.array(Y), "p": np.array([2, 0])},
    ],
    ids=["aedat", "signed", "dv", "matlab", "p first", "lists", "columns"],
)
def test_the_forms_of_common_libraries_are_taken(array: Any) -> None:
    assert ev.as_events(array).tolist() == EXPECTED


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array])
def test_the_columns_of_a_mapping_have_any_form(kind: Any) -> None:
    columns = {"x": [3, 4], "y": [1, 2], "t": [5, 9], "p": [1, 0]}
    events = ev.as_events({name: kind(column) for name, column in columns.items()})
    assert events.tolist() == [(3, 1, 5, True), (4, 2, 9, False)]


def test_columns_that_are_no_arrays_are_refused() -> None:
    ragged: Any = [[1], [2, 3]]
    for name in ("x", "t"):
        columns = {"x": [3, 4], "t": [5, 9], name: ragged}
        with pytest.raises(UsageError, match=f"{name} cannot be read as a column of numbers"):
            ev.as_events(columns)


def test_an_npz_file_of_columns_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "events.npz", t=T, x=X, y=Y, p=[True, False])
    with np.load(tmp_path / "events.npz") as columns:
        assert ev.as_events(columns).tolist() == EXPECTED


def test_one_dimensional_events_have_row_0_and_are_on() -> None:
    expected = [(3, 0, 5, True), (4, 0, 9, True)]
    assert ev.as_events(table(t=T, x=X, p=[1, 1])).tolist() == expected
    assert ev.as_events(table(x=X, t=T)).tolist() == expected
    assert ev.as_events({"x": X, "t": T}).tolist() == expected
    assert ev.as_events(table(t=T, x=X, p=[0, 1])).tolist()[0] == (3, 0, 5, False)
    assert len(ev.as_events(table(t=T, x=X)[:0])) == 0
    assert [
        ev.has_rows(table(**given))
        for given in ({"t": T, "x": X}, {"t": T, "x": X, "y": Y, "p": X})
    ] == [False, True]


@pytest.mark.parametrize(
    ("array", "missing"),
    [
        (table(x=X, y=Y, t=T), "['p']"),
        (table(x=X, p=X), "['y', 't']"),
        (table(x=X), "['y', 't', 'p']"),
        (table(x=X, t=T, row=Y), "['y', 'p']"),
        (table(x=X, t=T, p=[1, 0], row=Y), "['y']"),
        ({"t": T, "y": Y, "p": X}, "['x']"),
        (np.zeros((2, 4)), "['x', 'y', 't', 'p']"),
        ([(3, 2, 5, 1)], "['x', 'y', 't', 'p']"),
        (None, "['x', 'y', 't', 'p']"),
    ],
)
def test_fields_that_are_missing_or_may_have_another_name_are_named(
    array: Any, missing: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(f"lacks {missing}; give a structured array")):
        ev.as_events(array)


def test_columns_of_a_mapping_are_checked() -> None:
    with pytest.raises(UsageError, match="equal length"):
        ev.as_events({"t": T, "x": [3], "y": Y, "p": X})
    with pytest.raises(UsageError, match=r"t has values such as 0\.5"):
        ev.as_events({"t": [0.5, 1], "x": X})


def test_events_in_one_row_are_cropped_and_downsampled_along_x() -> None:
    events = ev.as_events({"t": [1, 2, 3], "x": [5, 130, 699]})
    coarse = ev.downsample(ev.crop(events, width=690, height=1, left=5), space=10)
    assert [(x, y) for x, y, _, _ in coarse.tolist()] == [(0, 0), (12, 0)]
    assert ev.rasterize(coarse, (1, 2, 1, 69), 10).sum() == 2


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(UsageError, match="equal length"):
        ev.make_events([1, 2], [1], [1], [1])


def test_a_shift_beyond_the_type_is_refused() -> None:
    events = ev.make_events([0, 100], [0, 0], [0, 5], [1, 1])
    assert ev.shift(events, dx=32_667)["x"].tolist() == [32_667, 32_767]
    for distance in ({"dx": 32_668}, {"dx": -32_769}, {"dy": 40_000}, {"dt": 2**63 - 5}):
        with pytest.raises(UsageError, match="shift by less"):
            ev.shift(events, **distance)
    with pytest.raises(UsageError, match="shift by less"):
        ev.side_by_side([events] * 30, 1_280)
    assert len(ev.shift(events[:0], dx=10**6)) == 0


@pytest.mark.parametrize("wrong", [{"space": 0}, {"space": 1.5}, {"space": True}, {"time": "x"}])
def test_factors_that_are_no_whole_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ev.downsample(ev.make_events([0], [0], [0], [1]), **wrong)


def test_a_grid_of_one_polarity_is_refused() -> None:
    with pytest.raises(UsageError, match="1 polarities"):
        ev.rasterize(ev.make_events([0], [0], [0], [1]), (1, 1, 1, 1), 1000)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([40_000], [0], [0], [1]), "x spans 40000 to 40000, beyond the type int16"),
        (([0], [0.5], [0], [1]), "y has values such as 0.5"),
        (([0], [0], [0.5], [1]), "t has values such as 0.5; give whole microseconds"),
        (([0], [0], [[1, 2]], [1]), r"t has the shape \(1, 2\)"),
        ((0, [0], [0], [1]), r"x has the shape \(\)"),
        (([0, [1]], [0], [0], [1]), "x cannot be read as a column"),
        (([2**70], [0], [0], [1]), "x has the type object"),
    ],
)
def test_columns_that_events_cannot_hold_are_refused(columns: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ev.make_events(*columns)


def test_an_event_array_is_copied_not_shared() -> None:
    events = ev.make_events([1], [2], [3], [1])
    copy = ev.as_events(events)
    copy["x"] = 9
    assert events["x"][0] == 1
