"""Choosing what to hide, beside plain loops that are given the same draws, and beside the laws that the systems publish.

Numbers: reference systems-ernie-wwm-roberta-albert.md, section 13, checks 34 and 35.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.masking import (
    Chosen,
    Replacement,
    Units,
    choose_count,
    choose_each,
    choose_fitting,
    choose_spans,
    replaced,
    span_lengths,
    tokens_of,
    units_of,
)
from ptm_dist.rng import Draws, RowDraws, share_of

HARMONIC = (1, 1 / 2, 1 / 3)
LAST = 2**64 - 1


@st.composite
def blocks(draw):
    """Return some rows of tokens that may be hidden or not, go on or not, and random keys; rows are padded to one length."""
    lengths = draw(st.lists(st.integers(1, 24), min_size=1, max_size=5))
    length, seed = max(lengths) + draw(st.integers(0, 3)), draw(st.integers(0, 2**32))
    shares, (keys, flags) = draw(st.tuples(st.floats(0, 1), st.floats(0, 1))), (Draws(seed, name).words(5 * length) for name in ("a", "b"))
    candidates, goes_on = (share_of(flags << np.uint64(bits)).reshape(5, -1)[: len(lengths)] for bits in (0, 11))
    within = np.arange(length) < np.array(lengths)[:, None]
    return (candidates < shares[0]) & within, (goes_on < shares[1]) & within, keys.reshape(5, -1)[: len(lengths)]


def plain_units(candidates, goes_on):
    """Return the places of each unit, row by row."""
    rows, length = candidates.shape
    found = []
    for row in range(rows):
        units, inside = [], False
        for position in range(length):
            if candidates[row, position]:
                if inside and goes_on[row, position]:
                    units[-1].append(row * length + position)
                else:
                    units.append([row * length + position])
            inside = candidates[row, position]
        found.append(units)
    return found


def in_order(units, keys):
    return sorted(range(len(units)), key=lambda number: int(keys.reshape(-1)[units[number][0]]))


def plain_fitting(units, keys, budget):
    taken, left = [], budget
    for number in in_order(units, keys):
        if len(units[number]) <= left:
            taken.append(units[number])
            left -= len(units[number])
    return sorted(taken)


def plain_spans(units, keys, budget, weights, chances):
    """Return spans as lists of units, as in ALBERT's code, but for the law near the end of a row."""
    covered, spans, left = set(), [], budget
    for number in in_order(units, keys):
        law = list(weights[: len(units) - number])
        point, count = chances[units[number][0]] * sum(law), 1
        while count < len(law) and point >= sum(law[:count]):
            count += 1
        while count > 1 and sum(map(len, units[number : number + count])) > left:
            count -= 1
        span = range(number, number + count)
        size = sum(len(units[member]) for member in span)
        if size <= left and not covered.intersection(span):
            covered.update(span)
            left -= size
            spans.append([units[member] for member in span])
    return sorted(spans)


def places_of(found, units):
    """Return the tokens of the units that begin at places."""
    return tokens_of(units, Chosen(found, found)).places.tolist()


def flat(parts):
    return [place for part in parts for place in part]


@given(blocks())
def test_units_are_the_runs_that_go_on(block):
    candidates, goes_on, keys = block
    units = units_of(candidates, goes_on, keys)
    begins = np.flatnonzero(units.starts)
    expected = flat(plain_units(candidates, goes_on))
    assert [list(range(place, place + size)) for place, size in zip(begins, units.sizes[begins], strict=True)] == expected
    assert units.sizes.sum() == candidates.sum()
    assert np.array_equal(units_of(candidates, None, keys).starts, candidates)


@given(blocks(), st.data())
def test_counted_units_are_those_with_the_smallest_keys(block, data):
    candidates, goes_on, keys = block
    units, plain = units_of(candidates, goes_on, keys), plain_units(candidates, goes_on)
    counts = [data.draw(st.integers(0, len(found))) for found in plain]
    expected = flat(sorted(found[number] for number in in_order(found, keys)[:count]) for found, count in zip(plain, counts, strict=True))
    assert places_of(choose_count(units, np.array(counts)), units) == flat(expected)


