"""Sentence distance: how often each label is drawn, and what it says."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.formats.sentence_distance import SentenceDistance
from tests.unit.formats.numbered import Places, corpus, cut, even, made, numbered, plain


def true_label(one, other):
    """Say what a pair of places is, from the definition."""
    if one.document != other.document:
        return 2
    return 0 if abs(one.sentence - other.sentence) == 1 else 1


def test_every_label_is_a_third_of_twenty_thousand():
    rows, _ = made(SentenceDistance(length=32), corpus(1100, (3, 34), (3, 6)))
    assert len(rows) > 20_000
    counts = np.bincount([row["label"] for row in rows], minlength=3)
    assert counts / len(rows) == pytest.approx([1 / 3] * 3, abs=0.01)
    assert even(counts)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_labels_are_thirds_in_short_documents_too(count):
    labels = [row["label"] for row in made(SentenceDistance(length=32), corpus(1500, (count, count), (3, 6)))[0]]
    assert len(labels) == 1500 * (2 if count == 3 else count), "the middle one of three is beside both others"
    assert even(np.bincount(labels, minlength=3))


@given(st.lists(st.lists(st.integers(0, 30), max_size=7), max_size=5), st.integers(8, 30), st.integers(0, 99))
def test_labels_say_what_is_true(lengths, length, seed):
    documents = numbered(lengths)
    places = Places(documents)
    filled = {number: [part for part in document.sentences if len(part)] for number, document in enumerate(documents)}
    documents = [type(document)(document.id, filled[number]) for number, document in enumerate(documents)]
    for row in made(SentenceDistance(length=length, seed=seed), documents)[0]:
        parts = cut(row, length)
        one, other = (places_among_filled(filled, places, part[0]) for part in parts)
        assert int(row["label"]) == true_label(one, other)
        assert one.document != other.document or one.sentence < other.sentence
        assert all((np.diff(part) == 1).all() for part in parts)
        whole = sum(len(filled[place.document][place.sentence]) for place in (one, other))
        assert sum(map(len, parts)) == min(whole, length - 3)


def places_among_filled(filled, places, token):
    place = places.of(token)
    number = next(number for number, part in enumerate(filled[place.document]) if part["id"][0] <= token <= part["id"][-1])
    return place._replace(sentence=number)


def test_partners_are_drawn_evenly():
    """Of six sentences: all that are apart, and all of the other document, as often as they should be."""
    documents = numbered([[3] * 6] * 2, names=["a", "b"])
    places = Places(documents)
    apart, others, near = Counter(), Counter(), Counter()
    for row in made(SentenceDistance(length=32, passes=900), documents)[0]:
        one, other = (places.of(part[0]) for part in cut(row, 32))
        if row["label"] == 2:
            others[other.sentence] += 1
        elif one.document == 0:
            (apart if row["label"] else near)[one.sentence, other.sentence] += 1
    assert even([others[number] for number in range(6)])
    # From the first sentence there are 4 that are not beside it, from one in the middle 3.
    share = {
        (one, other): sum(1 / (4 if place in {0, 5} else 3) for place in (one, other)) for one in range(6) for other in range(one + 2, 6)
    }
    assert even([apart[pair] for pair in share], list(share.values()))
    beside = [1.5, 1, 1, 1, 1.5]
    assert even([near[n, n + 1] for n in range(5)], beside)


def test_every_sentence_has_a_row():
    documents = corpus(40, (4, 20), (3, 6))
    rows, _ = made(SentenceDistance(length=32), documents)
    assert len(rows) == sum(len(document.sentences) for document in documents)


def test_other_documents_change_rows_with_label_two_only():
    documents = corpus(60, (3, 20), (5, 40))
    settings = SentenceDistance(length=32)
    before, after = (made(settings, found)[0] for found in (documents, [*documents, *numbered([[9, 9, 9], [5, 50, 2]], names=["x", "y"])]))
    same = [one == other for one, other in zip(plain(before), plain(after), strict=False)]
    assert all(kept for kept, row in zip(same, before, strict=True) if row["label"] < 2)
    assert not all(same)


def test_passes_and_seeds_draw_anew():
    documents = corpus(30, (5, 20), (5, 20))
    once, twice, other = (plain(made(SentenceDistance(length=64, **found), documents)[0]) for found in ({}, {"passes": 2}, {"seed": 1}))
    assert twice[: len(once)] == once
    assert twice[len(once) :] != once
    assert other != once


def test_short_documents_are_counted_and_lend_no_sentence():
    documents = numbered([[], [0, 0], [7], [7, 7], [7, 0, 7], [5, 5, 5, 5]])
    rows, skipped = made(SentenceDistance(length=64, passes=20), documents)
    assert skipped == {"empty": 2, "one_sentence": 1, "two_sentences": 2}
    assert {len(row["tokens"]) for row in rows} == {13}
    assert {int(row["label"]) for row in rows} == {0, 1}, "one document alone"


def test_a_document_alone_may_make_no_row():
    """Of three sentences the first and the last make rows, and both may have label 2."""
    (one,) = numbered([[5, 5, 5]])
    counts = [len(made(SentenceDistance(length=64, seed=seed), [one])[0]) for seed in range(40)]
    assert set(counts) == {0, 1, 2}
    assert [made(SentenceDistance(length=64, seed=seed), [one])[1] for seed in range(40)] == [
        {} if count else {"alone": 1} for count in counts
    ]
