"""What formats, objectives and models need to know of a tokenizer: its size and its special ids."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Size and special ids of a token inventory. `begin` and `end` are <s> and </s>, or [CLS] and [SEP], or both <|endoftext|>."""

    size: int
    begin: int
    pad: int
    end: int
    unknown: int | None
    mask: int | None
    document_end: int | None = None
    """What follows a document, XLNet's <eod>; None where the tokenizer has no token of its own for that."""
    spelled: bool = False
    """Does the model read the letters of words, and know their ids only as what it predicts? ELMo does."""

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The ids that stand for no text, in ascending order."""
        return tuple(sorted({self.begin, self.pad, self.end, self.unknown, self.mask, self.document_end} - {None}))

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `Vocabulary(**data)` is the way back. What is usual is left out."""
        usual = {"document_end": None, "spelled": False}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Size and special ids."""
        ...

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Return the ids of each text, int32 [tokens], without special tokens."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, special tokens shown as written."""
        ...
