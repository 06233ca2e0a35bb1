"""The nouns of a corpus: a document as text, and the same document as sentences of token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Document:
    """One text with the identity it had in its source: `id` is unique within (source) and never depends on the machine."""

    id: str
    text: str
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenizedDocument:
    """A document as token ids, one int32 array [tokens] a sentence, without special tokens."""

    id: str
    sentences: list[np.ndarray]
