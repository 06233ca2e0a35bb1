"""The reading order: each row of a lane exactly once an epoch, whoever reads and in whatever sequence it is asked for."""

from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.order import Order, RowAddress, divide, share
from ptm_dist.rng import Draws

seeds = st.integers(0, 2**63 - 1)


@st.composite
def orders(draw, stateful=None):
    chunk_rows = draw(st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any))
    lanes = draw(st.integers(1, min(9, sum(chunk_rows))))
    return Order(np.array(chunk_rows), lanes, draw(seeds), draw(st.booleans()) if stateful is None else stateful)


def again(order):
    return Order(order.chunk_rows, order.lanes, order.seed, order.stateful)


def lane_rows(order, lane):
    return range(lane * order.rows // order.lanes, (lane + 1) * order.rows // order.lanes)


def epoch_of_lane(order, lane, epoch):
    size = len(lane_rows(order, lane))
    return [order.locate(entry * order.lanes + lane) for entry in range(epoch * size, (epoch + 1) * size)]


def slow_locate(order, position):
    """The definition, row by row: deal rows to lanes, shuffle the chunks of the lane, then the rows of each."""
    chunk_of = np.repeat(np.arange(len(order.chunk_rows)), order.chunk_rows)
    lane, entry = position % order.lanes, position // order.lanes
    rows = np.array(lane_rows(order, lane))
    epoch, at = divmod(entry, len(rows))
    chunks = sorted(set(chunk_of[rows].tolist()))
    if not order.stateful:
        chunks = [chunks[i] for i in Draws(order.seed, "order.chunks", epoch, lane).permutation(len(chunks))]
    queue = []
    for chunk in chunks:
        mine = rows[chunk_of[rows] == chunk]
        queue += (mine if order.stateful else mine[Draws(order.seed, "order.rows", epoch, lane, chunk).permutation(len(mine))]).tolist()
    row, chunk = queue[at], int(chunk_of[queue[at]])
    return RowAddress(chunk, row - int(order.chunk_rows[:chunk].sum()), row, epoch)


@given(orders(), st.lists(st.integers(0, 400), min_size=1, max_size=30))
def test_locate_is_its_definition_in_any_sequence(order, positions):
    assert [order.locate(position) for position in positions] == [slow_locate(order, position) for position in positions]


@given(orders(), st.integers(0, 3))
def test_a_lane_sees_each_of_its_rows_once_an_epoch(order, epoch):
    for lane in range(order.lanes):
        found = epoch_of_lane(order, lane, epoch)
        assert sorted(address.row for address in found) == list(lane_rows(order, lane))
        assert {address.epoch for address in found} == {epoch}


@given(orders())
def test_lanes_part_the_rows(order):
    seen = [row for lane in range(order.lanes) for row in lane_rows(order, lane)]
    assert seen == list(range(order.rows))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any), st.data())
def test_lanes_that_divide_evenly_make_every_epoch_a_permutation(chunk_rows, data):
    rows = sum(chunk_rows)
    lanes = data.draw(st.sampled_from([n for n in range(1, rows + 1) if rows % n == 0]))
    order = Order(np.array(chunk_rows), lanes, data.draw(seeds))
    for epoch in range(2):
        assert sorted(order.locate(epoch * rows + p).row for p in range(rows)) == list(range(rows))


@given(orders(), st.integers(1, 300))
def test_addresses_agree_with_each_other(order, positions):
    for position in range(positions):
        chunk, index, row, _ = order.locate(position)
        assert 0 <= index < order.chunk_rows[chunk]
        assert row == order.chunk_rows[:chunk].sum() + index
        assert row in lane_rows(order, order.lane_of(position))


@given(orders(), st.integers(1, 3))
def test_uneven_lanes_stay_within_one_epoch_of_each_other(order, epochs):
    counts = Counter(order.locate(position).row for position in range(epochs * order.rows))
    largest, smallest = -(-order.rows // order.lanes), order.rows // order.lanes
    # After n positions a lane was asked n/L times, give or take one, and has floor or ceil of rows/L rows.
    assert max(counts.values()) <= -(-epochs * largest // smallest)
    assert min(counts.get(row, 0) for row in range(order.rows)) >= epochs * smallest // largest


@given(orders(), st.permutations(range(40)))
def test_no_hidden_state(order, positions):
    forward = [again(order).locate(position) for position in range(40)]
    assert {position: order.locate(position) for position in positions} == dict(enumerate(forward))


@given(orders(stateful=True), st.integers(0, 2))
def test_stateful_models_get_the_stored_order(order, epoch):
    for lane in range(order.lanes):
        assert [address.row for address in epoch_of_lane(order, lane, epoch)] == list(lane_rows(order, lane))


def sequence(order, epoch):
    return [address.row for address in epoch_of_lane(order, 0, epoch)]


@given(seeds)
def test_epochs_and_seeds_differ(seed):
    order, other = (Order(np.array([10, 10, 10]), 1, s) for s in (seed, seed + 1))
    assert sequence(order, 0) != sequence(order, 1)
    assert sequence(order, 0) != sequence(other, 0)


@given(seeds, st.integers(1, 5))
def test_a_lane_reads_one_chunk_after_the_other(seed, lanes):
    order = Order(np.array([7, 9, 8, 6]), lanes, seed)
    for lane in range(lanes):
        chunks = [address.chunk for address in epoch_of_lane(order, lane, 0)]
        changes = sum(one != other for one, other in pairwise(chunks))
        assert changes == len(set(chunks)) - 1


def test_every_place_is_as_likely():
    firsts = Counter(Order(np.array([3, 3]), 1, seed).locate(0).row for seed in range(3000))
    assert all(abs(firsts[row] - 500) < 4.5 * 500**0.5 for row in range(6))


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 20))
def test_ranks_share_a_batch_whatever_their_number(first, count, lanes):
    positions = range(first, first + count)
    batches = {}
    for world in (1, 2, 4, 3):
        parts = [share(positions, lanes, rank, world) for rank in range(world)]
        batches[world] = list(chain.from_iterable(parts))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        owners = Counter(lane for part in parts for lane in {position % lanes for position in part})
        assert sum(owners.values()) <= len(owners) + world - 1
    assert sorted(batches[1]) == list(positions)
    assert all(batch == batches[1] for batch in batches.values())


@pytest.mark.parametrize("lanes", [0, -1, 7])
def test_more_lanes_than_rows_are_refused(lanes):
    with pytest.raises(ValueError, match="lanes cannot share 6 rows"):
        Order(np.array([4, 2]), lanes, 1)


def test_a_far_position_costs_no_more_than_a_near_one():
    order = Order(np.full(1000, 1000), 64, 1)
    assert order.locate(10**15).epoch == 10**15 // 64 // 15_625


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(1, 800), st.integers(1, 40))
def test_sources_share_rows_in_proportion_and_each_has_some(sizes, most, least):
    found = divide(sizes, most, least)
    assert sum(found) == min(sum(sizes), max(most, len(sizes))), "as many rows as there may be"
    for size, taken in zip(sizes, found, strict=True):
        assert min(size, least, max(1, most // len(sizes))) <= taken <= size
        if least == 1 and len(sizes) < most < sum(sizes):
            assert abs(taken - most * size / sum(sizes)) < len(sizes), "with one row of each beforehand, else in proportion"


def test_shares_are_these():
    assert divide([173], 50, 16) == [50]
    assert divide([9500, 500], 512, 16) == [472, 40]
    assert divide([9990, 10], 512, 16) == [502, 10]
    assert divide([10, 10, 10], 2, 16) == [1, 1, 1]
