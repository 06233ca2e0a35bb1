"""RoBERTa's FULL-SENTENCES: rows packed with whole sentences, across documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example, token_dtype
from ptm_dist.data.vocabulary import Vocabulary


class FullSentences(BaseModel):
    """Whole sentences packed one after another until the next would not fit; the rows ignore the bounds of documents.

    Source: Liu et al. 2019 (RoBERTa), section 4.2; layout of fairseq's TokenBlockDataset, break mode "complete". Deviation:
    a sentence longer than a row is cut to fit, where fairseq makes a row that is longer than `length`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["full_sentences"] = "full_sentences"
    length: Annotated[int, Field(ge=8, le=65_536)]
    """Most tokens of a row, <s> and </s> included."""

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary) -> Iterator[Example]:
        """Yield rows {"tokens": [<= length]}: <s>, then sentences each followed by </s>, and one more </s> between documents.

        No token is lost: rows without their <s>, laid end to end, are the stream. The last row may be short.
        """
        dtype = token_dtype(vocabulary.size)
        row = [np.array([vocabulary.begin], dtype=dtype)]
        filled = 1
        for piece in _pieces(documents, vocabulary.end, self.length - 1):
            if filled + len(piece) > self.length:
                yield {"tokens": np.concatenate(row)}
                row, filled = row[:1], 1
            row.append(piece.astype(dtype))
            filled += len(piece)
        if filled > 1:
            yield {"tokens": np.concatenate(row)}


def _pieces(documents: Iterable[TokenizedDocument], end: int, most_tokens: int) -> Iterator[np.ndarray]:
    """Yield what must stay together: a sentence with its </s>, cut where it is longer than a row, or a lone </s>."""
    separator = np.array([end], dtype=np.int32)
    between = False
    for document in documents:
        filled = [sentence for sentence in document.sentences if len(sentence)]
        if filled and between:
            yield separator
        for sentence in filled:
            closed = np.append(sentence, separator)
            for start in range(0, len(closed), most_tokens):
                yield closed[start : start + most_tokens]
        between = between or bool(filled)
