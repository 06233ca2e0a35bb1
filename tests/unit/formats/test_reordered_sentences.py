"""Sentence reordering: the classes, and that labels put rows back in order."""

from collections import Counter
from itertools import pairwise, permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.formats.reordered_sentences import ReorderedSentences, classes, permutation, rank
from tests.unit.formats.numbered import VOCABULARY, Places, corpus, cut, even, made, numbered, plain


def listed(most):
    """Return every order of 1 to `most` segments, as the classes are numbered."""
    return [order for count in range(1, most + 1) for order in permutations(range(count))]


@pytest.mark.parametrize(("most", "count"), [(1, 1), (2, 3), (3, 9), (4, 33), (5, 153)])
def test_orders_have_the_published_numbers(most, count):
    assert classes(most) == ReorderedSentences(length=64, most=most).classes == count
    orders = listed(most)
    assert [permutation(label) for label in range(count)] == orders
    assert [rank(order) for order in orders] == list(range(count))


def test_the_orders_of_three():
    assert [permutation(label) for label in range(9)] == [
        (0,),
        (0, 1),
        (1, 0),
        (0, 1, 2),
        (0, 2, 1),
        (1, 0, 2),
        (1, 2, 0),
        (2, 0, 1),
        (2, 1, 0),
    ]
    assert ReorderedSentences(length=64).meaning(7) == "segments 2 0 1"


sizes = st.lists(st.lists(st.integers(0, 30), max_size=9), max_size=4)


@given(sizes, st.integers(8, 60), st.integers(1, 5), st.integers(0, 999))
def test_labels_put_rows_back_in_order_and_no_sentence_is_lost_or_there_twice(lengths, length, most, seed):
    documents = numbered(lengths)
    places = Places(documents)
    found = [[] for _ in documents]
    for row in made(ReorderedSentences(length=length, most=most, seed=seed), documents)[0]:
        parts, order = cut(row, length), permutation(int(row["label"]))
        assert len(parts) == len(order) <= most
        original = [parts[order.index(segment)] for segment in range(len(order))]
        text = np.concatenate(original)
        assert (np.diff(text) > 0).all()
        assert len({places.of(token).document for token in text}) == 1
        assert all(places.of(part[0]).start == 0 for part in parts), "segments begin where sentences do"
        found[places.of(text[0]).document].append(text.tolist())
    room = length - 1 - most
    kept = [[token for part in document.sentences for token in part["id"][:room].tolist()] for document in documents]
    assert [[token for text in rows for token in text] for rows in found] == kept
    for rows in found:
        for text, following in pairwise(rows):
            opening = sum(places.of(token)[:2] == places.of(following[0])[:2] for token in following)
            assert len(text) + opening > room, "the next sentence would not have fitted"


def test_numbers_of_segments_orders_and_cuts_are_uniform():
    """Runs of four sentences: chi-squared of the number of segments, of the orders of each, and of where two segments part."""
    documents = corpus(1500, (16, 16), (3, 3))
    counts, cuts = Counter(), Counter()
    for row in made(ReorderedSentences(length=17), documents)[0]:
        counts[int(row["label"])] += 1
        ends = np.flatnonzero(row["tokens"] == VOCABULARY.end)
        if len(ends) == 2:
            cuts[int(ends[0]) if row["label"] == 1 else int(ends[1] - ends[0])] += 1
    assert sum(counts.values()) == 6000
    starts = [classes(count - 1) for count in range(1, 6)]
    within = [[counts[label] for label in range(start, end)] for start, end in pairwise(starts)]
    assert even([sum(found) for found in within])
    assert all(even(found) for found in within[1:])
    assert sorted(cuts) == [4, 7, 10]
    assert even(list(cuts.values()))


def test_fewer_sentences_have_fewer_orders():
    """Two sentences make one segment or two as often; one makes one."""
    labels = Counter(int(row["label"]) for row in made(ReorderedSentences(length=64), corpus(2000, (2, 2), (3, 9)))[0])
    assert set(labels) == {0, 1, 2}
    assert labels[0] == pytest.approx(1000, abs=4 * np.sqrt(500))
    assert even([labels[1], labels[2]])
    assert {int(row["label"]) for row in made(ReorderedSentences(length=64), corpus(50, (1, 1), (3, 90)))[0]} == {0}
    assert factorial(3) + 3 == classes(3)


def test_rows_depend_on_their_document_alone():
    documents = corpus(20, (1, 30), (1, 30))
    settings = ReorderedSentences(length=64, passes=2)
    alone = [plain(made(settings, [document])[0]) for document in documents]
    together = plain(made(settings, documents)[0])
    assert sorted(map(str, together)) == sorted(str(row) for rows in alone for row in rows)
    assert plain(made(ReorderedSentences(length=64, seed=1), documents)[0]) != together[: len(together) // 2]
    assert together[: len(together) // 2] != together[len(together) // 2 :]


def test_documents_without_text_are_counted():
    assert made(ReorderedSentences(length=64, passes=3), numbered([[], [0, 0], [5]]))[1] == {"empty": 2}
