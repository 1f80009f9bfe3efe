"""Episodes: pure functions of their number, in every form that a learner may want."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.composed import busy_archive
from support.packages import import_or_skip

import metaevents as me
from metaevents.errors import UsageError
from metaevents.events import rasterize


@pytest.fixture(scope="module")
def dataset(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, split="test")


@pytest.fixture(scope="module")
def loader(dataset: me.DoubleNMNIST) -> me.EpisodeLoader:
    return me.EpisodeLoader(dataset, ways=5, shots=2, queries=4, episodes=12, seed=3)


def digests(loader: me.EpisodeLoader) -> list[str]:
    return [episode.digest() for episode in loader]


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
        "support_x",
        "support_y",
        "query_x",
        "query_y",
        "classes",
        "support_ids",
        "query_ids",
        "index",
    ]


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


def test_hash_seed_and_process_change_nothing(nmnist_root: Path, loader: me.EpisodeLoader) -> None:
    code = (
        "import metaevents as me\n"
        f"ds = me.DoubleNMNIST({str(nmnist_root)!r}, split='test')\n"
        "loader = me.EpisodeLoader(ds, ways=5, shots=2, queries=4, episodes=12, seed=3)\n"
        "print([episode.digest() for episode in loader])"
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


def test_another_seed_setting_split_or_pairing_is_another_stream(nmnist_root: Path) -> None:
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
    episode = me.EpisodeLoader(dataset, 5, 2, 4, episodes=12, seed=3, representation="events")[2]
    assert len(episode.query_x) == 20
    for events, frames in zip(episode.query_x, loader[2].query_x, strict=True):
        assert np.array_equal(rasterize(events, (100, 2, 16, 32), 100_000), frames.numpy())
    assert episode.digest() == loader[2].digest()
    assert episode.to("cpu").query_x is episode.query_x


def test_transforms_see_every_sample(dataset: me.DoubleNMNIST, loader: me.EpisodeLoader) -> None:
    transforms = import_or_skip("tonic.transforms", "pip install 'metaevents[tonic]'")
    to_frame = transforms.ToFrame(
        sensor_size=(32, 16, 2), time_window=1000, start_time=0, end_time=100_000
    )
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
    # Every machine has the device "meta".
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
    loader = me.EpisodeLoader(dataset, 5, 1, 10, episodes=10**6)
    for index in range(60):
        loader[index]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(60, 600):
        loader[index]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 40 << 20  # two episodes; 540 of them would be 12 GB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": -1}, "episodes=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"layout": "TCHW"}, "choose one of TPHW, TPWH, TNPHW"),
        ({"representation": "voxels"}, "choose one of frames, sum, events"),
        ({"layout": np.array(["TPHW", "TPWH"])}, "choose one of TPHW, TPWH, TNPHW"),
        ({"representation": np.array(["sum", "sum"])}, "choose one of frames, sum, events"),
        ({"division": np.array(["class", "class"])}, "choose one of class, episode"),
        ({"division": ["class"]}, "choose one of class, episode"),
        ({"ways": -(10**5000)}, "ways=<int>; give at least 1"),
        ({"dtype": [1]}, r"dtype=\[1\]; choose torch.float32"),
        ({"dtype": torch.int32}, "choose torch.float32"),
        ({"layout": "TNPHW", "representation": "sum"}, "layout='TNPHW' needs a time axis"),
        ({"bins": 10, "representation": "events"}, "bins needs a time axis"),
        ({"layout": "TPWH", "representation": "events"}, "representation='events' has none"),
        ({"bins": 7}, "bins=7 does not divide the 100 time bins; give a divisor"),
        ({"bins": 0}, "bins=0 is out of range"),
        ({"bins": 200}, "bins=200 does not divide"),
        ({"bins": 10.0}, "bins=10.0 is no whole number"),
        ({"transform": 3}, "transform=3 cannot be called"),
        ({"device": "gpu"}, "device='gpu' does not exist here"),
        ({"device": "cuda:99"}, "device='cuda:99' does not exist here"),
        ({"device": 3.5}, "device=3.5 does not exist here"),
        ({"num_workers": 10**6}, "num_workers=1000000 is out of range"),
        ({"seed": 2**64}, "out of range; give a whole number from 0 to"),
        ({"episodes": 2**63}, "out of range; give a whole number from 0 to"),
    ],
)
def test_wrong_options_are_refused_at_once(
    dataset: me.DoubleNMNIST, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        me.EpisodeLoader(dataset, **{"queries": 5, **options})


# --- whole numbers -------------------------------------------------------------------------------

NUMBERS = ("ways", "shots", "queries", "episodes", "seed", "batch_size", "num_workers", "bins")


def test_numpy_numbers_give_the_same_episodes(dataset: me.DoubleNMNIST) -> None:
    numbers = {"ways": 3, "shots": 2, "queries": 4, "seed": 3, "episodes": 9}
    expected = digests(me.EpisodeLoader(dataset, **numbers))
    for kind in (np.int64, np.uint8, np.array, torch.tensor):
        given = {name: kind(value) for name, value in numbers.items()}
        loader = me.EpisodeLoader(dataset, **given)
        assert digests(loader) == expected
        assert {type(getattr(loader, name)) for name in numbers} == {int}
        assert loader[kind(4)].digest() == expected[4]
        assert loader.draw(kind(4)) == loader.draw(4)


def test_bfloat16_becomes_float32_in_numpy(dataset: me.DoubleNMNIST) -> None:
    options = {"ways": 3, "queries": 4, "representation": "sum"}
    arrays = me.EpisodeLoader(dataset, dtype=torch.bfloat16, **options)[0].numpy()
    tensors = me.EpisodeLoader(dataset, dtype=torch.bfloat16, **options)[0]
    assert arrays["query_x"].dtype == np.float32
    assert arrays["query_y"].dtype == np.int64
    np.testing.assert_array_equal(arrays["query_x"], tensors.query_x.float().numpy())


@pytest.mark.parametrize("value", [3.0, True, np.True_, float("nan"), float("inf"), "3", "x", [3]])
@pytest.mark.parametrize("name", NUMBERS)
def test_anything_but_whole_numbers_is_refused(
    dataset: me.DoubleNMNIST, name: str, value: Any
) -> None:
    with pytest.raises(UsageError, match=f"{name}=.* is no whole number"):
        me.EpisodeLoader(dataset, **{"queries": 5, name: value})


@pytest.mark.parametrize("index", [1.0, True, "1", None, slice(0, 2)])
def test_an_index_is_a_whole_number(loader: me.EpisodeLoader, index: Any) -> None:
    for get in (loader.__getitem__, loader.draw, lambda i: loader.iterate([i])):
        with pytest.raises(UsageError, match=r"index=.* is no whole number"):
            get(index)


# --- workers and passes --------------------------------------------------------------------------


def noisy(sample: Any) -> Any:
    """Add noise of all three global generators to a tensor or to an event array."""
    noise = torch.rand(()).item() + float(np.random.rand()) + random.random()  # noqa: NPY002
    if isinstance(sample, torch.Tensor):
        return sample.sum() + noise
    return noise


OPTIONS: dict[str, Any] = {"ways": 5, "shots": 2, "queries": 4, "episodes": 12, "seed": 3}


@pytest.mark.parametrize("form", [{}, {"transform": noisy}, {"representation": "events"}])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_iteration_is_a_pass_of_its_own(
    dataset: me.DoubleNMNIST, form: dict[str, Any], workers: int
) -> None:
    loader = me.EpisodeLoader(dataset, **{**OPTIONS, "episodes": 4}, num_workers=workers, **form)
    assert [(a.index, b.index) for a, b in zip(loader, loader, strict=True)] == [
        (i, i) for i in range(4)
    ]
    assert [(a.index, b.index) for a in loader for b in loader] == [
        (i, j) for i in range(4) for j in range(4)
    ]
    for episode in loader:
        if episode.index == 1:
            break
    assert [episode.index for episode in loader] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "form",
    [
        {"dtype": torch.uint8, "layout": "TNPHW"},
        {"representation": "sum", "batch_size": 5},
        {"representation": "events"},
        {"transform": noisy},
        {"transform": noisy, "representation": "events", "batch_size": 5},
    ],
)
def test_workers_change_nothing_in_any_form(dataset: me.DoubleNMNIST, form: dict[str, Any]) -> None:
    alone = list(me.EpisodeLoader(dataset, **OPTIONS, **form))
    for workers in (1, 3):
        loader = me.EpisodeLoader(dataset, **OPTIONS, **form, num_workers=workers)
        for a, b in zip(alone, loader, strict=True):
            assert a.digest() == b.digest()
            assert a.index == b.index
            assert np.array_equal(
                pickle.loads(pickle.dumps(a.query_x)), pickle.loads(pickle.dumps(b.query_x))
            ) or str(a.query_x) == str(b.query_x)
        chosen = [episode.index for episode in loader.iterate([2, 0, -1])]
        assert chosen == [alone[i].index for i in (2, 0, -1)]
        with pytest.raises(IndexError, match="of a loader of"):
            loader.iterate([0, 12])


def test_noise_in_several_threads_is_that_of_one(dataset: me.DoubleNMNIST) -> None:
    def late_noise(sample: Any) -> float:
        time.sleep(0)  # so that another thread goes on
        return noisy(sample)

    def noise(_: int) -> list[Any]:
        options = {**OPTIONS, "representation": "events", "transform": late_noise}
        return [e.support_x + e.query_x for e in me.EpisodeLoader(dataset, **options)]

    expected = noise(0)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(noise, range(4))) == [expected] * 4


def test_noise_depends_on_seed_and_episode_alone(dataset: me.DoubleNMNIST) -> None:
    def noise(global_seed: int, **options: Any) -> dict[int, Any]:
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        loader = me.EpisodeLoader(
            dataset, **{**OPTIONS, **options}, representation="events", transform=noisy
        )
        return {e.index: (e.support_x, e.query_x) for e in loader}

    expected = noise(1)
    drawn = [value for parts in expected.values() for part in parts for value in part]
    assert len(set(drawn)) == len(drawn) == 12 * 30
    for workers in (0, 1, 2):
        assert noise(workers + 5, num_workers=workers) == expected
    assert noise(1, episodes=3) == {i: expected[i] for i in range(3)}
    batches = noise(1, batch_size=4)
    for indices, (support, query) in batches.items():
        for place, index in enumerate(indices):  # type: ignore[arg-type, var-annotated]
            assert (support[place], query[place]) == expected[index]
    assert noise(1, seed=4)[0] != expected[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_random_transform_leaves_the_global_generators_alone(
    dataset: me.DoubleNMNIST, workers: int
) -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
            random.getstate(),
        )

    before = state()
    loader = me.EpisodeLoader(dataset, **OPTIONS, transform=noisy, num_workers=workers)
    for _ in loader:
        assert state() == before

    def failing(sample: Any) -> Any:
        raise RuntimeError(noisy(sample))

    with pytest.raises(RuntimeError):
        list(me.EpisodeLoader(dataset, **OPTIONS, transform=failing, num_workers=workers))
    assert state() == before


def test_a_mistake_in_a_transform_is_one_sentence_whatever_the_workers(
    dataset: me.DoubleNMNIST,
) -> None:
    def sentence(workers: int) -> str:
        options = {**OPTIONS, "transform": lambda x: x.numpy(), "num_workers": workers}
        with pytest.raises(UsageError, match=r"results \(ndarray\) cannot be stacked") as caught:
            next(iter(me.EpisodeLoader(dataset, **options)))
        with pytest.raises(UsageError) as of_place:
            next(iter(me.EpisodeLoader(dataset, **options).iterate([3])))
        assert str(of_place.value) == str(caught.value)
        return str(caught.value)

    assert sentence(0) == sentence(1)


@pytest.mark.parametrize("transform", [lambda x: x.numpy(), lambda x: x[: int(x[0].sum()) % 2 + 1]])
def test_results_that_cannot_be_stacked_are_refused(
    dataset: me.DoubleNMNIST, transform: Any
) -> None:
    loader = me.EpisodeLoader(dataset, **OPTIONS, transform=transform)
    with pytest.raises(UsageError, match=r"cannot be stacked: .*return tensors of one shape"):
        loader[0]


def test_a_list_of_all_episodes_keeps_no_file_open(dataset: me.DoubleNMNIST) -> None:
    code = (
        "import resource, sys, torch\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "import metaevents as me\n"
        f"ds = me.DoubleNMNIST({str(dataset.archive.path)!r}, split='test')\n"
        "options = dict(ways=2, queries=1, episodes=150, num_workers=2)\n"
        "for form in (dict(representation='sum'),\n"
        "             dict(representation='sum', transform=torch.sqrt),\n"
        "             dict(representation='events', transform=lambda e: torch.ones(3))):\n"
        "    print(len(list(me.EpisodeLoader(ds, **options, **form))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["150"] * 3, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_thread_that_loads_does_not_stop_forked_processes(dataset: me.DoubleNMNIST) -> None:
    fork_while_loading(dataset, children=15)


def fork_while_loading(dataset: me.DoubleNMNIST, children: int) -> None:
    """Fork while another thread loads; each child loads, also from a dataset of its own."""
    loader = me.EpisodeLoader(dataset, **{**OPTIONS, "episodes": 10**6}, representation="sum")
    expected = loader[5].digest()
    stop = threading.Event()

    def load() -> None:
        for _ in loader:
            if stop.is_set():
                return

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(children):
            child = os.fork()
            if not child:
                signal.alarm(30)  # ends a child that hangs
                fresh = me.DoubleNMNIST(dataset.archive.path, split="test")
                other = me.EpisodeLoader(fresh, **OPTIONS, representation="sum")
                same = loader[5].digest() == other[5].digest() == expected
                os._exit(0 if same else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_has_workers_of_its_own(dataset: me.DoubleNMNIST) -> None:
    loader = me.EpisodeLoader(dataset, **OPTIONS, transform=noisy, num_workers=1)
    expected = digests(loader)
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if digests(loader) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert digests(loader) == expected  # its workers are still there


# --- torch's modes and defaults ------------------------------------------------------------------


@contextmanager
def changed_defaults(which: str) -> Iterator[None]:
    """Change one of torch's defaults."""
    dtype = torch.get_default_dtype()
    if which == "inference":
        with torch.inference_mode():
            yield
        return
    if which == "device":
        torch.set_default_device("meta")  # every machine has it
    else:
        torch.set_default_dtype(getattr(torch, which))
    try:
        yield
    finally:
        torch.set_default_device("cpu")
        torch.set_default_device(None)
        torch.set_default_dtype(dtype)


