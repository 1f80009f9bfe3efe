"""The simulated digits, compared with real N-MNIST recordings.

`python tests/simulation/test_digits.py` prints the comparison as a table. The environment variable
METAEVENTS_NMNIST_SAMPLE names the folder of the real recordings.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaevents.simulation import write_nmnist
from metaevents.sources.nmnist import decode_events


def test_real_images_of_train_and_test_are_disjoint() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for digit in range(10):
        images = [image.tobytes() for image in bunch.images[bunch.target == digit]]
        half = len(images) // 2
        assert not set(images[:half]) & set(images[half:])


def statistics(recordings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Statistics of N-MNIST recordings as stored, with t from the start of the file.

    Each has one row per recording, except the last two.
    """
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
    return {
        str(path): decode_events(np.fromfile(path, np.uint8).reshape(-1, 5))
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
    """The comparison in Markdown, for 68 Train and 32 Test recordings per simulated digit."""
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
