"""Datasets of a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.composed import busy_archive
from support.recordings import random_events

import metaevents as me
from metaevents.errors import ArchiveError, UsageError
from metaevents.sources import NMNIST, DatasetSource


def test_triple_nmnist_from_the_same_archive(nmnist_folder: Path, nmnist_root: Path) -> None:
    dataset = me.compose(
        nmnist_root / "double-nmnist.h5",
        arity=3,
        split="test",
        splits={"train": ["012"], "test": ["357", "335"]},
        crop=(32, 32),
        downsample=2,
    )
    assert dataset.classes == ("335", "357")
    assert dataset.frame_shape == (100, 2, 16, 48)
    assert dataset.n_recordings("357") == (12, 12, 12)
    double = me.DoubleNMNIST(nmnist_root, split="test", pairing="all")
    triple = dataset.frames("357", 4, 5, 6)
    for side, (digit, place) in enumerate(zip("357", (4, 5, 6), strict=True)):
        recording = int(double.pool(digit)[place])
        part = double.stack_frames([(recording, recording)])[0][..., :16]
        assert torch.equal(triple[..., 16 * side : 16 * side + 16], part)
    assert len(dataset.events("335", 0, 1, 2)) == int(dataset.frames("335", 0, 1, 2).sum())
    episode = me.EpisodeLoader(dataset, ways=2, shots=1, queries=3)[0]
    assert episode.query_x.shape == (6, 100, 2, 16, 48)
    with pytest.raises(UsageError, match="3 sides, got 2 indices"):
        dataset.frames("357", 0, 1)


def test_a_source_of_ones_own_is_archived_and_composed(tmp_path: Path) -> None:
    pairs = [(random_events(i, 40, 128, 128), i % 2) for i in range(40)]
    source = DatasetSource(
        pairs, sensor_size=(128, 128, 2), labels=("wave", "clap"), name="gestures"
    )
    options: dict[str, Any] = {
        "root": tmp_path,
        "downsample": 8,
        "window_us": 200_000,
        "bins": 20,
        "name": "double-gestures",
    }
    train = me.compose(source, split="train", **options)
    assert train.classes == ("clap-clap", "clap-wave", "wave-clap", "wave-wave")
    assert train.frame_shape == (20, 2, 16, 32)
    assert isinstance(train, me.ComposedDataset)
    assert (tmp_path / "double-gestures.h5").exists()
    test = me.compose(source, split="test", **options)
    assert not set(train.recording_ids(0)[0]) & set(test.recording_ids(0)[0])
    assert test.fingerprint == train.fingerprint
    assert me.EpisodeLoader(train, ways=4, shots=2, queries=3)[0].support_x.shape == (
        8,
        20,
        2,
        16,
        32,
    )
    reopened = me.compose(
        tmp_path / "double-gestures.h5", split="test", **{**options, "root": None}
    )
    assert reopened.fingerprint == test.fingerprint


def test_a_custom_partition_is_kept(nmnist_folder: Path, tmp_path: Path) -> None:
    dataset = me.compose(
        NMNIST(nmnist_folder),
        root=tmp_path,
        split="val",
        partition=lambda ref, i, n: "val" if i < 3 else "train",
    )
    assert dataset.n_recordings("00") == (6, 6)  # three from each official folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": {"train": ["0"]}}, "class '0' of the train split is not 2 of the labels"),
        ({"splits": {"train": ["00", "00"]}}, "names class '00' twice"),
        ({"splits": {"dev": ["00"]}}, "splits has the keys dev"),
        ({"arity": 0}, "arity=0 is out of range; give a whole number from 1 to"),
        ({"downsample": 5}, "cannot be divided by 5"),
        ({"window_us": 200_000}, "keeps 100000 us per recording"),
        ({"partition": "blocks-60-20-20"}, "which has its own"),
        ({"split": "dev"}, "split='dev'"),
    ],
)
def test_impossible_compositions_are_refused(
    nmnist_root: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError if "keeps" not in message else ArchiveError, match=message):
        me.compose(nmnist_root / "double-nmnist.h5", **options)


def test_recordings_need_a_root_and_a_known_rule(nmnist_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no root"):
        me.compose(NMNIST(nmnist_folder))
    with pytest.raises(UsageError, match="choose one of official-folders, blocks-60-20-20"):
        me.compose(NMNIST(nmnist_folder), root=tmp_path, partition="thirds")


def test_another_source_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path = busy_archive(tmp_path)
    other = DatasetSource(
        [(random_events(0, 5, 4, 4), "a")], sensor_size=(4, 4), labels="ab", name="other"
    )
    with pytest.raises(UsageError, match="holds other recordings"):
        me.compose(other, root=tmp_path, name=path.stem)


@pytest.mark.parametrize("source", [[], {}, 3, None])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match=f"given {type(source).__name__} as source; give an"):
        me.compose(source)
