"""BERT's pairs: the statistics of the reference, and that no sentence is lost."""

from collections import Counter

import numpy as np
import pytest

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.segment_pair import SegmentPair
from ptm_dist.rng import Draws

VOCABULARY = Vocabulary(size=1 << 20, begin=1, pad=0, end=2, unknown=3, mask=4)


def corpus(documents, sentences, tokens, seed=0):
    """Return documents of `sentences` (from, to) sentences of `tokens` (from, to) tokens, every token of its own."""
    found, token = [], 10
    for number in range(documents):
        draws = Draws(seed, "corpus", number)
        lengths = tokens[0] + draws.integers(
            sentences[0] + int(draws.integers(1, sentences[1] - sentences[0] + 1)[0]), tokens[1] - tokens[0] + 1
        )
        parts = []
        for length in lengths:
            parts.append(np.arange(token, token + length, dtype=np.int32))
            token += int(length)
        found.append(TokenizedDocument(str(number), parts))
    return found


def cut(example):
    """Return the two segments of a row."""
    tokens = example["tokens"].astype(np.int64)
    (middle, last) = np.flatnonzero(tokens == VOCABULARY.end)
    assert tokens[0] == VOCABULARY.begin
    assert last == len(tokens) - 1
    assert np.array_equal(example["segments"], (np.arange(len(tokens)) > middle).astype(np.uint8))
    return tokens[1:middle], tokens[middle + 1 : last]


def document_of(documents):
    """Return a function from a token to its document."""
    ends = np.cumsum([10, *(sum(map(len, document.sentences)) for document in documents)])
    return lambda token: int(np.searchsorted(ends, token, side="right")) - 1


def pairs(settings, documents):
    return [(*cut(example), int(example["label"])) for example in settings.examples(iter(documents), VOCABULARY)]


@pytest.mark.parametrize(
    ("length", "sentences", "tokens", "share"),
    [(128, (5, 60), (5, 40), 0.552), (512, (20, 200), (5, 40), 0.543), (128, (1, 6), (5, 40), 0.664)],
)
def test_more_than_half_of_the_next_sentences_are_random(length, sentences, tokens, share):
    documents = corpus({60: 1200, 200: 1500, 6: 12_000}[sentences[1]], sentences, tokens)
    labels = [label for _, _, label in pairs(SegmentPair(length=length), documents)]
    assert len(labels) > 5_000
    assert np.mean(labels) == pytest.approx(share, abs=0.015)


def test_documents_of_one_sentence_have_random_ones_only():
    assert {label for _, _, label in pairs(SegmentPair(length=64), corpus(300, (1, 1), (5, 40)))} == {1}
    assert pairs(SegmentPair(length=64, pair="sop"), corpus(300, (1, 1), (5, 40))) == []


def test_labels_say_what_they_say():
    """True pairs are contiguous text of one document, random ones of two; no token of a document gets lost but by truncation."""
    documents = corpus(400, (3, 30), (5, 30))
    where = document_of(documents)
    used = Counter()
    for first, second, label in pairs(SegmentPair(length=128), documents):
        assert (where(first[0]) != where(second[0])) == bool(label)
        assert where(first[0]) == where(first[-1])
        assert where(second[0]) == where(second[-1])
        assert (np.diff(first) == 1).all()
        assert (np.diff(second) == 1).all()
        assert len(first) + len(second) <= 125
        if not label:
            # Truncation may have taken from both sides of the middle.
            assert second[0] > first[-1]
        used.update(first.tolist())
        used.update(second.tolist() if not label else ())
    assert max(used.values()) == 1, "as text of its own no token is used twice"
    total = sum(len(sentence) for document in documents for sentence in document.sentences)
    assert len(used) > 0.85 * total


def test_without_truncation_every_sentence_is_there_once():
    documents = corpus(50, (2, 9), (3, 6))
    used = Counter()
    for first, second, label in pairs(SegmentPair(length=512, short_share=0.0), documents):
        used.update(first.tolist())
        used.update(second.tolist() if not label else ())
    every = {int(token) for document in documents for sentence in document.sentences for token in sentence}
    assert set(used) == every
    assert set(used.values()) == {1}


def test_orders_are_balanced_and_swapped_pairs_swap_back():
    documents = corpus(2000, (5, 60), (5, 40))
    where = document_of(documents)
    found = pairs(SegmentPair(length=128, pair="sop"), documents)
    labels = np.array([label for _, _, label in found])
    assert labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(labels)))
    for first, second, label in found:
        assert where(first[0]) == where(second[0])
        earlier, later = (second, first) if label else (first, second)
        assert earlier[-1] < later[0]


def test_a_tenth_of_documents_has_short_rows():
    """Rows are filled unless their document's target is short or the document ends: look at long documents' first rows."""
    documents = corpus(6000, (40, 40), (8, 8))
    first_rows = {}
    where = document_of(documents)
    for first, second, _ in pairs(SegmentPair(length=128, pair="sop"), documents):
        first_rows.setdefault(where(first[0]), len(first) + len(second))
    short = np.mean([tokens < 118 for tokens in first_rows.values()])
    assert short == pytest.approx(0.1 * 115 / 124, abs=0.015)


def test_passes_cut_documents_anew_and_seeds_differ():
    documents = corpus(40, (5, 20), (5, 20))
    once, twice = (pairs(SegmentPair(length=64, passes=passes), documents) for passes in (1, 2))
    as_text = lambda found: [(one.tolist(), two.tolist(), label) for one, two, label in found]  # noqa: E731
    assert as_text(twice)[: len(once)] == as_text(once)
    assert as_text(twice)[len(once) :] != as_text(once)
    assert as_text(pairs(SegmentPair(length=64, seed=1), documents)) != as_text(once)


def test_one_document_alone_has_no_random_partner():
    assert {label for _, _, label in pairs(SegmentPair(length=64), corpus(1, (30, 30), (5, 9)))} == {0}
