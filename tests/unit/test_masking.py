"""Choosing what to hide. Numbers: reference systems-ernie-wwm-roberta-albert.md, section 13, checks 28 and 29."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.masking import choose_tokens, replace_tokens
from ptm_dist.rng import Draws

MASK = 4
LENGTH = 512
seeds = st.integers(0, 2**63 - 1)


def masks(epoch, rows):
    draws = Draws(0, "")
    return [set(choose_tokens(np.arange(LENGTH), 0.15, draws.rekey(1, "mask", epoch, row)).tolist()) for row in range(rows)]


def test_77_of_512_in_four_of_five_rows():
    counts = np.array([len(mask) for mask in masks(0, 20_000)])
    assert set(counts) == {76, 77}
    assert abs((counts == 77).mean() - 0.8) < 0.012
    assert abs(counts.mean() - 76.8) < 0.012


def test_epochs_choose_independently():
    first, second = masks(0, 2000), masks(1, 2000)
    overlap = np.mean([len(a & b) / len(a | b) for a, b in zip(first, second, strict=True)])
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 2
    assert abs(overlap - 0.15 / 1.85) < 0.003


def test_every_position_is_as_likely():
    counts = np.bincount([position for mask in masks(0, 20_000) for position in mask], minlength=LENGTH)
    assert np.abs(counts - 3000).max() < 5 * (20_000 * 0.15 * 0.85) ** 0.5


@given(st.lists(st.integers(0, 10_000), max_size=80, unique=True), st.floats(0.01, 0.99), seeds)
def test_chosen_positions_are_candidates_distinct_and_sorted(candidates, rate, seed):
    candidates = np.array(candidates, dtype=np.int64)
    chosen = choose_tokens(candidates, rate, Draws(seed, "x"))
    assert np.isin(chosen, candidates).all()
    assert (np.diff(chosen) > 0).all()
    assert abs(len(chosen) - rate * len(candidates)) < 1


@given(st.lists(st.integers(0, 99), min_size=1, max_size=60), st.data(), seeds)
def test_only_chosen_tokens_change_and_the_input_does_not(tokens, data, seed):
    tokens = np.array(tokens)
    before = tokens.copy()
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(tokens) - 1)))), dtype=np.int64)
    replacements = np.arange(50, 100)
    changed = replace_tokens(tokens, chosen, MASK, replacements, Draws(seed, "x"))
    untouched = np.setdiff1d(np.arange(len(tokens)), chosen)
    assert np.array_equal(tokens, before)
    assert np.array_equal(changed[untouched], tokens[untouched])
    assert all(new in (MASK, old) or new in replacements for new, old in zip(changed[chosen], tokens[chosen], strict=True))
    restored = changed.copy()
    restored[chosen] = before[chosen]
    assert np.array_equal(restored, before)


def test_80_10_10():
    count = 200_000
    tokens = np.full(count, 7)
    changed = replace_tokens(tokens, np.arange(count), MASK, np.arange(10, 110), Draws(1, "x"))
    for share, found in ((0.8, changed == MASK), (0.1, changed >= 10), (0.1, changed == 7)):
        assert abs(found.sum() - share * count) < 4 * (count * share * (1 - share)) ** 0.5
    drawn = np.bincount(changed[changed >= 10] - 10, minlength=100)
    assert np.abs(drawn - drawn.mean()).max() < 5 * drawn.mean() ** 0.5
