"""A split as supervised data, as torch and other libraries use it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from support.composed import busy_archive
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, random_split

import metaevents as me
from metaevents.classification import ClassificationDataset
from metaevents.errors import UsageError


@pytest.fixture(scope="module")
def test_split(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, split="test")


@pytest.fixture(scope="module")
def data(test_split: me.DoubleNMNIST) -> ClassificationDataset:
    return test_split.as_classification(pairs_per_class=7, seed=1)


def as_uint8(x: torch.Tensor) -> torch.Tensor:
    return x.sum(0).to(torch.uint8)


def test_it_gives_different_pairs_of_every_class(
    test_split: me.DoubleNMNIST, data: ClassificationDataset
) -> None:
    assert len(data) == 140
    frames, label = data[8]
    assert (frames.shape, label) == ((100, 2, 16, 32), 1)
    assert len(set(data.samples)) == 140
    left, right = data.ids(8)
    place = [
        side.index(id) for side, id in zip(test_split.recording_ids(1), (left, right), strict=True)
    ]
    assert torch.equal(frames, test_split.frames(1, *place))


def test_it_is_a_function_of_the_seed(test_split: me.DoubleNMNIST) -> None:
    first, same, other = (test_split.as_classification(5, seed).samples for seed in (1, 1, 2))
    assert first == same != other


def test_it_never_pairs_a_recording_with_itself(test_split: me.DoubleNMNIST) -> None:
    data = test_split.as_classification(pairs_per_class=12 * 11, seed=0)
    assert all(len(set(sample)) == 2 for sample in data.samples)
    with pytest.raises(
        UsageError, match=r"class '55' has 132 different samples, got pairs_per_class=133"
    ):
        test_split.as_classification(12 * 11 + 1, seed=0)


def test_it_has_the_attributes_of_torchvisions_datasets(
    test_split: me.DoubleNMNIST, data: ClassificationDataset
) -> None:
    assert isinstance(data, Dataset)
    assert data.classes == test_split.classes
    assert [data.class_to_idx[name] for name in data.classes] == list(range(20))
    assert data.targets == data.get_labels() == [label for label in range(20) for _ in range(7)]
    assert all(type(label) is int for label in data.targets)
    assert [data[i][1] for i in (0, 6, 7, 139, -1)] == [data.targets[i] for i in (0, 6, 7, 139, -1)]
    assert repr(data).startswith("<140 labeled samples of <double-nmnist test: 20 classes")


def test_transforms_change_items_and_not_targets(test_split: me.DoubleNMNIST) -> None:
    plain = test_split.as_classification(2, 0)
    data = test_split.as_classification(
        2, 0, transform=as_uint8, target_transform=lambda label: label + 100
    )
    x, y = data[3]
    assert torch.equal(x, plain[3][0].sum(0).to(torch.uint8))
    assert (y, data.targets[3]) == (101, 1)
    data.transform = data.target_transform = None
    assert data[3][1] == 1
    assert torch.equal(data[3][0], plain[3][0])


def test_time_bins_are_merged(test_split: me.DoubleNMNIST) -> None:
    coarse = test_split.as_classification(1, 0, bins=20)[4][0]
    fine = test_split.as_classification(1, 0)[4][0]
    assert torch.equal(coarse, fine.view(20, 5, *fine.shape[1:]).sum(1))
    with pytest.raises(UsageError, match="bins=7"):
        test_split.as_classification(1, 0, bins=7)


def test_what_is_no_transform_is_refused(test_split: me.DoubleNMNIST) -> None:
    for name in ("transform", "target_transform"):
        with pytest.raises(UsageError, match=f"^{name}='sqrt' cannot be called; give a function"):
            test_split.as_classification(1, 0, **{name: "sqrt"})  # type: ignore[arg-type]


def test_indices_count_from_either_end_and_slices_are_refused(data: ClassificationDataset) -> None:
    assert torch.equal(data[-1][0], data[139][0])
    assert torch.equal(data[np.int64(5)][0], data[torch.tensor(5)][0])
    for beyond in (140, -141):
        with pytest.raises(IndexError, match="of 140"):
            data[beyond]
    with pytest.raises(UsageError, match=r"slice\(None, 5, None\).*Subset\(dataset, range"):
        data[:5]  # type: ignore[index]
    assert sum(1 for _ in data) == 140  # iteration ends


def test_torchs_helpers_take_it(data: ClassificationDataset) -> None:
    both = ConcatDataset([data, data])
    assert (len(both), both[141][1]) == (280, 0)
    part = Subset(data, range(7, 14))
    assert {label for _, label in part} == {1}
    first, second = random_split(data, [100, 40], torch.Generator().manual_seed(0))
    assert (len(first), len(second)) == (100, 40)
    assert not set(first.indices) & set(second.indices)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 2}, {"num_workers": 1, "multiprocessing_context": "spawn"}],
    ids=["here", "workers", "spawned"],
)
def test_a_data_loader_takes_it(test_split: me.DoubleNMNIST, options: dict[str, int | str]) -> None:
    data = test_split.as_classification(1, seed=1, transform=as_uint8)
    batches = list(DataLoader(data, batch_size=8, **options))  # type: ignore[arg-type]
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.stack([x for x, _ in data]))
    assert torch.cat([y for _, y in batches]).tolist() == data.targets


def test_it_travels_to_another_process(data: ClassificationDataset) -> None:
    data[0]
    again = pickle.loads(pickle.dumps(data))
    assert again.dataset._decoded == {}
    assert again.targets == data.targets
    assert torch.equal(again[8][0], data[8][0])


def test_single_recordings_are_samples_too(tmp_path: Path) -> None:
    single = me.compose(busy_archive(tmp_path), arity=1, splits={"train": ["a", "b"]})
    data = single.as_classification(3, seed=0)
    assert data.classes == ("a", "b")
    assert len(set(data.samples)) == 6


def test_a_number_of_pairs_has_a_bound(test_split: me.DoubleNMNIST) -> None:
    with pytest.raises(UsageError, match="pairs_per_class=<int> is out of range"):
        test_split.as_classification(10**5000, seed=0)
