"""ERNIE 2.0's labels of tokens: is the word capitalised, does the token appear elsewhere in the document?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import NO_LABEL, Example
from ptm_dist.data.marks import CAPITAL
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, example, filled, joined, special


class TokenLabels(Format):
    """[CLS] sentences [SEP]: rows packed with whole sentences of one document, and `labels`, uint8: 0 or 1 for each token of the text.

    `capital`: the token is of a word that begins with a capital letter in the text as it was written, whatever the tokenizer makes of
    it; `corpus.units` tells. `in_document`: the token appears in another segment of its document, where a segment is the text of a row;
    a document of one row has zeros only. Tokens are compared by id, so the unknown one has no label, as special tokens have none (255).

    A sentence longer than a row is cut to fit into several.

    Source: Sun et al. 2020 (ERNIE 2.0), section 4.2.1, which leaves open what a segment is.
    """

    kind: Literal["token_labels"] = "token_labels"
    length: Length
    """Most tokens of a row, [CLS] and [SEP] included."""
    label: Literal["capital", "in_document"] = "in_document"

    @property
    def needs_marks(self) -> bool:
        """Capitals are marks."""
        return self.label == "capital"

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `labels`; documents without text are counted as empty. No token is lost."""
        for document in documents:
            segments = list(_segments(filled(document), self.length - 2))
            skipped["empty"] += not segments
            found = [_capital(segment) for segment in segments] if self.label == "capital" else _elsewhere(segments, vocabulary)
            for segment, labels in zip(segments, found, strict=True):
                parts = [special(vocabulary.begin, segment), segment, special(vocabulary.end, segment)]
                yield example(parts, vocabulary, labels=np.pad(labels, 1, constant_values=NO_LABEL))


def _segments(sentences: list[np.ndarray], room: int) -> Iterator[np.ndarray]:
    segment: list[np.ndarray] = []
    taken = 0
    for piece in (sentence[start : start + room] for sentence in sentences for start in range(0, len(sentence), room)):
        if taken + len(piece) > room:
            yield joined(segment)
            segment, taken = [], 0
        segment.append(piece)
        taken += len(piece)
    if segment:
        yield joined(segment)


def _capital(segment: np.ndarray) -> np.ndarray:
    return ((segment["marks"] & CAPITAL) > 0).astype(np.uint8)


def _elsewhere(segments: list[np.ndarray], vocabulary: Vocabulary) -> list[np.ndarray]:
    """Return of each segment which tokens appear in another one."""
    distinct = [np.unique(segment["id"]) for segment in segments]
    ids, counts = np.unique(np.concatenate([np.empty(0, dtype=np.int32), *distinct]), return_counts=True)
    found = []
    for segment in segments:
        labels = (counts[np.searchsorted(ids, segment["id"])] > 1).astype(np.uint8)
        labels[segment["id"] == vocabulary.unknown] = NO_LABEL
        found.append(labels)
    return found
