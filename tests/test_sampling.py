"""Drawing episodes: no leaks, orders that say nothing, and numbers that fit the archive."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.archives import build_in
from support.recordings import write_asl_dvs, write_nmnist

import metaevents as me
from metaevents.building import build_archive
from metaevents.errors import UsageError
from metaevents.recording_pools import share
from metaevents.sampling import Draw, EpisodeSampler, sides_of_labels
from metaevents.sources import ASLDVS, NMNIST


@pytest.fixture(scope="module")
def dataset(nmnist_root: Path) -> me.DoubleNMNIST:
    return me.DoubleNMNIST(nmnist_root, split="test")


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
    nmnist_root: Path, split: str, shots: int, queries: int
) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, split=split)
    seen: Counter[str] = Counter()
    for episode in me.EpisodeLoader(dataset, 5, shots, queries, episodes=120, representation="sum"):
        check_no_leak(episode)
        seen.update(episode.classes)
    assert len(seen) == len(dataset)


def test_equal_sides_need_two_recordings_for_support_and_query(dataset: me.DoubleNMNIST) -> None:
    # Twelve recordings per digit: 1 + 11 fit every class but "55" and its like, which need 2 + 11.
    me.EpisodeLoader(dataset, ways=5, shots=2, queries=10)
    with pytest.raises(UsageError) as caught:
        me.EpisodeLoader(dataset, ways=5, shots=1, queries=11)
    message = str(caught.value)
    assert "need (13, 13) recordings per side, but 2 of 20 classes" in message
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
    """Nine classes of ASL-DVS files with the benchmark's gap; the last fifth are test files."""
    source = ASLDVS(write_asl_dvs(tmp_path / "raw", files=files, letters="abc", n=3))
    letters = [a + b for a in "abc" for b in "abc"]
    return me.compose(source, root=tmp_path, split="test", splits={"test": letters}, min_gap=20)


def test_asl_dvs_keeps_support_and_query_apart(tmp_path: Path) -> None:
    # 300 files per letter: 60 in the test block.
    dataset = three_letters(tmp_path, 300)
    equal_sides_seen = False
    for shots, queries in ((1, 15), (5, 15)):
        for episode in me.EpisodeLoader(
            dataset, 5, shots, queries, episodes=40, representation="sum"
        ):
            check_no_leak(episode)
            for label, c in enumerate(episode.classes):
                support, query = sides_of(episode, label)
                equal_sides_seen |= c[0] == c[1]
                for group in [(0, 1)] if c[0] == c[1] else [(0,), (1,)]:
                    near, far = (
                        np.array([int(pair[side][-4:]) for pair in part for side in group])
                        for part in (support, query)
                    )
                    assert np.abs(near[:, None] - far[None]).min() >= 20
    assert equal_sides_seen
    with pytest.raises(UsageError, match="20 file numbers apart"):
        me.EpisodeLoader(dataset, ways=5, shots=20, queries=30)


def test_the_benchmark_requires_a_gap_in_real_asl_dvs(asl_root: Path) -> None:
    assert me.DoubleASLDVS(asl_root).min_gap == 20
    # Ten files per letter: six train, and no two of these are 20 numbers apart.
    with pytest.raises(UsageError, match="no shots and queries fit"):
        me.EpisodeLoader(me.DoubleASLDVS(asl_root), ways=5, shots=1, queries=1)


def test_a_small_asl_archive_still_serves_what_can_be_served(tmp_path: Path) -> None:
    # 125 files: 101 to 125 are test files. Only at the ends is a query 20 numbers away.
    dataset = three_letters(tmp_path, 125)
    for episode in me.EpisodeLoader(dataset, 5, 1, 3, episodes=20, representation="sum"):
        check_no_leak(episode)
    with pytest.raises(UsageError, match=r"queries=4 would fit"):
        me.EpisodeLoader(dataset, ways=5, shots=1, queries=6)


