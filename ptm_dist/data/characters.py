"""Words as the bytes that ELMo reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

ROWS: Final = 262
"""Rows of a table that these ids look up: 0 for a position without a word, then 256 bytes and five marks."""

BEGIN: Final = "<S>"
END: Final = "</S>"

_SHIFT: Final = 1
_BEGIN_WORD, _END_WORD, _PAD = 258, 259, 260
_SENTENCE_MARKS: Final = {BEGIN: 256, END: 257}


def character_ids(words: Sequence[str], length: int = 50) -> np.ndarray:
    """Return the ids of each word, int64 [words, length]: begin of word, UTF-8 bytes, end of word, padding.

    Ids are shifted by one, so that a row of zeros is no word. A word longer than `length` - 2 bytes is cut, perhaps inside of a character.
    `<S>` and `</S>` are the ends of a sentence, one mark each; any other word is spelled out, `<UNK>` too.

    Source: allenai/bilm-tf, data.py, UnicodeCharsVocabulary; the shift is that of its inference.
    """
    ids_WC = np.full((len(words), length), _PAD + _SHIFT, dtype=np.int64)
    for ids_C, word in zip(ids_WC, words, strict=True):
        mark = _SENTENCE_MARKS.get(word)
        letters = list(word.encode(errors="ignore")[: length - 2]) if mark is None else [mark]
        ids_C[: len(letters) + 2] = np.array([_BEGIN_WORD, *letters, _END_WORD]) + _SHIFT
    return ids_WC
