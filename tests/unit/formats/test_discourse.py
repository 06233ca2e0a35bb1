"""Discourse relations: which connective a sentence began with."""

from collections import Counter
from itertools import islice
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.corpus.cuts import pieces
from ptm_dist.data.document import Document
from ptm_dist.formats.discourse import CHINESE, ENGLISH, Discourse
from tests import real_text
from tests.texts import document
from tests.unit.formats.numbered import Places, cut, made, numbered

GROUPS = {"contrast": ("but", "however"), "addition": ("also",), "result": ("so",)}


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=6), max_size=4),
    st.integers(8, 40),
)
def test_each_connective_makes_a_row_with_the_sentence_before(found, length):
    documents = numbered([[size for size, _ in parts] for parts in found], labels=[[label for _, label in parts] for parts in found])
    places = Places(documents)
    rows, skipped = made(Discourse(length=length, connectives=GROUPS), documents)
    expected = [
        (number, place + 1, parts[place + 1][1] - 1)
        for number, parts in enumerate(found)
        for place in range(len(parts) - 1)
        if parts[place + 1][1] and parts[place][0] and parts[place + 1][0]
    ]
    assert len(rows) == len(expected)
    for row, (number, place, label) in zip(rows, expected, strict=True):
        parts = cut(row, length)
        assert [places.of(part[0]) for part in parts] == [(number, place - 1, 0), (number, place, 0)]
        assert int(row["label"]) == label
        whole = [len(documents[number].sentences[at]) for at in (place - 1, place)]
        assert sum(map(len, parts)) == min(sum(whole), length - 3)
        assert all((np.diff(part) == 1).all() for part in parts)
    assert sum(skipped.values()) == len(documents) - len({number for number, *_ in expected})


def test_documents_that_make_no_row_are_counted():
    documents = numbered([[], [0, 0], [3], [3, 3], [3, 3]], labels=[[], [0, 1], [1], [1, 0], [0, 1]])
    rows, skipped = made(Discourse(length=32), documents)
    assert len(rows) == 1
    assert skipped == {"empty": 2, "one_sentence": 1, "no_connective": 1}


def test_labels_are_groups_in_alphabetical_order_however_they_are_given():
    one, other = Discourse(length=32, connectives=GROUPS), Discourse(length=32, connectives=dict(reversed(GROUPS.items())))
    assert one == other
    assert hash(one) == hash(other)
    assert hash(one) != hash(Discourse(length=32))
    assert one.cut == other.cut
    assert one.cut.groups == (("also",), ("but", "however"), ("so",))
    assert one.classes == 3
    assert [one.meaning(label) for label in range(3)] == ["addition", "contrast", "result"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ("but",)}, "at least 2 items"),
        ({"a": ("but",), "b": ("so", "But")}, "connectives: 'but' is listed twice"),
        ({"a": ("but",), "b": ()}, "connectives.b: a group needs words"),
        ({"a": (" ",), "b": ("so",)}, "connectives.a: a group needs words"),
    ],
)
def test_unclear_groups_are_refused(groups, message):
    with pytest.raises(ValidationError, match=message):
        Discourse(length=32, connectives=groups)


def test_the_lists_have_the_same_relations_in_both_languages():
    assert list(ENGLISH) == list(CHINESE) == sorted(ENGLISH)
    settings = Discourse(length=32)
    assert settings.classes == len(ENGLISH) == 14
    words = [word for group in settings.connectives.values() for word in group]
    assert all(word == word.strip().lower() for word in words)
    assert len(words) > 150


@pytest.mark.parametrize(
    ("text", "rest", "meaning"),
    [
        ("It rained. However, we went out.", "we went out.", "contrast"),
        ("It rained. And yet, we went out.", "we went out.", "concession"),
        ("It rained. As a result, we stayed.", "we stayed.", "result"),
        ("It rained. Howeverer, we stayed.", None, None),
        ("天气很好。但是，我们没有出去。", "我们没有出去。", "contrast"),
        ("天气很好。由此可见，我们没有出去。", "我们没有出去。", "result"),
    ],
)
def test_cutting_takes_the_connective_away(text, rest, meaning):
    settings = Discourse(length=32)
    found = pieces(Document("a", text), settings.cut)
    assert len(found) == 2
    assert (found[1].text, settings.meaning(found[1].label - 1)) == (rest, meaning) if rest else found[1].label == 0


@pytest.mark.parametrize(
    ("name", "count", "least"), [("en/news_articles.jsonl.gz", 800, 600), ("zh/inews.train.jsonl.gz", 800, 300)], ids=["english", "chinese"]
)
def test_real_text_has_many_of_most_groups(name, count, least):
    settings = Discourse(length=128)
    documents = []
    for number, record in enumerate(islice(real_text.records(name), count)):
        found = pieces(Document(str(number), record["text"]), settings.cut)
        ids = [[crc32(word.encode()) % 100_000 + 10 for word in piece.text.split()] for piece in found]
        documents.append(document(str(number), ids, [piece.label for piece in found]))
    rows, skipped = made(settings, documents)
    groups = Counter(settings.meaning(int(row["label"])) for row in rows)
    assert len(rows) > least
    assert sum(skipped.values()) < count
    assert sum(number >= 5 for number in groups.values()) >= 10
    assert max(groups.values()) < 0.5 * len(rows)