def test_published_pairing_repeats_the_left_recording_in_support_and_query(
    nmnist_root: Path,
) -> None:
    # This leak inflates published results. It is reproduced on purpose; pairing "all" has none.
    dataset = me.DoubleNMNIST(nmnist_root, split="train", pairing="published")
    for episode in me.EpisodeLoader(dataset, 5, 1, 10, episodes=10, representation="sum"):
        for label in range(5):
            support, query = sides_of(episode, label)
            assert {left for left, _ in support} == {left for left, _ in query}
            assert len({left for left, _ in query}) == 1


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


def test_published_pairing_has_a_thousand_keys(nmnist_root: Path, tmp_path: Path) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, pairing="published")
    me.EpisodeLoader(dataset, ways=5, shots=1, queries=999)
    with pytest.raises(UsageError, match="need 1001 keys per class, published pairing has 1000"):
        me.EpisodeLoader(dataset, ways=5, shots=1, queries=1000)
    build_archive(
        "double-nmnist",
        tmp_path / "a.h5",
        NMNIST(write_nmnist(tmp_path / "raw", 2, 2, digits="012")),
    )
    with pytest.raises(UsageError, match=r"no recordings of 3, 4, 5, 6, 7, 8, 9"):
        me.EpisodeLoader(me.DoubleNMNIST(tmp_path / "a.h5", pairing="published"))


def test_the_sample_serves_its_protocols_numbers(sample_root: Path) -> None:
    for classes in ("published", "novel-components"):
        dataset = me.DoubleNMNIST(sample_root, split="test", classes=classes)
        for shots in (1, 5):
            episode = me.EpisodeLoader(dataset, ways=5, shots=shots, queries=10)[0]
            assert episode.query_x.shape == (50, 100, 2, 16, 32)
            check_no_leak(episode)


# --- numbers that fit the archive ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"ways": 0}, "ways=0; give at least 1"),
        ({"shots": 0}, "shots=0"),
        ({"queries": 0}, "queries=0"),
        ({"ways": 21}, "ways=21, but the test split of double-nmnist has 20 classes"),
        ({"shots": 13, "queries": 1}, "give fewer shots"),
        ({"queries": 100}, "queries=10 would fit with shots=1"),
    ],
)
def test_wrong_numbers_are_refused_at_once(
    dataset: me.DoubleNMNIST, numbers: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        me.EpisodeLoader(dataset, **{"queries": 5, **numbers})
    given = {"ways": 5, "shots": 1, "queries": 5, **numbers}
    assert message in (EpisodeSampler.problem(dataset, **given) or "")
    assert not EpisodeSampler.fits(dataset, **given)


def largest_by_trial(dataset: me.ComposedDataset, shots: int, at_most: int) -> int:
    """The largest number of queries for which a sampler can be constructed, tried one by one."""
    for queries in range(at_most, 0, -1):
        try:
            EpisodeSampler(dataset, 2, shots, queries, seed=0)
        except UsageError:
            continue
        return queries
    return 0


@pytest.mark.parametrize("shots", [1, 2, 3, 5, 11, 12])
def test_max_queries_is_the_largest_number_that_fits(dataset: me.DoubleNMNIST, shots: int) -> None:
    largest = EpisodeSampler.max_queries(dataset, 2, shots, at_most=20)
    assert largest == largest_by_trial(dataset, shots, at_most=20)
    for queries in range(1, 21):
        fits = queries <= largest
        assert EpisodeSampler.fits(dataset, 2, shots, queries) == fits
        assert (EpisodeSampler.problem(dataset, 2, shots, queries) is None) == fits
    assert EpisodeSampler.max_queries(dataset, 2, shots, at_most=10**18) == largest
    assert EpisodeSampler.max_queries(dataset, 2, shots, at_most=3) == min(3, largest)


def test_max_queries_with_a_gap_and_with_published_keys(nmnist_root: Path, tmp_path: Path) -> None:
    spaced = three_letters(tmp_path, 125)
    for shots in (1, 2, 5):
        assert EpisodeSampler.max_queries(spaced, 2, shots, 10**18) == largest_by_trial(
            spaced, shots, at_most=30
        )
    published = me.DoubleNMNIST(nmnist_root, pairing="published")
    assert EpisodeSampler.max_queries(published, 5, 1, at_most=10**18) == 999
    assert EpisodeSampler.max_queries(published, 5, 1000, at_most=15) == 0


def test_max_queries_is_0_where_nothing_fits(dataset: me.DoubleNMNIST) -> None:
    assert EpisodeSampler.max_queries(dataset, 21, 1, at_most=5) == 0
    assert EpisodeSampler.max_queries(dataset, 5, 0, at_most=5) == 0
    assert EpisodeSampler.max_queries(dataset, 5, 1, at_most=0) == 0


def test_sides_of_labels_lists_the_sides_of_each_label() -> None:
    assert sides_of_labels(("5", "3", "5")) == {"5": [0, 2], "3": [1]}


# --- division once per episode -------------------------------------------------------------------


def shared_recordings(draw: Draw, first: int = 0) -> set[int]:
    """Recordings of queries, from side `first` on, that stand in the support on any side."""
    support = {recording for sample in draw.support for recording in sample}
    return support & {recording for sample in draw.query for recording in sample[first:]}


@pytest.mark.parametrize("classes", ["published", "novel-components", "novel-components-7"])
@pytest.mark.parametrize(("ways", "shots", "queries"), [(5, 1, 10), (9, 5, 7), (2, 10, 2)])
def test_a_division_per_episode_leaves_no_recording_on_both_sides(
    nmnist_root: Path, classes: str, ways: int, shots: int, queries: int
) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, split="test", classes=classes)
    seen: set[int] = set()
    for index in range(60):
        draw = EpisodeSampler(dataset, ways, shots, queries, 0, "episode")(index)
        assert not shared_recordings(draw)
        for label in range(ways):
            for samples, labels, k in (
                (draw.support, draw.support_y, shots),
                (draw.query, draw.query_y, queries),
            ):
                own = [s for s, y in zip(samples, labels, strict=True) if y == label]
                assert len(own) == k
                for side in (0, 1):
                    assert len({sample[side] for sample in own}) == k
                assert all(left != right for left, right in own)
                seen.update(recording for sample in own for recording in sample)
    assert seen == {int(i) for label in dataset.labels for i in dataset.pool(label)}


