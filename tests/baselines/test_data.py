"""The sample stream, its held-out recordings, and random shifts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import metaevents as me
from baselines import data
from baselines.data import ComponentStream, SampleStream, random_shift
from metaevents.errors import UsageError
from metaevents.rng import Streams


@pytest.fixture(scope="module")
def train_split(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, "train")


def recordings(stream: SampleStream, samples: list[tuple[int, ...]]) -> set[int]:
    return {index for sample in samples for index in sample}


def test_batches_are_pure_functions_of_seed_and_number(train_split: me.DoubleNMNIST) -> None:
    first, second = (SampleStream(train_split, "sum", 4, seed=0) for _ in range(2))
    second.batch(0, 4)
    x, y = first.batch(5, 4)
    assert torch.equal(x, second.batch(5, 4)[0])
    assert torch.equal(y, second.batch(5, 4)[1])
    assert not torch.equal(x, first.batch(6, 4)[0])
    assert not torch.equal(x, SampleStream(train_split, "sum", 4, seed=1).batch(5, 4)[0])


def test_held_out_recordings_are_in_no_batch(train_split: me.DoubleNMNIST) -> None:
    stream = SampleStream(train_split, "sum", 4, seed=0)
    drawn: list[tuple[int, ...]] = []
    stream._stack = lambda samples: drawn.extend(samples) or torch.zeros(len(samples))  # type: ignore[assignment,func-returns-value]
    for index in range(40):
        stream.batch(index, 32)
    trained = recordings(stream, drawn)
    drawn.clear()
    stream.held_out(200)
    held_out = recordings(stream, drawn)
    assert trained.isdisjoint(held_out)
    pools = [set(train_split.pool(label).tolist()) for label in train_split.labels]
    assert trained | held_out <= set().union(*pools)
    assert all(len(held_out & pool) == len(pool) // 4 for pool in pools)


def test_labels_name_the_classes_of_the_samples(train_split: me.DoubleNMNIST) -> None:
    stream = SampleStream(train_split, "sum", 0, seed=0)
    drawn: list[tuple[int, ...]] = []
    stream._stack = lambda samples: drawn.extend(samples) or torch.zeros(len(samples))  # type: ignore[assignment,func-returns-value]
    _, y = stream.batch(0, 200)
    for sample, label in zip(drawn, y.tolist(), strict=True):
        components = train_split.components[train_split.classes[label]]
        assert all(
            index in train_split.pool(part) for index, part in zip(sample, components, strict=True)
        )
        assert len(set(sample)) == 2  # also where both sides are alike, never one recording twice
    assert any(
        len(set(train_split.components[train_split.classes[label]])) == 1 for label in y.tolist()
    )


def test_too_few_recordings_for_pre_training_are_refused(train_split: me.DoubleNMNIST) -> None:
    with pytest.raises(UsageError, match="hold out fewer"):
        SampleStream(train_split, "sum", 1, seed=0)


def test_each_side_shifts_independently_and_loses_only_what_leaves_the_frame() -> None:
    x = torch.zeros(200, 1, 5, 8)
    x[:, 0, 2, 1], x[:, 0, 2, 6] = 1.0, 2.0
    out = random_shift(x, 2, 1, Streams("test")(0))
    left, right = out[..., :4], out[..., 4:]
    assert torch.equal(left.sum((1, 2, 3)), torch.ones(200))
    assert torch.equal(right.sum((1, 2, 3)), torch.full((200,), 2.0))
    places = {tuple(torch.nonzero(side[0])[0].tolist()) for side in left}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}
    shifts = {
        (tuple(torch.nonzero(a[0])[0].tolist()), tuple(torch.nonzero(b[0])[0].tolist()))
        for a, b in zip(left, right, strict=True)
    }
    assert len(shifts) > 40  # of 81: the sides shift independently
    assert torch.equal(out, random_shift(x, 2, 1, Streams("test")(0)))
    assert random_shift(x, 2, 0, Streams("test")(0)) is x
    assert random_shift(x, 2, 4, Streams("test")(0)).sum() < x.sum()


# --- components ----------------------------------------------------------------------------------


@pytest.mark.parametrize("representation", ["sum", "frames"])
def test_sides_are_whole_or_stitched_from_two_components(
    nmnist_root: Path, representation: str
) -> None:
    ds = me.DoubleNMNIST(nmnist_root, "train", classes="novel-components")
    stream = ComponentStream(ds, representation, 4, seed=0)
    filled: list[list[tuple[int, ...]]] = []
    fill = stream._filled

    def spy(samples: list[tuple[int, ...]], classes: list[int]) -> Any:
        filled.append(samples)
        return fill(samples, classes)

    stream._filled = spy  # type: ignore[method-assign, assignment]
    x, y = stream.batch(3, 60)
    recordings = [sample[0] for sample in filled[0]]
    stack = ds.stack_sums if representation == "sum" else ds.stack_frames
    alone = stack([(index, index) for index in recordings])[..., :16]
    assert ComponentStream.n_classes(ds) == 4 + 4 * 3 * 2
    seen = set()
    for side, label, first, second, a, b in zip(
        x, y.tolist(), alone[:60], alone[60:], recordings[:60], recordings[60:], strict=True
    ):
        one, other = (
            next(k for k, name in enumerate(ds.labels) if index in ds.pool(name))
            for index in (a, b)
        )
        if label < 4:
            assert label == one == other
            assert torch.equal(side, first)
            seen.add("whole")
            continue
        place, cut = divmod(label - 4, 2)
        assert place == one * 3 + (other - one) % 4 - 1
        expected = first.clone()
        if cut == 0:
            expected[..., 8:] = second[..., 8:]
        else:
            expected[..., 8:, :] = second[..., 8:, :]
        assert torch.equal(side, expected)
        seen.add(f"cut {cut}")
    assert seen == {"whole", "cut 0", "cut 1"}
    assert 0 <= int(y.min()) <= int(y.max()) < ComponentStream.n_classes(ds)


def test_held_out_recordings_are_in_no_batch_of_components(nmnist_root: Path) -> None:
    ds = me.DoubleNMNIST(nmnist_root, "train", classes="novel-components")
    stream = ComponentStream(ds, "sum", 4, seed=0)
    drawn: list[tuple[int, ...]] = []

    def fill(samples: list[tuple[int, ...]], classes: list[int]) -> Any:
        drawn.extend(samples)
        return torch.zeros(len(samples), 2, 16, 32), torch.tensor(classes)

    stream._filled = fill  # type: ignore[method-assign, assignment]
    for index in range(20):
        stream.batch(index, 32)
    trained = recordings(stream, drawn)
    drawn.clear()
    stream.held_out(100)
    assert trained.isdisjoint(recordings(stream, drawn))


def test_many_components_are_stitched_with_some_others_alone(
    nmnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = me.DoubleNMNIST(nmnist_root, "train", classes="novel-components")
    for most, partners in ((8, 2), (3, 0)):
        monkeypatch.setattr(data, "_MOST_STITCHED", most)
        n = ComponentStream.n_classes(ds)
        assert n == 4 + 4 * partners * 2
        _, y = ComponentStream(ds, "sum", 0, seed=0).batch(0, 200)
        assert sorted(set(y.tolist())) == list(range(n))
