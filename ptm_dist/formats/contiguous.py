"""GPT's input: the text as it was written, one document after the other, cut into rows of one length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.document import Cut, TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, example, filled, joined, special


class Contiguous(Format):
    """Rows of exactly `length` tokens, without overlap, of whole documents in their order; rows ignore the bounds of documents.

    Source: Radford et al. 2018 (GPT), section 4.1: windows of 512 contiguous tokens. Its vocabulary has no token for the end of a
    document and the paper names none, so GPT's documents follow one another bare: `separate: false`. Radford et al. 2019 (GPT-2) say
    nothing of packing; <|endoftext|> after each document, and rows that attend across it, are what is done since (Brown et al. 2020).
    """

    kind: Literal["contiguous"] = "contiguous"
    length: Length
    """Tokens of a row."""
    separate: Annotated[bool, Field(description="does a token that ends documents follow each of them?")] = True

    @property
    def cut(self) -> Cut:
        """The whole text, spaces and line breaks kept."""
        return Cut("text")

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows that laid end to end are the documents; the last may be short. Documents without a token are counted as empty."""
        ending = vocabulary.end if vocabulary.document_end is None else vocabulary.document_end
        waiting: list[np.ndarray] = []
        for document in documents:
            text = filled(document)
            skipped["empty"] += not text
            if not text:
                continue
            found = joined([*waiting, *text, *([special(ending, text[0])] if self.separate else [])])
            full = len(found) // self.length * self.length
            for start in range(0, full, self.length):
                yield example([found[start : start + self.length]], vocabulary)
            waiting = [found[full:]]
        if waiting and len(waiting[0]):
            yield example(waiting, vocabulary)
