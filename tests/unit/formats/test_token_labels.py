"""Labels of tokens: capitals, and tokens that appear elsewhere in their document."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.document import TokenizedDocument, tokens
from ptm_dist.data.example import NO_LABEL
from ptm_dist.data.marks import CAPITAL, WORD
from ptm_dist.formats.token_labels import TokenLabels
from tests.texts import document
from tests.unit.formats.numbered import VOCABULARY, made, marks_of

texts = st.lists(st.lists(st.lists(st.integers(3, 25), max_size=12), max_size=6), max_size=4)
X = NO_LABEL


def labelled(label, documents, length=8):
    """Return ids and labels of each row."""
    rows, _ = made(TokenLabels(length=length, label=label), documents)
    assert all(row["labels"].dtype == np.uint8 for row in rows)
    return [(row["tokens"].tolist(), row["labels"].tolist()) for row in rows]


def test_capitals_are_those_of_the_marks():
    """Paris is BIG: the pieces of a word share its label, whatever case their ids are of."""
    marks = [CAPITAL, CAPITAL | WORD, 0, CAPITAL]
    (row,) = labelled("capital", [TokenizedDocument("a", [tokens([10, 11, 12, 13], marks)])])
    assert row == ([1, 10, 11, 12, 13, 2], [X, 1, 1, 0, 1, X])
    (lower,) = labelled("capital", [TokenizedDocument("a", [tokens([20, 21, 12, 23], marks)])])
    assert lower[1] == row[1]


def test_capitals_need_to_know_words():
    assert TokenLabels(length=8, label="capital").needs_marks
    assert not TokenLabels(length=8, label="in_document").needs_marks


def test_a_token_counts_where_another_segment_of_its_document_has_it():
    one = document("a", [[10, 11, 11, 12, 13, 14], [20, 10, 3, 21], [12, 3]])
    other = document("b", [[13, 20, 30, 31, 32, 33], [40]])
    assert labelled("in_document", [one, other]) == [
        ([1, 10, 11, 11, 12, 13, 14, 2], [X, 1, 0, 0, 1, 0, 0, X]),  # 11 is there twice, but in this segment only; 13 is in document b
        ([1, 20, 10, 3, 21, 12, 3, 2], [X, 0, 1, X, 0, 1, X, X]),  # nobody knows which words the unknown ones are
        ([1, 13, 20, 30, 31, 32, 33, 2], [X, 0, 0, 0, 0, 0, 0, X]),
        ([1, 40, 2], [X, 0, X]),
    ]


def test_a_document_of_one_segment_has_zeros_only():
    assert labelled("in_document", [document("a", [[10, 10, 11], [10]])]) == [([1, 10, 10, 11, 10, 2], [X, 0, 0, 0, 0, X])]


@given(texts, st.integers(8, 20))
def test_labels_are_those_of_brute_force(found, length):
    documents = [document(str(number), sentences) for number, sentences in enumerate(found)]
    for one in documents:
        rows = labelled("in_document", [one], length)
        for number, (ids, labels) in enumerate(rows):
            elsewhere = {token for place, (other, _) in enumerate(rows) if place != number for token in other[1:-1]}
            assert labels == [X, *(X if token == VOCABULARY.unknown else int(token in elsewhere) for token in ids[1:-1]), X]
    apart = [row for one in documents for row in labelled("in_document", [one], length)]
    assert labelled("in_document", documents, length) == apart


@given(texts, st.integers(8, 20))
def test_no_token_is_lost_and_rows_are_full(found, length):
    documents = [
        TokenizedDocument(str(number), [tokens(part, marks_of(np.array(part, dtype=np.int64))) for part in parts])
        for number, parts in enumerate(found)
    ]
    for one in documents:
        rows, skipped = made(TokenLabels(length=length, label="capital"), [one])
        assert [token for row in rows for token in row["tokens"].tolist()[1:-1]] == [id_ for part in one.sentences for id_ in part["id"]]
        assert all(len(row["tokens"]) <= length for row in rows)
        assert all((row["tokens"][0], row["tokens"][-1]) == (VOCABULARY.begin, VOCABULARY.end) for row in rows)
        assert all(np.array_equal(row["marks"], marks_of(row["tokens"].astype(np.int64))) for row in rows)
        assert skipped == ({} if rows else {"empty": 1})


def test_rows_hold_whole_sentences():
    rows = labelled("in_document", [document("a", [[10] * 3, [11] * 3, [12] * 2, [13] * 9])], length=8)
    assert [ids[1:-1] for ids, _ in rows] == [[10] * 3 + [11] * 3, [12] * 2, [13] * 6, [13] * 3]