@pytest.mark.parametrize("which", ["device", "float64", "bfloat16", "inference"])
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"layout": "TPWH", "batch_size": 2},
        {"layout": "TNPHW", "bins": 10},
        {"representation": "sum"},
        {"representation": "events"},
        {"transform": torch.sqrt},
    ],
)
def test_torchs_defaults_change_nothing(
    dataset: me.DoubleNMNIST, which: str, form: dict[str, Any]
) -> None:
    options = {**OPTIONS, "episodes": 4, **form}
    expected = list(me.EpisodeLoader(dataset, **options))
    for workers in (0, 2):
        with changed_defaults(which):
            loader = me.EpisodeLoader(dataset, **options, num_workers=workers)
            episodes = [*loader, *loader.iterate([0, 1])][: len(expected)]
        for episode, alone in zip(episodes, expected, strict=True):
            for name in ("support_y", "query_y", "support_x", "query_x"):
                tensor, same = getattr(episode, name), getattr(alone, name)
                if isinstance(tensor, list):
                    assert all(map(np.array_equal, tensor, same))
                    continue
                assert (tensor.device.type, tensor.dtype) == ("cpu", same.dtype)
                assert torch.equal(tensor, same)
                assert not tensor.is_inference()


def test_frames_in_inference_mode_can_be_used_outside(dataset: me.DoubleNMNIST) -> None:
    with torch.inference_mode():
        frames = dataset.frames("47", 0, 0)
        supervised = dataset.as_classification(1, seed=0)[0][0]
    weight = torch.ones((), requires_grad=True)
    ((frames + supervised) * weight).sum().backward()
    assert weight.grad == frames.sum() + supervised.sum()