def test_the_support_shares_no_recording_where_there_are_enough(tmp_path: Path) -> None:
    # 80 test recordings per digit: ten sides with one shot and ten queries need at most 110.
    root = build_in(
        tmp_path, "double-nmnist", write_nmnist(tmp_path / "raw", 2, 160, digits="0123456789", n=2)
    )
    dataset = me.DoubleNMNIST(root, split="test", classes="novel-components")
    for index in range(30):
        draw = EpisodeSampler(dataset, 5, 1, 10, 0, "episode")(index)
        recordings = [recording for sample in draw.support for recording in sample]
        assert len(set(recordings)) == 10


def test_a_scarce_division_is_shared_evenly() -> None:
    # (recordings, least, most) -> numbers of support and query.
    assert share(16, (1, 10), (3, 30)) == (3, 13)
    assert share(16, (1, 10), (10, 100)) == (4, 12)
    assert share(16, (5, 10), (15, 30)) == (6, 10)
    assert share(16, (5, 1), (30, 6)) == (10, 6)
    assert share(446, (5, 15), (15, 45)) == (15, 45)
    assert share(11, (1, 10), (5, 50)) == (1, 10)


@pytest.mark.parametrize("shots", [1, 2, 3, 5, 11, 12])
def test_a_division_per_episode_needs_as_many_recordings_as_one_per_class(
    dataset: me.DoubleNMNIST, shots: int
) -> None:
    largest = EpisodeSampler.max_queries(dataset, 5, shots, 20)
    assert EpisodeSampler.max_queries(dataset, 5, shots, 20, "episode") == largest
    if largest:
        sampler = EpisodeSampler(dataset, len(dataset), shots, largest, 0, "episode")
        assert not any(shared_recordings(sampler(index)) for index in range(10))
    assert not EpisodeSampler.fits(dataset, 5, shots, largest + 1, "episode")


