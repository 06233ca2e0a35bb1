"""ERNIE 2.0's sentence distance: two sentences, and how far apart they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, another, classifier_row, dice, filled, truncated
from ptm_dist.rng import Dice

ADJACENT: Final = 0
SAME_DOCUMENT: Final = 1
OTHER_DOCUMENT: Final = 2


class SentenceDistance(Format):
    """[CLS] A [SEP] B [SEP]: two sentences side by side in a document (label 0), in one but not side by side (1), or in two (2).

    Every sentence makes a row, with a label drawn at even odds and a partner of that label: its neighbour, any sentence of the document
    that is none, any sentence of another document. Two of one document stand in its order, so that order tells nothing of the label.

    A sentence for which a label is impossible makes no row, or labels would not be at even odds: the middle one of three, and all of
    documents with one or two. Such documents lend no sentence to others either, since it could only have label 2. One document alone
    has labels 0 and 1. Other documents change no row but those with label 2.

    Source: Sun et al. 2020 (ERNIE 2.0), section 4.2.2, which says neither the share of each label nor the order of the two.
    """

    kind: Literal["sentence_distance"] = "sentence_distance"
    length: Length
    """Most tokens of a row, [CLS] and both [SEP] included; longer pairs are truncated as in `segment_pair`."""
    passes: Annotated[int, Field(ge=1, description="times that each sentence gets a partner")] = 1
    seed: Annotated[int, Field(ge=0)] = 12345

    @property
    def classes(self) -> int:
        """Side by side, in one document, in two."""
        return 3

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return ("side by side", "same document", "other documents")[label]

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`.

        Documents without one are counted as empty, one_sentence, two_sentences or, where there is no other, as alone.
        """
        found = [(document.key, filled(document)) for document in documents]
        for count, reason in enumerate(("empty", "one_sentence", "two_sentences")):
            skipped[reason] += sum(len(sentences) == count for _, sentences in found)
        usable = [(key, sentences) for key, sentences in found if len(sentences) > 2]
        texts = [sentences for _, sentences in usable]
        made = set()
        for number in range(self.passes):
            for index, (key, sentences) in enumerate(usable):
                own, others = dice(self.seed, self.kind, key, number)
                for place in range(len(sentences)):
                    label = own.between(ADJACENT, OTHER_DOCUMENT)
                    draws = others if label == OTHER_DOCUMENT else own
                    pair = _pair(texts, (index, place), label, draws)
                    if pair:
                        made.add(index)
                        yield classifier_row(truncated(pair, self.length - 3, draws), vocabulary, label)
        skipped["alone"] += len(usable) - len(made)


def _pair(texts: list[list[np.ndarray]], at: tuple[int, int], label: int, draws: Dice) -> list[np.ndarray]:
    """Return the sentence at a (document, place) with a partner, or nothing where there is none for the label or none for label 1."""
    index, place = at
    sentences = texts[index]
    first, last = max(place - 1, 0), min(place + 1, len(sentences) - 1)
    far = len(sentences) - (last - first + 1)
    if not far:
        return []
    if label == OTHER_DOCUMENT:
        if len(texts) < 2:
            return []
        other = texts[another(index, len(texts), draws)]
        return [sentences[place], other[draws.between(0, len(other) - 1)]]
    if label == ADJACENT:
        near = [number for number in (first, last) if number != place]
        partner = near[draws.between(0, len(near) - 1)]
    else:
        partner = draws.between(0, far - 1)
        partner += (last - first + 1) if partner >= first else 0
    return [sentences[number] for number in sorted((place, partner))]
