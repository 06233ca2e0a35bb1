"""What formats share: cutting to fit, draws of a document, another document."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.formats.base import another, dice, joined, labelled, truncated
from ptm_dist.rng import Dice, Draws
from tests.texts import document
from tests.unit.formats.numbered import numbered

sizes = st.lists(st.integers(0, 30), min_size=1, max_size=4)


def one_at_a_time(parts, most, fronts):
    """Cut as the reference does: a token at a time, from the longest part, the last of the longest ones."""
    found = [part.tolist() for part in parts]
    while sum(map(len, found)) > most:
        longest = max(found, key=len)
        place = max(number for number, part in enumerate(found) if len(part) == len(longest))
        found[place].pop(0 if next(fronts) else -1)
    return found


@given(sizes, st.integers(0, 60))
def test_the_longest_part_loses_tokens_until_all_fit(sizes, most):
    parts = [part["id"] for part in numbered([sizes])[0].sentences]
    assert [part.tolist() for part in truncated(parts, most)] == one_at_a_time(parts, most, iter([False] * 200))


@given(sizes, st.integers(0, 60), st.integers(0, 99))
def test_with_draws_parts_keep_as_many_tokens_and_stay_whole(sizes, most, seed):
    parts = [part["id"] for part in numbered([sizes])[0].sentences]
    found = truncated(parts, most, Dice(Draws(seed, "cut")))
    assert [len(part) for part in found] == [len(part) for part in truncated(parts, most)]
    assert all(bytes(cut) in bytes(part) for cut, part in zip(found, parts, strict=True))


def test_with_draws_either_end_loses_as_much():
    (part,) = numbered([[400]])[0].sentences
    fronts = [int(truncated([part["id"]], 300, Dice(Draws(seed, "cut")))[0][0] - part["id"][0]) for seed in range(400)]
    assert np.mean(fronts) == pytest.approx(50, abs=4 * 5 / 20)
    assert np.std(fronts) == pytest.approx(5, abs=0.8)


def test_another_document_is_any_but_this_one():
    draws = Dice(Draws(0, "another"))
    found = np.array([another(2, 5, draws) for _ in range(8_000)])
    assert np.bincount(found, minlength=5)[[0, 1, 3, 4]] == pytest.approx([2000] * 4, abs=4 * np.sqrt(8000 * 3 / 16))
    assert 2 not in found
    assert {another(index, 2, draws) for index in (0,)} == {1}


def test_the_two_streams_of_a_document_are_apart():
    shares = [stream.share() for number in range(3) for stream in dice(1, "kind", 7, number)]
    assert len(set(shares)) == 6
    assert shares == [stream.share() for number in range(3) for stream in dice(1, "kind", 7, number)]


def test_pieces_without_tokens_take_their_label_along():
    found = labelled(document("a", [[5], [], [6, 7]], [3, 4, 5]))
    assert [(piece["id"].tolist(), label) for piece, label in found] == [([5], 3), ([6, 7], 5)]
    with pytest.raises(ValueError, match="shorter"):
        labelled(document("a", [[5]]))


def test_joined_parts_keep_their_marks_also_when_they_run_backward():
    (one, two) = numbered([[3, 4]])[0].sentences
    assert np.array_equal(joined([one[::-1], two]), np.concatenate([one[::-1], two]))
