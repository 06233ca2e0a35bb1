"""Relevance: labels, and that a search finds what BM25 says."""

import math
from collections import Counter
from itertools import islice
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.formats import relevance
from ptm_dist.formats.relevance import Relevance
from ptm_dist.rng import Draws
from tests import real_text
from tests.texts import document
from tests.unit.formats.numbered import VOCABULARY, cut, even, made, numbered, plain


def titled(name, title, text):
    return document(name, [title, *text], [1] + [0] * len(text))


def articles(count, seed=0):
    """Return documents of which five at a time have a topic: its name, and a tenth of their words."""
    found = []
    for number in range(count):
        draws = Draws(seed, "article", number)
        topic = 10 + 100 * (number // 5)
        words = np.where(draws.uniform(60) < 0.1, topic + draws.integers(60, 100), 10**6 + (draws.uniform(60) ** 3 * 3000).astype(int))
        title = [topic, *(topic + draws.integers(3, 100)).tolist(), *words[:2].tolist()]
        found.append(titled(f"{seed} {number}", title, [words[:30].tolist(), words[30:].tolist()]))
    return found


def bm25(documents, index):
    """Return the score of every document for a title, from the formula; its own and those with the same title have none."""
    texts = [[int(token) for part in one.sentences for token in part["id"]] for one in documents]
    counts, mean = [Counter(text) for text in texts], np.mean([len(text) for text in texts])
    titles = [one.sentences[0]["id"].tolist() for one in documents]
    scores = np.zeros(len(texts))
    for token in set(titles[index]):
        found = sum(token in count for count in counts)
        rarity = math.log(1 + (len(texts) - found + 0.5) / (found + 0.5))
        for number, (count, text) in enumerate(zip(counts, texts, strict=True)):
            scores[number] += rarity * count[token] * 2.2 / (count[token] + 1.2 * (0.25 + 0.75 * len(text) / mean))
    return np.where([title == titles[index] for title in titles], -1.0, scores)


def by_text(rows, documents):
    """Return rows with the document that the text is of, and those that have the title."""
    texts = {tuple(one.sentences[1]["id"][:3].tolist()): number for number, one in enumerate(documents)}
    titles = [one.sentences[0]["id"].tolist() for one in documents]
    for row in rows:
        ends = np.flatnonzero(row["tokens"] == VOCABULARY.end)
        title, text = row["tokens"][1 : ends[0]].tolist(), row["tokens"][ends[0] + 1 : ends[1]].tolist()
        yield int(row["label"]), texts[tuple(text[:3])], [number for number, found in enumerate(titles) if found == title]


def test_titles_are_those_that_labels_say():
    documents = articles(75)
    seen = Counter()
    for label, text, titles in by_text(made(Relevance(length=128, passes=3), documents)[0], documents):
        seen[label] += 1
        scores = bm25(documents, text)
        nearest = int(np.flatnonzero(scores > scores.max() - 1e-4)[0])
        assert (text in titles) == (label == 0)
        assert (nearest in titles) == (label == 1)
    assert seen == {0: 75, 1: 75, 2: 75}, "three passes give a document each label"


def test_labels_are_thirds():
    rows, skipped = made(Relevance(length=64), articles(1500))
    counts = np.bincount([row["label"] for row in rows], minlength=3)
    assert even(counts)
    assert len(rows) == 1500
    assert skipped == {}


short = st.lists(st.integers(10, 16), min_size=1, max_size=5)


@given(st.lists(st.tuples(short, short), min_size=2, max_size=7))
def test_the_nearest_is_that_of_brute_force(found):
    documents = [titled(str(number), title, [text]) for number, (title, text) in enumerate(found)]
    entries = list(relevance._entries(documents, Counter()))
    for index in range(len(documents)):
        scores, nearest = bm25(documents, index), relevance._Library(entries).nearest(index)
        if nearest is None:
            assert scores.max() <= 0
        else:
            assert scores[nearest] == pytest.approx(scores.max(), abs=1e-4)
            assert scores[nearest] > 0


def test_rare_words_are_looked_up_first_and_common_ones_not_at_all(monkeypatch):
    """The second document shares a rare word, the third two common ones, which together weigh more."""
    documents = [titled("a", [10, 11, 12], [[20]]), titled("b", [13], [[12, *range(30, 90)]]), titled("c", [14], [[10, 11]])]
    documents += [titled(f"d{number}", [15 + number], [[10, 100 + number], [11] if number % 2 else [99]]) for number in range(3)]
    library = relevance._Library(list(relevance._entries(documents, Counter())))
    assert library.nearest(0) == int(np.argmax(bm25(documents, 0))) == 2
    monkeypatch.setattr(relevance, "POSTINGS", 2)
    assert library.nearest(0) == 1
    monkeypatch.setattr(relevance, "POSTINGS", 1)
    assert library.nearest(0) is None


def test_documents_with_the_same_title_are_no_others():
    same = [titled(str(number), [10, 11], [[10, 20 + number]]) for number in range(4)]
    rows, skipped = made(Relevance(length=32, passes=3), same)
    assert [int(row["label"]) for row in rows] == [0] * 4
    assert skipped == {}
    assert made(Relevance(length=32), same)[1] == {"nothing_found": 4 - len(made(Relevance(length=32), same)[0])}


@given(st.integers(1, 40), st.lists(st.integers(0, 30), min_size=1, max_size=3), st.integers(8, 40))
def test_rows_begin_as_title_and_text_do_and_are_as_long_as_they_can_be(title, text, length):
    (one,) = numbered([[title, *text]], labels=[[1] + [0] * len(text)])
    rows, _ = made(Relevance(length=length, passes=3), [one])
    assert len(rows) == (sum(text) > 0)
    for row in rows:
        parts = cut(row, length)
        whole = [one.sentences[0]["id"], np.concatenate([part["id"] for part in one.sentences[1:]])]
        assert all(np.array_equal(part, found[: len(part)]) for part, found in zip(parts, whole, strict=True))
        assert sum(map(len, parts)) == min(title + sum(text), length - 3)
        assert len(parts[0]) == title or len(parts[0]) >= len(parts[1])


def test_other_documents_change_no_row_with_the_own_title():
    documents = articles(60)
    settings = Relevance(length=64)
    before, after = (made(settings, found)[0] for found in (documents, [*documents, *articles(30, seed=1)]))
    strong = [row for row in plain(before) if row["label"] == 0]
    assert len(strong) > 10
    assert [row for row in plain(after[: len(before)]) if row["label"] == 0] == strong
    assert plain(before) != plain(after[: len(before)])
    assert plain(made(Relevance(length=64, seed=1), documents)[0]) != plain(before)


def test_documents_that_make_no_row_are_counted():
    documents = numbered([[], [0, 0], [0, 4], [4], [4, 0], [4, 4]], labels=[[], [1, 0], [1, 0], [1], [1, 0], [0, 0]])
    rows, skipped = made(Relevance(length=64), documents)
    assert rows == []
    assert skipped == {"empty": 2, "no_title": 2, "title_only": 2}


def test_news_finds_news_of_its_kind():
    """BBC articles are of five kinds; a random article is of the same kind one time in five."""
    records = list(islice(real_text.records("en/bbc_news.jsonl.gz"), 1500))
    kinds = [record["label"] for record in records]
    documents = []
    for number, record in enumerate(records):
        words = [
            [crc32(word.strip(".,'\"").encode()) % 100_000 + 10 for word in record[field].lower().split()] for field in ("title", "text")
        ]
        documents.append(titled(str(number), words[0], words[1:]))
    library = relevance._Library(list(relevance._entries(documents, Counter())))
    nearest = [library.nearest(index) for index in range(0, 1500, 5)]
    assert None not in nearest
    assert np.mean([kinds[found] == kinds[index] for found, index in zip(nearest, range(0, 1500, 5), strict=True)]) > 0.75
