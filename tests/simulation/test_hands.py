"""The simulated hands: what they look like to the camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from support.simulated import read_all

from metaevents.sources import ASLDVS

LETTERS = "abcdefghiklmnopqrstuvwxy"


def picture(events: Any, cell: int = 6) -> np.ndarray:
    """Event counts per cell of the 240 x 180 sensor, [1200], scaled to length 1."""
    across = 240 // cell
    counts = np.bincount(
        (events["y"].astype(int) // cell) * across + events["x"].astype(int) // cell, minlength=1200
    )
    return np.asarray(counts / np.sqrt((counts**2).sum()))


def test_hands_come_upright_through_the_reader_and_flipped_in_the_file(hands: Path) -> None:
    from scipy.io import loadmat

    upright = read_all(ASLDVS(hands))
    for letter in "abdeiklrsuvw":  # held upright: the forearm comes in from below
        events = upright[f"{letter}/{letter}_0001"]
        assert (events["y"] >= 165).sum() > 2 * (events["y"] < 15).sum()
        raw = loadmat(hands / letter / f"{letter}_0001.mat")["y"]
        assert (raw < 15).sum() > 2 * (raw >= 165).sum()
    # In an "h" the fingers point to the viewer's right and the forearm comes from the lower left.
    pointing = upright["h/h_0001"]
    assert np.median(pointing["x"][pointing["y"] >= 150]) < 100
    assert (pointing["x"] >= 170).sum() > 2 * ((pointing["x"] < 70) & (pointing["y"] < 120)).sum()


def test_neighboring_numbers_are_near_copies_and_far_ones_are_not(hands: Path) -> None:
    recordings = {name: picture(events) for name, events in read_all(ASLDVS(hands)).items()}

    def alike(first: int, second: int) -> float:
        return float(
            np.mean(
                [
                    recordings[f"{k}/{k}_{first:04d}"] @ recordings[f"{k}/{k}_{second:04d}"]
                    for k in LETTERS
                ]
            )
        )

    assert alike(1, 2) > 0.65
    assert max(alike(1, number) for number in (3, 4, 5, 6)) < 0.55


def test_every_letter_has_a_shape_of_its_own(hands: Path) -> None:
    recordings = {name: picture(events) for name, events in read_all(ASLDVS(hands)).items()}

    firsts = np.array([recordings[f"{letter}/{letter}_0001"] for letter in LETTERS])
    seconds = np.array([recordings[f"{letter}/{letter}_0002"] for letter in LETTERS])
    likeness = firsts @ firsts.T - 2 * np.eye(24)
    assert likeness.max() < 0.93
    assert np.mean((seconds @ firsts.T).argmax(1) == np.arange(24)) > 0.7


def test_hands_give_a_moderate_number_of_events(hands: Path) -> None:
    counts = np.array([len(events) for events in read_all(ASLDVS(hands)).values()])
    assert 5_000 < counts.mean() < 12_000
    assert counts.min() > 1_500
    assert counts.max() < 25_000
