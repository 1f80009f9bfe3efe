"""The pixel model, the two writers, and how near the simulated N-MNIST comes to real recordings.

`python tests/sources/test_simulated.py` prints the comparison as a table; METAEVENTS_NMNIST_SAMPLE says where the real ones are.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metaevents.errors import UsageError
from metaevents.events import EVENT_DTYPE
from metaevents.simulation.pixels import LEVELS, PixelModel, simulate
from metaevents.simulation.writers import simulate_recordings, write_asl_dvs, write_nmnist
from metaevents.sources import ASLDVS, NMNIST

QUIET = PixelModel(on=800, off=800, mismatch=0, refractory=1000, noise=0)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 Train and 4 Test recordings a digit."""
    return write_nmnist(tmp_path_factory.mktemp("digits"), train=16, test=4)


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 recordings a letter: two consecutive slices from the first subject, one from each of the other four."""
    return write_asl_dvs(tmp_path_factory.mktemp("hands"), files=6)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*.*")
        if path.is_file()
    }


def read_all(source: Any) -> dict[str, Any]:
    return {ref.id: source.read(ref)[0] for ref in source.recordings()}


# --- The pixel ------------------------------------------------------------------------------------------------------------


def bar(contrast: int, *, frames: int = 41, size: int = 24, sign: int = 1) -> np.ndarray:
    """A soft vertical bar that moves to the right by half a pixel a frame, [frames, size, size] levels."""
    x = np.arange(size)[None, :] - 2.0 - np.arange(frames)[:, None] / 2
    profile = np.round(sign * contrast * np.clip(2.5 - np.abs(x), 0, 1)).astype(np.int64)
    return np.repeat(profile[:, None, :], size, axis=1)


TIMES = np.arange(41) * 5_000


def test_a_brightening_scene_gives_on_events_and_a_darkening_one_off_events() -> None:
    ramp = np.linspace(0, 4 * LEVELS, 21).astype(np.int64)[:, None, None] * np.ones(
        (1, 6, 8), np.int64
    )
    times = np.arange(21) * 10_000
    on, off = simulate(ramp, times, QUIET), simulate(-ramp, times, QUIET)
    assert on["p"].all()
    assert not off["p"].any()
    # 16,384 levels in steps of 800, and 82 more at each that pass unseen while a pixel is blind
    assert set(np.bincount(on["y"].astype(int) * 8 + on["x"], minlength=48)) <= {17, 18, 19}


def test_events_are_timed_between_frames() -> None:
    video = np.array([0, 8_000])[:, None, None] * np.ones((1, 1, 1), np.int64)
    events = simulate(
        video, [0, 100_000], PixelModel(on=800, off=800, mismatch=0, refractory=0, noise=0)
    )
    assert 9 <= len(events) <= 11
    assert np.all(np.abs(np.diff(events["t"]) - 10_000) <= 1)


def test_a_static_scene_gives_noise_alone_and_none_without_noise() -> None:
    scene = np.repeat(bar(4 * LEVELS, frames=1), 5, axis=0)
    times = np.arange(5) * 250_000
    assert len(simulate(scene, times, QUIET)) == 0
    noisy = simulate(scene, times, PixelModel(on=800, off=800, noise=2_000, noise_on=900))
    expected = 2 * scene[0].size
    assert 0.8 * expected < len(noisy) < 1.2 * expected
    assert 0.85 < noisy["p"].mean() < 0.95


@pytest.mark.parametrize("refractory", [500, 2_000, 7_000])
def test_a_pixel_rests_for_the_refractory_time(refractory: int) -> None:
    model = PixelModel(on=300, off=300, mismatch=100, refractory=refractory, noise=30_000)
    events = simulate(bar(3 * LEVELS), TIMES, model)
    site = events["y"].astype(int) * 24 + events["x"]
    order = np.lexsort((events["t"], site))
    gaps = np.diff(events["t"][order])[np.diff(site[order]) == 0]
    assert len(gaps) > 500
    assert gaps.min() >= refractory


def test_more_contrast_and_lower_thresholds_give_more_events() -> None:
    counts = [
        len(simulate(bar(contrast), TIMES, QUIET)) for contrast in (1_500, 3_000, 6_000, 12_000)
    ]
    assert counts == sorted(set(counts))
    assert counts[1] > 1.5 * counts[0]
    lower = PixelModel(on=400, off=400, mismatch=0, refractory=1000, noise=0)
    assert len(simulate(bar(3_000), TIMES, lower)) > 1.5 * counts[1]


def test_the_negative_of_a_video_swaps_the_polarities() -> None:
    video, negative = (simulate(bar(4_000, sign=sign), TIMES, QUIET) for sign in (1, -1))
    on = video["p"].sum()
    assert abs(int(on) - int((~negative["p"]).sum())) < 0.02 * on
    assert abs(int((~video["p"]).sum()) - int(negative["p"].sum())) < 0.02 * on


def test_thresholds_differ_from_pixel_to_pixel_and_stay_with_the_camera() -> None:
    ramp = np.linspace(0, 8 * LEVELS, 21).astype(np.int64)[:, None, None] * np.ones(
        (1, 20, 20), np.int64
    )
    times = np.arange(21) * 20_000

    def per_pixel(mismatch: int) -> np.ndarray:
        events = simulate(ramp, times, PixelModel(on=800, off=800, mismatch=mismatch, noise=0))
        return np.bincount(events["y"].astype(int) * 20 + events["x"], minlength=400)

    assert per_pixel(0).std() < 1
    assert per_pixel(100).std() > 2
    assert np.array_equal(per_pixel(100), per_pixel(100))


def test_events_come_in_order_and_on_the_sensor() -> None:
    events = simulate(bar(4_000), TIMES, PixelModel(on=500, off=500, noise=5_000))
    assert np.all(np.diff(events["t"]) >= 0)
    assert events["t"].min() >= 0
    assert events["t"].max() <= TIMES[-1]
    assert events["x"].min() >= 0
    assert events["x"].max() < 24


def test_another_seed_is_another_camera_and_noise() -> None:
    model = PixelModel(on=500, off=500, noise=5_000)
    first, again, other = (simulate(bar(4_000), TIMES, model, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("levels", "times", "message"),
    [
        (np.zeros((3, 4), int), [0, 1, 2], r"\(3, 4\)"),
        (np.zeros((3, 4, 4), int), [0, 1], r"times \(2,\)"),
        (np.zeros((1, 4, 4), int), [0], "two frames"),
        (np.zeros((3, 4, 4), int), [0, 2, 2], "increase"),
        (np.zeros((3, 4, 4)), [0, 1, 2], "whole numbers"),
    ],
)
def test_a_video_that_does_not_fit_is_refused(levels: Any, times: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        simulate(levels, times, QUIET)


@pytest.mark.parametrize(
    "wrong", [{"on": 0}, {"off": -1}, {"noise": -1}, {"noise_on": 1001}, {"refractory": -1}]
)
def test_impossible_pixels_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="thresholds of at least 1"):
        PixelModel(**{"on": 800, "off": 800, **wrong})


# --- The files ------------------------------------------------------------------------------------------------------------


def test_nmnist_files_have_the_official_form(digits: Path) -> None:
    from tonic.io import read_mnist_file

    for folder, each in (("Train", 16), ("Test", 4)):
        files = sorted(digits.glob(f"{folder}/*/*.bin"))
        assert {int(file.stem) for file in files} == set(range(1, 10 * each + 1))
        assert all(len(file.stem) == 5 for file in files)
        assert {len(list(digits.glob(f"{folder}/{digit}/*.bin"))) for digit in range(10)} == {each}
    path = next(digits.glob("Train/4/*.bin"))
    raw = path.read_bytes()
    events = read_mnist_file(str(path), dtype=EVENT_DTYPE)
    assert len(events) * 5 == len(raw)
    assert events["x"].max() < 34
    assert events["y"].max() < 34
    assert set(events["p"]) == {0, 1}
    assert np.all(np.diff(events["t"]) >= 0)
    assert 295_000 < events["t"].max() < 315_000
    assert raw[2] >> 7 == events["p"][0]
    assert int.from_bytes(raw[2:5], "big") & 0x7FFFFF == events["t"][0]


def test_digits_interleave_in_the_numbers(digits: Path) -> None:
    by_number = [
        int(p.parent.name) for p in sorted(digits.glob("Train/*/*.bin"), key=lambda p: int(p.stem))
    ]
    for block in range(16):
        assert sorted(by_number[10 * block : 10 * block + 10]) == list(range(10))
    assert by_number[:10] != by_number[10:20]


def test_asl_dvs_files_have_the_official_form(hands: Path) -> None:
    from scipy.io import loadmat

    assert {path.name for path in hands.iterdir() if path.is_dir()} == set(
        "abcdefghiklmnopqrstuvwxy"
    )
    assert [path.name for path in sorted(hands.glob("k/*"))] == [
        f"k_{i:04d}.mat" for i in range(1, 7)
    ]
    variables = loadmat(hands / "k" / "k_0003.mat")
    columns = {name: variables[name] for name in ("ts", "x", "y", "pol")}
    assert {column.shape[1] for column in columns.values()} == {1}
    assert len({len(column) for column in columns.values()}) == 1
    assert len(columns["ts"]) > 1_500
    assert columns["x"].max() < 240
    assert columns["y"].max() < 180
    assert set(columns["pol"].ravel()) == {0, 1}
    assert 90_000 < columns["ts"].max() <= 100_000


def test_the_official_readers_take_them_for_simulated_ones(digits: Path, hands: Path) -> None:
    for source in (NMNIST(digits), ASLDVS(hands)):
        assert source.name == "simulated"
        for ref in source.recordings()[::29]:
            events, repairs = source.read(ref)
            assert len(events) > 200
            assert set(repairs) <= {"recordings_not_from_zero"}


def test_hands_come_upright_through_the_reader_and_flipped_in_the_file(hands: Path) -> None:
    from scipy.io import loadmat

    upright = read_all(ASLDVS(hands))
    for letter in "abdeiklrsuvw":  # held upright: the forearm comes in from below
        events = upright[f"{letter}/{letter}_0001"]
        assert (events["y"] >= 165).sum() > 2 * (events["y"] < 15).sum()
        raw = loadmat(hands / letter / f"{letter}_0001.mat")["y"]
        assert (raw < 15).sum() > 2 * (raw >= 165).sum()
    # Fingers that point to the viewer's right, and the forearm from the lower left, tell left from right.
    pointing = upright["h/h_0001"]
    assert np.median(pointing["x"][pointing["y"] >= 150]) < 100
    assert (pointing["x"] >= 170).sum() > 2 * ((pointing["x"] < 70) & (pointing["y"] < 120)).sum()


def test_files_are_the_same_for_any_number_of_jobs(
    digits: Path, hands: Path, tmp_path: Path
) -> None:
    alone, together = (
        write_nmnist(tmp_path / f"digits-{jobs}", train=2, test=1, jobs=jobs) for jobs in (1, 2)
    )
    assert contents(alone) == contents(together)
    # neither do recordings depend on how many others there are
    many = contents(digits)
    assert all(
        many[name] == content
        for name, content in contents(alone).items()
        if name.startswith("Train")
    )
    alone, together = (
        write_asl_dvs(tmp_path / f"hands-{jobs}", files=3, letters="bq", jobs=jobs)
        for jobs in (1, 2)
    )
    assert contents(alone) == contents(together)


def test_golden_events(digits: Path, hands: Path) -> None:
    """SHA-256 over x, y, t, p as little-endian int64 columns; made by this code with numpy 1.24.4 and 2.4.6 alike."""

    def digest(events: Any) -> str:
        columns = b"".join(events[name].astype("<i8").tobytes() for name in "xytp")
        return hashlib.sha256(columns).hexdigest()

    numbers = {
        path.parent.name: path.stem
        for path in digits.glob("Train/[07]/*.bin")
        if int(path.stem) <= 10
    }
    recordings = {**read_all(NMNIST(digits)), **read_all(ASLDVS(hands))}
    found = {
        "0": digest(recordings[f"Train/0/{numbers['0']}"]),
        "7": digest(recordings[f"Train/7/{numbers['7']}"]),
        "c": digest(recordings["c/c_0002"]),
    }
    assert found == {
        "0": "a1b4b72c48d3e95cecf71d960054d3a85ec33fb2ad646ff3aced6d7c39caef9a",
        "7": "b751899dfb71e9fdac64778de45e236620a417595fa430dc0df235199f9512ca",
        "c": "0d9c61d027fe43d71eeebee68d8a5878ea745957164c7a3aed3700733532dc13",
    }


def test_another_seed_gives_other_recordings(digits: Path, tmp_path: Path) -> None:
    other = write_nmnist(tmp_path, train=1, test=1, seed=1)
    assert not set(contents(other).values()) & set(contents(digits).values())


def test_no_image_serves_both_folders_and_a_repeated_one_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half of each digit's images is blank here, and all others are one square: Train sees the blank ones alone."""
    import sklearn.datasets

    square = np.zeros((8, 8))
    square[2:6, 2:6] = 16
    blank = np.zeros((8, 8))
    fake = SimpleNamespace(
        images=np.array([blank, blank, square, square] * 10), target=np.repeat(np.arange(10), 4)
    )
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: fake)
    recordings = read_all(NMNIST(write_nmnist(tmp_path, train=2, test=4)))
    train = [len(events) for name, events in recordings.items() if name.startswith("Train")]
    test = [len(events) for name, events in recordings.items() if name.startswith("Test")]
    assert max(train) < 300 < 500 < min(test)
    assert len(set(test)) > 30