@given(blocks(), st.floats(0.01, 0.99))
def test_each_unit_is_chosen_by_the_key_of_its_first_token(block, rate):
    candidates, goes_on, keys = block
    units, plain = units_of(candidates, goes_on, keys), flat(plain_units(candidates, goes_on))
    expected = flat(unit for unit in plain if int(keys.reshape(-1)[unit[0]]) < rate * 2**64)
    assert places_of(choose_each(units, rate), units) == expected


@given(blocks(), st.data())
def test_a_budget_is_filled_by_units_in_turn_and_those_too_large_are_skipped(block, data):
    candidates, goes_on, keys = block
    units, plain = units_of(candidates, goes_on, keys), plain_units(candidates, goes_on)
    budgets = [data.draw(st.integers(1, 12)) for _ in plain]
    expected = [plain_fitting(found, keys, budget) for found, budget in zip(plain, budgets, strict=True)]
    assert places_of(choose_fitting(units, np.array(budgets)), units) == flat(flat(expected))
    tokens = units_of(candidates, None, keys)
    expected = [
        plain_fitting([[place] for unit in found for place in unit], keys, budget) for found, budget in zip(plain, budgets, strict=True)
    ]
    assert choose_fitting(tokens, np.array(budgets)).tolist() == flat(flat(expected))


def test_a_budget_is_filled_by_the_last_of_many_units():
    # Ninety words of three tokens do not fit into what is left; the one of a single token comes after all of them.
    goes_on = np.array([[False] + [False, True, True] * 90])
    keys = np.arange(goes_on.size, dtype=np.uint64)[None] << np.uint64(20)
    keys[0, 0] = LAST
    units = units_of(np.ones_like(goes_on), goes_on, keys)
    assert choose_fitting(units, np.array([7])).tolist() == [0, 1, 4]
    assert plain_fitting(plain_units(np.ones_like(goes_on), goes_on)[0], keys, 7) == [[0], [1, 2, 3], [4, 5, 6]]


@given(blocks(), st.lists(st.floats(0.05, 1), min_size=2, max_size=5), st.data())
def test_spans_are_those_of_a_loop_over_units(block, weights, data):
    candidates, goes_on, keys = block
    chances = share_of(keys << np.uint64(7))
    budgets = [data.draw(st.integers(1, 12)) for _ in keys]
    for going in (goes_on, None):
        units = units_of(candidates, going, keys)
        plain = plain_units(candidates, goes_on if going is not None else np.zeros_like(goes_on))
        chosen = choose_spans(units, np.array(budgets), weights, chances)
        tokens = tokens_of(units, chosen)
        expected = [plain_spans(found, keys, budget, weights, chances.reshape(-1)) for found, budget in zip(plain, budgets, strict=True)]
        assert tokens.places.tolist() == flat(flat(flat(expected)))
        firsts = np.diff(tokens.groups, prepend=-1) != 0
        assert tokens.places[firsts].tolist() == [span[0][0] for span in flat(expected)]


