"""Counter-based random streams, the only ones in this package.

A draw is a pure function of a key, which says what the draw is for, and of a position in the
stream. It depends on no other stream and on nothing that was drawn before.

The 64-bit words come from Philox4x64-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random
numbers: as easy as 1, 2, 3", SC'11). NumPy guarantees the raw words of this generator for all
versions and platforms. NumPy's distributions may change between releases, so everything above the
words is whole-number arithmetic in this module.

- `Streams` numbers its streams and gives access at any position: episodes, evaluations.
  `Draws` draws Python integers from one of them.
- `WordStream` is one sequential stream of arrays: the simulator.

The words of existing keys never change: published episodes depend on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metaevents.hashing import canonical_json

_BLOCK = 256  # words that a stream gives at a time
_WORDS_PER_STEP = 4  # words per step of Philox4x64's counter


def _philox(key: int | bytes) -> np.random.Philox:
    """The generator of a key, before its first word.

    Args:
        key: 128 bits; or bytes of any length, of whose SHA-256 the first 128 bits are the key, as a
            little-endian number.
    """
    if isinstance(key, bytes):
        key = int.from_bytes(hashlib.sha256(key).digest()[:16], "little")
    return np.random.Philox(key=key)


def _as_int64(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The words as signed numbers."""
    return words.astype(np.int64)


