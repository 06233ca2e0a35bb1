"""ERNIE 2.0's relevance of a search result, out of titles and texts in place of the logs of a search engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.document import Cut, TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, another, classifier_row, dice, joined, labelled, truncated
from ptm_dist.rng import Dice

STRONG: Final = 0
WEAK: Final = 1
NONE: Final = 2
TITLE: Final = 1
TRIES: Final = 10
"""How often another title is looked for."""
SATURATION: Final = 1.2
"""k1 of BM25."""
LENGTH_SHARE: Final = 0.75
"""b of BM25."""
POSTINGS: Final = 1 << 15
"""Places of an index that a search looks at, those of its rarest words: what bounds its cost."""

STEPS: Final = 1 << 20
"""Scores are multiples of a step, so many of which are 1."""


@dataclass(frozen=True)
class Entry:
    """A document: its key, its title and the tokens of its text."""

    key: int
    title: np.ndarray
    text: np.ndarray


class Relevance(Format):
    """[CLS] title [SEP] text [SEP], and how much the title has to do with the text, which is cut at its end to fit.

    Label 0, strong: the text's own title. 1, weak: that of the document found first for this title, other than its own. 2, none: that
    of a random document. A document makes a row in each pass; labels are drawn at even odds, and three passes give a document each label
    once. Documents are found by BM25 (k1 1.2, b 0.75) over tokens of title and text, among those of the same part of the corpus. The
    words of a title are looked up from the rarest on until 32,768 places have been seen, so that the cost grows with the corpus and no
    faster; commoner words are left out of the score. Titles that read the same as the text's own are never weak or none.

    Other documents change no row but those with label 1 and 2. Where nothing is found there is no such row.

    Source: Sun et al. 2020 (ERNIE 2.0), section 4.2.3; Robertson and Zaragoza 2009 for BM25. Deviation: Baidu's labels are what users
    clicked, what they were shown, and what they were not; those logs are not public, so titles stand in for queries.
    """

    kind: Literal["relevance"] = "relevance"
    length: Length
    """Most tokens of a row, [CLS] and both [SEP] included; a title loses tokens only where it is longer than what is left of its text."""
    passes: Annotated[int, Field(ge=1, description="rows of each document")] = 1
    seed: Annotated[int, Field(ge=0)] = 12345

    @property
    def classes(self) -> int:
        """Strong, weak, none."""
        return 3

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return ("own title", "neighbour's title", "random title")[label]

    @property
    def cut(self) -> Cut:
        """A title, then sentences."""
        return Cut("titled")

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents without one are counted as empty, no_title, title_only or nothing_found."""
        entries = list(_entries(documents, skipped))
        library = _Library(entries)
        first = [dice(self.seed, self.kind, entry.key, 0)[0].between(STRONG, NONE) for entry in entries]
        made = set()
        for number in range(self.passes):
            for index, entry in enumerate(entries):
                label = (first[index] + number) % (NONE + 1)
                title = library.title(index, label, dice(self.seed, self.kind, entry.key, number)[1])
                if title is not None:
                    made.add(index)
                    yield classifier_row(truncated([title, entry.text], self.length - 3), vocabulary, label)
        skipped["nothing_found"] += len(entries) - len(made)


def _entries(documents: Iterable[TokenizedDocument], skipped: Skipped) -> Iterator[Entry]:
    for document in documents:
        pieces = labelled(document)
        titles = [piece for piece, label in pieces if label == TITLE]
        text = [piece for piece, label in pieces if label != TITLE]
        reason = "empty" if not pieces else "no_title" if not titles else "title_only" if not text else None
        if reason:
            skipped[reason] += 1
        else:
            yield Entry(document.key, titles[0], joined(text))


class _Library:
    """Entries, and an index by which they are found: for each token the documents with it, and what it adds to their score."""

    def __init__(self, entries: list[Entry]) -> None:
        self.titles = [entry.title for entry in entries]
        numbers: dict[bytes, int] = {}
        self.same = np.array([numbers.setdefault(title["id"].tobytes(), len(numbers)) for title in self.titles], dtype=np.int64)
        texts = [np.concatenate([entry.title["id"], entry.text["id"]]) for entry in entries]
        count = max(1, len(texts))
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        places = np.concatenate([np.empty(0, dtype=np.int64), *texts]).astype(np.int64) * count + np.repeat(np.arange(len(texts)), lengths)
        found, times = np.unique(places, return_counts=True)
        self.documents = found % count
        self.tokens, self.starts, self.counts = np.unique(found // count, return_index=True, return_counts=True)
        rarity = np.log1p((count - self.counts + 0.5) / (self.counts + 0.5))
        long = lengths[self.documents] / max(1.0, lengths.mean() if texts else 1.0)
        saturated = times * (SATURATION + 1) / (times + SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * long))
        # Whole numbers add up alike in any order, and the last bit of a logarithm, which processors disagree on, decides nothing.
        self.weights = np.rint(np.repeat(rarity, self.counts) * saturated * STEPS)
        self.scores = np.zeros(len(texts))

    def title(self, index: int, label: int, draws: Dice) -> np.ndarray | None:
        """Return a title that makes a row of this label with a text, if there is one."""
        if label == STRONG:
            return self.titles[index]
        nearest = self.nearest(index)
        if label == WEAK:
            return None if nearest is None else self.titles[nearest]
        if len(self.titles) < 2:
            return None
        tries = (another(index, len(self.titles), draws) for _ in range(TRIES))
        return next((self.titles[found] for found in tries if found != nearest and self.same[found] != self.same[index]), None)

    def nearest(self, index: int) -> int | None:
        """Return the document found first for a title, other than those with this title; the first of those with an equal score."""
        terms = np.searchsorted(self.tokens, np.unique(self.titles[index]["id"]))
        terms = terms[np.argsort(self.counts[terms], kind="stable")]
        terms = terms[np.cumsum(self.counts[terms]) <= POSTINGS]
        cuts = [slice(start, start + count) for start, count in zip(self.starts[terms].tolist(), self.counts[terms].tolist(), strict=True)]
        for cut in cuts:
            self.scores[self.documents[cut]] += self.weights[cut]
        seen = np.concatenate([np.empty(0, dtype=np.int64), *(self.documents[cut] for cut in cuts)])
        others = seen[self.same[seen] != self.same[index]]
        scores = self.scores[others]
        self.scores[seen] = 0.0
        return int(others[scores == scores.max()].min()) if len(others) else None
