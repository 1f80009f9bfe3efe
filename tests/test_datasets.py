"""Composed datasets: samples as in the files, partitions, published pairing, classification."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.composed import PAIRS, busy_archive
from support.packages import import_or_skip
from support.recordings import write_nmnist

import metaevents as me
from metaevents import events as ev
from metaevents.building import build_archive
from metaevents.errors import ArchiveError, UsageError
from metaevents.sources import ASLDVS, NMNIST

SPLITS = ("train", "val", "test")


def from_files(folder: Path, left: str, right: str) -> ev.Events:
    """Compose two N-MNIST recordings as documented: 100 ms, 32 x 32 pixels, right one at x + 32."""
    source = NMNIST(folder)
    refs = {ref.id: ref for ref in source.recordings()}
    rows = []
    for side, id in enumerate((left, right)):
        for x, y, t, p in source.read(refs[id])[0].tolist():
            if t < 100_000 and x < 32 and y < 32:
                rows.append((t, side, x + 32 * side, y, p))
    rows.sort(key=lambda row: row[:2])
    t, _, x, y, p = zip(*rows, strict=True)
    return ev.make_events(x, y, t, p)


@pytest.fixture(scope="module")
def test_split(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, split="test")


@pytest.mark.parametrize(("c", "left", "right"), [("47", 0, 3), ("55", 2, 2), ("80", 11, 0)])
def test_samples_are_what_the_files_say(
    nmnist_folder: Path, test_split: me.DoubleNMNIST, c: str, left: int, right: int
) -> None:
    left_ids, right_ids = test_split.recording_ids(c)
    expected = from_files(nmnist_folder, left_ids[left], right_ids[right])
    fine = test_split.events(c, left, right, downsampled=False)
    assert sorted(fine.tolist()) == sorted(expected.tolist())
    assert np.array_equal(fine["t"], np.sort(fine["t"]))
    assert np.array_equal(test_split.events(c, left, right), ev.downsample(fine, 2))
    frames = test_split.frames(c, left, right)
    assert (frames.shape, frames.dtype) == ((100, 2, 16, 32), torch.float32)
    assert np.array_equal(
        frames.numpy(), ev.rasterize(ev.downsample(fine, 2), (100, 2, 16, 32), 100_000)
    )


def test_events_pass_through_tonics_transforms(test_split: me.DoubleNMNIST) -> None:
    transforms = import_or_skip("tonic.transforms", "pip install 'metaevents[tonic]'")
    to_frame = transforms.ToFrame(
        sensor_size=(32, 16, 2), time_window=1000, start_time=0, end_time=100_000
    )
    assert np.array_equal(
        to_frame(test_split.events("47", 1, 2)), test_split.frames("47", 1, 2).numpy()
    )


def test_asl_dvs_is_upright_with_left_on_the_left(asl_folder: Path, asl_root: Path) -> None:
    dataset = me.DoubleASLDVS(asl_root, split="train")
    c = dataset.classes[0]
    (left_id, *_), (right_id, *_) = dataset.recording_ids(c)
    source = ASLDVS(asl_folder)
    refs = {ref.id: ref for ref in source.recordings()}
    fine = dataset.events(c, 0, 0, downsampled=False)
    for id, left in ((left_id, 0), (right_id, 240)):
        expected = ev.window(source.read(refs[id])[0], 0, 100_000)
        assert np.array_equal(ev.crop(fine, 240, 180, left=left), expected)
    assert dataset.frames(c, 0, 0).shape == (100, 2, 30, 80)
    grid = ev.rasterize(dataset.events(c, 0, 0), dataset.frame_shape, 100_000)
    assert np.array_equal(dataset.frames(c, 0, 0).numpy(), grid)


def test_a_class_goes_by_name_or_index(test_split: me.DoubleNMNIST) -> None:
    index = test_split.classes.index("47")
    assert torch.equal(test_split.frames("47", 0, 1), test_split.frames(index, 0, 1))
    assert test_split.n_recordings(index) == test_split.n_recordings("47") == (12, 12)
    assert len(test_split) == 20
    assert test_split.classes == tuple(sorted(test_split.classes))
    assert test_split.classes[:2] == ("02", "17")


def test_sides_are_given_by_position_or_as_left_and_right(test_split: me.DoubleNMNIST) -> None:
    frames, events = test_split.frames("47", 1, 2), test_split.events("47", 1, 2, downsampled=False)
    assert torch.equal(test_split.frames("47", left=1, right=2), frames)
    assert torch.equal(test_split.frames("47", 1, right=2, dtype=torch.float32), frames)
    assert torch.equal(test_split.frames(c="47", right=2, left=1), frames)
    assert np.array_equal(test_split.events("47", right=2, left=1, downsampled=False), events)
    assert np.array_equal(test_split.events("47", 1, 2, False), events)
    assert test_split.frames("47", 1, 2, torch.uint8).dtype == torch.uint8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ds: ds.frames("00", 0, 0), "no class '00' among the 20"),
        (lambda ds: ds.frames(20, 0, 0), "no class 20"),
        (lambda ds: ds.frames(1.5, 0, 0), "no class 1.5"),
        (
            lambda ds: ds.frames("47", 12, 0),
            "12 recordings on side 0, got index 12; give one from 0 to 11",
        ),
        (lambda ds: ds.events("47", 0, -1), "side 1, got index -1"),
        (lambda ds: ds.frames("47", 0, 0, dtype=torch.float64), "choose torch.float32"),
        (lambda ds: ds.frames("47", 0), "2 sides, got 1 indices; give one per side"),
        (lambda ds: ds.frames("47", 0, 0, 0, 0), "2 sides, got 4 indices"),
        (lambda ds: ds.frames("47", 0, left=0), "give each side once"),
        (lambda ds: ds.events("47", right=0), "give each side once"),
        (lambda ds: ds.events("47", 0, 0, right=0), "give each side once"),
        (lambda ds: ds.frames(10**5000, 0, 0), "no class <int> among the 20"),
        (lambda ds: ds.frames(["47"], 0, 0), r"no class \['47'\] among the 20"),
        (lambda ds: ds.frames("47", 10**5000, 0), "side 0, got index <int>; give one from 0"),
        (lambda ds: ds.frames("47", 0, 0, left=10**5000), "left=<int> and right=None"),
        (lambda ds: ds.frames("47", 0, 0, dtype=[1]), r"dtype=\[1\]; choose torch.float32"),
        (lambda ds: ds.stack_frames([(0, 0)], bins=10**5000), "bins=<int> does not divide"),
        (
            lambda ds: ds.frames("47", 0, 0, torch.uint8, dtype=torch.float16),
            "dtype twice, torch.uint8 by position and torch.float16 by name; give it once",
        ),
        (lambda ds: ds.frames("47", 0, 0, torch.uint8, dtype=torch.uint8), "got dtype twice"),
        (lambda ds: ds.events("47", 0, 0, False, downsampled=True), "got downsampled twice"),
        (lambda ds: ds.events("47", 0, 0, 7), "downsampled=7; give True or False, after one"),
    ],
)
def test_wrong_samples_are_refused(test_split: me.DoubleNMNIST, call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(test_split)


@pytest.mark.parametrize("classes", ["published", "novel-components"])
@pytest.mark.parametrize("name", ["double-nmnist", "double-asl-dvs"])
def test_no_two_splits_share_a_recording_or_a_class(
    name: str, classes: str, nmnist_root: Path, asl_root: Path
) -> None:
    root = {"double-nmnist": nmnist_root, "double-asl-dvs": asl_root}[name]
    datasets = [me.load(name, root, split=split, classes=classes) for split in SPLITS]
    ids = [
        {id for c in ds.classes for side in ds.recording_ids(c) for id in side} for ds in datasets
    ]
    assert all(ids)
    for a, b in combinations(range(3), 2):
        assert not ids[a] & ids[b]
        assert not set(datasets[a].classes) & set(datasets[b].classes)


def test_val_and_test_are_dealt_from_the_test_folder_by_position(nmnist_root: Path) -> None:
    val, test = (
        me.DoubleNMNIST(nmnist_root, split=split).recording_ids(0)[0] for split in ("val", "test")
    )
    assert all(id.startswith("Test/") for id in (*val, *test))
    zeros = [
        id
        for id in me.DoubleNMNIST(nmnist_root, split="val").archive.ids
        if id.startswith("Test/0/")
    ]
    assert (list(val), list(test)) == (zeros[0::2], zeros[1::2])
    train = me.DoubleNMNIST(nmnist_root, split="train").recording_ids(0)
    assert all(id.startswith("Train/") for side in train for id in side)


def test_novel_components_hold_their_own_digits_alone(nmnist_root: Path) -> None:
    for split, digits in zip(SPLITS, ("0123", "456", "789"), strict=True):
        dataset = me.DoubleNMNIST(nmnist_root, split=split, classes="novel-components")
        assert {digit for c in dataset.classes for digit in c} == set(digits)
        assert len(dataset) == len(digits) ** 2


def published(root: Path, split: str, name: str = "double-nmnist") -> me.ComposedDataset:
    return me.load(name, root, split=split, pairing="published")


def test_published_pairing_draws_val_and_test_from_the_whole_test_folder(nmnist_root: Path) -> None:
    val, test = published(nmnist_root, "val"), published(nmnist_root, "test")
    assert val.n_recordings(0) == test.n_recordings(0) == (24, 24)
    assert len(published(nmnist_root, "train").recording_ids(0)[0]) == 12


def test_published_pairing_reads_asl_training_recordings_for_every_split(asl_root: Path) -> None:
    pools = [published(asl_root, split, "double-asl-dvs").pool("a").tolist() for split in SPLITS]
    assert pools[0] == pools[1] == pools[2]
    assert me.DoubleASLDVS(asl_root, split="train").pool("a").tolist() == pools[0]


def test_published_pairing_freezes_the_left_recording(nmnist_root: Path) -> None:
    for split, lefts in (("train", {0}), ("test", {0, 1})):
        dataset = published(nmnist_root, split)
        samples = dataset.as_classification(pairs_per_class=1000, seed=0)
        for index, c in enumerate(dataset.classes[:3]):
            own = samples.samples[1000 * index : 1000 * (index + 1)]
            pool = dataset.pool(c[0]).tolist()
            assert {pool.index(left) for left, _ in own} == lefts


def test_published_pairing_follows_the_index_arithmetic(nmnist_root: Path) -> None:
    dataset = published(nmnist_root, "test")
    c = dataset.classes[4]
    left, right = dataset.pool(c[0]), dataset.pool(c[1])
    expected = sorted((left[key // 892 % 24], right[key % 892 % 24]) for key in range(1000))
    assert sorted(dataset.as_classification(1000, seed=3).samples[4000:5000]) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split='dev'; choose one of train, val, test"),
        ({"pairing": "random"}, "choose one of all, published"),
        ({"classes": "mine"}, "choose one of published, novel-components"),
        ({"split": ["test"]}, r"split=\['test'\]; choose one of train, val, test"),
        ({"classes": ["published"]}, r"classes=\['published'\]; choose one of published, novel"),
        ({"pairing": np.array(["all", "all"])}, "choose one of all, published"),
    ],
)
def test_unknown_options_are_refused(
    nmnist_root: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        me.DoubleNMNIST(nmnist_root, **options)


def test_an_archive_of_a_smaller_sensor_is_refused(tmp_path: Path) -> None:
    archive = me.Archive(busy_archive(tmp_path))
    rules = me.compose(archive, crop=(4, 4), splits=PAIRS).rules
    wide = replace(rules, composition=replace(rules.composition, crop=(5, 4)))
    with pytest.raises(ArchiveError, match=r"recordings of \(4, 4\) pixels, .* keeps \(5, 4\)"):
        me.ComposedDataset(archive, wide, "train")


def test_preparing_compiles_and_decodes_what_will_be_used(tmp_path: Path) -> None:
    dataset = me.compose(busy_archive(tmp_path), splits=PAIRS)
    for options in ({}, {"dtype": torch.uint8}, {"representation": "sum"}, {"bins": 10}):
        dataset.prepare(**options)  # type: ignore[arg-type]
    assert list(dataset._decoded) == ["cells"]
    dataset.prepare("events")
    assert list(dataset._decoded) == ["cells", "events"]
    assert not pickle.loads(pickle.dumps(dataset))._decoded


def test_a_dataset_travels_to_another_process(test_split: me.DoubleNMNIST) -> None:
    test_split.frames("47", 0, 0)
    again = pickle.loads(pickle.dumps(test_split))
    assert torch.equal(again.frames("47", 0, 0), test_split.frames("47", 0, 0))


def test_a_reduced_archive_says_what_is_missing(tmp_path: Path) -> None:
    folder = write_nmnist(tmp_path / "raw", 4, 4, digits="0123456")
    build_archive("double-nmnist", tmp_path / "double-nmnist.h5", NMNIST(folder))
    dataset = me.DoubleNMNIST(tmp_path, split="test")
    assert dataset.n_recordings("47") == (2, 0)
    with pytest.raises(UsageError, match="no recording of '7' for the test split"):
        dataset.frames("47", 0, 0)
    for pairing in ("all", "published"):
        paired = me.DoubleNMNIST(tmp_path, split="test", pairing=pairing)
        with pytest.raises(UsageError, match=r"double-nmnist.h5 has no recording of '7' for the t"):
            paired.as_classification(2, seed=0)
    with pytest.raises(
        UsageError, match=r"'17' has \(2, 0\).*build the archive from more recordings"
    ):
        me.EpisodeLoader(dataset, ways=5, shots=1, queries=1)
    assert me.EpisodeLoader(
        me.DoubleNMNIST(tmp_path, classes="novel-components"), ways=5, shots=1, queries=1
    )[0]