def scale_words(words: npt.NDArray[np.uint64], bound: int) -> npt.NDArray[np.int64]:
    """Map words to numbers in [0, bound) by their upper 32 bits, uniform to within bound / 2^32.

    Args:
        words: Random words, of any shape.
        bound: At least 1, at most 2^31.

    Returns:
        An array of the words' shape.
    """
    return _as_int64(((words >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


def bit_field(words: npt.NDArray[np.uint64], shift: int, bits: int) -> npt.NDArray[np.int64]:
    """Read some bits of each word as a number in [0, 2^bits).

    Args:
        words: Random words, of any shape.
        shift: Position of the lowest bit that is read, counted from the lowest of the word.
        bits: Number of bits.

    Returns:
        An array of the words' shape.
    """
    return _as_int64((words >> np.uint64(shift)) & np.uint64((1 << bits) - 1))


class Streams:
    """Independent streams of random words, one for every counter in [0, 2^64).

    An instance can be shared by threads, pickled and used after a fork: no lock is held.

    Args:
        key: Anything that JSON can represent. The Philox key is the first 128 bits of the SHA-256
            of its canonical JSON.

    Example:
        >>> draws = Streams({"episodes": 1, "seed": 0})(3)
        >>> 0 <= draws.below(10) < 10
        True
    """

    def __init__(self, key: object) -> None:
        self._key = key
        philox = _philox(canonical_json(key))
        self._start: dict[str, Any] = dict(philox.state)  # before the first word
        self._philox_key = self._start["state"]["key"]
        # Generators not in use. Whoever needs one takes it out and puts it back, so no two threads
        # share one. A lock would stay locked for ever in a process that is forked while another
        # thread holds it.
        self._free = [philox]

    def __call__(self, counter: int) -> Draws:
        """Return the draws of stream `counter`, from its beginning."""
        return Draws(self, counter)

    def words(self, counter: int, block: int) -> list[int]:
        """Return the words block * 256 ... block * 256 + 255 of stream `counter`.

        Args:
            counter: The stream.
            block: The block of 256 words within the stream.
        """
        words: list[int] = self._words(
            counter, block * (_BLOCK // _WORDS_PER_STEP), _BLOCK
        ).tolist()
        return words

    def first_words(self, counter: int, n: int) -> npt.NDArray[np.uint64]:
        """Return the first `n` words of stream `counter` as an array [n].

        Args:
            counter: The stream.
            n: Number of words.
        """
        return self._words(counter, 0, n)

    def _words(self, counter: int, step: int, n: int) -> npt.NDArray[np.uint64]:
        """Return `n` words of stream `counter` from step `step` of its counter on, [n]."""
        # The lowest counter word counts steps within the stream, the third one numbers the stream.
        position = np.array([step, 0, counter, 0], np.uint64)
        try:  # to move a generator costs a fraction of making a new one
            philox = self._free.pop()
        except IndexError:
            philox = np.random.Philox(key=self._philox_key)
        philox.state = {
            **self._start,  # type: ignore[typeddict-item]
            "state": {"counter": position, "key": self._philox_key},
        }
        words = np.asarray(philox.random_raw(n), np.uint64)
        self._free.append(philox)
        return words

    def __reduce__(self) -> tuple[type[Streams], tuple[object]]:
        return Streams, (self._key,)


class Draws:
    """Sequential draws of Python integers from one stream of `Streams`.

    Args:
        streams: The streams.
        counter: Which of them.
    """

    def __init__(self, streams: Streams, counter: int) -> None:
        self._streams, self._counter = streams, counter
        self._words: list[int] = []
        self._next = 0
        self._block = 0

    def _take(self, k: int) -> list[int]:
        """Return the next `k` words."""
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
        """Draw a whole number in [0, n), uniform to within n / 2^64; uses one word.

        Args:
            n: The bound, at least 1.
        """
        return (self._take(1)[0] * n) >> 64

    def below_times(self, n: int, times: int) -> list[int]:
        """Return what `below(n)` returns when it is called several times.

        Args:
            n: The bound, at least 1.
            times: Number of draws; each uses one word.
        """
        return [(word * n) >> 64 for word in self._take(times)]

    def choose(self, items: Sequence[Any], k: int) -> list[Any]:
        """Draw `k` different entries of a sequence in random order; uses `k` words.

        This is a partial Fisher-Yates shuffle, uniform to within n k / 2^64 for n items.

        Args:
            items: The sequence; it is not changed.
            k: Number of entries, at most the number of items.
        """
        left = n = len(items)
        words = self._take(k)
        if n <= 32 * k:
            order = list(items)
            for i, word in enumerate(words):
                j = i + ((word * left) >> 64)
                order[i], order[j] = order[j], order[i]
                left -= 1
            return order[:k]
        # The same swaps without a copy of all items, which is faster where `k` is small.
        moved: dict[int, int] = {}
        out = []
        for i, word in enumerate(words):
            j = i + ((word * left) >> 64)
            out.append(items[moved.get(j, j)])
            moved[j] = moved.get(i, i)
            left -= 1
        return out


class WordStream:
    """One sequential stream of random arrays. Equal purposes give equal streams.

    Args:
        purpose: Words and numbers that say what the stream is for. The Philox key is the first 128
            bits of the SHA-256 of their texts, joined by slashes.
    """

    def __init__(self, *purpose: str | int) -> None:
        self._philox = _philox("/".join(map(str, purpose)).encode())

    def words(self, n: int) -> npt.NDArray[np.uint64]:
        """Draw `n` words of 64 random bits, [n].

        Args:
            n: Number of words.
        """
        return np.asarray(self._philox.random_raw(n), np.uint64)

    def below(self, bound: int, n: int) -> npt.NDArray[np.int64]:
        """Draw `n` whole numbers in [0, bound), [n]; see `scale_words`.

        Args:
            bound: At least 1, at most 2^31.
            n: Number of draws; each uses one word.
        """
        return scale_words(self.words(n), bound)

    def between(self, low: int, high: int) -> int:
        """Draw one whole number in [low, high], both ends included.

        Args:
            low: The least number.
            high: The greatest number, less than low + 2^31.
        """
        return low + int(self.below(high - low + 1, 1)[0])

    def normal(self, deviation: int, n: int) -> npt.NDArray[np.int64]:
        """Draw `n` approximately normal whole numbers with mean 0, [n].

        Each is the sum of four uniform numbers, so it lies within 3.5 standard deviations.

        Args:
            deviation: The standard deviation.
            n: Number of draws; each uses one word.
        """
        words = self.words(n)
        total = -2 * 0xFFFF + sum(bit_field(words, shift, 16) for shift in (0, 16, 32, 48))
        # The sum of four uniform 16-bit numbers has the deviation 2^16 / sqrt(3) = 2^26 / 1773.
        return np.asarray((total * (deviation * 1773) + (1 << 25)) >> 26, np.int64)

    def permutation(self, n: int) -> npt.NDArray[np.intp]:
        """Draw a random order of 0 ... n - 1, [n].

        Args:
            n: Number of entries; each uses one word.
        """
        return np.argsort(self.words(n), kind="stable")
