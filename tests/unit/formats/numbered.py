"""Documents in which every token has an id of its own, so that a row tells where each of its tokens is from."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from ptm_dist.data.document import TokenizedDocument, tokens
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.rng import Draws

VOCABULARY = Vocabulary(size=1 << 22, begin=1, pad=0, end=2, unknown=3, mask=4)
FIRST = 10
"""The id of the first token."""


def marks_of(ids):
    """Return marks that tell whether they are those of these ids: 0 for special ones."""
    return np.where(ids < FIRST, 0, ids % 251 + 1).astype(np.uint8)


def numbered(sizes, names=None, labels=None):
    """Return documents of sentences with these numbers of tokens."""
    made, token = [], FIRST
    for number, sentences in enumerate(sizes):
        ends = token + np.cumsum(sentences, dtype=np.int64)
        parts = [np.arange(end - size, end) for size, end in zip(sentences, ends, strict=True)]
        token += int(sum(sentences))
        name = names[number] if names else str(number)
        made.append(TokenizedDocument(name, [tokens(part, marks_of(part)) for part in parts], labels[number] if labels else ()))
    return made


def corpus(documents, sentences, sizes, seed=0):
    """Return documents of `sentences` (from, to) sentences of `sizes` (from, to) tokens."""
    found = []
    for number in range(documents):
        draws = Draws(seed, "corpus", number)
        count = sentences[0] + int(draws.integers(1, sentences[1] - sentences[0] + 1)[0])
        found.append((sizes[0] + draws.integers(count, sizes[1] - sizes[0] + 1)).tolist())
    return numbered(found)


class Place(NamedTuple):
    """Where a piece of text is from; `start` is how many of the sentence's tokens are missing before it."""

    document: int
    sentence: int
    start: int


class Places:
    """Where the tokens of some documents are."""

    def __init__(self, documents):
        self.sentences = np.cumsum([FIRST, *(len(part) for document in documents for part in document.sentences)])
        self.documents = np.cumsum([0, *(len(document.sentences) for document in documents)])

    def of(self, token):
        """Return the place of a token."""
        sentence = int(np.searchsorted(self.sentences, token, side="right")) - 1
        document = int(np.searchsorted(self.documents, sentence, side="right")) - 1
        return Place(document, sentence - int(self.documents[document]), int(token - self.sentences[sentence]))


def made(settings, documents, vocabulary=VOCABULARY):
    """Return the rows that a format makes, and what it counts."""
    skipped = Counter()
    rows = list(settings.examples(iter(documents), vocabulary, skipped))
    return rows, {reason: count for reason, count in skipped.items() if count}


def cut(row, length):
    """Return the parts of [CLS] part [SEP] part [SEP]; marks and segments must belong to their tokens."""
    ids = row["tokens"].astype(np.int64)
    ends = np.flatnonzero(ids == VOCABULARY.end)
    assert len(ids) <= length
    assert ids[0] == VOCABULARY.begin
    assert ends[-1] == len(ids) - 1
    assert np.array_equal(row["marks"], marks_of(ids))
    parts = [ids[start + 1 : end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert all(len(part) for part in parts)
    if "segments" in row:
        assert np.array_equal(row["segments"], np.searchsorted(ends, np.arange(len(ids))))
    return parts


def even(counts, shares=None):
    """Is it likely (p > 0.001 by chi-squared) that these counts come from even odds, or from odds of these shares?"""
    counts, free = np.asarray(counts, dtype=float), len(counts) - 1
    shares = np.full(len(counts), 1.0) if shares is None else np.asarray(shares)
    expected = shares / shares.sum() * counts.sum()
    # Wilson and Hilferty 1931: the cube root of chi-squared is almost normal.
    bound = free * (1 - 2 / (9 * free) + 3.09 * np.sqrt(2 / (9 * free))) ** 3
    return bool(((counts - expected) ** 2 / expected).sum() < bound)


def plain(rows):
    """Return rows that can be compared."""
    return [{name: values.tolist() for name, values in row.items()} for row in rows]
