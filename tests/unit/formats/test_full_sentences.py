from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats import FORMATS

VOCABULARY = Vocabulary(size=300, begin=0, pad=1, end=2, unknown=3, mask=299)


def rows_of(lengths, length=8):
    """Rows for documents of sentences with these numbers of tokens; token values count up from 4."""
    values = iter(range(4, 10**6))
    documents = [
        TokenizedDocument(str(n), [np.array([next(values) % 290 + 4 for _ in range(size)], dtype=np.int32) for size in sizes])
        for n, sizes in enumerate(lengths)
    ]
    rows = list(FORMATS["full_sentences"](length=length).examples(documents, VOCABULARY))
    return documents, [row["tokens"].tolist() for row in rows]


def test_whole_sentences_are_packed_until_the_next_does_not_fit():
    _, rows = rows_of([[3, 2, 1], [1]])
    assert [len(row) for row in rows] == [8, 6]  # <s> 3 </s> 2 </s> | <s> 1 </s> </s> 1 </s>
    assert rows[1][2:4] == [2, 2]


def test_a_long_sentence_is_cut_to_fit():
    _, rows = rows_of([[1, 20]])
    assert [len(row) for row in rows] == [3, 8, 8, 8]
    assert rows[-1][-1] == 2


def test_empty_documents_leave_no_trace():
    assert rows_of([[], [0], [2], []])[1] == [[0, 8, 9, 2]]
    assert rows_of([])[1] == []


@pytest.mark.parametrize(("size", "dtype"), [(300, "uint16"), (70_000, "uint32")])
def test_rows_use_the_narrowest_type(size, dtype):
    vocabulary = Vocabulary(size, 0, 1, 2, 3, size - 1)
    (row,) = FORMATS["full_sentences"](length=8).examples([TokenizedDocument("a", [np.array([5], dtype=np.int32)])], vocabulary)
    assert row["tokens"].dtype == dtype


@given(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=6), st.integers(8, 20))
def test_no_token_is_lost_and_rows_are_full(lengths, length):
    documents, rows = rows_of(lengths, length)
    filled = [[s.tolist() for s in document.sentences if len(s)] for document in documents]
    per_document = [[t for sentence in found for t in (*sentence, 2)] for found in filled if found]
    stream = [token for n, tokens in enumerate(per_document) for token in ([2] if n else []) + tokens]
    assert [token for row in rows for token in row[1:]] == stream
    assert all(row[0] == 0 and 1 < len(row) <= length for row in rows)
    # Greedy: what opens the next row would not have fitted.
    for row, following in pairwise(rows):
        opening = following[1:].index(2) + 1 if 2 in following[1:] else len(following) - 1
        assert len(row) + opening > length
