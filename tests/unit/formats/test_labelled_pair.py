"""Pairs with a label of their own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.formats.labelled_pair import LabelledPair
from tests.unit.formats.numbered import cut, made, numbered


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 65_535)), max_size=5), st.integers(8, 40))
def test_pairs_keep_their_label_and_their_beginnings(found, length):
    documents = numbered([pair[:2] for pair in found], labels=[(pair[2],) * 2 for pair in found])
    rows, skipped = made(LabelledPair(length=length), documents)
    assert [int(row["label"]) for row in rows] == [label for *_, label in found]
    assert skipped == {}
    for row, document in zip(rows, documents, strict=True):
        parts, whole = cut(row, length), [part["id"] for part in document.sentences]
        assert all(np.array_equal(part, text[: len(part)]) for part, text in zip(parts, whole, strict=True))
        assert sum(map(len, parts)) == min(sum(map(len, whole)), length - 3)


def test_documents_that_are_no_pair_are_counted():
    documents = numbered([[], [0, 0], [4], [0, 4], [3, 3, 3], [2, 2]], labels=[[], [1, 1], [1], [1, 1], [1] * 3, [1, 1]])
    rows, skipped = made(LabelledPair(length=64), documents)
    assert len(rows) == 1
    assert skipped == {"empty": 2, "no_pair": 3}


def test_it_asks_for_pairs():
    assert LabelledPair(length=64).cut.kind == "pair"
    assert LabelledPair(length=64).classes == 0