def test_real_images_of_train_and_test_are_disjoint() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for digit in range(10):
        images = [image.tobytes() for image in bunch.images[bunch.target == digit]]
        half = len(images) // 2
        assert not set(images[:half]) & set(images[half:])


def test_a_killed_or_failing_writer_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        if self.name.count(".bin"):
            raise OSError(28, "No space left on device")
        return self.rename(target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_nmnist(tmp_path, train=1, test=0)
    assert not [path for path in tmp_path.rglob("*") if ".bin" in path.name]
    monkeypatch.undo()
    assert len(NMNIST(write_nmnist(tmp_path, train=1, test=0)).recordings()) == 10


def test_writing_again_is_fine_and_other_recordings_are_safe(tmp_path: Path) -> None:
    mine = write_nmnist(tmp_path / "mine", train=1, test=0)
    before = contents(mine)
    assert contents(write_nmnist(mine, train=1, test=0)) == before
    with pytest.raises(UsageError, match="other simulated recordings"):
        write_nmnist(mine, train=2, test=0)
    real = tmp_path / "real" / "Train" / "3" / "00001.bin"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"12345")
    with pytest.raises(UsageError, match="not simulated"):
        write_nmnist(tmp_path / "real", train=1)
    assert contents(mine) == before
    assert real.read_bytes() == b"12345"
    with pytest.raises(UsageError, match="is a file"):
        write_asl_dvs(real)


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (write_nmnist, {"train": -1}, "train=-1"),
        (write_nmnist, {"train": 0, "test": 0}, "not 0 both"),
        (write_nmnist, {"test": 10_000}, "test=10000"),
        (write_nmnist, {"jobs": 0}, "jobs=0"),
        (write_asl_dvs, {"files": 0}, "files=0"),
        (write_asl_dvs, {"letters": "abj"}, "'abj'"),
        (write_asl_dvs, {"letters": "aa"}, "each once"),
        (write_asl_dvs, {"letters": ""}, "letters=''"),
        (write_asl_dvs, {"jobs": -2}, "jobs=-2"),
    ],
)
def test_impossible_orders_are_refused_before_anything_is_written(
    write: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        write(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_recordings_for_a_dataset_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose from double-nmnist, double-asl-dvs"):
        simulate_recordings("mnist", tmp_path)


# --- What they look like ----------------------------------------------------------------------------------------------------


def picture(events: Any, cell: int = 6) -> np.ndarray:
    """Events a cell of the 240 x 180 sensor as a vector of length 1."""
    across = 240 // cell
    counts = np.bincount(
        (events["y"].astype(int) // cell) * across + events["x"].astype(int) // cell, minlength=1200
    )
    return np.asarray(counts / np.sqrt((counts**2).sum()))


def test_neighboring_numbers_are_near_copies_and_far_ones_are_not(hands: Path) -> None:
    recordings = {name: picture(events) for name, events in read_all(ASLDVS(hands)).items()}
    letters = "abcdefghiklmnopqrstuvwxy"

    def alike(first: int, second: int) -> float:
        return float(
            np.mean(
                [
                    recordings[f"{k}/{k}_{first:04d}"] @ recordings[f"{k}/{k}_{second:04d}"]
                    for k in letters
                ]
            )
        )

    assert alike(1, 2) > 0.65
    assert max(alike(1, number) for number in (3, 4, 5, 6)) < 0.55


def test_every_letter_has_a_shape_of_its_own(hands: Path) -> None:
    recordings = {name: picture(events) for name, events in read_all(ASLDVS(hands)).items()}
    letters = "abcdefghiklmnopqrstuvwxy"
    firsts = np.array([recordings[f"{letter}/{letter}_0001"] for letter in letters])
    seconds = np.array([recordings[f"{letter}/{letter}_0002"] for letter in letters])
    likeness = firsts @ firsts.T - 2 * np.eye(24)
    assert likeness.max() < 0.93
    assert np.mean((seconds @ firsts.T).argmax(1) == np.arange(24)) > 0.7


def test_hands_give_a_moderate_number_of_events(hands: Path) -> None:
    counts = np.array([len(events) for events in read_all(ASLDVS(hands)).values()])
    assert 5_000 < counts.mean() < 12_000
    assert counts.min() > 1_500
    assert counts.max() < 25_000


# --- Against real recordings ------------------------------------------------------------------------------------------------


def statistics(recordings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Figures of N-MNIST recordings as written, t from the start of the file; a row a recording, but for the last two."""
    rows: dict[str, list[Any]] = {}
    rate, gaps = np.zeros(31), []
    for events in recordings.values():
        x, y, t, p = (events[name].astype(np.int64) for name in "xytp")
        first = (t - t[0] < 100_000) & (x < 32) & (y < 32)
        site = y * 34 + x
        figures = {
            "events": len(t),
            "events in the 100 ms window": first.sum(),
            "ON fraction": p.mean(),
            "events in saccade 1, 2, 3": [
                ((t >= a) & (t < a + 100_000 + b)).sum()
                for a, b in ((0, 0), (100_000, 0), (200_000, 30_000))
            ],
            "x: 5, 50, 95 %": np.percentile(x, [5, 50, 95]),
            "y: 5, 50, 95 %": np.percentile(y, [5, 50, 95]),
            "spread of x, y": [x.std(), y.std()],
            "pixels with an event": len(np.unique(site)),
            "events outside the digit's reach": ((x < 4) | (x > 30) | (y < 3)).sum(),
            "last event (ms)": t[-1] / 1000,
        }
        for name, value in figures.items():
            rows.setdefault(name, []).append(value)
        rate += np.bincount(np.minimum(t // 10_000, 30), minlength=31)
        order = np.lexsort((t, site))
        gaps.append(np.diff(t[order])[np.diff(site[order]) == 0] / 1000)
    out = {name: np.array(value, float) for name, value in rows.items()}
    out["ms between two events of a pixel: 5, 25, 50, 75 %"] = np.percentile(
        np.concatenate(gaps), [5, 25, 50, 75]
    )
    out["events in each 10 ms"] = rate / len(recordings)
    return out


def raw_recordings(folder: Path) -> dict[str, Any]:
    from tonic.io import read_mnist_file

    return {
        str(path): read_mnist_file(str(path), EVENT_DTYPE)
        for path in sorted(folder.glob("*/*.bin"))
    }


def test_statistics_are_near_the_real_ones(sample: Path, digits: Path) -> None:
    real, made = (
        statistics(raw_recordings(sample / "Train")),
        statistics(raw_recordings(digits / "Train")),
    )
    mean = {name: (real[name].mean(0), made[name].mean(0)) for name in real}
    for name, tolerance in (
        ("events", 0.1),
        ("events in the 100 ms window", 0.1),
        ("events in saccade 1, 2, 3", 0.12),
        ("pixels with an event", 0.1),
        ("spread of x, y", 0.1),
        ("events outside the digit's reach", 0.15),
        ("last event (ms)", 0.02),
    ):
        assert mean[name][1] == pytest.approx(mean[name][0], rel=tolerance), name
    assert mean["ON fraction"][1] == pytest.approx(mean["ON fraction"][0], abs=0.01)
    for name in ("x: 5, 50, 95 %", "y: 5, 50, 95 %"):
        assert mean[name][1] == pytest.approx(mean[name][0], abs=1.2), name
    assert made["events"].std() == pytest.approx(real["events"].std(), rel=0.2)
    gaps = "ms between two events of a pixel: 5, 25, 50, 75 %"
    assert made[gaps] == pytest.approx(real[gaps], rel=0.3)
    assert np.corrcoef(real["events in each 10 ms"], made["events in each 10 ms"])[0, 1] > 0.95


def table(sample: Path) -> str:
    """The comparison in Markdown: as many simulated as real recordings, mean and deviation over recordings."""
    with tempfile.TemporaryDirectory() as folder:
        made = write_nmnist(folder, train=68, test=32)
        columns = [
            statistics(raw_recordings(root / name))
            for root in (sample, made)
            for name in ("Train", "Test")
        ]

    def cell(name: str, value: np.ndarray) -> str:
        digits = 3 if "fraction" in name else 1 if value.mean() < 100 else 0
        if value.ndim == 1 and len(value) < 32:
            return ", ".join(f"{v:.{digits}f}" for v in value)
        means, deviations = np.atleast_1d(value.mean(0)), np.atleast_1d(value.std(0))
        return ", ".join(
            f"{m:,.{digits}f} ± {d:,.{digits}f}" for m, d in zip(means, deviations, strict=True)
        )

    lines = [
        "| | sample, Train | sample, Test | simulated, Train | simulated, Test |",
        "|---|---|---|---|---|",
    ]
    for name in columns[0]:
        if name != "events in each 10 ms":
            lines.append(
                f"| {name} | " + " | ".join(cell(name, column[name]) for column in columns) + " |"
            )
    rates = [column["events in each 10 ms"] for column in columns]
    likeness = [f"{np.corrcoef(rates[0], rate)[0, 1]:.3f}" for rate in rates]
    lines.append(
        "| correlation of the rate over time (10 ms) with the sample's Train | "
        + " | ".join(likeness)
        + " |"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(Path(os.environ["METAEVENTS_NMNIST_SAMPLE"])) + "\n")
