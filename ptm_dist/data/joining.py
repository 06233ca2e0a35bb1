"""How a family lays texts into a row: which special tokens stand between them, and the segment of each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from ptm_dist.data.vocabulary import Vocabulary

Symbol = Literal["begin", "end", "start", "delimiter", "extract", "A", "B"]
NEW: Final[tuple[str, ...]] = ("<start>", "<delimiter>", "<extract>")
"""Special tokens that a vocabulary gets for fine-tuning; they are its last ids, in this order."""


@dataclass(frozen=True)
class Laid:
    """A row: ids and segments of its tokens, int64 and uint8 [tokens], and where each text begins in it."""

    tokens: np.ndarray
    segments: np.ndarray
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Joining:
    """The layout of one text and of two: a symbol and its segment for each place."""

    single: tuple[tuple[Symbol, int], ...]
    pair: tuple[tuple[Symbol, int], ...]
    summary: Literal["first", "last"] = "first"
    """The token whose state stands for the row."""
    question: Literal["A", "B"] = "A"
    """Where a question stands beside the text it is about."""
    picks: Literal["all", "context"] = "all"
    """What a softmax over the places of an answer runs over: every token, or those of the context and the summary."""
    new: tuple[str, ...] = ()
    """Special tokens that the vocabulary needs beside its own."""

    @property
    def has_segments(self) -> bool:
        """Do the tokens of a pair lie in different segments?"""
        return any(segment for _, segment in self.pair)

    def specials(self, texts: int) -> int:
        """Return how many special tokens a row of one or two texts has."""
        return sum(symbol not in {"A", "B"} for symbol, _ in self._layout(texts))

    def lay(self, texts: Sequence[np.ndarray], vocabulary: Vocabulary) -> Laid:
        """Lay one or two texts, ids [tokens] each, into a row."""
        by_symbol = dict(zip("AB", texts, strict=False)) | {symbol: np.array([number]) for symbol, number in self._ids(vocabulary).items()}
        parts = [(symbol, segment, by_symbol[symbol]) for symbol, segment in self._layout(len(texts))]
        ends = np.cumsum([len(part) for _, _, part in parts])
        starts = {symbol: int(end) - len(part) for (symbol, _, part), end in zip(parts, ends, strict=True)}
        return Laid(
            np.concatenate([part for _, _, part in parts]).astype(np.int64),
            np.repeat(np.array([segment for _, segment, _ in parts], dtype=np.uint8), [len(part) for _, _, part in parts]),
            tuple(starts[symbol] for symbol in "AB"[: len(texts)]),
        )

    def place(self, length: int) -> int:
        """Return the place of the token that stands for a row."""
        return 0 if self.summary == "first" else length - 1

    def without_new(self) -> Joining:
        """Return the layout for a vocabulary that has not got the new tokens: what begins and ends any text stands in their places."""
        usual: dict[Symbol, Symbol] = {"start": "begin", "delimiter": "end", "extract": "end"} if self.new else {}
        single, pair = (tuple((usual.get(symbol, symbol), segment) for symbol, segment in layout) for layout in (self.single, self.pair))
        return replace(self, single=single, pair=pair, new=())

    def _layout(self, texts: int) -> tuple[tuple[Symbol, int], ...]:
        return self.single if texts == 1 else self.pair

    def _ids(self, vocabulary: Vocabulary) -> dict[str, int]:
        added = {name.strip("<>"): vocabulary.size - len(self.new) + number for number, name in enumerate(self.new)}
        return {"begin": vocabulary.begin, "end": vocabulary.end} | added


BERT: Final = Joining(
    single=(("begin", 0), ("A", 0), ("end", 0)),
    pair=(("begin", 0), ("A", 0), ("end", 0), ("B", 1), ("end", 1)),
)
"""[CLS] A [SEP] B [SEP], segments 0 and 1. Source: Devlin et al. 2019, section 3.2."""

ROBERTA: Final = Joining(
    single=(("begin", 0), ("A", 0), ("end", 0)),
    pair=(("begin", 0), ("A", 0), ("end", 0), ("end", 0), ("B", 0), ("end", 0)),
)
"""<s> A </s></s> B </s>. Source: fairseq, roberta/hub_interface.py."""

XLNET: Final = Joining(
    single=(("A", 0), ("end", 0), ("begin", 2)),
    pair=(("A", 0), ("end", 0), ("B", 1), ("end", 1), ("begin", 2)),
    summary="last",
    question="B",
    picks="context",
)
"""A <sep> B <sep> <cls>, segments 0, 1 and 2; a text stands before the question about it. Source: zihangdai/xlnet, classifier_utils.py."""

GPT: Final = Joining(
    single=(("start", 0), ("A", 0), ("extract", 0)),
    pair=(("start", 0), ("A", 0), ("delimiter", 0), ("B", 0), ("extract", 0)),
    summary="last",
    new=NEW,
)
"""<start> A <delimiter> B <extract>. Source: Radford et al. 2018, section 3.3."""

ELMO: Final = Joining(
    single=(("begin", 0), ("A", 0), ("end", 0)),
    pair=(("begin", 0), ("A", 0), ("end", 0), ("begin", 0), ("B", 0), ("end", 0)),
)
"""<S> A </S> <S> B </S>: to a model of sentences two texts are two sentences."""
