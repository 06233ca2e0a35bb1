"""What every format is: documents in, training examples out, offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.document import Cut, TokenizedDocument, tokens
from ptm_dist.data.example import Example, token_dtype
from ptm_dist.data.vocabulary import Vocabulary

Skipped = Counter[str]
"""Documents that a format could not use, by reason."""

Length = Annotated[int, Field(ge=8, le=65_536)]


class Format(BaseModel):
    """A format; it is its own configuration, and `length`, the most tokens of a row, is a field of each."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stateful: ClassVar[bool] = False
    """Does each row go on where the one before it ended, so that a model carries memory from one to the next?"""

    kind: str
    length: Length

    @property
    def cut(self) -> Cut:
        """What documents are cut into."""
        return Cut()

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield the rows of some documents and count in `skipped` those that give none, by reason.

        A row has `tokens` [<= length] and `marks`, of each token those of its text; 0-D values of the whole row, such as its `label`; and
        whatever else a family or an objective reads, a value a token.
        """
        raise NotImplementedError


def special(number: int, like: np.ndarray) -> np.ndarray:
    """Return a special token as an array [1] that can stand beside `like`."""
    return tokens([number], dtype=like.dtype)


def filled(document: TokenizedDocument) -> list[np.ndarray]:
    """Return the sentences of a document that hold a token."""
    return [sentence for sentence in document.sentences if len(sentence)]


def example(parts: Sequence[np.ndarray], vocabulary: Vocabulary, **fields: np.ndarray) -> Example:
    """Return the row of these parts laid end to end, with further fields."""
    row = np.concatenate(parts)
    made = {"tokens": row["id"].astype(token_dtype(vocabulary.size)), "marks": row["marks"]}
    if "letters" in (row.dtype.names or ()):
        made["letters"] = row["letters"]
    return made | fields


def segments(parts: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return the segment of each token, uint8: the number of the group of parts that it is in."""
    return np.repeat(np.arange(len(parts), dtype=np.uint8), [sum(map(len, group)) for group in parts])


def classifier_row(segment: Sequence[np.ndarray], vocabulary: Vocabulary, label: int, **fields: np.ndarray) -> Example:
    """Return [CLS] A [SEP] B [SEP] ... with `segments` 0, 1, ... and a `label`; [CLS] is of the first segment, each [SEP] of what it ends.

    Source: Devlin et al. 2019, section 3.2; baidu/Senta for more than two segments.
    """
    begin, end = special(vocabulary.begin, segment[0]), special(vocabulary.end, segment[0])
    groups = [[*([] if number else [begin]), part, end] for number, part in enumerate(segment)]
    parts = [part for group in groups for part in group]
    return example(parts, vocabulary, segments=segments(groups), label=np.array(label, dtype=np.uint16), **fields)
