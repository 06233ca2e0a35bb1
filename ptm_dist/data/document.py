"""The nouns of a corpus: a document as text, the pieces that a format cuts it into, and these pieces as tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

TOKEN: Final = np.dtype([("id", "<i4"), ("marks", "u1")])
"""A token on its way through a format: its id, and the marks of `data.marks`. A structured array keeps them together however it is cut."""

LETTERS: Final = 48
"""Bytes of a word that ELMo reads; longer words are cut."""
WORD: Final = np.dtype([("id", "<i4"), ("marks", "u1"), ("letters", f"S{LETTERS}")])
"""A token of a tokenizer that spells: with the UTF-8 bytes of the word."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text with the identity it had in its source: `id` is unique within (source) and never depends on the machine."""

    id: str
    text: str
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cut:
    """How a format wants documents: cut into what, with a label for each piece.

    `sentences`; `text`, the whole as it was written; `turns`, lines with who speaks as label (0, 1, ...); `titled`, the title with label 1,
    then sentences; `pair`, the two texts of a labelled pair, the label on both; `connectives`, sentences, where one that begins with a
    word of group n lacks it and has label n + 1.
    """

    kind: Literal["sentences", "text", "turns", "titled", "pair", "connectives"] = "sentences"
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document's text."""

    text: str
    label: int = 0


@dataclass(frozen=True, slots=True)
class TokenizedDocument:
    """A document as arrays of TOKEN or WORD, one a piece, without special tokens; `labels` has the label of each piece."""

    id: str
    sentences: list[np.ndarray]
    labels: Sequence[int] = ()

    @property
    def key(self) -> int:
        """A number that stands for the id, to key draws with."""
        return int.from_bytes(hashlib.blake2b(self.id.encode(), digest_size=8).digest(), "little")


def tokens(ids: Sequence[int] | np.ndarray, marks: Sequence[int] | np.ndarray | int = 0, dtype: np.dtype = TOKEN) -> np.ndarray:
    """Return an array of TOKEN or WORD; what is not given is zero."""
    made = np.zeros(len(ids), dtype=dtype)
    made["id"], made["marks"] = ids, marks
    return made
