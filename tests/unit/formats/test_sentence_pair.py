"""RoBERTa's pairs of single sentences."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.formats.segment_pair import SegmentPair
from ptm_dist.formats.sentence_pair import SentencePair
from ptm_dist.recipe_parts import Batch
from tests.unit.formats.numbered import Places, corpus, cut, made, numbered, plain


def test_half_of_the_pairs_are_random():
    labels = np.array([row["label"] for row in made(SentencePair(length=128), corpus(700, (2, 40), (3, 9)))[0]])
    assert len(labels) > 8_000
    assert labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(labels)))


def test_no_length_of_a_document_goes_with_a_label():
    """Half of the pairs are random also where documents have two sentences, in three, and at the end of any."""
    for count in (2, 3):
        rows, _ = made(SentencePair(length=32), corpus(3000, (count, count), (3, 5)))
        labels = np.array([row["label"] for row in rows])
        assert labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(labels)))


def test_labels_say_what_they_say_and_no_sentence_is_used_twice():
    documents = corpus(150, (1, 30), (1, 30))
    places = Places(documents)
    used, random = Counter(), Counter()
    for row in made(SentencePair(length=64), documents)[0]:
        first, second = (places.of(part[0]) for part in cut(row, 64))
        assert (first.document != second.document) == bool(row["label"])
        if not row["label"]:
            assert second[:2] == (first.document, first.sentence + 1)
        used[first[:2]] += 1
        (random if row["label"] else used)[second[:2]] += 1
    assert set(used.values()) == {1}
    missing = sum(len(document.sentences) for document in documents) - len(used)
    assert missing <= len(documents), "a document may leave its last sentence over"
    assert len({document for document, _ in random}) > 90


@given(st.lists(st.lists(st.integers(0, 30), max_size=5), max_size=5), st.integers(8, 30), st.integers(0, 999))
def test_sentences_are_whole_where_they_fit(lengths, length, seed):
    documents = numbered(lengths)
    places = Places(documents)
    for row in made(SentencePair(length=length, seed=seed), documents)[0]:
        parts = cut(row, length)
        here = [places.of(part[0]) for part in parts]
        whole = [len(documents[place.document].sentences[place.sentence]) for place in here]
        assert sum(map(len, parts)) == min(sum(whole), length - 3)
        assert all((np.diff(part) == 1).all() for part in parts)
        assert [places.of(part[-1])[:2] for part in parts] == [place[:2] for place in here]


def test_a_batch_has_the_tokens_of_one_of_segment_pairs():
    """The published rule: rows are much shorter, so a batch has more of them."""
    documents = corpus(500, (5, 60), (5, 40))
    batch = Batch(tokens=8192)
    means = []
    for settings in (SegmentPair(length=128), SentencePair(length=128)):
        lengths = np.array([len(row["tokens"]) for row in made(settings, documents)[0]])
        rows = batch.rows_of(lengths.mean())
        batches = [lengths[start : start + rows].sum() for start in range(0, len(lengths) - rows, rows)]
        assert len(batches) > 20
        means.append(np.mean(batches))
    assert means[1] == pytest.approx(means[0], rel=0.02)
    assert means[0] == pytest.approx(8192, rel=0.02)


def test_other_documents_change_random_pairs_only():
    documents = corpus(60, (2, 20), (5, 40))
    settings = SentencePair(length=32)
    before, after = (made(settings, found)[0] for found in (documents, [*documents, *numbered([[9, 9], [5, 50]], names=["x", "y"])]))
    same = [one == other for one, other in zip(plain(before), plain(after), strict=False)]
    assert [kept for kept, row in zip(same, before, strict=True) if not row["label"]] == [True] * sum(not row["label"] for row in before)
    assert not all(same)


def test_passes_and_seeds_draw_anew():
    documents = corpus(30, (5, 20), (5, 20))
    once, twice, other = (plain(made(SentencePair(length=64, **found), documents)[0]) for found in ({}, {"passes": 2}, {"seed": 1}))
    assert twice[: len(once)] == once
    assert twice[len(once) :] != once
    assert other != once


def test_documents_that_make_no_pair_are_counted_and_lend_no_sentence():
    documents = numbered([[], [0], [4], [0, 4], [5, 5]])
    rows, skipped = made(SentencePair(length=64, passes=8), documents)
    assert skipped == {"empty": 2, "one_sentence": 2}
    assert {(int(row["label"]), len(row["tokens"])) for row in rows} == {(0, 13)}