def test_a_division_per_episode_keeps_the_gap(tmp_path: Path) -> None:
    for files, queries in ((300, 15), (125, 3)):
        dataset = three_letters(tmp_path / str(files), files)
        numbers = dataset.archive.table["number"].astype(int)
        labels = {int(i): label for label in dataset.labels for i in dataset.pool(label)}
        for index in range(25):
            draw = EpisodeSampler(dataset, 5, 1, queries, 0, "episode")(index)
            sides = [
                {recording for sample in part for recording in sample}
                for part in (draw.support, draw.query)
            ]
            assert all(
                abs(numbers[a] - numbers[b]) >= 20
                for a in sides[0]
                for b in sides[1]
                if labels[a] == labels[b]
            )


@pytest.mark.parametrize("split", ["train", "test"])
def test_published_pairing_divides_the_right_recordings(nmnist_root: Path, split: str) -> None:
    dataset = me.DoubleNMNIST(nmnist_root, split=split, pairing="published")
    divisor = dataset.rules.published.divisor[split]  # type: ignore[union-attr]
    equal = {"class": 0, "episode": 0}
    for division in equal:
        for index in range(40):
            draw = EpisodeSampler(dataset, 5, 2, 5, 0, division)(index)
            equal[division] += len({*draw.query} & {*draw.support})
            if division == "class":
                continue
            assert not shared_recordings(draw, first=1)
            for (left, right), y in zip(draw.query, draw.query_y, strict=True):
                a, b = (dataset.pool(label).tolist() for label in draw.classes[y])
                keys = ((key // divisor % len(a), key % divisor % len(b)) for key in range(1000))
                assert (a.index(left), b.index(right)) in keys
    assert equal["class"] > 0 == equal["episode"]


def test_published_pairing_says_how_many_queries_fit_a_division(nmnist_root: Path) -> None:
    # 24 recordings per digit in the test folder; two of them stand on the left.
    dataset = me.DoubleNMNIST(nmnist_root, split="test", pairing="published")
    assert EpisodeSampler.max_queries(dataset, 5, 5, 1000, "episode") == 17
    with pytest.raises(UsageError) as caught:
        EpisodeSampler(dataset, 5, 5, 18, 0, "episode")
    assert "need 23 recordings of a label besides those" in str(caught.value)
    assert "has 22 in the test split; queries=17 would fit with shots=5" in str(caught.value)
    with pytest.raises(UsageError, match="give fewer shots"):
        EpisodeSampler(dataset, 5, 22, 1, 0, "episode")


def test_divisions_are_streams_of_their_own_and_unknown_ones_are_refused(
    dataset: me.DoubleNMNIST,
) -> None:
    by_class, same, by_episode = (
        EpisodeSampler(dataset, 5, 1, 5, 0, *division)(3)
        for division in ((), ("class",), ("episode",))
    )
    assert by_class == same != by_episode
    loader = me.EpisodeLoader(dataset, 5, 1, 5, episodes=4, division="episode")
    assert loader[3].query_ids == dataset.name_samples(by_episode.query)
    with pytest.raises(UsageError, match="division='both'; choose one of class, episode"):
        me.EpisodeLoader(dataset, 5, 1, 5, division="both")


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5), (20, 1), (20, 5)])
def test_the_sample_serves_divisions_per_episode(sample_root: Path, ways: int, shots: int) -> None:
    for classes in ("published", "novel-components", "novel-components-3"):
        for pairing, first in (("all", 0), ("published", 1)):
            dataset = me.DoubleNMNIST(sample_root, "test", pairing=pairing, classes=classes)
            sampler = EpisodeSampler(dataset, min(ways, len(dataset)), shots, 10, 0, "episode")
            assert not any(shared_recordings(sampler(index), first) for index in range(30))


def test_a_division_serves_any_number_of_sides(nmnist_root: Path) -> None:
    dataset = me.compose(
        nmnist_root / "double-nmnist.h5", 3, split="test", name="triple", splits="disjoint"
    )
    for index in range(20):
        draw = EpisodeSampler(dataset, 20, 2, 5, 0, "episode")(index)
        assert not shared_recordings(draw)
        assert all(len({*sample}) == 3 for sample in (*draw.support, *draw.query))
