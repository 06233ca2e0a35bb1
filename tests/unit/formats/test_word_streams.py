"""ELMo's streams: every sentence once in each, in order, without padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.document import WORD, TokenizedDocument, tokens
from ptm_dist.data.example import Example, pack, row, row_starts
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.formats.word_streams import WordStreams
from tests.texts import document, rows_of

BEGIN, END, UNKNOWN = 0, 1, 2
VOCABULARY = Vocabulary(size=300, begin=BEGIN, pad=299, end=END, unknown=UNKNOWN, mask=None)
A, B, C, D, E = range(10, 15)

Sentences = list[list[int]]


def spelled(ids: Sequence[int], words: Sequence[str] = ()) -> np.ndarray:
    """Return words of these ids; where their letters are not given, they are a w and the id."""
    made = tokens(ids, dtype=WORD)
    made["letters"] = [word.encode() for word in words or [f"w{number}" for number in ids]]
    return made


def corpus(*texts: Sequence[Sequence[int]]) -> list[TokenizedDocument]:
    """Return a document for each of some lists of sentences."""
    return [TokenizedDocument(str(number), [spelled(sentence) for sentence in text]) for number, text in enumerate(texts)]


def halves(rows: Sequence[Example], field: str) -> list[list]:
    """Return the forward and the backward stream of a field: what lies in the halves of rows, end to end."""
    cut = [np.split(row[field], 2) for row in rows]
    return [[value for parts in cut for value in parts[side].tolist()] for side in (0, 1)]


def pairs(rows: Sequence[Example]) -> list[list[tuple[int, int]]]:
    """Return (input, target) at each position of both streams."""
    return [list(zip(*stream, strict=True)) for stream in zip(halves(rows, "tokens"), halves(rows, "targets"), strict=True)]


def sentences_of(stream: list[tuple[int, int]], opening: int, closing: int) -> Sentences:
    """Return the sentences of a stream by their targets; each of them must begin and end as it should and go on from word to word."""
    found, before = [], closing
    for given_word, target in stream:
        if before == closing:
            assert given_word == opening
            found.append([])
        else:
            assert given_word == before
        if target != closing:
            found[-1].append(target)
        before = target
    assert before == closing
    return found


def test_the_published_pairs():
    abc = [(BEGIN, A), (A, B), (B, C), (C, END)], [(END, C), (C, B), (B, A), (A, BEGIN)]
    de = [(BEGIN, D), (D, E), (E, END)], [(END, E), (E, D), (D, BEGIN)]
    ways = {
        (tuple(one[0] + other[0]), tuple(last[1] + first[1]))
        for one, other in ((abc, de), (de, abc))
        for last, first in ((abc, de), (de, abc))
    }
    found = {tuple(map(tuple, pairs(rows_of(WordStreams(seed=seed), corpus([[A, B, C], [D, E]]), VOCABULARY)))) for seed in range(40)}
    assert found == ways


texts = st.lists(st.lists(st.lists(st.integers(3, 298), max_size=9), max_size=5), max_size=5)


@given(texts, st.integers(4, 16), st.integers(0, 2**63))
def test_every_sentence_is_once_in_each_stream_and_rows_are_full(texts, half, seed):
    rows = rows_of(WordStreams(length=2 * half, seed=seed), corpus(*texts), VOCABULARY)
    wanted = Counter(tuple(sentence) for text in texts for sentence in text if sentence)
    forward, backward = pairs(rows)
    assert Counter(map(tuple, sentences_of(forward, BEGIN, END))) == wanted
    assert Counter(tuple(reversed(sentence)) for sentence in sentences_of(backward, END, BEGIN)) == wanted
    assert all(len(row["tokens"]) == 2 * half for row in rows[:-1])
    assert all(2 <= len(row["tokens"]) <= 2 * half for row in rows[-1:])
    for side, stream in enumerate(halves(rows, "letters")):
        assert stream == [b"" if word in (BEGIN, END) else f"w{word}".encode() for word in halves(rows, "tokens")[side]]


@given(texts, st.integers(4, 16), st.integers(0, 2**63))
def test_rows_are_a_function_of_sentences_and_seed(texts, half, seed):
    settings = WordStreams(length=2 * half, seed=seed)
    rows = rows_of(settings, corpus(*texts), VOCABULARY)
    joined = corpus([sentence for text in texts for sentence in text])
    for other in (rows_of(settings, corpus(*texts), VOCABULARY), rows_of(settings, joined, VOCABULARY)):
        assert len(other) == len(rows)
        assert all(np.array_equal(one[name], same[name]) for one, same in zip(rows, other, strict=True) for name in one)
    chunk = pack(rows) if rows else {"lengths": np.zeros(0, "<u4")}
    starts = row_starts(chunk)
    for number, one in enumerate(rows):
        stored = row(chunk, number, starts)
        assert stored.keys() == one.keys() == {"tokens", "marks", "letters", "targets"}
        assert all(np.array_equal(stored[name], values) for name, values in one.items())


def test_both_orders_are_drawn_evenly_and_apart():
    documents, draws = corpus([[A], [B], [C]]), 1800
    found = Counter()
    for seed in range(draws):
        (only,) = rows_of(WordStreams(seed=seed), documents, VOCABULARY)
        found[tuple(word for word in only["targets"].tolist() if word >= A)] += 1
    assert len(found) == 36
    assert all(abs(count - draws / 36) < 4 * (draws * 35) ** 0.5 / 36 for count in found.values())


def test_rows_carry_marks_and_words_that_the_vocabulary_lacks():
    sentence = spelled([A, UNKNOWN, UNKNOWN], ["a", "naïve", "<S>"])
    sentence["marks"] = [8, 1, 2]
    (only,) = rows_of(WordStreams(), [TokenizedDocument("0", [sentence])], VOCABULARY)
    assert only["tokens"].tolist() == [BEGIN, A, UNKNOWN, UNKNOWN, END, UNKNOWN, UNKNOWN, A]
    assert only["targets"].tolist() == [A, UNKNOWN, UNKNOWN, END, UNKNOWN, UNKNOWN, A, BEGIN]
    assert only["letters"].tolist() == [b"", b"a", "naïve".encode(), b"<S>", b"", b"<S>", "naïve".encode(), b"a"]
    assert only["marks"].tolist() == [0, 8, 1, 2, 0, 2, 1, 8]


def test_documents_without_words_are_counted():
    skipped = Counter()
    rows = list(WordStreams().examples(corpus([], [[]], [[A]], [[], [B]]), VOCABULARY, skipped))
    assert (len(rows), skipped["empty"]) == (1, 2)
    assert rows_of(WordStreams(), corpus([], [[]]), VOCABULARY) == rows_of(WordStreams(), [], VOCABULARY) == []


@pytest.mark.parametrize(("size", "dtype"), [(300, "uint16"), (70_000, "uint32")])
def test_rows_use_the_narrowest_type(size, dtype):
    (only,) = rows_of(WordStreams(), corpus([[A]]), Vocabulary(size, BEGIN, 5, END, UNKNOWN, None))
    assert only["tokens"].dtype == only["targets"].dtype == dtype


def test_a_tokenizer_that_does_not_spell_is_refused():
    with pytest.raises(ConfigError, match="tokenizer: word_streams needs the letters of words"):
        rows_of(WordStreams(), [document("0", [[A, B]])], VOCABULARY)


def test_settings():
    assert WordStreams().length == 40
    assert WordStreams.stateful
    with pytest.raises(ValueError, match="41 is odd; half of a row's words are read forward and half backward: write 40 or 42"):
        WordStreams(length=41)
    with pytest.raises(ValueError, match="greater than or equal to 8"):
        WordStreams(length=6)
