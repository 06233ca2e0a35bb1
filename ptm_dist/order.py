"""Which row is read when: one closed form of (seed, position), so resuming at any step is arithmetic.

The rows of a data set are dealt once to `lanes` virtual readers, each a contiguous part of the rows. Position p belongs to lane
p mod lanes and is entry p div lanes of it. Within a lane every epoch permutes the lane's chunks and the rows inside each chunk, so
a lane sees each of its rows exactly once an epoch while the reads stay within one chunk at a time. World size and loader
processes are not part of the form: they only decide who reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from ptm_dist.rng import Draws


class RowAddress(NamedTuple):
    """Row `place` of chunk `chunk`, which is row `row` of the data set, read in epoch `epoch` of its lane."""

    chunk: int
    place: int
    row: int
    epoch: int


@dataclass(frozen=True)
class _LaneEpoch:
    """One epoch of one lane: its pieces of chunks in reading order. `starts` is int64 [pieces + 1]."""

    epoch: int
    pieces: np.ndarray
    starts: np.ndarray


@dataclass
class Order:
    """The reading order of a data set whose chunk i holds `chunk_rows[i]` rows.

    `stateful` keeps the stored order, for models that carry memory from batch to batch.
    """

    chunk_rows: np.ndarray
    lanes: int
    seed: int
    stateful: bool = False
    _chunk_starts: np.ndarray = field(init=False)
    _epochs: dict[int, _LaneEpoch] = field(init=False, default_factory=dict)
    _rows: dict[int, tuple[int, int, np.ndarray]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._chunk_starts = np.concatenate([[0], np.cumsum(self.chunk_rows, dtype=np.int64)])
        if not 1 <= self.lanes <= self.rows:
            raise ValueError(f"{self.lanes} lanes cannot share {self.rows} rows")
        self._draws = Draws(self.seed, "order")

    @property
    def rows(self) -> int:
        """Rows in the data set."""
        return int(self._chunk_starts[-1])

    def lane_of(self, position: int) -> int:
        """Return the virtual reader of `position`."""
        return position % self.lanes

    def locate(self, position: int) -> RowAddress:
        """Return which row is consumed as number `position` of the whole run."""
        lane, entry = position % self.lanes, position // self.lanes
        epoch, at = divmod(entry, self._lane_start(lane + 1) - self._lane_start(lane))
        plan = self._plan(lane, epoch)
        number = int(np.searchsorted(plan.starts, at, side="right")) - 1
        chunk = int(plan.pieces[number])
        first, last = self._piece(lane, chunk)
        row = first + int(self._rows_of(lane, epoch, chunk, last - first)[at - int(plan.starts[number])])
        return RowAddress(chunk, row - int(self._chunk_starts[chunk]), row, epoch)

    def _lane_start(self, lane: int) -> int:
        return lane * self.rows // self.lanes

    def _piece(self, lane: int, chunk: int) -> tuple[int, int]:
        """The rows [first, last) of `chunk` that belong to `lane`."""
        first = max(self._lane_start(lane), int(self._chunk_starts[chunk]))
        return first, min(self._lane_start(lane + 1), int(self._chunk_starts[chunk + 1]))

    def _plan(self, lane: int, epoch: int) -> _LaneEpoch:
        known = self._epochs.get(lane)
        if known is None or known.epoch != epoch:
            lowest = int(np.searchsorted(self._chunk_starts, self._lane_start(lane), side="right")) - 1
            highest = int(np.searchsorted(self._chunk_starts, self._lane_start(lane + 1), side="left"))
            pieces = np.arange(lowest, highest)
            pieces = pieces[self.chunk_rows[lowest:highest] > 0]
            if not self.stateful:
                pieces = pieces[self._draws.rekey(self.seed, "order.chunks", epoch, lane).permutation(len(pieces))]
            sizes = [last - first for first, last in (self._piece(lane, int(chunk)) for chunk in pieces)]
            known = self._epochs[lane] = _LaneEpoch(epoch, pieces, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))
        return known

    def _rows_of(self, lane: int, epoch: int, chunk: int, count: int) -> np.ndarray:
        if self.stateful:
            return np.arange(count)
        known = self._rows.get(lane)
        if known is None or known[:2] != (epoch, chunk):
            known = self._rows[lane] = (epoch, chunk, self._draws.rekey(self.seed, "order.rows", epoch, lane, chunk).permutation(count))
        return known[2]


def divide(sizes: Sequence[int], most: int, least: int) -> list[int]:
    """Return how many of `most` rows to take of each of several parts: in proportion to what they hold, but `least` of each.

    A part that holds fewer gives all it has. Where `most` does not reach for `least` of each they get equal shares, at least one row.
    """
    first = [min(size, least, max(1, most // len(sizes))) for size in sizes]
    rest = [size - taken for size, taken in zip(sizes, first, strict=True)]
    spare = min(max(0, most - sum(first)), sum(rest))
    ends = [end * spare // max(1, sum(rest)) for end in accumulate(rest, initial=0)]
    return [taken + end - start for taken, (start, end) in zip(first, pairwise(ends), strict=True)]


def share(positions: range, lanes: int, rank: int, world: int) -> list[int]:
    """Return the positions of a batch that `rank` of `world` reads.

    Positions are sorted by lane first: a rank owns contiguous lanes, so that a chunk is read by one rank, or two.
    """
    by_lane = sorted(positions, key=lambda position: (position % lanes, position))
    return by_lane[rank * len(by_lane) // world : (rank + 1) * len(by_lane) // world]