@given(blocks(), st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_what_a_token_becomes_is_said_by_its_word_or_by_that_of_its_group(block, together, mask_share, rest):
    candidates, goes_on, keys = block
    rows, length = candidates.shape
    tokens, pool, random_share = 500 + np.arange(rows * length).reshape(rows, length), np.array([7, 8, 9]), rest * (1 - mask_share)
    units = units_of(candidates, goes_on, keys)
    begins = np.flatnonzero(units.starts)
    chosen = tokens_of(units, Chosen(begins, begins))
    words = RowDraws(int(keys[0, 0]), "words", [(0, row) for row in range(rows)]).words(3 * length)
    first = np.arange(rows)
    found = replaced(tokens, chosen, Replacement(3, mask_share, pool, random_share, together), words, first)
    expected = tokens.copy()
    for row, parts in enumerate(plain_units(candidates, goes_on)):
        hidden = flat(parts)
        for number, place in enumerate(hidden):
            group = hidden.index(next(part[0] for part in parts if place in part)) if together else number
            action = share_of(words[row, row + group])
            if action < mask_share:
                expected.reshape(-1)[place] = 3
            elif action < mask_share + random_share:
                expected.reshape(-1)[place] = pool[int(share_of(words[row, row + len(hidden) + number]) * 3)]
    assert np.array_equal(found, expected)
    assert tokens[0, 0] == 500


@pytest.mark.parametrize("key", [0, LAST])
def test_equal_keys_leave_the_counts_exact(key):
    starts = np.array([[True, False, True, True, False, True]] * 2)
    units = Units(starts, None, np.full(starts.shape, key, dtype=np.uint64))
    assert choose_count(units, np.array([2, 4])).tolist() == [0, 2, 6, 8, 9, 11]
    assert choose_count(units, np.array([0, 0])).tolist() == []
    assert choose_each(units, 0.5).tolist() == ([0, 2, 3, 5, 6, 8, 9, 11] if key == 0 else [])


def test_every_set_of_units_is_as_likely():
    keys = RowDraws(0, "sets", [(0, row) for row in range(20_000)]).words(6)
    chosen = choose_count(Units(np.ones(keys.shape, dtype=bool), None, keys), np.full(len(keys), 3)).reshape(-1, 3) % 6
    counts = np.unique(chosen, axis=0, return_counts=True)[1]
    assert len(counts) == 20
    assert np.abs(counts - 1000).max() < 4 * (20_000 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize(("left", "shares"), [(9, (6 / 11, 3 / 11, 2 / 11)), (2, (2 / 3, 1 / 3, 0)), (1, (1, 0, 0))])
def test_ngrams_are_as_likely_as_one_over_n_among_those_that_fit(left, shares):
    lengths = span_lengths(HARMONIC, np.full(100_000, left), Draws(3, "lengths", left).uniform(100_000))
    assert np.abs(np.bincount(lengths, minlength=4)[1:] / 100_000 - shares).max() < 0.006
    assert span_lengths(HARMONIC, np.array([left]), np.array([1 - 2**-53])).tolist() == [min(left, 3)]


@pytest.mark.parametrize(
    ("length", "budget", "shares"),
    [(512, 77, (0.585, 0.257, 0.158)), (512, 20, (0.593, 0.254, 0.153)), (128, 19, (0.609, 0.251, 0.140))],
)
def test_accepted_ngrams_have_the_published_shares(length, budget, shares):
    # Rows as [CLS] A [SEP] B [SEP]; of the words 65 % have one token, 25 % two, 10 % three.
    middle, draws = length // 2, RowDraws(1, "albert", [(0, row) for row in range((1 << 21) // length)])
    candidates = np.ones((len(draws), length), dtype=bool)
    candidates[:, [0, middle, length - 1]] = False
    chances, goes_on = share_of(draws.words(length, 2)), np.ones_like(candidates)
    begins = np.cumsum(1 + (chances > 0.65) + (chances > 0.9), axis=1)
    goes_on[np.nonzero(begins < length)[0], begins[begins < length]] = False
    units = units_of(candidates, goes_on, draws.words(length))
    chosen = choose_spans(units, np.full(len(draws), budget), HARMONIC, share_of(draws.words(length, 1)))
    counts = np.bincount(np.unique(chosen.groups, return_counts=True)[1])[1:]
    assert np.abs(counts / counts.sum() - shares).max() < 0.01
    used = np.bincount(tokens_of(units, chosen).places // length)
    assert used.max() == budget
    assert used.min() > budget - 3
    before, after = (chosen.groups[side] for side in (chosen.places % length < middle, chosen.places % length > middle))
    assert np.isin(before, after).any(), "spans pass over [SEP]"
