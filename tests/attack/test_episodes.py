"""Loaders pushed hard: absurd numbers, many passes, forks under load, small shared memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.composed import in_all_splits
from support.recordings import write_asl_dvs

import metaevents as me
from metaevents.errors import UsageError
from metaevents.sampling import EpisodeSampler
from metaevents.sources import ASLDVS

HUGE = [10**9, 10**18, 2**63 - 1, 2**63, 10**30, 10**5000]


@pytest.fixture(scope="module")
def dataset(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, split="test")


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> me.ComposedDataset:
    """Nine classes of 300 recordings per letter, support and query 20 file numbers apart."""
    root = tmp_path_factory.mktemp("spaced")
    source = ASLDVS(write_asl_dvs(root / "raw", files=300, letters="abc", n=3))
    return me.compose(source, root=root, min_gap=20, splits=in_all_splits(source.labels))


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", HUGE, ids=lambda number: f"2^{number.bit_length()}")
@pytest.mark.parametrize("name", ["ways", "shots", "queries"])
@pytest.mark.parametrize("pairing", ["all", "published", "gap"])
def test_huge_numbers_are_answered_at_once(
    nmnist_root: Path, spaced: me.ComposedDataset, pairing: str, name: str, number: int
) -> None:
    given = spaced
    if pairing != "gap":
        given = me.DoubleNMNIST(nmnist_root, split="test", pairing=pairing)
    numbers = {"ways": 2, "shots": 1, "queries": 2, name: number}
    start = time.perf_counter()
    with pytest.raises(UsageError) as caught:
        me.EpisodeLoader(given, **numbers)
    assert len(str(caught.value)) < 400
    if number < 2**63:
        assert EpisodeSampler.problem(given, **numbers)
        assert not EpisodeSampler.fits(given, **numbers)
        EpisodeSampler.max_queries(given, numbers["ways"], numbers["shots"], at_most=number)
    assert time.perf_counter() - start < 3


def test_a_stream_may_be_as_long_as_a_length_can_be(dataset: me.DoubleNMNIST) -> None:
    options: dict[str, Any] = {"queries": 2, "representation": "sum", "seed": 2**64 - 1}
    for workers in (0, 2):
        loader = me.EpisodeLoader(dataset, **options, episodes=2**63 - 1, num_workers=workers)
        assert next(iter(loader)).index == 0
        assert loader[-1].index == 2**63 - 2
    batches = me.EpisodeLoader(dataset, **options, episodes=3, batch_size=2**63 - 1)
    assert [batch.index for batch in batches] == [(0, 1, 2)]


def room_one_by_one(numbers: np.ndarray, gap: int, n_support: int) -> list[int]:
    """How many recordings are `gap` numbers away from all of `n_support` neighbors, per place."""
    return [
        int((np.abs(numbers[:, None] - numbers[None, i : i + n_support]) >= gap).all(1).sum())
        for i in range(len(numbers) - n_support + 1)
    ]


def check_room(cases: int) -> None:
    from metaevents.recording_pools import RecordingPool

    generator = random.Random(0)
    for _ in range(cases):
        pool = object.__new__(RecordingPool)
        n = generator.randint(0, 30)
        pool.numbers = np.sort(np.array(generator.choices(range(40), k=n), np.int64))
        pool.gap = generator.randint(2, 12)
        pool._known_room = {}
        for n_support in range(1, n + 3):
            expected = room_one_by_one(pool.numbers, pool.gap, n_support)
            assert pool._room_beside_neighbors(n_support).tolist() == expected


def test_room_beside_neighbors_is_what_counting_says() -> None:
    check_room(50)


@pytest.mark.attack
def test_room_beside_neighbors_is_what_counting_says_in_many_cases() -> None:
    check_room(3000)


@pytest.mark.parametrize("arity", [2, 7, 20, 40])
def test_classes_of_one_label_on_many_sides_are_drawn(nmnist_root: Path, arity: int) -> None:
    dataset = me.compose(
        nmnist_root / "double-nmnist.h5",
        arity=arity,
        bins=1,
        splits={"train": ["5" * arity]},
    )
    available = dataset.n_recordings(0)[0]
    start = time.perf_counter()
    if 2 * arity > available:
        with pytest.raises(UsageError, match="recordings per side"):
            me.EpisodeLoader(dataset, 1, 1, 1)
        return
    for episode in me.EpisodeLoader(dataset, 1, 1, available - arity, episodes=20):
        for ids in (episode.support_ids, episode.query_ids):
            assert all(len(set(sample)) == arity for sample in ids)
            assert all(len(set(side)) == len(side) for side in zip(*ids, strict=True))
        assert not set(sum(episode.support_ids, ())) & set(sum(episode.query_ids, ()))
    assert time.perf_counter() - start < 20


def test_twenty_sides_share_twenty_recordings() -> None:
    # Drawn at random, the last side would need a hundred million tries.
    from metaevents.recording_pools import different_rows
    from metaevents.rng import Streams

    rows = np.array(different_rows(range(20), 20, 20, Streams("rows")(0)))
    assert all(sorted(row) == list(range(20)) for row in (*rows, *rows.T))


# --- workers -------------------------------------------------------------------------------------


def check_passes(dataset: me.DoubleNMNIST, cases: int) -> None:
    """Read several passes over one loader in a random order, and leave some early."""
    generator = random.Random(1)
    loaders = {
        workers: me.EpisodeLoader(
            dataset, 2, 1, 2, episodes=5, num_workers=workers, representation="events"
        )
        for workers in (0, 2)
    }
    expected = [episode.digest() for episode in loaders[0]]
    for _ in range(cases):
        loader = loaders[2]
        passes = [iter(loader) for _ in range(generator.randint(1, 3))]
        places = [0] * len(passes)
        for _ in range(generator.randint(1, 12)):
            i = generator.randrange(len(passes))
            episode = next(passes[i], None)
            if episode is None:
                assert places[i] == 5
            else:
                assert episode.digest() == expected[places[i]]
                assert episode.index == places[i]
                places[i] += 1


def test_passes_side_by_side(dataset: me.DoubleNMNIST) -> None:
    check_passes(dataset, 3)


@pytest.mark.attack
def test_many_passes_side_by_side(dataset: me.DoubleNMNIST) -> None:
    check_passes(dataset, 100)


@pytest.mark.attack
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_hundred_forks_while_threads_load(dataset: me.DoubleNMNIST) -> None:
    import signal

    loader = me.EpisodeLoader(dataset, 5, 1, 5, episodes=10**6, num_workers=2)
    expected = loader[5].digest()
    stop = threading.Event()

    def load() -> None:
        for _ in loader:
            if stop.is_set():
                return

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            child = os.fork()
            if not child:
                signal.alarm(60)
                fresh = me.DoubleNMNIST(dataset.archive.path, split="test")
                other = me.EpisodeLoader(fresh, 5, 1, 5)
                same = loader[5].digest() == other[5].digest() == expected
                os._exit(0 if same and next(iter(loader)).index == 0 else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.attack
def test_many_episodes_from_processes_keep_memory_flat(dataset: me.DoubleNMNIST) -> None:
    import resource

    loader = me.EpisodeLoader(dataset, 5, 1, 10, episodes=400, num_workers=2, transform=torch.sqrt)
    peak = 0
    for episode in loader:
        if episode.index == 100:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown * 1024 < 100 << 20  # 300 episodes are 6.8 GB


@pytest.mark.attack
def test_a_small_shared_memory_is_enough(dataset: me.DoubleNMNIST) -> None:
    # 8 MiB at /dev/shm in a mount namespace of its own; one episode has 22 MB.
    code = (
        "import torch, metaevents as me\n"
        f"ds = me.DoubleNMNIST({str(dataset.archive.path)!r}, split='test')\n"
        "for transform in (None, torch.sqrt):\n"
        "    loader = me.EpisodeLoader(ds, 5, 1, 10, episodes=20, num_workers=2,\n"
        "                              transform=transform)\n"
        "    print(len(list(loader)))\n"
    )
    mount = 'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"cannot mount: {done.stderr.strip()[:100]}")
    assert done.stdout.split() == ["20", "20"], done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_give_the_same(
    dataset: me.DoubleNMNIST, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, torch, metaevents as me\n"
        "if __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method({method!r})\n"
        f"    ds = me.DoubleNMNIST({str(dataset.archive.path)!r}, split='test')\n"
        "    options = dict(ways=2, queries=2, episodes=4, transform=torch.sqrt)\n"
        "    a, b = (list(me.EpisodeLoader(ds, **options, num_workers=n)) for n in (0, 1))\n"
        "    print(all(torch.equal(x.query_x, y.query_x) for x, y in zip(a, b, strict=True)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr
