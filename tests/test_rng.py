"""Random draws: known answers, independence of streams, uniformity."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from metaevents.rng import Streams


def test_philox_gives_the_known_answers() -> None:
    # Known-answer vectors of Random123's kat_vectors for philox4x64-10, key and counter zero. numpy counts up before it gives
    # its first words, so that the state that yields them is the counter before zero.
    full = np.iinfo(np.uint64).max
    philox = np.random.Philox(key=np.zeros(2, np.uint64), counter=np.full(4, full, np.uint64))
    assert [int(word) for word in philox.random_raw(4)] == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip


def test_a_stream_is_golden() -> None:
    # Made once with this code; a change of it changes every published episode.
    draws = Streams({"golden": 1})(3)
    assert draws.choose(range(1000), 8) == [958, 435, 920, 833, 207, 388, 464, 501]
    assert [draws.below(10) for _ in range(300)][-8:] == [6, 9, 5, 0, 7, 7, 2, 7]


def test_streams_do_not_depend_on_what_was_drawn_before_or_beside() -> None:
    streams = Streams("key")
    alone = [Streams("key")(7).below(1 << 40) for _ in range(1)]
    first, second = streams(7), streams(8)
    mixed = [(first.below(1 << 40), second.below(1 << 40)) for _ in range(600)]
    again = streams(7)
    assert [a for a, _ in mixed] == [again.below(1 << 40) for _ in range(600)]
    assert mixed[0][0] == alone[0]
    assert pickle.loads(pickle.dumps(streams))(8).below(1 << 40) == mixed[0][1]


def test_different_keys_and_counters_give_different_streams() -> None:
    first = {Streams(key)(counter).below(1 << 60) for key in ("a", "b") for counter in range(500)}
    assert len(first) == 1000


@pytest.mark.parametrize(("n", "k"), [(5, 5), (40, 3), (300, 4), (1000, 1)])
def test_a_choice_is_k_different_entries(n: int, k: int) -> None:
    items = [3 * i for i in range(n)]
    for counter in range(200):
        chosen = Streams("choice")(counter).choose(items, k)
        assert len(set(chosen)) == k
        assert set(chosen) <= set(items)


def test_both_ways_to_shuffle_agree() -> None:
    # Few of many: only the swapped places are remembered; many of few: the list is copied. The swaps are the same.
    for counter in range(50):
        few = Streams("swap")(counter).choose(range(1000), 5)
        words = Streams("swap")(counter)
        order = list(range(1000))
        for i in range(5):
            j = i + words.below(1000 - i)
            order[i], order[j] = order[j], order[i]
        assert few == order[:5]


def test_orders_are_uniform() -> None:
    streams = Streams("uniform")
    orders = Counter(tuple(streams(i).choose("abc", 3)) for i in range(6000))
    assert len(orders) == 6
    # Chi-squared with 5 degrees of freedom exceeds 20.5 with probability 0.001; the stream is fixed.
    assert sum((count - 1000) ** 2 / 1000 for count in orders.values()) < 20.5
