"""Counter-based random draws: a pure function of (seed, purpose, counters), the same on every machine and library version.

Only the raw 64-bit words of Philox-4x64-10 are used, because NumPy promises those for ever and its distributions not.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Any

import numpy as np

_WORD = (1 << 64) - 1


@lru_cache(maxsize=256)
def _purpose_key(purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")


def share_of(words: np.ndarray) -> np.ndarray:
    """Return random words as floats in [0, 1): float64 like `words`."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Draws:
    """A stream of random numbers that can be re-keyed for a microsecond instead of being built anew."""

    def __init__(self, seed: int, purpose: str, *counters: int) -> None:
        self._bits = np.random.Philox(key=0)
        # Word 0 counts the blocks of the stream itself, so streams of different counters never overlap.
        self._counter, self._key = [0, 0, 0, 0], [0, 0]
        # NumPy reads a state item by item, which goes three times as fast from lists as from arrays.
        state = {"counter": self._counter, "key": self._key}
        self._state: Any = {
            "bit_generator": "Philox",
            "state": state,
            "buffer": [0] * 4,
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self.rekey(seed, purpose, *counters)

    def rekey(self, seed: int, purpose: str, *counters: int) -> Draws:
        """Start the stream of (seed, purpose, up to three counters) and return self."""
        if len(counters) > 3:
            raise ValueError(f"at most 3 counters fit into a Philox counter, got {len(counters)}")
        first, second, third, *_ = *counters, 0, 0, 0
        self._key[:] = seed & _WORD, _purpose_key(purpose)
        return self._restart(first, second, third)

    def _restart(self, first: int, second: int, third: int) -> Draws:
        self._counter[1:] = first & _WORD, second & _WORD, third & _WORD
        self._bits.state = self._state
        return self

    def words(self, count: int) -> np.ndarray:
        """Return `count` uniform 64-bit words: uint64 [count]."""
        return self._bits.random_raw(count)

    def uniform(self, count: int) -> np.ndarray:
        """Return `count` floats in [0, 1): float64 [count]."""
        return share_of(self.words(count))

    def integers(self, count: int, high: int) -> np.ndarray:
        """Return `count` integers in [0, high): int64 [count]."""
        return (self.uniform(count) * high).astype(np.int64)

    def permutation(self, count: int) -> np.ndarray:
        """Return a permutation of 0..count-1: int64 [count]."""
        return np.argsort(self.words(count), kind="stable")


class Dice:
    """Draws one after the other, for choices that depend on those before them."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return float(self._draws.uniform(1)[0])

    def between(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included; low where high is less."""
        return low + int(self.share() * max(1, high - low + 1))


class RowDraws:
    """One stream for each of some rows, keyed by (seed, purpose, epoch, row), so that a row draws the same in whatever company."""

    def __init__(self, seed: int, purpose: str, keys: Sequence[tuple[int, int]]) -> None:
        """Take the (epoch, row) of each row."""
        self._seed, self._purpose, self._keys = seed, purpose, keys
        self._draws = Draws(seed, purpose)

    def __len__(self) -> int:
        return len(self._keys)

    def part(self, start: int, stop: int) -> RowDraws:
        """Return the streams of some of the rows."""
        part = copy(self)
        part._keys = self._keys[start:stop]
        return part

    def of(self, index: int, stream: int = 0) -> Draws:
        """Return a stream of row `index`; it is re-keyed by the next call."""
        return self._draws.rekey(self._seed, self._purpose, *self._keys[index], stream)

    def words(self, count: int, stream: int = 0) -> np.ndarray:
        """Return the first `count` uniform 64-bit words of a stream of each row: uint64 [rows, count]. More rows or words change none."""
        found = np.empty((len(self), count), dtype=np.uint64)
        draws = self._draws.rekey(self._seed, self._purpose)
        for index, (epoch, row) in enumerate(self._keys):
            found[index] = draws._restart(epoch, row, stream).words(count)
        return found


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit seed for a library that keeps its own generator (torch's dropout)."""
    return int(Draws(seed, purpose, *counters).words(1)[0] >> np.uint64(1))
