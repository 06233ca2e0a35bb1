"""BERT's pairs of segments out of documents (RoBERTa's SEGMENT-PAIR), for next-sentence or for sentence-order prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, another, classifier_row, dice, filled, joined, truncated
from ptm_dist.rng import Dice

Segment = list[np.ndarray]
"""Sentences."""


class SegmentPair(Format):
    """[CLS] A [SEP] B [SEP], where A and B are runs of whole sentences that fill a row, and a label of how they belong together.

    `nsp`: B goes on where A ends (label 0), or is from another document (label 1): half of the time, and always where a run is of one
    sentence, so more than half of all. What a random B pushes out is used again for the next run. `sop`: B goes on where A ends (0), or
    the two are swapped (1), half of the time; a run of one sentence makes no pair.

    Draws depend on `seed` and on the id of a document, so other documents change no pair but the random half of some.

    Source: google-research/bert and google-research/albert, create_pretraining_data.py. Deviations: masks are not drawn here but when
    a row is read; other documents are those of the same part of the corpus, and one is always found, where the reference gives up after
    ten tries; ALBERT's code makes a negative with another document out of a run of one sentence, which its paper does not.
    """

    kind: Literal["segment_pair"] = "segment_pair"
    length: Length
    """Most tokens of a row, [CLS] and both [SEP] included."""
    pair: Literal["nsp", "sop"] = "nsp"
    short_share: Annotated[
        float, Field(ge=0, le=1, description="share of documents, in each pass, whose rows have a shorter target length")
    ] = 0.1
    passes: Annotated[int, Field(ge=1, description="times that each document is cut anew")] = 1
    seed: Annotated[int, Field(ge=0)] = 12345

    @property
    def classes(self) -> int:
        """In order or not."""
        return 2

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return "in order" if not label else "swapped" if self.pair == "sop" else "another document"

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents without a pair are counted as one_sentence or, without text, as empty."""
        found = [(document.key, filled(document)) for document in documents]
        skipped["empty"] += sum(not sentences for _, sentences in found)
        usable = [(key, sentences) for key, sentences in found if sentences]
        texts = [sentences for _, sentences in usable]
        for number in range(self.passes):
            for index, (key, _) in enumerate(usable):
                own, others = dice(self.seed, "segment_pair", key, number)
                pair = None
                for pair in self._pairs(texts, index, own, others):
                    first, second, label = pair
                    parts = [joined(first), joined(second)]
                    yield classifier_row(truncated(parts, self.length - 3, others if label else own), vocabulary, label)
                skipped["one_sentence"] += pair is None and number == 0

    def _pairs(self, texts: list[Segment], index: int, own: Dice, others: Dice) -> Iterator[tuple[Segment, Segment, int]]:
        sentences, most = texts[index], self.length - 3
        target = own.between(2, most) if own.share() < self.short_share else most
        start = 0
        while start < len(sentences):
            end = _end_of_run(sentences, start, target)
            cut = start + (1 if end - start < 2 else own.between(1, end - start - 1))
            first, rest = sentences[start:cut], sentences[cut:end]
            if self.pair == "sop":
                if rest:
                    yield (rest, first, 1) if own.share() < 0.5 else (first, rest, 0)
                start = end
                continue
            random = not rest or own.share() < 0.5
            other = self._other(texts, index, target - sum(map(len, first)), others) if random and len(texts) > 1 else []
            if other:
                yield first, other, 1
                start = cut
            else:
                if rest:
                    yield first, rest, 0
                start = end

    def _other(self, texts: list[Segment], index: int, target: int, draws: Dice) -> Segment:
        """Return sentences from a place in another document, as many as reach `target` tokens."""
        sentences = texts[another(index, len(texts), draws)]
        start = draws.between(0, len(sentences) - 1)
        return sentences[start : _end_of_run(sentences, start, target)]


def _end_of_run(sentences: Segment, start: int, target: int) -> int:
    """Return where a run from `start` ends that has one sentence at least and as many as reach `target` tokens."""
    end, filled = start + 1, len(sentences[start])
    while end < len(sentences) and filled < target:
        filled += len(sentences[end])
        end += 1
    return end
