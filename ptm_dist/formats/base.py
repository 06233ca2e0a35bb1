"""What every format is: documents in, training examples out, offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.document import Cut, TokenizedDocument, tokens
from ptm_dist.data.example import Example, token_dtype
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.rng import Dice, Draws

Skipped = Counter[str]
"""Documents that a format could not use, by reason."""

Length = Annotated[int, Field(ge=8, le=65_536)]


class Format(BaseModel):
    """A format; it is its own configuration, and `length`, the most tokens of a row, is a field of each."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stateful: ClassVar[bool] = False
    """Does each row go on where the one before it ended, so that a model carries memory from one to the next?"""

    kind: Any  # the name of the class in the table; a literal there
    length: Length

    @property
    def needs_marks(self) -> bool:
        """Can it not do without knowing words, phrases or entities?"""
        return False

    @property
    def classes(self) -> int:
        """How many labels rows have; 0: none, or as many as the text brings."""
        return 0

    @property
    def segments(self) -> int:
        """How many segments a row has at most, counted from 0 in `segments`."""
        return 2 if self.classes else 1

    def meaning(self, label: int) -> str:
        """Say what a label of a row means, for people."""
        return ""

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


def labelled(document: TokenizedDocument) -> list[tuple[np.ndarray, int]]:
    """Return the pieces of a document that hold a token, each with its label."""
    return [(piece, label) for piece, label in zip(document.sentences, document.labels, strict=True) if len(piece)]


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return parts laid end to end, read-only; as bytes this takes a tenth of the time that NumPy takes for arrays of this kind."""
    return np.frombuffer(b"".join([part.tobytes() for part in parts]), dtype=parts[0].dtype)


def example(parts: Sequence[np.ndarray], vocabulary: Vocabulary, **fields: np.ndarray) -> Example:
    """Return the row of these parts laid end to end, with further fields."""
    row = joined(parts)
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


def dice(seed: int, kind: str, key: int, number: int) -> tuple[Dice, Dice]:
    """Return two streams for a document in a pass: for what it decides alone, and for what depends on other documents.

    So no document shifts a draw of the first stream of another one.
    """
    return Dice(Draws(seed, kind, key, number)), Dice(Draws(seed, f"{kind} others", key, number))


def another(index: int, count: int, draws: Dice) -> int:
    """Return one of `count` documents, two at least, that is not the one at `index`; each is as likely."""
    found = draws.between(0, count - 2)
    return found + (found >= index)


def truncated(parts: Sequence[np.ndarray], most: int, draws: Dice | None = None) -> list[np.ndarray]:
    """Take tokens from the longest part, the last of these where several are, until all have at most `most` together.

    A token goes from either end, as `draws` say; without them from the right one.

    Source: google-research/bert, create_pretraining_data.py, and run_classifier.py without draws.
    """
    cut = []
    for part, kept in zip(parts, _kept([len(part) for part in parts], most), strict=True):
        front = sum(draws.share() < 0.5 for _ in range(len(part) - kept)) if draws else 0
        cut.append(part[front : front + kept])
    return cut


def _kept(sizes: Sequence[int], most: int) -> list[int]:
    """Return what is left of each size when the longest lose first: what fits below a level stays whole, the others share the rest."""
    kept = list(sizes)
    for number, (size, _) in enumerate(order := sorted((size, -index) for index, size in enumerate(sizes))):
        if size > (level := most // (len(order) - number)):
            above = sorted(-index for _, index in order[number:])
            for place, index in enumerate(above):
                kept[index] = level + (place < most - level * len(above))
            break
        most -= size
    return kept
