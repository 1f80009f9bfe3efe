"""Random draws that are a pure function of what they are for: a key, and a counter within it.

Words come from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a counter-based generator
whose raw words numpy guarantees for all versions and platforms; everything above the words is integer arithmetic here, since
numpy's own distributions may change between releases. No draw depends on another stream or on what was drawn before.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from metaevents.tasks import canonical_json

_WORDS = 256  # fetched at a time
_STEPS = _WORDS // 4  # a step of Philox4x64's counter gives four words


class Streams:
    """Independent streams of random words, one for every whole number.

    Parameters:
        key: anything that JSON can write; the first 128 bits of its SHA-256 are the Philox key, as little-endian words.
    """

    def __init__(self, key: object) -> None:
        self._key = key
        words = np.frombuffer(hashlib.sha256(canonical_json(key)).digest()[:16], "<u8").astype(np.uint64)
        self._philox = np.random.Philox(key=words, counter=0)
        self._state: dict[str, Any] = dict(self._philox.state)  # of a generator that has given no word yet
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
            self._philox.state = {**self._state, "state": {"counter": position, "key": self._philox_key}}  # type: ignore[typeddict-item]
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
            self._words = self._words[self._next :] + self._streams.words(self._counter, self._block)
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
        moved: dict[int, int] = {}  # the same swaps, where copying all items would cost more than they do
        out = []
        for i, word in enumerate(words):
            j = i + ((word * left) >> 64)
            out.append(items[moved.get(j, j)])
            moved[j] = moved.get(i, i)
            left -= 1
        return out
