"""The random draws: fixed numbers for ever, no stream inside another one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.rng import Draws, RowDraws, _purpose_key, derive_seed, share_of

seeds = st.integers(0, 2**64 - 1)
counters = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)


def philox(seed: int, purpose: str, *counters: int) -> np.random.Philox:
    words = [0, *(c % 2**64 for c in counters), 0, 0, 0][:4]
    # NumPy counts up before it makes a block, as a stream that starts at counter c shows.
    return np.random.Philox(counter=np.array(words, np.uint64), key=np.array([seed, _purpose_key(purpose)], np.uint64))


@given(seeds, st.text(max_size=8), counters, st.integers(0, 40))
def test_words_are_those_of_numpy_s_philox(seed, purpose, counters, count):
    assert np.array_equal(Draws(seed, purpose, *counters).words(count), philox(seed, purpose, *counters).random_raw(count))


def philox_by_hand(counter: list[int], key: list[int]) -> list[int]:
    """Philox-4x64-10 as printed by Salmon et al. 2011."""
    (a, b, c, d), (k, m), full = counter, key, 2**64
    for _ in range(10):
        (high0, low0), (high1, low1) = divmod(a * 0xD2E7470EE14C6C93, full), divmod(c * 0xCA5A826395121157, full)
        a, b, c, d = high1 ^ b ^ k, low1, high0 ^ d ^ m, low0
        k, m = (k + 0x9E3779B97F4A7C15) % full, (m + 0xBB67AE8584CAA73B) % full
    return [a, b, c, d]


def test_the_algorithm_is_the_published_one():
    # Random123's known answer for an all-zero counter and key.
    assert philox_by_hand([0] * 4, [0] * 2) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    found = Draws(11, "x", 5, -6, 7).words(8).tolist()
    blocks = [philox_by_hand([block, 5, 2**64 - 6, 7], [11, _purpose_key("x")]) for block in (1, 2)]
    assert found == blocks[0] + blocks[1]


def test_the_numbers_never_change():
    words = [13359868133133966403, 13722017920061161235, 3686654256585474634]
    assert Draws(1, "train.mlm.masked_lm", 2, 3).words(3).tolist() == words
    assert derive_seed(1, "train.mlm.masked_lm", 2, 3) == words[0] // 2


@given(seeds, counters, counters, st.integers(1, 9))
def test_rekey_equals_a_new_object(seed, before, after, drawn):
    used = Draws(seed, "a", *before)
    used.words(drawn)
    assert np.array_equal(used.rekey(seed, "b", *after).words(9), Draws(seed, "b", *after).words(9))


stream_keys = st.tuples(st.sampled_from(["a", "b", "order.rows"]), st.integers(-3, 3), st.integers(0, 5))


@given(seeds, st.lists(stream_keys, unique=True, max_size=9))
def test_streams_share_no_word(seed, keys):
    words = np.concatenate([Draws(seed, purpose, *counters).words(64) for purpose, *counters in keys] or [[]])
    assert len(np.unique(words)) == len(words)


def test_the_place_of_a_counter_matters():
    streams = [(), (1,), (0, 1), (0, 0, 1), (-1,), (1, 1)]
    assert len({Draws(5, "x", *counters).words(1)[0] for counters in streams}) == len(streams)


def test_another_seed_is_another_stream():
    assert len({Draws(seed, "x").words(1)[0] for seed in range(100)}) == 100


def test_at_most_three_counters():
    with pytest.raises(ValueError, match="at most 3 counters"):
        Draws(0, "x", 1, 2, 3, 4)


@given(seeds, st.integers(1, 2**31), st.integers(0, 200))
def test_integers_stay_below_their_bound(seed, high, count):
    drawn = Draws(seed, "x").integers(count, high)
    assert drawn.dtype == np.int64
    assert len(drawn) == count
    assert ((drawn >= 0) & (drawn < high)).all()


def test_the_largest_word_stays_below_one():
    class Largest(Draws):
        def words(self, count):
            return np.full(count, 2**64 - 1, np.uint64)

    assert Largest(0, "x").uniform(1)[0] < 1.0
    assert Largest(0, "x").integers(1, 2**31)[0] == 2**31 - 1


@pytest.mark.parametrize("counter", range(5))
def test_uniform_is_uniform(counter):
    drawn = Draws(7, "uniform", counter).uniform(100_000)
    counts = np.bincount((drawn * 100).astype(int), minlength=100)
    assert abs(drawn.mean() - 0.5) < 4 * (1 / 12 / 100_000) ** 0.5
    assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 4 * (2 * 99) ** 0.5
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / 100_000**0.5


@given(seeds, st.integers(0, 300))
def test_permutation_is_a_bijection(seed, count):
    assert sorted(Draws(seed, "x").permutation(count)) == list(range(count))


def test_every_permutation_is_as_likely():
    draws = Draws(0, "")
    seen = [tuple(draws.rekey(3, "permutation", number).permutation(4).tolist()) for number in range(12_000)]
    counts = np.unique(seen, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert np.abs(counts - 500).max() < 5 * 500**0.5


@given(seeds, counters)
def test_derived_seeds_fit_63_bits(seed, counters):
    assert 0 <= derive_seed(seed, "dropout", *counters) < 2**63


row_keys = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**63 - 1)), max_size=6)


@given(seeds, row_keys, st.integers(0, 20), st.integers(0, 3))
def test_each_row_has_the_streams_of_its_own_key(seed, keys, count, stream):
    draws = RowDraws(seed, "train", keys)
    words = draws.words(count, stream)
    assert words.shape == (len(draws), count) == (len(keys), count)
    for index, (epoch, row) in enumerate(keys):
        expected = Draws(seed, "train", epoch, row, stream).words(count)
        assert np.array_equal(words[index], expected)
        assert np.array_equal(draws.of(index, stream).words(count), expected)


@given(seeds, row_keys, st.integers(1, 9), st.integers(0, 6), st.integers(0, 6))
def test_a_part_of_the_rows_draws_what_the_whole_does(seed, keys, count, start, stop):
    draws = RowDraws(seed, "train", keys)
    part = draws.part(start, stop)
    assert np.array_equal(part.words(count), draws.words(count + 3)[start:stop, :count])
    assert len(draws) == len(keys)


def test_shares_are_the_high_53_bits_of_words():
    words = np.array([[0, 2**11 - 1, 2**11], [2**63, 2**64 - 2**11, 2**64 - 1]], dtype=np.uint64)
    assert share_of(words).tolist() == [[0.0, 0.0, 2**-53], [0.5, 1 - 2**-53, 1 - 2**-53]]
