"""What formats of labelled data have in common: they make rows of items, and say which words or characters each token stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, Self

import numpy as np

from ptm_dist.data.document import LETTERS, TokenizedDocument
from ptm_dist.data.example import Example, token_dtype
from ptm_dist.data.item import Bad, Item
from ptm_dist.data.joining import Joining, Laid
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.formats.base import Format, Skipped

NOWHERE: int = -1
"""The word, or the character, of a token that stands for none."""


class SpanTokenizer(Protocol):
    """Text to ids, and the characters that each stands for."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Size and special ids."""
        ...

    def encode_with_offsets(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return of each text the ids, int32 [tokens], and the characters each stands for, from and up to, int32 [tokens, 2]."""
        ...


class Text(NamedTuple):
    """A text as tokens: ids [tokens], characters from and up to [tokens, 2], and where a model spells, the bytes of the words."""

    ids: np.ndarray
    spans: np.ndarray
    letters: np.ndarray | None

    def cut(self, first: int, end: int) -> Self:
        """Return some of its tokens."""
        return type(self)(self.ids[first:end], self.spans[first:end], None if self.letters is None else self.letters[first:end])


@dataclass(frozen=True)
class Tools:
    """What rows are made with: a tokenizer, the layout of a family, and the names of classes or tags in their order."""

    tokenizer: SpanTokenizer
    joining: Joining
    names: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> Vocabulary:
        """That of the tokenizer."""
        return self.tokenizer.vocabulary

    def texts(self, texts: Sequence[str]) -> list[Text]:
        """Return texts as tokens."""
        found = self.tokenizer.encode_with_offsets(list(texts))
        return [Text(ids, spans, self._letters(text, spans)) for text, (ids, spans) in zip(texts, found, strict=True)]

    def _letters(self, text: str, spans: np.ndarray) -> np.ndarray | None:
        if not self.vocabulary.spelled:
            return None
        return np.array([text[first:end].encode()[:LETTERS] for first, end in spans.tolist()], dtype=f"S{LETTERS}")

    def lay(self, texts: Sequence[Text], **fields: np.ndarray) -> tuple[Example, Laid]:
        """Return the row of one or two texts, with further fields, and how it was laid."""
        laid = self.joining.lay([text.ids for text in texts], self.vocabulary)
        example: Example = {"tokens": laid.tokens.astype(token_dtype(self.vocabulary.size)), "segments": laid.segments}
        if self.vocabulary.spelled:
            example["letters"] = np.zeros(len(laid.tokens), dtype=f"S{LETTERS}")
            for start, text in zip(laid.starts, texts, strict=True):
                example["letters"][start : start + len(text.ids)] = text.letters
        return example | fields, laid


@dataclass(frozen=True)
class Made:
    """A row, the number of the item it was made of, and what its tokens stand for.

    `spans`, int64 [tokens, 2]: the characters of a context; `words`, int64 [tokens]: the word that a token is the first of. Both are
    NOWHERE at other tokens.
    """

    example: Example
    item: int
    spans: np.ndarray | None = None
    words: np.ndarray | None = None


class LabelledFormat(Format):
    """A format that reads items in place of documents; a source of kind `labelled` has them."""

    reads: ClassVar[type]
    """The kind of item."""

    @property
    def segments(self) -> int:
        """The two texts of a pair."""
        return 2

    def rows(self, items: Sequence[Item], tools: Tools, training: bool) -> Iterator[Made | Bad]:
        """Yield the rows of some items, and those that give none with the reason; rows that are not for training need no label."""
        raise NotImplementedError

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Refuse documents.

        Raises:
            ConfigError: always.

        """
        raise ConfigError(f"format {self.kind}: it reads labelled items, not documents. Give its task sources of kind labelled.")


def side_by_side(rows: Sequence[Example]) -> Example:
    """Return rows laid end to end as one, with `part`, the number of the row that each token is of; they are read side by side."""
    made = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return made | {"part": np.repeat(np.arange(len(rows), dtype=np.uint8), [len(row["tokens"]) for row in rows])}
