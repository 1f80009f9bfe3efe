"""Random draws that are a pure function of what they are for: a key, and a counter within it.

Words come from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a counter-based generator
whose raw words numpy guarantees for all versions and platforms; everything above the words is integer arithmetic here, since
numpy's own distributions may change between releases. No draw depends on another stream or on what was drawn before.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from metaevents.hashing import canonical_json

_WORDS = 256  # fetched at a time

_STEPS = _WORDS // 4  # a step of Philox4x64's counter gives four words


class Streams:
    """Independent streams of random words, one for every whole number.

    Args:
        key: anything that JSON can write; the first 128 bits of its SHA-256 are the Philox key, as little-endian words.
    """

    def __init__(self, key: object) -> None:
        self._key = key
        words = np.frombuffer(hashlib.sha256(canonical_json(key)).digest()[:16], "<u8").astype(
            np.uint64
        )
        self._philox = np.random.Philox(key=words, counter=0)
        self._state: dict[str, Any] = dict(
            self._philox.state
        )  # of a generator that has given no word yet
        self._philox_key = words
        self._lock = threading.Lock()

    def __call__(self, counter: int) -> Draws:
        """The draws of one stream, from its beginning."""
        return Draws(self, counter)

    def words(self, counter: int, block: int) -> list[int]:
        """The words block * 256 .. block * 256 + 255 of a stream, 64 bits each."""
        # The lowest counter word counts steps within the stream, the third one names the stream.
        position = np.array([block * _STEPS, 0, counter, 0], np.uint64)
        with self._lock:  # seeking anew costs a fraction of a generator of one's own
            self._philox.state = {
                **self._state,  # type: ignore[typeddict-item]
                "state": {"counter": position, "key": self._philox_key},
            }
            words: list[int] = self._philox.random_raw(_WORDS).tolist()
        return words

    def __reduce__(self) -> tuple[type[Streams], tuple[object]]:
        return Streams, (self._key,)


class Draws:
    """The draws of one stream, in order; see `Streams`."""

    def __init__(self, streams: Streams, counter: int) -> None:
        self._streams, self._counter = streams, counter
        self._words: list[int] = []
        self._next = 0
        self._block = 0

    def _take(self, k: int) -> list[int]:
        """The next `k` words."""
        while len(self._words) - self._next < k:
            self._words = self._words[self._next :] + self._streams.words(
                self._counter, self._block
            )
            self._next = 0
            self._block += 1
        taken = self._words[self._next : self._next + k]
        self._next += k
        return taken

    def below(self, n: int) -> int:
        """A whole number in [0, n), uniform to within n / 2^64."""
        return (self._take(1)[0] * n) >> 64

    def choose(self, items: Sequence[Any], k: int) -> list[Any]:
        """`k` different entries of a sequence in random order: a partial Fisher-Yates shuffle, uniform to within n k / 2^64."""
        left = n = len(items)
        words = self._take(k)
        if n <= 32 * k:
            order = list(items)
            for i, word in enumerate(words):
                j = i + ((word * left) >> 64)
                order[i], order[j] = order[j], order[i]
                left -= 1
            return order[:k]
        moved: dict[
            int, int
        ] = {}  # the same swaps, where copying all items would cost more than they do
        out = []
        for i, word in enumerate(words):
            j = i + ((word * left) >> 64)
            out.append(items[moved.get(j, j)])
            moved[j] = moved.get(i, i)
            left -= 1
        return out


class WordStream:
    """A stream of random words of its own for each purpose: the same purpose, the same words."""

    def __init__(self, *purpose: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
        self._generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def raw(self, n: int) -> npt.NDArray[np.uint64]:
        """[n] words of 64 random bits."""
        return np.asarray(self._generator.random_raw(n), np.uint64)

    def below(self, bound: int, n: int) -> npt.NDArray[np.int64]:
        """[n] whole numbers in 0 ... bound - 1; bound at most 2^31."""
        return as_int64(((self.raw(n) >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))

    def between(self, low: int, high: int) -> int:
        """One whole number in low ... high."""
        return low + int(self.below(high - low + 1, 1)[0])

    def normal(self, deviation: int, n: int) -> npt.NDArray[np.int64]:
        """[n] bell-shaped whole numbers around 0: the sum of four uniform ones, so within 3.5 deviations."""
        word = self.raw(n)
        total = -2 * 0xFFFF + sum(bit_field(word, shift, 16) for shift in (0, 16, 32, 48))
        # Four uniform numbers of 16 bits have a deviation of 2^16 / sqrt(3) together, which is 2^26 / 1773.
        return np.asarray((total * (deviation * 1773) + (1 << 25)) >> 26, np.int64)

    def shuffled(self, n: int) -> npt.NDArray[np.intp]:
        """0 ... n - 1 in random order."""
        return np.argsort(self.raw(n), kind="stable")


def as_int64(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    return words.astype(np.int64)


def bit_field(words: npt.NDArray[np.uint64], shift: int, bits: int) -> npt.NDArray[np.int64]:
    """Some bits of each word, `shift` of them from the lowest on, as a number."""
    return as_int64((words >> np.uint64(shift)) & np.uint64((1 << bits) - 1))


@lru_cache(maxsize=4)
def sign_patterns(n: int, patterns: int) -> tuple[npt.NDArray[np.int8], ...]:
    """Blocks of patterns of n signs, `patterns` in all."""
    generator = np.random.Philox(
        key=n
    )  # raw words only: numpy may change what it draws from them, never the words
    blocks = []
    for start in range(0, patterns, 1000):
        rows = min(1000, patterns - start)
        words = generator.random_raw(rows * -(-n // 64)).astype("<u8")
        bits = np.unpackbits(words.view(np.uint8).reshape(rows, -1), axis=1)[:, :n]
        blocks.append(1 - 2 * bits.astype(np.int8))
    return tuple(blocks)
