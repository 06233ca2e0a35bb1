"""BERT's pairs: the statistics of the reference, and that no sentence is lost."""

from collections import Counter

import numpy as np
import pytest

from ptm_dist.formats.segment_pair import SegmentPair
from tests.unit.formats.numbered import Places, corpus, cut, made, numbered, plain


def pairs(settings, documents):
    return [(*cut(row, settings.length), int(row["label"])) for row in made(settings, documents)[0]]


@pytest.mark.parametrize(
    ("length", "sentences", "sizes", "share", "documents"),
    [
        (128, (5, 60), (5, 40), 0.552, 1200),
        (128, (1, 6), (5, 40), 0.664, 3000),
        pytest.param(512, (20, 200), (5, 40), 0.543, 3000, marks=pytest.mark.slow),
        pytest.param(128, (5, 60), (60, 140), 0.647, 1500, marks=pytest.mark.slow),
    ],
)
def test_more_than_half_of_the_next_sentences_are_random(length, sentences, sizes, share, documents):
    """The shares are those of the reference on such documents. A document with a short target has many rows, so they vary a lot."""
    rows, _ = made(SegmentPair(length=length), corpus(documents, sentences, sizes))
    assert len(rows) > 4_000
    assert np.mean([row["label"] for row in rows]) == pytest.approx(share, abs=0.015 if documents != 1200 else 0.01)


def test_documents_of_one_sentence_have_random_ones_only():
    assert {label for _, _, label in pairs(SegmentPair(length=64), corpus(300, (1, 1), (5, 40)))} == {1}
    assert pairs(SegmentPair(length=64, pair="sop"), corpus(300, (1, 1), (5, 40))) == []


def test_labels_say_what_they_say():
    """True pairs are contiguous text of one document, random ones of two; no token of a document gets lost but by truncation."""
    documents = corpus(400, (3, 30), (5, 30))
    places = Places(documents)
    where = lambda token: places.of(token).document  # noqa: E731
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
    every = {int(token) for document in documents for sentence in document.sentences for token in sentence["id"]}
    assert set(used) == every
    assert set(used.values()) == {1}


def test_orders_are_balanced_and_swapped_pairs_swap_back():
    documents = corpus(800, (5, 60), (5, 40))
    places = Places(documents)
    where = lambda token: places.of(token).document  # noqa: E731
    found = pairs(SegmentPair(length=128, pair="sop"), documents)
    labels = np.array([label for _, _, label in found])
    assert labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(labels)))
    for first, second, label in found:
        assert where(first[0]) == where(second[0])
        earlier, later = (second, first) if label else (first, second)
        assert earlier[-1] < later[0]


def test_a_tenth_of_documents_has_short_rows():
    """Rows are filled unless their document's target is short or the document ends: look at long documents' first rows."""
    documents = corpus(10_000, (8, 8), (8, 8))
    places = Places(documents)
    found = {}
    for row in made(SegmentPair(length=64, pair="sop"), documents)[0]:
        found.setdefault(places.of(row["tokens"][1]).document, len(row["tokens"]))
    short = 1 - sum(tokens == 64 for tokens in found.values()) / len(documents)
    assert short == pytest.approx(0.1 * 55 / 60, abs=0.01), "a target of 2 to 56 of 2 to 61 tokens ends a run before the eighth sentence"


def test_passes_cut_documents_anew_and_seeds_differ():
    documents = corpus(40, (5, 20), (5, 20))
    once, twice, other = (plain(made(SegmentPair(length=64, **found), documents)[0]) for found in ({}, {"passes": 2}, {"seed": 1}))
    assert twice[: len(once)] == once
    assert twice[len(once) :] != once
    assert other != once


@pytest.mark.parametrize("pair", ["nsp", "sop"])
def test_other_documents_change_random_pairs_only(pair):
    documents = corpus(60, (2, 20), (5, 40))
    others = numbered([[30, 3, 9], [50]], names=["x", "y"])
    settings = SegmentPair(length=64, pair=pair)
    before, after = (made(settings, found)[0] for found in (documents, [*documents, *others]))
    after = after[: len(before)]
    assert [int(row["label"]) for row in before] == [int(row["label"]) for row in after]
    own = [row["label"] == 0 or pair == "sop" for row in before]
    kept = [one == other for one, other in zip(plain(before), plain(after), strict=True)]
    assert [same for same, alone in zip(kept, own, strict=True) if alone] == [True] * sum(own)
    assert all(kept) == (pair == "sop")


def test_documents_that_make_no_pair_are_counted():
    documents = numbered([[], [0, 0], [5], [5, 5], [0, 5]])
    assert made(SegmentPair(length=64, pair="sop", passes=3), documents)[1] == {"empty": 2, "one_sentence": 2}
    assert made(SegmentPair(length=64), documents)[1] == {"empty": 2}


def test_one_document_alone_has_no_random_partner():
    assert {label for _, _, label in pairs(SegmentPair(length=64), corpus(1, (30, 30), (5, 9)))} == {0}
