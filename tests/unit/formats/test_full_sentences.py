"""RoBERTa's packing: whole sentences, every token, full rows."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats import FORMATS
from tests.texts import document, rows_of
from tests.unit.formats.numbered import FIRST, VOCABULARY, made, marks_of, numbered

END = VOCABULARY.end


def packed(sizes, length=8, kind="full_sentences"):
    """Return documents of sentences with these numbers of tokens, and the ids of their rows."""
    documents = numbered(sizes)
    rows, _ = made(FORMATS[kind](length=length), documents)
    assert all(np.array_equal(row["marks"], marks_of(row["tokens"].astype(np.int64))) for row in rows)
    return documents, [row["tokens"].tolist() for row in rows]


def stream_of(documents):
    """Return the sentences of each document with text, each with its </s>."""
    return [[id_ for part in document.sentences if len(part) for id_ in (*part["id"].tolist(), END)] for document in documents]


def test_whole_sentences_are_packed_until_the_next_does_not_fit():
    _, rows = packed([[3, 2, 1], [1]])
    assert [len(row) for row in rows] == [8, 6]  # <s> 3 </s> 2 </s> | <s> 1 </s> </s> 1 </s>
    assert rows[1][2:4] == [END, END]


def test_a_long_sentence_is_cut_to_fit():
    _, rows = packed([[1, 20]])
    assert [len(row) for row in rows] == [3, 8, 8, 8]
    assert rows[-1][-1] == END


def test_empty_documents_leave_no_trace():
    assert packed([[], [0], [2], []])[1] == [[VOCABULARY.begin, FIRST, FIRST + 1, END]]
    assert packed([])[1] == []
    assert made(FORMATS["full_sentences"](length=8), numbered([[], [0], [2], []]))[1] == {"empty": 3}


@pytest.mark.parametrize(("size", "dtype"), [(300, "uint16"), (70_000, "uint32")])
def test_rows_use_the_narrowest_type(size, dtype):
    vocabulary = Vocabulary(size, 0, 1, 2, 3, size - 1)
    (row,) = rows_of(FORMATS["full_sentences"](length=8), [document("a", [[5]])], vocabulary)
    assert row["tokens"].dtype == dtype


@given(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=6), st.integers(8, 20))
def test_no_token_is_lost_and_rows_are_full(lengths, length):
    documents, rows = packed(lengths, length)
    per_document = [found for found in stream_of(documents) if found]
    stream = [token for n, found in enumerate(per_document) for token in ([END] if n else []) + found]
    assert [token for row in rows for token in row[1:]] == stream
    assert all(row[0] == VOCABULARY.begin and 1 < len(row) <= length for row in rows)
    # Greedy: what opens the next row would not have fitted.
    for row, following in pairwise(rows):
        opening = following[1:].index(END) + 1 if END in following[1:] else len(following) - 1
        assert len(row) + opening > length


@given(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=6), st.integers(8, 20))
def test_rows_of_one_document_are_those_of_that_document_alone(lengths, length):
    documents, rows = packed(lengths, length, "doc_sentences")
    alone = [made(FORMATS["full_sentences"](length=length), [document])[0] for document in documents]
    assert rows == [row["tokens"].tolist() for found in alone for row in found]
    assert [token for row in rows for token in row[1:]] == [token for found in stream_of(documents) for token in found]
