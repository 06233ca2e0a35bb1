"""A task that is no part of ptm_dist: where in its document does a passage stand?"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, classifier_row, dice, filled, joined

PLACES = ("beginning", "middle", "end")


class PlaceInDocument(Format):
    """[CLS] passage [SEP] with a label: 0, the passage begins its document; 1, it is from the middle; 2, it ends the document.

    A passage is a run of whole sentences that fills a row. A document of three or more gives one row of each label, so that a guess
    is right once in three.
    """

    kind: Literal["own_task:PlaceInDocument"] = "own_task:PlaceInDocument"
    length: Length
    version: Literal[1] = 1
    """Raise it whenever the rule gives other rows: prepared rows are found again by settings like this one, not by the code."""

    @property
    def classes(self) -> int:
        """One for each place."""
        return len(PLACES)

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return PLACES[label]

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents of fewer than three passages are counted as short."""
        for document in documents:
            passages = self._passages(filled(document))
            if len(passages) < len(PLACES):
                skipped["short"] += 1
                continue
            draws, _ = dice(0, "place_in_document", document.key, 0)
            middle = draws.between(1, len(passages) - 2)
            for label, number in enumerate((0, middle, len(passages) - 1)):
                yield classifier_row([joined(passages[number])], vocabulary, label)

    def _passages(self, sentences: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Return runs of sentences that follow one another, each with as many as have room between [CLS] and [SEP]."""
        room, passages = self.length - 2, list[list[np.ndarray]]()
        for sentence in (found[:room] for found in sentences):
            if not passages or sum(map(len, passages[-1])) + len(sentence) > room:
                passages.append([])
            passages[-1].append(sentence)
        return passages
