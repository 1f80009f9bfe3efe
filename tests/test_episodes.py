"""Episodes: pure functions of their number, without leaks, in every form that a learner may want."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.recordings import write_asl_dvs, write_nmnist

import metaevents as me
from metaevents.building import build_archive
from metaevents.errors import UsageError
from metaevents.sampling import EpisodeSampler
from metaevents.sources import ASLDVS, NMNIST

Root = Path


@pytest.fixture(scope="module")
def dataset(nmnist_root: Root) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, split="test")


@pytest.fixture(scope="module")
def loader(dataset: me.DoubleNMNIST) -> me.EpisodeLoader:
    return me.EpisodeLoader(dataset, ways=5, shots=2, queries=4, episodes=12, seed=3)


def digests(loader: me.EpisodeLoader) -> list[str]:
    return [episode.digest() for episode in loader]


# --- what an episode is --------------------------------------------------------------------------------------------


def test_an_episode_has_the_contracts_parts(loader: me.EpisodeLoader) -> None:
    episode = loader[4]
    assert episode.support_x.shape == (10, 100, 2, 16, 32)
    assert episode.query_x.shape == (20, 100, 2, 16, 32)
    assert episode.support_x.dtype == torch.float32
    assert episode.support_y.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert episode.query_y.dtype == torch.int64
    assert Counter(episode.query_y.tolist()) == dict.fromkeys(range(5), 4)
    assert len(set(episode.classes)) == 5
    assert episode.index == 4
    assert [field.name for field in fields(episode)] == [
        "support_x", "support_y", "query_x", "query_y", "classes", "support_ids", "query_ids", "index",
    ]  # fmt: skip


def test_tensors_are_the_samples_that_the_ids_name(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader
) -> None:
    episode = loader[0]
    for x, y, ids in (
        (episode.support_x, episode.support_y, episode.support_ids),
        (episode.query_x, episode.query_y, episode.query_ids),
    ):
        for frames, label, (left, right) in zip(x, y.tolist(), ids, strict=True):
            c = episode.classes[label]
            lefts, rights = dataset.recording_ids(c)
            assert torch.equal(frames, dataset.frames(c, lefts.index(left), rights.index(right)))


def test_the_digest_covers_classes_ids_and_labels_alone(loader: me.EpisodeLoader) -> None:
    episode = loader[1]
    facts = {
        "classes": episode.classes,
        "support_ids": episode.support_ids,
        "query_ids": episode.query_ids,
        "support_y": episode.support_y.tolist(),
        "query_y": episode.query_y.tolist(),
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert episode.digest() == hashlib.sha256(canonical.encode()).hexdigest()
    changed = copy.deepcopy(episode)
    changed.query_x.zero_()
    assert changed.digest() == episode.digest()
    changed.classes = changed.classes[::-1]
    assert changed.digest() != episode.digest()


# --- the same for everyone -----------------------------------------------------------------------------------------


def test_an_episode_depends_on_its_number_alone(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader
) -> None:
    in_order = digests(loader)
    shuffled = list(range(12))
    random.Random(0).shuffle(shuffled)
    assert {i: loader[i].digest() for i in shuffled} == dict(enumerate(in_order))
    longer = me.EpisodeLoader(dataset, ways=5, shots=2, queries=4, episodes=5000, seed=3)
    assert [longer[i].digest() for i in range(12)] == in_order
    assert longer[4999].digest() == longer[-1].digest()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader, workers: int
) -> None:
    parallel = me.EpisodeLoader(
        dataset, ways=5, shots=2, queries=4, episodes=12, seed=3, num_workers=workers
    )
    for _ in range(2):
        for alone, other in zip(loader, parallel, strict=True):
            assert alone.digest() == other.digest()
            assert alone.index == other.index
            assert torch.equal(alone.query_x, other.query_x)


def test_hash_seed_and_process_change_nothing(nmnist_root: Root, loader: me.EpisodeLoader) -> None:
    code = (
        "import metaevents as me\n"
        f"ds = me.DoubleNMNIST({str(nmnist_root)!r}, split='test')\n"
        "print([e.digest() for e in me.EpisodeLoader(ds, ways=5, shots=2, queries=4, episodes=12, seed=3)])"
    )
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(digests(loader))


def test_another_seed_setting_split_or_pairing_is_another_stream(nmnist_root: Root) -> None:
    def first(
        split: str = "test", pairing: str = "all", classes: str = "published", **numbers: int
    ) -> str:
        ds = me.DoubleNMNIST(nmnist_root, split=split, pairing=pairing, classes=classes)
        return me.EpisodeLoader(ds, **{"ways": 5, "shots": 1, "queries": 5, **numbers})[0].digest()  # type: ignore[arg-type]

    variants = [
        first(), first(seed=1), first(shots=2), first(queries=6), first(ways=6), first(split="val"),
        first(pairing="published"), first(classes="novel-components"),
    ]  # fmt: skip
    assert len(set(variants)) == len(variants)


def test_the_global_generators_are_left_alone(dataset: me.DoubleNMNIST) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
    for workers in (0, 2):
        list(me.EpisodeLoader(dataset, ways=5, shots=1, queries=2, episodes=3, num_workers=workers))
    dataset.as_classification(3, seed=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]  # noqa: NPY002
    assert random.getstate() == before[2]


# --- no leaks ------------------------------------------------------------------------------------------------------


def sides_of(
    episode: me.Episode, label: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    support = [
        i
        for i, y in zip(episode.support_ids, episode.support_y.tolist(), strict=True)
        if y == label
    ]
    query = [
        i for i, y in zip(episode.query_ids, episode.query_y.tolist(), strict=True) if y == label
    ]
    return support, query


def check_no_leak(episode: me.Episode) -> None:
    for label, c in enumerate(episode.classes):
        support, query = sides_of(episode, label)
        recordings_of = [{id for pair in part for id in pair} for part in (support, query)]
        assert not recordings_of[0] & recordings_of[1], (
            "a recording is in support and query of a class"
        )
        for side in (0, 1):
            ids = [pair[side] for pair in (*support, *query)]
            assert len(set(ids)) == len(ids), "a recording stands twice on a side"
        if c[0] == c[1]:
            assert all(left != right for left, right in (*support, *query)), (
                "a recording is paired with itself"
            )


@pytest.mark.parametrize(("shots", "queries"), [(1, 1), (1, 10), (5, 7), (2, 10), (6, 6)])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_support_and_query_share_no_recording(
    nmnist_root: Root, split: str, shots: int, queries: int
) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, split=split)
    seen: Counter[str] = Counter()
    for episode in me.EpisodeLoader(dataset, 5, shots, queries, episodes=120, representation="sum"):
        check_no_leak(episode)
        seen.update(episode.classes)
    assert len(seen) == len(dataset)


def test_alike_sides_need_two_recordings_for_support_and_query(dataset: me.DoubleNMNIST) -> None:
    # Twelve recordings a digit: 1 + 11 fit every class but the alike ones, which need 2 + 11.
    me.EpisodeLoader(dataset, ways=5, shots=2, queries=10)
    with pytest.raises(UsageError) as caught:
        me.EpisodeLoader(dataset, ways=5, shots=1, queries=11)
    message = str(caught.value)
    assert "need (13, 13) recordings a side, but 2 of 20 classes" in message
    assert "'55' has (12, 12); queries=10 would fit with shots=1" in message


def test_episodes_use_all_recordings_and_all_pairs(dataset: me.DoubleNMNIST) -> None:
    lefts: Counter[str] = Counter()
    pairs: set[tuple[str, str]] = set()
    for draw in map(EpisodeSampler(dataset, 5, 1, 5, seed=0), range(400)):
        for name, label in zip(draw.classes, range(5), strict=True):
            if name == "47":
                own = [s for s, y in zip(draw.query, draw.query_y, strict=True) if y == label]
                lefts.update(dataset.archive.ids[left] for left, _ in own)
                pairs.update(own)
    assert set(lefts) == set(dataset.recording_ids("47")[0])
    assert len(pairs) > 100  # of 144


def three_letters(tmp_path: Path, files: int) -> me.ComposedDataset:
    """The test split of nine classes of ASL-DVS files, with the gap of the benchmark; its block is the last fifth."""
    source = ASLDVS(write_asl_dvs(tmp_path / "raw", files=files, letters="abc", n=3))
    letters = [a + b for a in "abc" for b in "abc"]
    return me.compose(source, root=tmp_path, split="test", splits={"test": letters}, min_gap=20)


def test_asl_dvs_keeps_support_and_query_apart(tmp_path: Path) -> None:
    # 300 files a letter: 60 in the test block. Files are neighbors in time, so 20 numbers are two seconds.
    dataset = three_letters(tmp_path, 300)
    alike_seen = False
    for shots, queries in ((1, 15), (5, 15)):
        for episode in me.EpisodeLoader(
            dataset, 5, shots, queries, episodes=40, representation="sum"
        ):
            check_no_leak(episode)
            for label, c in enumerate(episode.classes):
                support, query = sides_of(episode, label)
                alike_seen |= c[0] == c[1]
                for group in [(0, 1)] if c[0] == c[1] else [(0,), (1,)]:
                    near, far = (
                        np.array([int(pair[side][-4:]) for pair in part for side in group])
                        for part in (support, query)
                    )
                    assert np.abs(near[:, None] - far[None]).min() >= 20
    assert alike_seen
    with pytest.raises(UsageError, match="20 file numbers apart"):
        me.EpisodeLoader(dataset, ways=5, shots=20, queries=30)


def test_the_benchmark_asks_for_a_gap_in_real_asl_dvs_alone(asl_root: Root) -> None:
    assert me.DoubleASLDVS(asl_root).min_gap == 20
    # Ten files a letter: six train, so that no two are 20 numbers apart.
    with pytest.raises(UsageError, match="shots=1 and queries=1 do not fit either"):
        me.EpisodeLoader(me.DoubleASLDVS(asl_root), ways=5, shots=1, queries=1)


def test_a_small_asl_archive_still_serves_what_can_be_served(tmp_path: Path) -> None:
    # 125 files: numbers 101 to 125 in the test block; only the ends leave room for a query 20 numbers away.
    dataset = three_letters(tmp_path, 125)
    for episode in me.EpisodeLoader(dataset, 5, 1, 3, episodes=20, representation="sum"):
        check_no_leak(episode)
    with pytest.raises(UsageError, match=r"queries=4 would fit"):
        me.EpisodeLoader(dataset, ways=5, shots=1, queries=6)


def test_published_pairing_repeats_the_left_recording_in_support_and_query(
    nmnist_root: Root,
) -> None:
    # The leak that inflates published results: it is reproduced on purpose, and gone with pairing "all".
    dataset = me.DoubleNMNIST(nmnist_root, split="train", pairing="published")
    for episode in me.EpisodeLoader(dataset, 5, 1, 10, episodes=10, representation="sum"):
        for label in range(5):
            support, query = sides_of(episode, label)
            assert {left for left, _ in support} == {left for left, _ in query}
            assert len({left for left, _ in query}) == 1


# --- orders say nothing --------------------------------------------------------------------------------------------


def test_labels_are_random_and_query_order_is_shuffled(dataset: me.DoubleNMNIST) -> None:
    sampler = EpisodeSampler(dataset, 5, 1, 3, seed=0)
    draws = [sampler(i) for i in range(1500)]
    label_of_47 = Counter(draw.classes.index("47") for draw in draws if "47" in draw.classes)
    first_query = Counter(draw.query_y[0] for draw in draws)
    chosen = Counter(name for draw in draws for name in draw.classes)
    # Chi-squared bounds at 0.001 with 4, 4 and 19 degrees of freedom; the stream is fixed.
    for counts, cells, bound in (
        (label_of_47, 5, 18.5),
        (first_query, 5, 18.5),
        (chosen, 20, 43.9),
    ):
        expected = sum(counts.values()) / cells
        assert len(counts) == cells
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < bound


# --- memory, devices, forms ----------------------------------------------------------------------------------------


def test_episodes_share_no_memory(loader: me.EpisodeLoader) -> None:
    episodes = list(loader)
    before = [episode.query_x.clone() for episode in episodes]
    storages = {x.untyped_storage().data_ptr() for e in episodes for x in (e.support_x, e.query_x)}
    assert len(storages) == 2 * len(episodes)
    episodes[0].query_x.fill_(-1)
    episodes[0].support_x.fill_(-1)
    assert all(torch.equal(e.query_x, b) for e, b in zip(episodes[1:], before[1:], strict=True))
    assert torch.equal(loader[0].query_x, before[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float16])
def test_dtypes_hold_the_same_counts(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader, dtype: torch.dtype
) -> None:
    episode = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, dtype=dtype)[2]
    assert episode.query_x.dtype == dtype
    assert torch.equal(episode.query_x.float(), loader[2].query_x)


def test_the_published_axis_order_is_a_layout(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader
) -> None:
    episode = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, layout="TPWH")[2]
    assert episode.query_x.shape == (20, 100, 2, 32, 16)
    assert episode.query_x.is_contiguous()
    assert torch.equal(episode.query_x.transpose(-1, -2), loader[2].query_x)


def test_sums_are_frames_summed_over_time(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader
) -> None:
    episode = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, representation="sum")[2]
    assert torch.equal(episode.query_x, loader[2].query_x.sum(1))
    assert torch.equal(episode.support_x, loader[2].support_x.sum(1))


def test_event_lists_are_the_same_samples(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader
) -> None:
    from metaevents.events import rasterize

    episode = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, representation="events")[2]
    assert len(episode.query_x) == 20
    for events, frames in zip(episode.query_x, loader[2].query_x, strict=True):
        assert np.array_equal(rasterize(events, (100, 2, 16, 32), 100_000), frames.numpy())
    assert episode.digest() == loader[2].digest()
    assert episode.to("cpu").query_x is episode.query_x


def test_transforms_see_every_sample(dataset: me.DoubleNMNIST, loader: me.EpisodeLoader) -> None:
    from tonic.transforms import ToFrame

    to_frame = ToFrame(sensor_size=(32, 16, 2), time_window=1000, start_time=0, end_time=100_000)
    options: dict[str, Any] = {"ways": 5, "shots": 2, "queries": 4, "episodes": 12, "seed": 3}
    by_tonic = me.EpisodeLoader(dataset, **options, representation="events", transform=to_frame)[2]
    assert np.array_equal(np.stack(by_tonic.query_x), loader[2].query_x.numpy())
    binned = me.EpisodeLoader(
        dataset, **options, transform=lambda x: x.unflatten(0, (10, 10)).sum(1)
    )[2]
    assert binned.query_x.shape == (20, 10, 2, 16, 32)


def test_batches_stack_tasks(dataset: me.DoubleNMNIST, loader: me.EpisodeLoader) -> None:
    batched = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, batch_size=5)
    assert len(batched) == 3
    first, last = batched[0], batched[-1]
    assert first.support_x.shape == (5, 10, 100, 2, 16, 32)
    assert first.query_y.shape == (5, 20)
    assert (first.index, last.index) == ((0, 1, 2, 3, 4), (10, 11))
    for place, index in enumerate(first.index):
        assert torch.equal(first.query_x[place], loader[index].query_x)
        assert torch.equal(first.query_y[place], loader[index].query_y)
        assert first.classes[place] == loader[index].classes
        assert first.support_ids[place] == loader[index].support_ids
    assert first.digest() != last.digest()
    workers = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, batch_size=5, num_workers=2)
    assert digests(batched) == digests(workers)
    lists = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, batch_size=5, representation="events")[
        0
    ]
    assert [len(task) for task in lists.query_x] == [20] * 5


def test_forms_for_other_libraries(loader: me.EpisodeLoader) -> None:
    episode = loader[0]
    meta = episode.as_torchmeta()
    assert meta["train"][0] is episode.support_x
    assert meta["test"][1] is episode.query_y
    arrays = episode.numpy()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert np.array_equal(arrays["query_x"], episode.query_x.numpy())
    moved = episode.to("cpu")
    assert moved.digest() == episode.digest()


def test_a_device_is_honored(dataset: me.DoubleNMNIST) -> None:
    # "meta" is a device that every machine has.
    episode = me.EpisodeLoader(dataset, 5, 1, 2, episodes=1, device="meta")[0]
    assert {episode.support_x.device.type, episode.query_y.device.type} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_episode(dataset: me.DoubleNMNIST, loader: me.EpisodeLoader) -> None:
    episode = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, device="cuda", num_workers=1)[
        2
    ]
    assert torch.equal(episode.query_x.cpu(), loader[2].query_x)


def test_a_loader_is_a_map_and_travels(loader: me.EpisodeLoader) -> None:
    assert len(loader) == 12
    assert loader[-1].digest() == loader[11].digest()
    for index in (12, -13):
        with pytest.raises(IndexError, match="of a loader of 12"):
            loader[index]
    assert pickle.loads(pickle.dumps(loader))[5].digest() == loader[5].digest()


def test_a_workers_memory_does_not_grow_with_episodes(dataset: me.DoubleNMNIST) -> None:
    import resource

    loader = me.EpisodeLoader(dataset, 5, 1, 10, episodes=10**6)
    for index in range(60):
        loader[index]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(60, 600):
        loader[index]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 40 << 20  # two episodes; 540 of them would be 12 GB


# --- wrong numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 0}, "ways=0; give at least 1"),
        ({"shots": 0}, "shots=0"),
        ({"queries": 0}, "queries=0"),
        ({"ways": 21}, "ways=21, but the test split of double-nmnist has 20 classes"),
        ({"shots": 13, "queries": 1}, "give fewer shots"),
        ({"queries": 100}, "queries=10 would fit with shots=1"),
        ({"episodes": -1}, "episodes=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"layout": "TCHW"}, "choose one of TPHW, TPWH"),
        ({"representation": "voxels"}, "choose one of frames, sum, events"),
        ({"dtype": torch.int32}, "choose torch.float32"),
    ],
)
def test_wrong_numbers_are_refused_at_once(
    dataset: me.DoubleNMNIST, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        me.EpisodeLoader(dataset, **{"queries": 5, **options})


def test_published_pairing_has_a_thousand_keys(nmnist_root: Root, tmp_path: Path) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, pairing="published")
    me.EpisodeLoader(dataset, ways=5, shots=1, queries=999)
    with pytest.raises(UsageError, match="need 1001 keys a class, published pairing has 1000"):
        me.EpisodeLoader(dataset, ways=5, shots=1, queries=1000)
    build_archive(
        "double-nmnist",
        tmp_path / "a.h5",
        NMNIST(write_nmnist(tmp_path / "raw", 2, 2, digits="012")),
    )
    with pytest.raises(UsageError, match=r"no recordings of 3, 4, 5, 6, 7, 8, 9"):
        me.EpisodeLoader(me.DoubleNMNIST(tmp_path / "a.h5", pairing="published"))


def test_the_sample_serves_its_protocols_numbers(sample_root: Root) -> None:
    for classes in ("published", "novel-components"):
        dataset = me.DoubleNMNIST(sample_root, split="test", classes=classes)
        for shots in (1, 5):
            episode = me.EpisodeLoader(dataset, ways=5, shots=shots, queries=10)[0]
            assert episode.query_x.shape == (50, 100, 2, 16, 32)
            check_no_leak(episode)
