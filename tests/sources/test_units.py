"""Times in another unit than microseconds are refused, whatever source they come from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.archives import NAME
from support.recordings import nmnist_bytes, random_events, write_mat

from metaevents.archive import writer
from metaevents.building import archive_header, build_archive
from metaevents.errors import MetaeventsError, RecordingError
from metaevents.events import EVENT_DTYPE, Events
from metaevents.sources import ASLDVS, NMNIST, DatasetSource, RecordingRef, Source
from metaevents.sources.base import require_plausible_spans
from metaevents.specs import get_spec

N = 3_000

Times = Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]

CHANGED_BY_A_CAST: dict[str, Times] = {
    "seconds": lambda t: t / 1e6,
    "milliseconds": lambda t: t / 1e3,
    "not a number": lambda t: np.where(t > 500, np.nan, t),
    "beyond 64 bits": lambda t: t.astype(np.float64) * 1e15,
}
ANOTHER_UNIT: dict[str, tuple[Times, str]] = {
    "nanoseconds": (lambda t: t * 1000, "holds less than 1 %; give times in microseconds"),
    "whole milliseconds": (lambda t: t // 1000, "multiply milliseconds by 1,000"),
    "whole seconds": (lambda t: t // 1_000_000, "multiply milliseconds by 1,000 or seconds"),
}


class OwnSource:
    """A source of a user, which returns what it has."""

    name = "own"
    labels = ("a",)
    sensor_size = (34, 34)

    def __init__(self, times: Times, n: int = N) -> None:
        self.times, self.n = times, n

    def recordings(self) -> list[RecordingRef]:
        return [RecordingRef(f"a/{i}", "a", "", i, i) for i in range(3)]

    def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
        return with_times(random_events(int(ref.location), self.n), self.times), {}


def with_times(events: Events, times: Times) -> Events:
    t = times(events["t"])
    out = np.empty(len(t), [*EVENT_DTYPE.descr[:2], ("t", t.dtype), EVENT_DTYPE.descr[3]])
    for name in ("x", "y", "p"):
        out[name] = events[name]
    out["t"] = t
    return out


def dataset_source(times: Times, _: Path) -> Source:
    pairs = [(with_times(random_events(i, N), times), "a") for i in range(3)]
    return DatasetSource(pairs, sensor_size=(34, 34), labels=("a",), name="pairs")


def own_source(times: Times, _: Path) -> Source:
    return OwnSource(times)


def mat_source(times: Times, folder: Path) -> Source:
    for i in range(1, 4):
        events = random_events(i, 30_000, 240, 180)
        columns = {"x": events["x"], "y": events["y"], "pol": events["p"].astype(np.uint8)}
        write_mat(folder / "a" / f"a_{i:04d}.mat", ts=times(events["t"]), **columns)
    return ASLDVS(folder)


def nmnist_source(times: Times, folder: Path) -> Source:
    """The format has 23 bits of time, and a mark for every further 8,192."""
    for i in range(3):
        events = random_events(i, N)
        ticks = times(events["t"]).astype(np.int64)
        marks = np.diff(ticks // 8192, prepend=0)
        low = events.copy()
        low["t"] = ticks % 8192
        mark = np.zeros(1, EVENT_DTYPE)
        mark["y"] = 240
        parts = [part for k in range(N) for part in (*[mark] * int(marks[k]), low[k : k + 1])]
        path = folder / "Train" / "0" / f"{i + 1:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(nmnist_bytes(np.concatenate(parts)))
    return NMNIST(folder)


SOURCES = {
    "dataset": dataset_source,
    "own": own_source,
    "mat": mat_source,
    "nmnist": nmnist_source,
}


def build(source: Source, folder: Path) -> None:
    header = archive_header(get_spec(NAME).rules(simulated=False), "", "")
    writer.build(source, folder / "archive.h5", header, lambda *_: "train", progress=False)


@pytest.mark.parametrize("kind", SOURCES)
def test_microseconds_are_taken(kind: str, tmp_path: Path) -> None:
    build(SOURCES[kind](lambda t: t, tmp_path / "recordings"), tmp_path)
    assert (tmp_path / "archive.h5").exists()


@pytest.mark.parametrize("unit", CHANGED_BY_A_CAST)
@pytest.mark.parametrize("kind", ["dataset", "own", "mat"])
def test_times_that_a_cast_would_change_are_refused(kind: str, unit: str, tmp_path: Path) -> None:
    source = SOURCES[kind](CHANGED_BY_A_CAST[unit], tmp_path / "recordings")
    with pytest.raises(MetaeventsError, match="whole microseconds, so multiply seconds by 1,000"):
        build(source, tmp_path)
    assert not (tmp_path / "archive.h5").exists()


@pytest.mark.parametrize("unit", ANOTHER_UNIT)
@pytest.mark.parametrize("kind", SOURCES)
def test_whole_times_in_another_unit_are_refused(kind: str, unit: str, tmp_path: Path) -> None:
    times, message = ANOTHER_UNIT[unit]
    with pytest.raises(RecordingError, match=message):
        build(SOURCES[kind](times, tmp_path / "recordings"), tmp_path)
    assert not (tmp_path / "archive.h5").exists()


def test_bursts_of_few_events_are_taken(tmp_path: Path) -> None:
    build(OwnSource(lambda t: t // 1000, n=900), tmp_path)
    assert (tmp_path / "archive.h5").exists()


def test_short_recordings_of_a_plausible_rate_are_taken() -> None:
    counts, spans = np.full(5, 1_000), np.full(5, 900)
    require_plausible_spans("a", counts, spans, 100_000, (100, 100))  # 111 per pixel and second
    with pytest.raises(RecordingError, match="1,000 events in 900 microseconds"):
        require_plausible_spans("a", counts, spans, 100_000, (30, 30))
    require_plausible_spans("a", counts, spans, 90_000, (30, 30))


def test_the_typical_recording_decides(tmp_path: Path) -> None:
    """A few damaged recordings do not make a unit."""
    counts, spans = np.full(9, 4_000), np.array([300] * 4 + [300_000] * 5)
    require_plausible_spans("a", counts, spans, 100_000, (34, 34))
    with pytest.raises(RecordingError):
        require_plausible_spans("a", counts, spans[::-1] // 1000, 100_000, (34, 34))


def test_another_unit_is_noticed_before_all_is_read(tmp_path: Path) -> None:
    read: list[str] = []

    class Long(OwnSource):
        def recordings(self) -> list[RecordingRef]:
            return [RecordingRef(f"a/{i}", "a", "", i, i) for i in range(200)]

        def read(self, ref: RecordingRef) -> tuple[Events, dict[str, int]]:
            read.append(ref.id)
            return super().read(ref)

    with pytest.raises(RecordingError, match="multiply milliseconds"):
        build(Long(lambda t: t // 1000), tmp_path)
    assert len(read) == 64


def test_the_sample_and_simulated_recordings_are_far_from_the_limit(
    simulated_root: Path, tmp_path: Path
) -> None:
    folder = simulated_root / "simulated-nmnist"
    copy = tmp_path / "recordings"
    (copy / "Train").mkdir(parents=True)
    shutil.copytree(folder / "Train" / "3", copy / "Train" / "3")
    events = [NMNIST(copy).read(ref)[0] for ref in NMNIST(copy).recordings()[:5]]
    rates = [len(e) * 1e6 / (34 * 34 * (int(e["t"][-1]) + 1)) for e in events]
    assert max(rates) < 50
    build_archive(NAME, tmp_path / "archive.h5", NMNIST(copy))
