"""RoBERTa's SENTENCE-PAIR: two single sentences a row, for next-sentence prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, another, classifier_row, dice, filled, truncated
from ptm_dist.rng import Dice


class SentencePair(Format):
    """[CLS] A [SEP] B [SEP], where A and B are one sentence each: B is the next one (label 0), or is from another document (1), half each.

    Pairs of a document do not overlap: after a next sentence the pair that follows begins behind it, after a random one with the sentence
    that it stands for. A sentence that is left at the end makes no pair, so labels stay half and half. Other documents are those of the
    same part of the corpus that have two sentences; one document alone has next sentences only. They change no pair but the random ones.

    Rows are much shorter than `length`. The paper keeps the tokens of a batch as many as with SEGMENT-PAIR: give `batch.tokens` in place
    of `batch.rows`, and the rows of a batch are these tokens divided by the mean length of a row.

    Source: Liu et al. 2019 (RoBERTa), section 4.2. No code of it is public: labels and truncation are those of google-research/bert.
    """

    kind: Literal["sentence_pair"] = "sentence_pair"
    length: Length
    """Most tokens of a row, [CLS] and both [SEP] included."""
    passes: Annotated[int, Field(ge=1, description="times that each document is cut anew")] = 1
    seed: Annotated[int, Field(ge=0)] = 12345

    @property
    def classes(self) -> int:
        """The next sentence or not."""
        return 2

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return "another document" if label else "the next one"

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents without a pair are counted as one_sentence or, without text, as empty."""
        found = [(document.key, filled(document)) for document in documents]
        skipped["empty"] += sum(not sentences for _, sentences in found)
        skipped["one_sentence"] += sum(len(sentences) == 1 for _, sentences in found)
        usable = [(key, sentences) for key, sentences in found if len(sentences) > 1]
        texts = [sentences for _, sentences in usable]
        for number in range(self.passes):
            for index, (key, _) in enumerate(usable):
                own, others = dice(self.seed, self.kind, key, number)
                for pair, label in _pairs(texts, index, own, others):
                    yield classifier_row(truncated(pair, self.length - 3, others if label else own), vocabulary, label)


def _pairs(texts: list[list[np.ndarray]], index: int, own: Dice, others: Dice) -> Iterator[tuple[list[np.ndarray], int]]:
    sentences, start = texts[index], 0
    while start + 1 < len(sentences):
        random = own.share() < 0.5 and len(texts) > 1
        if random:
            other = texts[another(index, len(texts), others)]
            yield [sentences[start], other[others.between(0, len(other) - 1)]], 1
        else:
            yield [sentences[start], sentences[start + 1]], 0
        start += 1 if random else 2