# --- time first, and merged bins -----------------------------------------------------------------


def test_time_can_come_first(dataset: me.DoubleNMNIST, loader: me.EpisodeLoader) -> None:
    first = me.EpisodeLoader(dataset, **OPTIONS, layout="TNPHW")
    assert first[2].support_x.shape == (100, 10, 2, 16, 32)
    assert first[2].query_x.is_contiguous()
    assert torch.equal(first[2].query_x.transpose(0, 1), loader[2].query_x)
    assert first[2].digest() == loader[2].digest()
    batch = me.EpisodeLoader(dataset, **OPTIONS, layout="TNPHW", batch_size=3)[0]
    assert batch.query_x.shape == (3, 100, 20, 2, 16, 32)
    assert torch.equal(batch.query_x[2], first[2].query_x)
    halved = me.EpisodeLoader(
        dataset, **OPTIONS, layout="TNPHW", transform=lambda x: x[::2].flatten(1)
    )
    assert torch.equal(halved[2].query_x, first[2].query_x[::2].flatten(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
@pytest.mark.parametrize("bins", [1, 4, 10, 50, 100, np.int64(25)])
def test_bins_merge_neighbors(
    dataset: me.DoubleNMNIST, loader: me.EpisodeLoader, bins: int, dtype: torch.dtype
) -> None:
    merged = me.EpisodeLoader(dataset, **OPTIONS, bins=bins, dtype=dtype)[2]
    frames = loader[2].query_x
    expected = frames.unflatten(1, (int(bins), 100 // int(bins))).sum(2)
    assert merged.query_x.dtype == dtype
    assert torch.equal(merged.query_x.float(), expected)
    assert merged.digest() == loader[2].digest()


def test_counts_are_summed_before_they_saturate(tmp_path: Path) -> None:
    # 300 events in the first of 100 bins and on one pixel; 300 are beyond uint8.
    dataset = me.compose(busy_archive(tmp_path), splits={"train": ["ab"]})
    for bins, expected in ((100, 255), (50, 255), (1, 255)):
        episode = me.EpisodeLoader(dataset, 1, 1, 1, dtype=torch.uint8, bins=bins)[0]
        assert episode.query_x.max() == expected
    one = me.EpisodeLoader(dataset, 1, 1, 1, bins=1)[0].query_x
    assert (one.max(), one.sum()) == (300, 600)


# --- the episode ---------------------------------------------------------------------------------


def test_episodes_can_be_compared_and_looked_up(loader: me.EpisodeLoader) -> None:
    first, again = loader[0], loader[0]
    assert first == first
    assert first != again
    assert again in [first, again]
    assert first not in [again, None, 3]
    assert len({first, again}) == 2


@pytest.mark.parametrize(
    "form",
    [{}, {"batch_size": 7}, {"representation": "sum"}, {"representation": "events"}, {"ways": 20}],
)
def test_an_episodes_text_is_short(dataset: me.DoubleNMNIST, form: dict[str, Any]) -> None:
    episode = me.EpisodeLoader(dataset, **{**OPTIONS, **form})[0]
    assert len(repr(episode)) < 200
    assert "\n" not in repr(episode)
    assert repr(replace(episode, support_x=None, query_x=[]))


def test_an_episodes_text_has_its_shapes(loader: me.EpisodeLoader) -> None:
    classes = ", ".join(loader[4].classes)
    assert repr(loader[4]) == (
        f"<Episode 4 of {classes}: support [10, 100, 2, 16, 32] float32 on cpu, "
        "query [20, 100, 2, 16, 32] float32 on cpu>"
    )


def test_a_dtype_is_for_samples_alone(loader: me.EpisodeLoader) -> None:
    episode = loader[0]
    for converted in (
        episode.to(torch.float16),
        episode.to(dtype=torch.float16),
        episode.to("cpu", dtype=torch.float16),
    ):
        assert converted.support_x.dtype == converted.query_x.dtype == torch.float16
        assert converted.support_y.dtype == converted.query_y.dtype == torch.int64
        assert converted.digest() == episode.digest()
    assert episode.to(torch.float64).query_x.dtype == torch.float64
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(UsageError, match="does not suit samples; give a floating-point dtype"):
            episode.to(dtype)
    assert episode.to(None).query_x is episode.query_x


def test_a_dtype_saturates(loader: me.EpisodeLoader) -> None:
    episode = replace(loader[0], query_x=torch.tensor([-3.0, 2.0, 255.0, 256.0, 70_000.0]))
    assert episode.to(torch.uint8).query_x.tolist() == [0, 2, 255, 255, 255]
    assert episode.to(torch.float16).query_x[-1] == 65_504
    assert episode.to(torch.bfloat16).query_x.isfinite().all()
    lists = replace(episode, query_x=["events"])
    assert lists.to(torch.uint8).query_x == ["events"]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", 2.5, "meta:1:2"])
def test_an_unknown_device_is_refused(loader: me.EpisodeLoader, device: Any) -> None:
    with pytest.raises(UsageError, match="does not exist here; give one that does"):
        loader[0].to(device)


def test_an_index_of_any_size_is_out_of_range(dataset: me.DoubleNMNIST) -> None:
    loader = me.EpisodeLoader(dataset, **OPTIONS)
    for index in (10**5000, -(10**5000)):
        with pytest.raises(IndexError, match="episode <int> of a loader of 12"):
            loader[index]
        with pytest.raises(IndexError, match="episode <int> of a loader of 12"):
            loader.iterate([index])


@pytest.mark.parametrize("dtype", ["float16", "torch.float16", np.float16, np.dtype("float16")])
def test_an_episode_takes_dtypes_by_name_and_those_of_numpy(
    dataset: me.DoubleNMNIST, dtype: Any
) -> None:
    episode = me.EpisodeLoader(dataset, **OPTIONS)[0]
    assert torch.equal(episode.to(dtype=dtype).query_x, episode.to(torch.float16).query_x)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "half a float"}, "dtype='half a float'; choose float32, float16, bfloat16"),
        ({"dtype": [1]}, "; choose float32, float16"),
        ({"dtype": np.int32}, "dtype=torch.int32 does not suit samples"),
        ({"device": torch.float16, "dtype": torch.uint8}, "torch.float16 and torch.uint8; give"),
    ],
)
def test_other_dtypes_of_an_episode_are_refused(
    dataset: me.DoubleNMNIST, given: dict[str, Any], message: str
) -> None:
    episode = me.EpisodeLoader(dataset, **OPTIONS)[0]
    with pytest.raises(UsageError, match=message):
        episode.to(**given)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_single_numbers_have_no_time_axis(dataset: me.DoubleNMNIST, batch_size: int | None) -> None:
    options = {**OPTIONS, "transform": torch.sum, "batch_size": batch_size}
    assert me.EpisodeLoader(dataset, **options)[0].support_y.numel()
    with pytest.raises(UsageError, match=r"single numbers, which have no time axis .*; return"):
        me.EpisodeLoader(dataset, **options, layout="TNPHW")[0]
