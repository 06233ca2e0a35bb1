"""RoBERTa's FULL-SENTENCES and DOC-SENTENCES: rows packed with whole sentences, across documents or within."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, example, filled, joined, special


class FullSentences(Format):
    """Whole sentences packed one after another until the next would not fit; the rows ignore the bounds of documents.

    Source: Liu et al. 2019 (RoBERTa), section 4.2; layout of fairseq's TokenBlockDataset, break mode "complete". Deviation:
    a sentence longer than a row is cut to fit, where fairseq makes a row that is longer than `length`.
    """

    kind: Literal["full_sentences"] = "full_sentences"
    length: Length
    """Most tokens of a row, <s> and </s> included."""

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows of <s>, then sentences each followed by </s>, and one more </s> between documents.

        No token is lost: rows without their <s>, laid end to end, are the stream. The last row may be short.
        """
        return _rows(_stream(documents, vocabulary.end, skipped), self.length, vocabulary)


class DocSentences(Format):
    """Whole sentences packed one after another until the next would not fit or the document ends; its last row is as short as it is.

    The paper keeps the tokens of a batch as many as with FULL-SENTENCES: give `batch.tokens` in place of `batch.rows`.

    Source: Liu et al. 2019 (RoBERTa), section 4.2; fairseq's TokenBlockDataset, break mode "complete_doc". Deviation: as FULL-SENTENCES.
    """

    kind: Literal["doc_sentences"] = "doc_sentences"
    length: Length
    """Most tokens of a row, <s> and </s> included."""

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows of <s>, then sentences of one document, each followed by </s>."""
        for document in documents:
            yield from _rows(_stream([document], vocabulary.end, skipped), self.length, vocabulary)


def _stream(documents: Iterable[TokenizedDocument], end: int, skipped: Skipped) -> Iterator[np.ndarray]:
    """Yield sentences with their </s>, and a lone </s> between documents."""
    between = False
    for document in documents:
        sentences = filled(document)
        skipped["empty"] += not sentences
        if sentences and between:
            yield special(end, sentences[0])
        for sentence in sentences:
            yield joined([sentence, special(end, sentence)])
        between = between or bool(sentences)


def _rows(stream: Iterable[np.ndarray], length: int, vocabulary: Vocabulary) -> Iterator[Example]:
    """Yield rows of what must stay together, cut where that is longer than a row."""
    row: list[np.ndarray] = []
    filled_tokens = 1
    for whole in stream:
        for piece in (whole[start : start + length - 1] for start in range(0, len(whole), length - 1)):
            if filled_tokens + len(piece) > length:
                yield example([special(vocabulary.begin, piece), *row], vocabulary)
                row, filled_tokens = [], 1
            row.append(piece)
            filled_tokens += len(piece)
    if row:
        yield example([special(vocabulary.begin, row[0]), *row], vocabulary)
