"""GPT's rows: the documents as one stream, nothing lost, nothing added but what ends a document."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.document import Cut, TokenizedDocument, tokens
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.contiguous import Contiguous
from tests.texts import document, rows_of

VOCABULARY = Vocabulary(size=300, begin=0, pad=0, end=0, unknown=None, mask=None)


def read(settings, texts, vocabulary=VOCABULARY):
    rows = rows_of(settings, [document(str(number), [text]) for number, text in enumerate(texts)], vocabulary)
    return [row["tokens"].tolist() for row in rows]


def test_documents_follow_one_another():
    texts = [range(1, 6), [], range(6, 20), [20]]
    assert read(Contiguous(length=8), texts) == [[1, 2, 3, 4, 5, 0, 6, 7], [*range(8, 16)], [16, 17, 18, 19, 0, 20, 0]]
    assert read(Contiguous(length=8, separate=False), texts) == [[*range(1, 9)], [*range(9, 17)], [17, 18, 19, 20]]
    ended = replace(VOCABULARY, document_end=299)
    assert read(Contiguous(length=8), texts, ended)[0] == [1, 2, 3, 4, 5, 299, 6, 7]


def test_the_text_is_read_as_it_was_written():
    assert Contiguous(length=8).cut == Cut("text")
    assert not Contiguous(length=8).stateful


def test_documents_without_a_token_are_counted():
    skipped = Counter()
    documents = [document("a", []), document("b", [[]]), document("c", [[5], []])]
    (row,) = Contiguous(length=8).examples(iter(documents), VOCABULARY, skipped)
    assert row["tokens"].tolist() == [5, 0]
    assert skipped == {"empty": 2}


def test_a_full_last_row_is_the_last():
    assert [len(row) for row in read(Contiguous(length=8), [range(1, 16)])] == [8, 8]


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(8, 20), st.booleans())
def test_nothing_is_lost(sizes, length, separate):
    values = iter(range(1, 10**6))
    documents = [
        TokenizedDocument(str(n), [tokens([next(values) % 299 + 1 for _ in range(size)], marks=n % 16)]) for n, size in enumerate(sizes)
    ]
    stream = [
        (token, mark)
        for n, found in enumerate(documents)
        if sizes[n]
        for token, mark in [*found.sentences[0].tolist(), *([(0, 0)] if separate else [])]
    ]
    rows = rows_of(Contiguous(length=length, separate=separate), documents, VOCABULARY)
    assert [pair for row in rows for pair in zip(row["tokens"].tolist(), row["marks"].tolist(), strict=True)] == stream
    assert all(len(row["tokens"]) == length for row in rows[:-1])
    assert not rows or 1 <= len(rows[-1]["tokens"]) <= length


@pytest.mark.parametrize("length", [8, 1000])
def test_rows_depend_on_nothing_but_the_stream(length):
    """However documents are laid out, their rows are the same: a document may be a thousand rows or a thousandth of one."""
    whole = np.arange(1, 5001) % 299 + 1
    pieces = np.split(whole, [1, 2, 10, 17, 18, 4000])
    assert read(Contiguous(length=length, separate=False), pieces) == read(Contiguous(length=length, separate=False), [whole])
