"""Pairs of texts whose label is given with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from ptm_dist.data.document import Cut, TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, classifier_row, labelled, truncated

TEXTS: Final = 2


class LabelledPair(Format):
    """[CLS] A [SEP] B [SEP] with the label that a corpus gives: discourse markers of Discovery, queries and titles of a search engine.

    Too long a pair loses tokens at the end of the longer text, of the second where they are equal.

    Source: layout of Devlin et al. 2019, section 3.2; truncation of google-research/bert, run_classifier.py.
    """

    kind: Literal["labelled_pair"] = "labelled_pair"
    length: Length
    """Most tokens of a row, [CLS] and both [SEP] included."""

    @property
    def segments(self) -> int:
        """The two texts."""
        return TEXTS

    @property
    def cut(self) -> Cut:
        """The two texts, with the label."""
        return Cut("pair")

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents without two texts are counted as no_pair or, without any, as empty."""
        for document in documents:
            found = labelled(document)
            if len(found) != TEXTS:
                skipped["no_pair" if found else "empty"] += 1
                continue
            texts, (label, _) = zip(*found, strict=True)
            yield classifier_row(truncated(texts, self.length - 3), vocabulary, label)
